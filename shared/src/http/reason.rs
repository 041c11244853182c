use axum::http::StatusCode;
use utoipa::openapi::{Object, ObjectBuilder, Type};

/// What the description says of a code.
const CODE_DESCRIPTION: &str = "Stable, machine-readable code of the problem type; `GET /problems` lists them all. A \
    later release may have more of them.";

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $status:ident, $code:literal, $title:literal;)*) => {
        /// Why a request is refused: the one table from reason to status, code and title.
        ///
        /// A code is part of the contract: clients branch on it, so it never changes its meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The status of the answer.
            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }

            /// The stable word a client branches on.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// The URI of the kind of problem: a path that explains it.
            #[must_use]
            pub fn type_uri(self) -> String {
                format!("/problems/{}", self.code())
            }

            /// The kind of problem in words, without details of an occurrence.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

reasons! {
    /// Syntax, type, range, an unknown or repeated field.
    ValidationFailed = BAD_REQUEST, "validation_failed", "The request is invalid";
    /// The body is not declared as JSON, or is compressed.
    UnsupportedMediaType = UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "The body must be uncompressed JSON";
    /// A body above [`Limits::body_bytes`](super::Limits::body_bytes).
    BodyTooLarge = PAYLOAD_TOO_LARGE, "body_too_large", "The body is too large";
    /// A body that did not arrive in time.
    BodyTooSlow = REQUEST_TIMEOUT, "body_too_slow", "The body did not arrive in time";
    /// No such route.
    RouteNotFound = NOT_FOUND, "route_not_found", "No such path";
    /// The route has other methods.
    MethodNotAllowed = METHOD_NOT_ALLOWED, "method_not_allowed", "The path does not support this method";

    /// No such account.
    AccountNotFound = NOT_FOUND, "account_not_found", "No such account";
    /// No such transaction.
    TransactionNotFound = NOT_FOUND, "transaction_not_found", "No such transaction";
    /// The account and its overdraft do not cover the amount.
    InsufficientFunds = UNPROCESSABLE_ENTITY, "insufficient_funds", "Insufficient funds";
    /// Nothing moves on a closed account.
    AccountClosed = UNPROCESSABLE_ENTITY, "account_closed", "The account is closed";
    /// An account with money on it, or with a debt, cannot be closed.
    BalanceNotZero = UNPROCESSABLE_ENTITY, "balance_not_zero", "The balance is not zero";
    /// Both sides of a transfer are the same account.
    SameAccount = UNPROCESSABLE_ENTITY, "same_account", "Both sides of the transfer are the same account";
    /// The two accounts have different currencies.
    CurrencyMismatch = UNPROCESSABLE_ENTITY, "currency_mismatch", "The accounts have different currencies";
    /// The balance would leave the range of money.
    BalanceOutOfRange = UNPROCESSABLE_ENTITY, "balance_out_of_range", "The balance would be out of range";
    /// The key was used for another request.
    IdempotencyKeyReused = UNPROCESSABLE_ENTITY, "idempotency_key_reused", "The key was used for another request";
    /// An account with this id exists already.
    AccountAlreadyOpen = UNPROCESSABLE_ENTITY, "account_already_open", "The account is already open";
    /// `If-Match` names a version other than the account's.
    VersionMismatch = PRECONDITION_FAILED, "version_mismatch", "The account is not at the version in If-Match";
    /// Other commands on the account were faster every time; it did not happen.
    VersionConflict = CONFLICT, "version_conflict", "Conflict with concurrent commands";

    /// The view does not have the version asked for yet.
    NotYetVisible = GATEWAY_TIMEOUT, "not_yet_visible", "The projection has not reached this version yet";
    /// The account is not parked.
    NotParked = NOT_FOUND, "not_parked", "The account is not parked";
    /// The account's next event still cannot be folded, or the index still refuses its document.
    StillParked = CONFLICT, "still_parked", "The account is still parked";
    /// There has never been a rebuild.
    NoRebuild = NOT_FOUND, "no_rebuild", "There is no rebuild";
    /// One rebuild at a time.
    RebuildRunning = CONFLICT, "rebuild_running", "A rebuild is already running";
    /// The rebuild is past the point where it can be cancelled.
    RebuildNotCancellable = CONFLICT, "rebuild_not_cancellable", "The rebuild can no longer be cancelled";
    /// One comparison of the view with the store at a time.
    VerificationRunning = CONFLICT, "verification_running", "A verification is already running";
    /// No previous generation is kept.
    NothingToRollBack = CONFLICT, "nothing_to_roll_back", "No previous generation is kept";

    /// More work is waiting than the service accepts; it did not happen.
    Overloaded = SERVICE_UNAVAILABLE, "overloaded", "The service is overloaded";
    /// A backend does not answer; it did not happen.
    Unavailable = SERVICE_UNAVAILABLE, "unavailable", "The service is temporarily unavailable";
    /// It may have happened: a retry with the same idempotency key gives the outcome.
    OutcomeUnknown = SERVICE_UNAVAILABLE, "outcome_unknown", "The outcome of the request is unknown";
    /// A fault in the program.
    Internal = INTERNAL_SERVER_ERROR, "internal", "Internal error";
}

impl Reason {
    /// A code, as `/openapi.json` describes it.
    pub(super) fn code_schema() -> Object {
        let codes = Self::ALL.iter().map(|reason| reason.code());
        let schema = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(codes));
        schema.description(Some(CODE_DESCRIPTION)).build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_reason_has_a_code_of_its_own_and_a_status_that_refuses() {
        let codes: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert!(reason.status().is_client_error() || reason.status().is_server_error(), "{reason:?}");
        }
    }
}
