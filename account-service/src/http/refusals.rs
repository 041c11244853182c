//! How the routes of this service refuse, as `/openapi.json` describes it.

use shared::refusals;

refusals! {
    /// How a command is refused.
    pub(super) CommandRefusals {
        "4XX" "Rejected, nothing was changed";
        "503" "Unavailable, or the outcome is unknown: retry with the same Idempotency-Key; without one, look first";
    }

    /// How the state of an account is refused.
    pub(super) AccountRefusals {
        "4XX" "No such account, or the id is not a UUID";
    }

    /// How a transaction is refused.
    pub(super) TransactionRefusals {
        "4XX" "No such transaction, or the id is not a UUID";
    }

    /// How a page of a statement is refused.
    pub(super) StatementRefusals {
        "400" "The id or a parameter is invalid";
        "404" "No such account";
    }
}
