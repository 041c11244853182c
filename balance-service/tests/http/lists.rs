use axum::http::StatusCode;
use proptest::prelude::*;
use serde_json::json;
use shared::index::{AccountStatus, Balance};

use crate::fixture::{Bank, account, balance};

/// Three owners; Paulo has two accounts, one of them closed.
fn five() -> Vec<Balance> {
    vec![
        balance(1, "Paulo", 500, 3),
        Balance { status: AccountStatus::Closed, ..balance(2, "Paulo", 0, 9) },
        balance(3, "Ana", 100, 1),
        balance(4, "Zoë", -20, 2),
        balance(5, "Bo & Co", 300, 4),
    ]
}

#[tokio::test]
async fn every_spelling_of_the_list_shows_all_balances_by_owner() {
    let (bank, _) = Bank::with(five()).await;
    for path in ["/", "/balance", "/balance/"] {
        let list = bank.get(path).await;
        assert_eq!(list.each("owner"), ["Ana", "Bo & Co", "Paulo", "Paulo", "Zoë"], "{path}");
        assert_eq!(list.next(), None);
    }
    let first = bank.get("/balance?limit=1").await.json()[0].clone();
    let expected = json!({
        "id": account(3).to_string(), "owner": "Ana", "balance": 100, "status": "OPEN", "version": 1, "currency": "EUR",
        "opened_at": first["opened_at"], "updated_at": first["updated_at"],
    });
    assert_eq!(first, expected);
}

#[tokio::test]
async fn filters_combine_and_the_order_can_be_turned() {
    let (bank, _) = Bank::with(five()).await;
    for (query, balances) in [
        ("owner=Paulo", json!([500, 0])),
        ("owner=Bo+%26+Co", json!([300])),
        ("owner=Nobody", json!([])),
        ("balance_gt=100", json!([300, 500])),
        ("balance_lt=100", json!([0, -20])),
        ("balance_gt=-21&balance_lt=1", json!([0, -20])),
        ("status=CLOSED", json!([0])),
        ("owner=Paulo&status=OPEN", json!([500])),
        ("sort=balance", json!([-20, 0, 100, 300, 500])),
        ("sort=-balance", json!([500, 300, 100, 0, -20])),
        ("sort=-balance&balance_gt=0&limit=2", json!([500, 300])),
    ] {
        let list = bank.get(&format!("/balance?{query}")).await;
        assert_eq!(json!(list.each("balance")), balances, "{query}: {}", list.text);
    }
}

#[tokio::test]
async fn a_list_in_order_of_balance_can_be_of_one_currency() {
    let in_yen = [balance(6, "Yui", 400, 1), balance(7, "Ken", 90_000, 1)];
    let in_yen = in_yen.map(|balance| Balance { currency: "JPY".parse().unwrap(), ..balance });
    let (bank, _) = Bank::with(five().into_iter().chain(in_yen).collect()).await;
    for (query, balances) in [
        ("sort=-balance&limit=3", json!([90_000, 500, 400])),
        ("sort=-balance&limit=3&currency=EUR", json!([500, 300, 100])),
        ("balance_gt=100&currency=JPY&sort=balance", json!([400, 90_000])),
        ("currency=CZK", json!([])),
    ] {
        let list = bank.get(&format!("/balance?{query}")).await;
        assert_eq!(json!(list.each("balance")), balances, "{query}: {}", list.text);
    }
    let first = bank.get("/balance?currency=JPY&limit=1").await;
    let second = bank.get(&first.next().unwrap()).await;
    assert_eq!([first.each("owner"), second.each("owner")], [[json!("Ken")], [json!("Yui")]]);
    assert_eq!(second.next(), None, "the link keeps the currency");
}

#[tokio::test]
async fn following_the_links_shows_every_balance_once() {
    let (bank, _) = Bank::with((1..=23).map(|number| balance(number, "Ana", number.into(), 1)).collect()).await;
    for sort in ["owner", "-owner", "balance", "-balance"] {
        let mut path = Some(format!("/balance?limit=5&sort={sort}&balance_gt=2"));
        let mut seen = Vec::new();
        while let Some(page) = path {
            assert!(seen.len() < 100, "the pages never end");
            let list = bank.get(&page).await;
            seen.extend(list.each("balance").iter().map(|balance| balance.as_i64().unwrap()));
            path = list.next();
        }
        seen.sort_unstable();
        assert_eq!(seen, (3..=23).collect::<Vec<_>>(), "{sort}");
    }
}

#[tokio::test]
async fn a_page_with_other_filters_goes_on_from_the_same_place_as_described() {
    let (bank, _) = Bank::with(five()).await;
    let next = bank.get("/balance?owner=Paulo&limit=1").await.next().unwrap();
    let cursor = next.split_once("cursor=").unwrap().1;
    let other = bank.get(&format!("/balance?balance_lt=1&cursor={cursor}")).await;
    assert_eq!(other.each("balance"), [0, -20], "{}", other.text);

    let description = bank.get("/openapi.json").await.json();
    let parameters = description["paths"]["/balance"]["get"]["parameters"].as_array().unwrap();
    let described = parameters.iter().find(|parameter| parameter["name"] == "cursor").unwrap();
    assert!(described["description"].as_str().unwrap().contains("Keep the filters"), "{described}");
}

