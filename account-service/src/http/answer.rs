//! What customers are told: rendered from receipts and accounts alone, so that a repeat is told the same.

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

/// An account as it is now.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Account)]
pub(super) struct AccountAnswer {
    #[schema(value_type = uuid::Uuid)]
    id: AccountId,
    #[schema(value_type = String)]
    owner: Owner,
    /// Minor units.
    #[schema(value_type = i64)]
    balance: Money,
    #[schema(value_type = String, example = "OPEN")]
    status: Status,
    /// How many events the account has; also its entity tag.
    #[schema(value_type = u64)]
    version: Version,
    #[schema(value_type = String, example = "EUR")]
    currency: Currency,
    /// Minor units.
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

/// An account as a movement of money left it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Balance)]
pub(super) struct BalanceAnswer {
    #[schema(value_type = uuid::Uuid)]
    id: AccountId,
    /// Minor units.
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

/// An account as a change of its owner or status left it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChangedAccount)]
pub(super) struct StatusAnswer {
    #[schema(value_type = uuid::Uuid)]
    id: AccountId,
    /// Minor units.
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

/// Both sides of a transfer as it left them.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Transfer)]
pub(super) struct TransferAnswer {
    #[schema(value_type = uuid::Uuid)]
    pub(super) id: CommitId,
    pub(super) from: BalanceAnswer,
    pub(super) to: BalanceAnswer,
}

/// A movement of money; a side that is null is the world outside the bank.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Transaction)]
pub(super) struct TransactionAnswer {
    #[schema(value_type = uuid::Uuid)]
    id: CommitId,
    #[schema(value_type = Option<uuid::Uuid>)]
    from: Option<AccountId>,
    #[schema(value_type = Option<uuid::Uuid>)]
    to: Option<AccountId>,
    /// Minor units.
    #[schema(value_type = i64)]
    money: Amount,
    /// A transaction is taken whole or not at all: what can be found is done.
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
