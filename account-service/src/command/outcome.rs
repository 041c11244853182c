use shared::clock::Timestamp;
use shared::coordinate::Version;
use shared::id::{AccountId, CommitId};
use shared::store::KeyedRequest;

use super::Receipt;
use crate::account::{Command, Rejection};

/// A command and the conditions under which it is wanted.
#[derive(Clone, Debug)]
pub struct Request {
    /// What is asked for.
    pub command: Command,
    /// The customer's key, under which the request takes effect once.
    pub key: Option<KeyedRequest>,
    /// The version [`Command::account`] must have for the command to be wanted still.
    pub if_match: Option<Version>,
}

/// What a command that took effect did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The commit, which the customer knows as the transaction.
    pub transaction: CommitId,
    /// When it was decided.
    pub time: Timestamp,
    /// What it did.
    pub receipt: Receipt,
    /// Whether an earlier request with the same key did it.
    pub replayed: bool,
}

/// Why a command has no outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The rules forbid it.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The account has moved on since the customer looked.
    #[error("account {account} is at version {}, not at {}; read the account again and retry", .actual.get(), .expected.get())]
    VersionMismatch {
        /// The account.
        account: AccountId,
        /// What the customer believes.
        expected: Version,
        /// What is true.
        actual: Version,
    },
    /// The key stands for another request.
    #[error("the idempotency key was used for another request; use a new key")]
    KeyReused,
    /// Other processes were faster every time. Nothing happened.
    #[error("other commands were faster every time; read the account again and retry")]
    Conflict,
    /// More commands wait than are taken in. Nothing happened.
    #[error("too many commands are waiting; nothing happened, send it again")]
    Overloaded,
    /// The bank cannot do it now. This request had no effect.
    #[error("the bank cannot answer now; this request had no effect, send it again")]
    Unavailable,
    /// The store did not answer in time: it may have happened. The same key tells, later.
    #[error("whether the command took effect is not known yet; send it again under the same key to learn the outcome")]
    OutcomeUnknown,
    /// The store holds something this release cannot read. Nothing happened.
    #[error("the account holds events this release cannot read; upgrade the account service")]
    Unreadable,
}
