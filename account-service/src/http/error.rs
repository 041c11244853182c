//! From why a command has no outcome to why a request is refused. The shared [`Reason`] knows the status of each.

use shared::http::{Problem, Reason};

use crate::account::Rejection;
use crate::command::CommandError;

/// What a customer is told whose command had no key and may have taken effect.
const LOOK_FIRST: &str = "whether the command took effect is not known, and without an idempotency key a repeat may do \
                          it twice; look before you send it again: at the account, or for a new one in the list of \
                          its owner's accounts";

/// The refusal of a command that came without a key: sent again, it would be another command.
pub(super) fn problem_without_key(error: &CommandError) -> Problem {
    let problem = problem(error);
    if *error == CommandError::OutcomeUnknown { problem.detail(LOOK_FIRST).without_retry() } else { problem }
}

/// The refusal a customer sees.
pub(super) fn problem(error: &CommandError) -> Problem {
    let problem = Problem::new(reason(error)).detail(error.to_string());
    match error {
        CommandError::VersionMismatch { actual, .. } => problem.member("version", actual.get()),
        CommandError::Rejected(_)
        | CommandError::KeyReused
        | CommandError::Conflict
        | CommandError::Overloaded
        | CommandError::Unavailable
        | CommandError::OutcomeUnknown
        | CommandError::Unreadable => problem,
    }
}

const fn reason(error: &CommandError) -> Reason {
    match error {
        CommandError::Rejected(rejection) => match rejection {
            Rejection::AccountNotFound { .. } => Reason::AccountNotFound,
            Rejection::AccountClosed { .. } => Reason::AccountClosed,
            Rejection::AlreadyOpen { .. } => Reason::AccountAlreadyOpen,
            Rejection::InsufficientFunds { .. } => Reason::InsufficientFunds,
            Rejection::BalanceNotZero { .. } => Reason::BalanceNotZero,
            Rejection::BalanceOutOfRange { .. } => Reason::BalanceOutOfRange,
            Rejection::SameAccount => Reason::SameAccount,
            Rejection::CurrencyMismatch => Reason::CurrencyMismatch,
        },
        CommandError::VersionMismatch { .. } => Reason::VersionMismatch,
        CommandError::KeyReused => Reason::IdempotencyKeyReused,
        CommandError::Conflict => Reason::VersionConflict,
        CommandError::Overloaded => Reason::Overloaded,
        CommandError::Unavailable => Reason::Unavailable,
        CommandError::OutcomeUnknown => Reason::OutcomeUnknown,
        CommandError::Unreadable => Reason::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::coordinate::Version;
    use shared::id::AccountId;

    #[test]
    fn a_rejection_has_the_same_code_in_the_rules_and_over_http() {
        let account = AccountId::from_bytes([1; 16]);
        let rejections = [
            Rejection::AccountNotFound { account },
            Rejection::AccountClosed { account },
            Rejection::AlreadyOpen { account },
            Rejection::InsufficientFunds { account },
            Rejection::BalanceNotZero { account },
            Rejection::BalanceOutOfRange { account },
            Rejection::SameAccount,
            Rejection::CurrencyMismatch,
        ];
        for rejection in rejections {
            assert_eq!(reason(&CommandError::Rejected(rejection)).code(), rejection.code());
        }
    }

    #[test]
    fn a_customer_is_told_what_to_do_next() {
        let (account, expected, actual) = (AccountId::from_bytes([1; 16]), Version::new(1), Version::new(3));
        let passed = CommandError::VersionMismatch { account, expected, actual };
        let told = [
            (passed, "version_mismatch", "is at version 3, not at 1; read the account again and retry"),
            (CommandError::KeyReused, "idempotency_key_reused", "; use a new key"),
            (CommandError::Conflict, "version_conflict", "; read the account again and retry"),
            (CommandError::Overloaded, "overloaded", "; nothing happened, send it again"),
            (CommandError::Unavailable, "unavailable", "; this request had no effect, send it again"),
            (
                CommandError::OutcomeUnknown,
                "outcome_unknown",
                "; send it again under the same key to learn the outcome",
            ),
            (CommandError::Unreadable, "internal", "; upgrade the account service"),
        ];
        for (error, code, advice) in told {
            assert_eq!(problem(&error).reason().code(), code);
            assert!(error.to_string().ends_with(advice), "{error}");
            let is_alike = problem_without_key(&error) == problem(&error);
            assert_eq!(is_alike, error != CommandError::OutcomeUnknown, "{error}");
        }
    }
}
