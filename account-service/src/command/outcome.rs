//! What goes into a command and what comes out of it: the request, and its outcome or the reason why there is none.

use shared::clock::Timestamp;
use shared::coordinate::Version;
use shared::id::{AccountId, CommitId};
use shared::store::KeyedRequest;

use super::Receipt;
use crate::account::{Command, Rejection};

/// A command and the conditions under which it is to be carried out.
#[derive(Clone, Debug)]
pub struct Request {
    /// The command itself.
    pub command: Command,
    /// The customer's key, under which the request takes effect once.
    pub key: Option<KeyedRequest>,
    /// The version [`Command::account`] must have for the command to be carried out.
    pub if_match: Option<Version>,
}

/// The effect of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The commit, which the customer knows as the transaction.
    pub transaction: CommitId,
    /// When it was decided.
    pub time: Timestamp,
    /// What it did.
    pub receipt: Receipt,
    /// Whether an earlier request with the same key had this effect.
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
        /// The version the customer expects.
        expected: Version,
        /// The actual version.
        actual: Version,
    },
    /// The key belongs to another request.
    #[error("the idempotency key was used for another request; use a new key")]
    KeyReused,
    /// Other processes were faster every time. Nothing happened.
    #[error("other commands were faster every time; read the account again and retry")]
    Conflict,
    /// Too many commands are waiting. Nothing happened.
    #[error("too many commands are waiting; nothing happened, send it again")]
    Overloaded,
    /// The bank cannot do it now. This request had no effect.
    #[error("the bank cannot answer now; this request had no effect, send it again")]
    Unavailable,
    /// The store did not answer in time: the command may have taken effect. A repeat with the same key tells later.
    #[error("whether the command took effect is not known yet; send it again under the same key to learn the outcome")]
    OutcomeUnknown,
    /// The store holds something this release cannot read. Nothing happened.
    #[error("the account holds events this release cannot read; upgrade the account service")]
    Unreadable,
}

impl CommandError {
    /// Whether it was concluded from the state of accounts, so that a newer state may allow the command.
    pub(super) const fn is_of_a_state(&self) -> bool {
        match self {
            Self::Rejected(_) | Self::VersionMismatch { .. } => true,
            Self::KeyReused
            | Self::Conflict
            | Self::Overloaded
            | Self::Unavailable
            | Self::OutcomeUnknown
            | Self::Unreadable => false,
        }
    }
}