#[tokio::test]
async fn a_wrong_parameter_is_refused_under_its_name() {
    let (bank, _) = Bank::with(five()).await;
    let next = bank.get("/balance?limit=1").await.next().unwrap();
    let cursor = next.split_once("cursor=").unwrap().1;
    for (query, field) in [
        ("color=red", "color"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=5&limit=5", "limit"),
        ("balance_gt=1.5", "balance_gt"),
        ("balance_gt=9007199254740992", "balance_gt"),
        ("balance_lt=", "balance_lt"),
        ("status=open", "status"),
        ("currency=eur", "currency"),
        ("currency=", "currency"),
        ("sort=color", "sort"),
        ("owner=", "owner"),
        ("owner=a%00b", "owner"),
        ("cursor=made-up", "cursor"),
        (&format!("sort=-balance&cursor={cursor}"), "cursor"),
    ] {
        let refusal = bank.get(&format!("/balance?{query}")).await;
        assert_eq!(refusal.status, StatusCode::BAD_REQUEST, "{query}: {}", refusal.text);
        assert_eq!(refusal.json()["errors"][0]["field"], field, "{query}: {}", refusal.text);
    }
}

#[tokio::test]
async fn a_number_out_of_range_is_told_the_range() {
    let (bank, _) = Bank::with(five()).await;
    for limit in ["x", "0", "-1", "1001", "99999999999999999999"] {
        for path in ["/balance", "/balance/parked"] {
            let refusal = bank.get(&format!("{path}?limit={limit}")).await;
            assert_eq!(refusal.json()["errors"][0]["message"], "must be a whole number from 1 to 1000", "{limit}");
        }
    }
    let refusal = bank.get("/balance?balance_gt=1.5").await;
    let range = "must be a whole number of minor units from -9007199254740991 to 9007199254740991";
    assert_eq!(refusal.json()["errors"][0]["message"], range);
}

#[tokio::test]
async fn without_a_view_every_query_says_so() {
    let bank = Bank::empty().await;
    for path in ["/", &format!("/balance/{}", account(1)), "/balance/parked"] {
        let refusal = bank.get(path).await;
        assert_eq!((refusal.status, &refusal.json()["code"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("unavailable")));
        assert!(refusal.headers.contains_key("retry-after"), "{path}");
    }
    assert_eq!(bank.get("/readyz").await.status, StatusCode::OK);
}

/// A query close to the contract: known and unknown names, values on both sides of every limit, and noise.
fn nearly_a_query() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        8 => prop::sample::select(vec![
            "owner", "balance_gt", "balance_lt", "status", "currency", "sort", "limit", "cursor", "min_version", "wait_ms",
        ])
        .prop_map(str::to_owned),
        1 => "[ -~&&[^#\"<>`\\\\^{|} ]]{0,12}",
    ];
    let value = prop_oneof![
        prop::sample::select(vec![
            "",
            "0",
            "1",
            "-1",
            "1000",
            "1001",
            "9007199254740991",
            "9007199254740992",
            "-9223372036854775809",
            "OPEN",
            "owner",
            "-balance",
            "Paulo",
            "%00",
            "%ff",
            "%",
            "%E2%80%AE",
            "null",
            "1e3",
            "[]",
            "{}",
            "' OR 1=1 --",
            "*",
        ])
        .prop_map(|value| value.replace(' ', "+").replace('{', "%7B").replace('}', "%7D")),
        "[ -~&&[^#\"<>`\\\\^{|} ]]{0,40}",
        "(%[0-9a-fA-F]{2}){0,12}",
    ];
    prop::collection::vec((name, value), 0..5)
        .prop_map(|pairs| pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&"))
}

/// Whatever a query contains, it is answered or refused; nothing in it breaks the service.
#[test]
fn no_query_breaks_the_service() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (bank, _) = runtime.block_on(Bank::with(five()));
    let paths =
        prop::sample::select(vec!["/", "/balance", "/balance/parked", "/balance/06060606-0606-0606-0606-060606060606"]);
    let config = ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(path in paths, query in nearly_a_query())| {
        // A wait would only make the test slow.
        prop_assume!(!query.contains("wait_ms"));
        let answer = runtime.block_on(bank.get(&format!("{path}?{query}")));
        prop_assert!(answer.status == 200 || answer.status == 400 || answer.status == 404 || answer.status == 504,
            "{} {}", answer.status, answer.text);
        if answer.status != 200 {
            prop_assert_eq!(&answer.headers["content-type"], "application/problem+json");
        }
    });
}
