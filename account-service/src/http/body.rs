//! What customers send, taken as meant or refused.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use shared::id::AccountId;
use shared::money::{Amount, Currency, MONEY_MAX, Money};
use shared::owner::Owner;
use shared::text::Text;
use utoipa::ToSchema;

/// An account to open.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OpenBody {
    /// Whose account it is to be.
    #[schema(value_type = String, min_length = 1, max_length = 128, example = "Paulo")]
    pub(super) owner: Owner,
    /// What is on it at first, in minor units; nothing unless it is said.
    #[serde(default, deserialize_with = "zero_or_amount")]
    #[schema(value_type = i64, required = false, minimum = 0, maximum = 9_007_199_254_740_991_i64, example = 50)]
    pub(super) money: Option<Amount>,
    /// Its currency by ISO 4217; the bank's own unless it is said.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = String, required = false, example = "EUR")]
    pub(super) currency: Option<Currency>,
    /// How far below zero its balance may go, in minor units; not at all unless it is said.
    #[serde(default, deserialize_with = "zero_or_amount")]
    #[schema(value_type = i64, required = false, minimum = 0, maximum = 9_007_199_254_740_991_i64, example = 0)]
    pub(super) overdraft_limit: Option<Amount>,
}

/// Money that comes into an account, or goes out of it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MoneyBody {
    /// The account.
    #[serde(deserialize_with = "account")]
    #[schema(value_type = uuid::Uuid)]
    pub(super) id: AccountId,
    /// How much, in minor units.
    #[schema(value_type = i64, minimum = 1, maximum = 9_007_199_254_740_991_i64, example = 100)]
    pub(super) money: Amount,
}

/// Money that goes from one account to another.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TransferBody {
    /// Who pays.
    #[serde(deserialize_with = "account")]
    #[schema(value_type = uuid::Uuid)]
    pub(super) from: AccountId,
    /// Who receives.
    #[serde(deserialize_with = "account")]
    #[schema(value_type = uuid::Uuid)]
    pub(super) to: AccountId,
    /// How much, in minor units.
    #[schema(value_type = i64, minimum = 1, maximum = 9_007_199_254_740_991_i64, example = 20)]
    pub(super) money: Amount,
}

/// Money that moves. A side that is absent, null or empty is the world outside the bank.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TransactionBody {
    /// Who pays.
    #[serde(default, deserialize_with = "side")]
    #[schema(value_type = Option<String>, required = false)]
    pub(super) from: Option<AccountId>,
    /// Who receives.
    #[serde(default, deserialize_with = "side")]
    #[schema(value_type = Option<String>, required = false)]
    pub(super) to: Option<AccountId>,
    /// How much, in minor units.
    #[schema(value_type = i64, minimum = 1, maximum = 9_007_199_254_740_991_i64, example = 20)]
    pub(super) money: Amount,
}

/// What is to change about an account.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RenameBody {
    /// The owner's new name.
    #[schema(value_type = String, min_length = 1, max_length = 128, example = "Paulo")]
    pub(super) owner: Owner,
}

/// A field that may be absent, but not null.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Zero is nothing, and anything above is an amount.
fn zero_or_amount<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Amount>, D::Error> {
    let money = Money::deserialize(deserializer)?;
    if money == Money::ZERO {
        return Ok(None);
    }
    let refusal = || D::Error::custom(format!("must be a whole number of minor units from 0 to {MONEY_MAX}"));
    Amount::new(money.get()).map(Some).map_err(|_| refusal())
}

/// An id in its one spelling, as in a path.
fn account<'de, D: Deserializer<'de>>(deserializer: D) -> Result<AccountId, D::Error> {
    let Text(id) = Text::deserialize(deserializer)?;
    id.parse().map_err(|_| D::Error::custom("must be the id of an account"))
}

fn side<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<AccountId>, D::Error> {
    match Option::<Text<'de>>::deserialize(deserializer)?.as_ref().map(|text| &*text.0) {
        None | Some("") => Ok(None),
        Some(id) => id.parse().map(Some).map_err(|_| D::Error::custom("must be the id of an account, null or empty")),
    }
}
