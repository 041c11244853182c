//! How reads are refused, as `/openapi.json` describes it. How commands are is in [`shared::http`].

use shared::refusals;

refusals! {
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
