//! Statements over HTTP.

use futures::future::join_all;
use serde_json::{Value, json};

use super::{Http, Reply};
use crate::testing::deposit;

impl Http {
    async fn move_money(&self, from: &str, to: &str, minor_units: u32) {
        let moved = self.post("/transfer", &format!(r#"{{"from":"{from}","to":"{to}","money":{minor_units}}}"#)).await;
        assert_eq!(moved.status, 201, "{moved:?}");
    }
}

impl Reply {
    /// Where the next page is.
    fn next(&self) -> Option<String> {
        let link = self.header("link")?;
        Some(link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned())
    }

    /// The lines without their ids and times.
    fn told(&self) -> Value {
        let members = ["version", "type", "change", "balance", "other_account"];
        let line = |line: &Value| members.iter().map(|member| line[*member].clone()).collect::<Value>();
        self.body.as_array().unwrap().iter().map(line).collect()
    }
}

#[tokio::test]
async fn a_statement_says_what_happened_newest_first_with_the_balance_after_it() {
    let http = Http::new();
    let (account, other) = (http.create(r#"{"owner":"A","money":50}"#).await, http.create(r#"{"owner":"B"}"#).await);
    let money = |minor_units: u32| format!(r#"{{"id":"{account}","money":{minor_units}}}"#);
    assert_eq!(http.post("/deposit", &money(100)).await.status, 200);
    assert_eq!(http.post("/withdraw", &money(30)).await.status, 200);
    http.post("/withdraw", &money(1_000)).await.refused(422, "insufficient_funds");
    http.move_money(&account, &other, 20).await;
    assert_eq!(http.ask("PATCH", &format!("/accounts/{account}"), &[], r#"{"owner":"C"}"#).await.status, 200);
    http.move_money(&other, &account, 20).await;
    assert_eq!(http.post(&format!("/accounts/{other}/close"), "").await.status, 200);

    let statement = http.get(&format!("/accounts/{account}/statement")).await;
    assert_eq!((statement.status.as_u16(), statement.next()), (200, None));
    let expected = json!([
        [6, "TRANSFER_RECEIVED", 20, 120, other],
        [5, "RENAMED", 0, 100, null],
        [4, "TRANSFER_SENT", -20, 100, other],
        [3, "WITHDRAWN", -30, 120, null],
        [2, "DEPOSITED", 100, 150, null],
        [1, "OPENED", 50, 50, null],
    ]);
    assert_eq!(statement.told(), expected);
    let expected = json!([
        [4, "CLOSED", 0, 0, null],
        [3, "TRANSFER_SENT", -20, 0, account],
        [2, "TRANSFER_RECEIVED", 20, 20, account],
        [1, "OPENED", 0, 0, null],
    ]);
    assert_eq!(http.get(&format!("/accounts/{other}/statement")).await.told(), expected);
}

#[tokio::test]
async fn a_line_leads_to_its_transaction() {
    let http = Http::new();
    let (account, other) = (http.create(r#"{"owner":"A","money":50}"#).await, http.create(r#"{"owner":"B"}"#).await);
    http.move_money(&account, &other, 20).await;
    let statement = http.get(&format!("/accounts/{account}/statement")).await.body;
    let (sent, opened) = (&statement[0], &statement[1]);
    assert!(sent["id"].as_str() > opened["id"].as_str(), "{statement}");
    let transaction = http.get(&format!("/transactions/{}", sent["transaction"].as_str().unwrap())).await.body;
    let expected = json!({
        "version": 2, "id": sent["id"], "type": "TRANSFER_SENT", "change": -20, "balance": 30,
        "transaction": transaction["id"], "other_account": other, "created_at": transaction["created_at"],
    });
    assert_eq!(*sent, expected);
    assert_eq!((&opened["transaction"], &opened["other_account"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn following_the_links_shows_every_line_once_while_money_comes_in() {
    let http = Http::new();
    let account = http.create(r#"{"owner":"A","money":5}"#).await;
    let body = format!(r#"{{"id":"{account}","money":1}}"#);
    for _ in 2..=10 {
        assert_eq!(http.post("/deposit", &body).await.status, 200);
    }
    let mut path = Some(format!("/accounts/{account}/statement?limit=3"));
    let mut shown = Vec::new();
    while let Some(page) = path {
        assert!(shown.len() < 100, "the pages never end");
        let reply = http.get(&page).await;
        shown.extend(reply.told().as_array().unwrap().clone());
        assert_eq!(http.post("/deposit", &body).await.status, 200);
        path = reply.next();
    }
    let deposited = |version: i64| json!([version, "DEPOSITED", 1, version + 4, null]);
    let mut expected: Vec<Value> = (2..=10).rev().map(deposited).collect();
    expected.push(json!([1, "OPENED", 5, 5, null]));
    assert_eq!(shown, expected);
}

#[tokio::test]
async fn a_page_has_a_hundred_lines_unless_another_number_is_asked_for() {
    let http = Http::new();
    let account = http.bank.open(0).await;
    let deposits = join_all((0..100).map(|_| http.bank.execute(deposit(account, 1)))).await;
    assert!(deposits.iter().all(Result::is_ok));
    let path = format!("/accounts/{account}/statement");
    let first = http.get(&path).await;
    assert_eq!(first.body.as_array().map(Vec::len), Some(100));
    assert_eq!(http.get(&first.next().unwrap()).await.told(), json!([[1, "OPENED", 0, 0, null]]));
    let whole = http.get(&format!("{path}?limit=1000")).await;
    assert_eq!((whole.body.as_array().map(Vec::len), whole.next()), (Some(101), None));
}

#[tokio::test]
async fn a_statement_of_no_account_or_with_a_wrong_parameter_is_refused_under_its_name() {
    let http = Http::new();
    let (account, other) = (http.create(r#"{"owner":"A","money":5}"#).await, http.create(r#"{"owner":"B"}"#).await);
    http.move_money(&account, &other, 2).await;
    let path = format!("/accounts/{account}/statement");
    let next = http.get(&format!("{path}?limit=1")).await.next().unwrap();
    let (_, cursor) = next.split_once("cursor=").unwrap();
    // Account, version, and a balance of 5.
    let (account_digits, place) = cursor.split_at(32);
    assert_eq!(place, "00000000000000010000000000000005");
    let foreign = format!("{}{place}", other.replace('-', ""));
    let above = format!("{account_digits}00000000000000030000000000000005");
    let never_had = format!("{account_digits}00000000000000010000000000000006");
    for (query, field) in [
        ("color=red", "color"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("limit=5&limit=5", "limit"),
        ("cursor=", "cursor"),
        ("cursor=made-up", "cursor"),
        (&format!("cursor={foreign}"), "cursor"),
        (&format!("cursor={above}"), "cursor"),
        (&format!("cursor={never_had}"), "cursor"),
    ] {
        let refused = http.get(&format!("{path}?{query}")).await;
        refused.refused(400, "validation_failed");
        assert_eq!(refused.body["errors"][0]["field"], field, "{query}");
    }
    http.get("/accounts/0198c1a2-7f00-7000-8000-000000000001/statement").await.refused(404, "account_not_found");
    http.ask("POST", &path, &[], "").await.refused(405, "method_not_allowed");
}
