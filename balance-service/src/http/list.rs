//! Lists: filters, order, pages.

use std::fmt::Write;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use serde::Deserialize;
use shared::backends::Backends;
use shared::http::{PageLimit, Problem, QueryParams, next_link};
use shared::index::{AccountStatus, BalanceIndex, BalanceQuery, Cursor, Sort};
use shared::money::{Currency, Money};
use shared::owner::Owner;
use utoipa::IntoParams;

use super::refusals::PageRefusals;
use super::{BalanceApi, BalanceView, refused};

/// Filters, order and page of a list. Filters combine.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    /// Only accounts of exactly this owner.
    #[param(value_type = Option<String>, example = "Paulo")]
    owner: Option<Owner>,
    /// Only balances above this one, in minor units. Give `currency` as well where there are several: balances are
    /// compared and sorted by their minor units alone.
    #[param(value_type = Option<i64>)]
    balance_gt: Option<Money>,
    /// Only balances below this one, in minor units.
    #[param(value_type = Option<i64>)]
    balance_lt: Option<Money>,
    /// Only `OPEN` or only `CLOSED` accounts.
    #[param(value_type = Option<String>)]
    status: Option<AccountStatus>,
    /// Only accounts in this currency, by its ISO 4217 code.
    #[param(value_type = Option<String>, example = "EUR")]
    currency: Option<Currency>,
    /// `owner` (default), `-owner`, `balance` or `-balance`; ties are broken by id.
    #[param(value_type = Option<String>, example = "-balance")]
    sort: Option<SortParam>,
    /// Page size.
    #[param(inline)]
    limit: Option<PageLimit>,
    /// Page token, from the `Link` header of the previous page. Keep the filters of that page, as the link does: with
    /// other filters, the other list goes on from the same place.
    cursor: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
enum SortParam {
    #[serde(rename = "owner")]
    Owner,
    #[serde(rename = "-owner")]
    OwnerDescending,
    #[serde(rename = "balance")]
    Balance,
    #[serde(rename = "-balance")]
    BalanceDescending,
}

impl SortParam {
    const fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::OwnerDescending => "-owner",
            Self::Balance => "balance",
            Self::BalanceDescending => "-balance",
        }
    }

    const fn order(self) -> Sort {
        match self {
            Self::Owner => Sort::Owner,
            Self::OwnerDescending => Sort::OwnerDescending,
            Self::Balance => Sort::Balance,
            Self::BalanceDescending => Sort::BalanceDescending,
        }
    }
}

impl ListParams {
    fn query(&self) -> BalanceQuery {
        BalanceQuery {
            owner: self.owner.clone(),
            balance_gt: self.balance_gt,
            balance_lt: self.balance_lt,
            status: self.status,
            currency: self.currency,
            sort: self.sort.map(SortParam::order).unwrap_or_default(),
            limit: self.limit.unwrap_or_default().get(),
            cursor: self.cursor.clone().map(Cursor),
        }
    }

    /// The same query, continued after `cursor`.
    fn next_query(&self, cursor: &Cursor) -> String {
        let mut query = String::new();
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                let separator = if query.is_empty() { '?' } else { '&' };
                query.push(separator);
                query.push_str(name);
                query.push('=');
                encode(&value, &mut query);
            }
        };
        add("owner", self.owner.as_ref().map(|owner| owner.as_str().to_owned()));
        add("balance_gt", self.balance_gt.map(|balance| balance.to_string()));
        add("balance_lt", self.balance_lt.map(|balance| balance.to_string()));
        add("status", self.status.map(|status| status.as_str().to_owned()));
        add("currency", self.currency.map(|currency| currency.code().to_owned()));
        add("sort", self.sort.map(|sort| sort.name().to_owned()));
        add("limit", self.limit.map(|limit| limit.get().to_string()));
        add("cursor", Some(cursor.0.clone()));
        query
    }
}

/// Percent-encodes everything that is not unreserved in a URL.
fn encode(text: &str, into: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            write!(into, "%{byte:02X}").unwrap_or_default();
        }
    }
}

/// List balances page by page, by owner unless `sort` is given.
#[utoipa::path(get, path = "/balance", tag = "balances", params(ListParams), responses(
    (status = 200, description = "A page; `Link` with `rel=\"next\"` is the next page", body = Vec<BalanceView>),
    PageRefusals,
))]
pub(super) async fn list<B: Backends>(
    State(api): State<BalanceApi<B>>,
    uri: Uri,
    QueryParams(params): QueryParams<ListParams>,
) -> Result<(HeaderMap, Json<Vec<BalanceView>>), Problem> {
    let page = api.backends.index().search(&params.query()).await.map_err(refused)?;
    let headers = match &page.next {
        Some(cursor) => next_link(uri.path(), &params.next_query(cursor))?,
        None => HeaderMap::new(),
    };
    Ok((headers, Json(page.balances.into_iter().map(BalanceView::from).collect())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_asks_the_same_question_again() {
        let params = ListParams {
            owner: Owner::new("Zö & B").ok(),
            balance_gt: Money::new(-5).ok(),
            balance_lt: None,
            status: Some(AccountStatus::Open),
            currency: "EUR".parse().ok(),
            sort: Some(SortParam::BalanceDescending),
            limit: serde_json::from_str("7").ok(),
            cursor: Some("before".to_owned()),
        };
        assert_eq!(
            params.next_query(&Cursor("a/b".to_owned())),
            "?owner=Z%C3%B6%20%26%20B&balance_gt=-5&status=OPEN&currency=EUR&sort=-balance&limit=7&cursor=a%2Fb"
        );
    }
}
