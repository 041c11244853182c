//! What customers send, taken as meant or refused.
//!
//! The names of the fields, their order, and a null for each that is absent are part of the digests that are stored for
//! requests with a key, so none of this may change. A field that is new and optional is left out of the digest while it
//! is absent (`skip_serializing_if`): requests from before do not have it.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use shared::id::AccountId;
use shared::money::{Amount, Currency};
use shared::owner::Owner;
use shared::text::Text;
use utoipa::ToSchema;

/// An account to open.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OpenBody {
    /// Name of the owner.
    #[schema(value_type = String, min_length = 1, max_length = 128, example = "Paulo")]
    pub(super) owner: Owner,
    /// Opening balance in minor units; 0 if omitted.
    #[serde(default, deserialize_with = "Amount::or_zero")]
    #[schema(value_type = i64, required = false, minimum = 0, maximum = 9_007_199_254_740_991_i64, example = 50)]
    pub(super) money: Option<Amount>,
    /// ISO 4217 code; the bank's default if omitted.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = String, required = false, example = "EUR")]
    pub(super) currency: Option<Currency>,
    /// How far below zero the balance may go, in minor units; 0 (no overdraft) if omitted.
    #[serde(default, deserialize_with = "Amount::or_zero")]
    #[schema(value_type = i64, required = false, minimum = 0, maximum = 9_007_199_254_740_991_i64, example = 0)]
    pub(super) overdraft_limit: Option<Amount>,
}

/// A deposit to an account, or a withdrawal from it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MoneyBody {
    /// Account id.
    #[serde(deserialize_with = "account")]
    #[schema(value_type = uuid::Uuid)]
    pub(super) id: AccountId,
    /// Amount in minor units.
    #[schema(value_type = i64, minimum = 1, maximum = 9_007_199_254_740_991_i64, example = 100)]
    pub(super) money: Amount,
}

/// A transfer from one account to another.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TransferBody {
    /// Id of the paying account.
    #[serde(deserialize_with = "account")]
    #[schema(value_type = uuid::Uuid)]
    pub(super) from: AccountId,
    /// Id of the receiving account.
    #[serde(deserialize_with = "account")]
    #[schema(value_type = uuid::Uuid)]
    pub(super) to: AccountId,
    /// Amount in minor units.
    #[schema(value_type = i64, minimum = 1, maximum = 9_007_199_254_740_991_i64, example = 20)]
    pub(super) money: Amount,
}

/// A transaction. A side that is omitted, null or empty is outside the bank; at least one side is an account.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TransactionBody {
    /// Id of the paying account.
    #[serde(default, deserialize_with = "side")]
    #[schema(value_type = Option<String>, required = false)]
    pub(super) from: Option<AccountId>,
    /// Id of the receiving account.
    #[serde(default, deserialize_with = "side")]
    #[schema(value_type = Option<String>, required = false)]
    pub(super) to: Option<AccountId>,
    /// Amount in minor units.
    #[schema(value_type = i64, minimum = 1, maximum = 9_007_199_254_740_991_i64, example = 20)]
    pub(super) money: Amount,
}

/// A change to an account.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RenameBody {
    /// New name of the owner.
    #[schema(value_type = String, min_length = 1, max_length = 128, example = "Paulo")]
    pub(super) owner: Owner,
}

/// A field that may be absent, but not null.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// An id in its one spelling, as in a path.
fn account<'de, D: Deserializer<'de>>(deserializer: D) -> Result<AccountId, D::Error> {
    let Text(id) = Text::deserialize(deserializer)?;
    id.parse().map_err(|_| D::Error::custom("must be the UUID of an account"))
}

fn side<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<AccountId>, D::Error> {
    match Option::<Text<'de>>::deserialize(deserializer)?.as_ref().map(|text| &*text.0) {
        None | Some("") => Ok(None),
        Some(id) => id.parse().map(Some).map_err(|_| D::Error::custom("must be the UUID of an account, null or empty")),
    }
}
