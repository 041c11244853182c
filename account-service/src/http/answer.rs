//! What customers are told: rendered from receipts, accounts and requests alone, so that a repeat is told the same.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use shared::clock::Timestamp;
use shared::coordinate::Version;
use shared::id::{AccountId, CommitId};
use shared::money::{Amount, Currency, Money};
use shared::owner::Owner;
use utoipa::ToSchema;

use crate::account::{Account, Status};
use crate::command::{AccountAfter, Transaction};

/// Says that the answer is the one to an earlier request with the same key.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// The current state of an account.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Account)]
pub(super) struct AccountAnswer {
    #[schema(value_type = uuid::Uuid)]
    id: AccountId,
    #[schema(value_type = String)]
    owner: Owner,
    /// Balance in minor units.
    #[schema(value_type = i64)]
    balance: Money,
    #[schema(value_type = String, example = "OPEN")]
    status: Status,
    /// Number of events of the account; also its `ETag`.
    #[schema(value_type = u64)]
    version: Version,
    #[schema(value_type = String, example = "EUR")]
    currency: Currency,
    /// How far below zero the balance may go, in minor units.
    #[schema(value_type = i64)]
    overdraft_limit: Money,
    #[schema(value_type = String, format = DateTime)]
    opened_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl From<Account> for AccountAnswer {
    fn from(account: Account) -> Self {
        let Account { id, version, owner, currency, balance, overdraft_limit, status, opened_at, updated_at } = account;
        Self { id, owner, balance, status, version, currency, overdraft_limit, opened_at, updated_at }
    }
}

/// An account after a transaction.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Balance)]
pub(super) struct BalanceAnswer {
    #[schema(value_type = uuid::Uuid)]
    id: AccountId,
    /// Balance in minor units.
    #[schema(value_type = i64)]
    balance: Money,
    #[schema(value_type = u64)]
    version: Version,
}

impl From<AccountAfter> for BalanceAnswer {
    fn from(AccountAfter { id, balance, version, .. }: AccountAfter) -> Self {
        Self { id, balance, version }
    }
}

/// An account after a change of its status.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChangedAccount)]
pub(super) struct StatusAnswer {
    #[schema(value_type = uuid::Uuid)]
    id: AccountId,
    /// Balance in minor units.
    #[schema(value_type = i64)]
    balance: Money,
    #[schema(value_type = String, example = "CLOSED")]
    status: Status,
    #[schema(value_type = u64)]
    version: Version,
}

impl From<AccountAfter> for StatusAnswer {
    fn from(AccountAfter { id, balance, version, status }: AccountAfter) -> Self {
        Self { id, balance, status, version }
    }
}

/// An account after a change of its owner.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RenamedAccount)]
pub(super) struct RenamedAnswer {
    #[schema(value_type = uuid::Uuid)]
    id: AccountId,
    /// New name of the owner.
    #[schema(value_type = String)]
    owner: Owner,
    /// Balance in minor units.
    #[schema(value_type = i64)]
    balance: Money,
    #[schema(value_type = String, example = "OPEN")]
    status: Status,
    #[schema(value_type = u64)]
    version: Version,
}

impl RenamedAnswer {
    pub(super) const fn new(AccountAfter { id, balance, version, status }: AccountAfter, owner: Owner) -> Self {
        Self { id, owner, balance, status, version }
    }
}

/// Both accounts after a transfer.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Transfer)]
pub(super) struct TransferAnswer {
    #[schema(value_type = uuid::Uuid)]
    pub(super) id: CommitId,
    pub(super) from: BalanceAnswer,
    pub(super) to: BalanceAnswer,
}

/// A transaction; a side that is null is outside the bank.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Transaction)]
pub(super) struct TransactionAnswer {
    #[schema(value_type = uuid::Uuid)]
    id: CommitId,
    #[schema(value_type = Option<uuid::Uuid>)]
    from: Option<AccountId>,
    #[schema(value_type = Option<uuid::Uuid>)]
    to: Option<AccountId>,
    /// Amount in minor units.
    #[schema(value_type = i64)]
    money: Amount,
    /// Always `COMPLETED`: a transaction takes effect as a whole or not at all.
    #[schema(example = "COMPLETED")]
    status: &'static str,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl From<Transaction> for TransactionAnswer {
    fn from(Transaction { id, from, to, amount, time }: Transaction) -> Self {
        Self { id, from, to, money: amount, status: "COMPLETED", created_at: time }
    }
}

/// What comes of a transaction: its id, or all of it for whoever prefers that.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = TransactionOrId)]
pub(super) enum TransactAnswer {
    /// Id of the transaction.
    #[schema(value_type = uuid::Uuid)]
    Id(CommitId),
    /// The transaction.
    Transaction(TransactionAnswer),
}

/// An answer in the making.
#[derive(Debug)]
pub(super) struct Answer(Response);

impl Answer {
    pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Self {
        Self((status, Json(body)).into_response())
    }

    pub(super) fn etag(self, version: Version) -> Self {
        self.header(header::ETAG, &format!("\"{}\"", version.get()))
    }

    pub(super) fn location(self, path: &str) -> Self {
        self.header(header::LOCATION, path)
    }

    /// A wish was granted, which RFC 7240 asks to be said.
    pub(super) fn preferred(self) -> Self {
        self.header(HeaderName::from_static("preference-applied"), "return=representation")
    }

    pub(super) fn replayed(self, replayed: bool) -> Self {
        if replayed { self.header(REPLAYED, "true") } else { self }
    }

    fn header(mut self, name: HeaderName, value: &str) -> Self {
        let value = HeaderValue::from_str(value).expect("versions, ids and fixed words are visible ASCII");
        self.0.headers_mut().insert(name, value);
        self
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        self.0
    }
}
