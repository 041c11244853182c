use serde_json::json;
use shared::http::contract::{
    every_route_refuses_a_parameter_it_does_not_know, the_description_and_the_routes_are_the_same,
};

use super::Http;

#[tokio::test]
async fn an_account_is_opened_and_looked_at_in_both_spellings() {
    let http = Http::new();
    for path in ["/create", "/accounts"] {
        let created = http.post(path, r#"{"owner":"Paulo","money":50}"#).await;
        let id = created.id();
        assert_eq!(created.status, 201);
        assert_eq!(created.header("content-type"), Some("application/json"));
        assert_eq!(created.header("location"), Some(&*format!("/accounts/{id}")));
        assert_eq!(created.header("etag"), Some("\"1\""));
        for path in [format!("/{id}"), format!("/accounts/{id}")] {
            let account = http.get(&path).await;
            assert_eq!((account.status.as_u16(), account.header("etag")), (200, Some("\"1\"")));
            let expected = json!({
                "id": id, "owner": "Paulo", "balance": 50, "status": "OPEN", "version": 1, "currency": "EUR",
                "overdraft_limit": 0, "opened_at": account.body["opened_at"], "updated_at": account.body["opened_at"],
            });
            assert_eq!(account.body, expected);
            assert!(account.body["opened_at"].as_str().is_some_and(|time| time.ends_with('Z')));
        }
    }
}

#[tokio::test]
async fn what_is_not_said_about_a_new_account_has_defaults() {
    let http = Http::new();
    let id = http.create(r#"{"owner":"Ana"}"#).await;
    let plain = http.get(&format!("/{id}")).await.body;
    assert_eq!((&plain["balance"], &plain["currency"]), (&json!(0), &json!("EUR")));
    let id = http.create(r#"{"owner":"Ana","money":0,"currency":"JPY","overdraft_limit":30}"#).await;
    let rich = http.get(&format!("/{id}")).await.body;
    assert_eq!((&rich["currency"], &rich["overdraft_limit"]), (&json!("JPY"), &json!(30)));
    assert_eq!(http.post("/withdraw", &format!(r#"{{"id":"{id}","money":30}}"#)).await.body["balance"], -30);
}

#[tokio::test]
async fn money_goes_in_and_out_in_the_verb_style() {
    let http = Http::new();
    let id = http.create(r#"{"owner":"Paulo","money":50}"#).await;
    let body = format!(r#"{{"id":"{id}","money":100}}"#);
    let deposited = http.post("/deposit", &body).await;
    assert_eq!((deposited.status.as_u16(), deposited.header("etag")), (200, Some("\"2\"")));
    assert_eq!(deposited.body, json!({ "id": id, "balance": 150, "version": 2 }));
    let withdrawn = http.post("/withdraw", &body).await;
    assert_eq!((withdrawn.status.as_u16(), withdrawn.header("etag")), (200, Some("\"3\"")));
    assert_eq!(withdrawn.body, json!({ "id": id, "balance": 50, "version": 3 }));
    http.post("/withdraw", &body).await.refused(422, "insufficient_funds");
    assert_eq!(http.get(&format!("/{id}")).await.body["version"], 3);
}

#[tokio::test]
async fn a_transfer_shows_both_sides_and_can_be_looked_up() {
    let http = Http::new();
    let (from, to) = (http.create(r#"{"owner":"A","money":50}"#).await, http.create(r#"{"owner":"B"}"#).await);
    let moved = http.post("/transfer", &format!(r#"{{"from":"{from}","to":"{to}","money":20}}"#)).await;
    assert_eq!(moved.status, 201);
    let id = moved.body["id"].as_str().unwrap();
    assert_eq!(moved.header("location"), Some(&*format!("/transactions/{id}")));
    assert_eq!(moved.body["from"], json!({ "id": from, "balance": 30, "version": 2 }));
    assert_eq!(moved.body["to"], json!({ "id": to, "balance": 20, "version": 2 }));
    let found = http.get(&format!("/transactions/{id}")).await;
    let created_at = &found.body["created_at"];
    let expected = json!({
        "id": id, "from": from, "to": to, "money": 20, "status": "COMPLETED", "created_at": created_at,
    });
    assert_eq!((found.status.as_u16(), &found.body), (200, &expected));
}

#[tokio::test]
async fn a_transaction_may_have_the_outside_world_on_one_side() {
    let http = Http::new();
    let id = http.create(r#"{"owner":"Paulo","money":50}"#).await;
    let sides = [
        (format!(r#"{{"to":"{id}","money":7}}"#), 57),
        (format!(r#"{{"from":null,"to":"{id}","money":7}}"#), 64),
        (format!(r#"{{"from":"","to":"{id}","money":7}}"#), 71),
        (format!(r#"{{"from":"{id}","money":7}}"#), 64),
        (format!(r#"{{"from":"{id}","to":null,"money":7}}"#), 57),
        (format!(r#"{{"from":"{id}","to":"","money":7}}"#), 50),
    ];
    for (body, balance) in sides {
        let taken = http.post("/transactions", &body).await;
        assert_eq!(taken.status, 201);
        assert_eq!(taken.header("location"), Some(&*format!("/transactions/{}", taken.id())));
        assert_eq!(http.get(&format!("/{id}")).await.body["balance"], balance, "{body}");
    }
    http.post("/transactions", r#"{"money":7}"#).await.refused(400, "validation_failed");
}

#[tokio::test]
async fn a_customer_may_prefer_the_transaction_to_its_id() {
    let http = Http::new();
    let to = http.create(r#"{"owner":"Paulo"}"#).await;
    let body = format!(r#"{{"to":"{to}","money":7}}"#);
    let prefer = ("Prefer", "handling=strict, return=representation");
    let shown = http.ask("POST", "/transactions", &[prefer, ("Idempotency-Key", "k")], &body).await;
    assert_eq!((shown.status.as_u16(), shown.header("preference-applied")), (201, Some("return=representation")));
    let found = http.get(shown.header("location").unwrap()).await;
    assert_eq!(shown.body, found.body);
    let again = http.ask("POST", "/transactions", &[prefer, ("Idempotency-Key", "k")], &body).await;
    assert_eq!(again.body, shown.body);
}

#[tokio::test]
async fn a_preference_may_be_quoted_and_have_parameters_and_the_first_of_a_name_counts() {
    let http = Http::new();
    let to = http.create(r#"{"owner":"Paulo"}"#).await;
    let body = format!(r#"{{"to":"{to}","money":7}}"#);
    let preferred: [(&[&str], bool); 11] = [
        (&[r#"return="representation"; foo=1, wait=5"#], true),
        (&["wait=5, Return = representation;foo"], true),
        (&["wait=5", "return=representation"], true),
        (&[r#"foo="a, \", b", return=representation"#], true),
        (&["return=representation, return=minimal"], true),
        (&["return=minimal, return=representation"], false),
        (&["return=minimal", "return=representation"], false),
        (&["return, return=representation"], false),
        (&[r#"foo="a, return=representation""#], false),
        (&["foo; return=representation"], false),
        (&[r#"return="representation"#], false),
    ];
    for (lines, is_shown) in preferred {
        let headers: Vec<(&str, &str)> = lines.iter().map(|line| ("Prefer", *line)).collect();
        let taken = http.ask("POST", "/transactions", &headers, &body).await;
        assert_eq!((taken.status.as_u16(), taken.body.is_object()), (201, is_shown), "{lines:?}");
        assert_eq!(taken.header("preference-applied").is_some(), is_shown, "{lines:?}");
    }
}

#[tokio::test]
async fn an_account_is_renamed_and_closed() {
    let http = Http::new();
    let id = http.create(r#"{"owner":"Paulo","money":5}"#).await;
    let path = format!("/accounts/{id}");
    let renamed = http.ask("PATCH", &path, &[("If-Match", "\"1\"")], r#"{"owner":"Paula"}"#).await;
    assert_eq!((renamed.status.as_u16(), renamed.header("etag")), (200, Some("\"2\"")));
    let expected = json!({ "id": id, "owner": "Paula", "balance": 5, "status": "OPEN", "version": 2 });
    assert_eq!(renamed.body, expected);
    let passed = http.ask("PATCH", &path, &[("If-Match", "\"1\"")], r#"{"owner":"Eve"}"#).await;
    passed.refused(412, "version_mismatch");
    assert_eq!(passed.body["version"], 2);
    assert_eq!(http.get(&path).await.body["owner"], "Paula");

    let close = format!("{path}/close");
    http.post(&close, "").await.refused(422, "balance_not_zero");
    http.post("/withdraw", &format!(r#"{{"id":"{id}","money":5}}"#)).await;
    let closed = http.post(&close, "").await;
    assert_eq!((closed.status.as_u16(), closed.header("etag")), (200, Some("\"4\"")));
    assert_eq!(closed.body, json!({ "id": id, "balance": 0, "status": "CLOSED", "version": 4 }));
    assert_eq!(http.get(&path).await.body["status"], "CLOSED");
    http.post("/deposit", &format!(r#"{{"id":"{id}","money":5}}"#)).await.refused(422, "account_closed");
}

#[tokio::test]
async fn what_the_business_refuses_has_a_code_of_its_own() {
    let http = Http::new();
    let euro = http.create(r#"{"owner":"A","money":9007199254740991}"#).await;
    let dollar = http.create(r#"{"owner":"B","money":5,"currency":"USD"}"#).await;
    let nobody = "0198c1a2-7f00-7000-8000-000000000001";
    let transfer = |from: &str, to: &str| format!(r#"{{"from":"{from}","to":"{to}","money":1}}"#);
    for path in ["/transfer", "/transactions"] {
        http.post(path, &transfer(&euro, &euro)).await.refused(422, "same_account");
        http.post(path, &transfer(&euro, &dollar)).await.refused(422, "currency_mismatch");
        http.post(path, &transfer(&euro, nobody)).await.refused(404, "account_not_found");
        http.post(path, &transfer(nobody, &euro)).await.refused(404, "account_not_found");
    }
    http.post("/deposit", &format!(r#"{{"id":"{euro}","money":1}}"#)).await.refused(422, "balance_out_of_range");
    http.post("/deposit", &format!(r#"{{"id":"{nobody}","money":1}}"#)).await.refused(404, "account_not_found");
    http.get(&format!("/{nobody}")).await.refused(404, "account_not_found");
    http.get(&format!("/accounts/{nobody}")).await.refused(404, "account_not_found");
    http.get(&format!("/transactions/{nobody}")).await.refused(404, "transaction_not_found");
    http.get("/accounts/12").await.refused(400, "validation_failed");
    http.get("/nowhere/at/all").await.refused(404, "route_not_found");
    http.ask("PUT", "/deposit", &[], "{}").await.refused(405, "method_not_allowed");
}

#[tokio::test]
async fn a_word_that_is_neither_a_path_nor_an_id_is_refused_with_where_the_paths_are_listed() {
    let http = Http::new();
    for path in ["/acounts", "/favicon.ico", "/accounts/12", "/transactions/12"] {
        let refused = http.get(path).await;
        refused.refused(400, "validation_failed");
        assert_eq!(refused.body["errors"][0]["field"], "id", "{path}");
        let detail = refused.body["detail"].as_str().unwrap();
        assert!(detail.starts_with("id: must be a UUID such as "), "{path}: {detail}");
        assert!(detail.ends_with("; if another path was meant, /openapi.json lists them all"), "{path}: {detail}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_body_is_said_in_words_of_the_contract() {
    let http = Http::new();
    let range = |min: u8| format!("must be a whole number of minor units from {min} to 9007199254740991");
    let wrong = [
        ("/accounts", r#"{"owner":"A","money":9007199254740992}"#, "money", range(0)),
        ("/accounts", r#"{"owner":"A","money":-1}"#, "money", range(0)),
        ("/accounts", r#"{"owner":"A","money":1.5}"#, "money", range(0)),
        ("/accounts", r#"{"owner":"A","overdraft_limit":null}"#, "overdraft_limit", range(0)),
        ("/accounts", r#"{"owner":5}"#, "owner", "must be a string".to_owned()),
        ("/accounts", "null", "", "must be a JSON object".to_owned()),
        ("/accounts", r#"["A",1]"#, "", "must be a JSON object".to_owned()),
        ("/deposit", r#"{"id":"0198c1a2-7f00-7000-8000-000000000001","money":"1"}"#, "money", range(1)),
    ];
    for (path, body, field, message) in wrong {
        let refused = http.post(path, body).await;
        refused.refused(400, "validation_failed");
        assert_eq!(refused.body["errors"], json!([{ "field": field, "message": message }]), "{body}");
    }
}

#[tokio::test]
async fn a_repeated_request_gets_the_first_answer_again() {
    let http = Http::new();
    let (from, to) = (http.create(r#"{"owner":"A","money":50}"#).await, http.create(r#"{"owner":"B"}"#).await);
    let money = format!(r#"{{"id":"{from}","money":10}}"#);
    let move_money = format!(r#"{{"from":"{from}","to":"{to}","money":10}}"#);
    let (account, close) = (format!("/accounts/{to}"), format!("/accounts/{to}/close"));
    let requests = [
        ("POST", "/create", r#"{"owner":"C","money":9}"#),
        ("POST", "/accounts", r#"{"owner":"C","money":9}"#),
        ("POST", "/deposit", &money),
        ("POST", "/withdraw", &money),
        ("POST", "/transfer", &move_money),
        ("POST", "/transactions", &move_money),
        ("PATCH", &account, r#"{"owner":"D"}"#),
    ];
    for (number, (method, path, body)) in requests.into_iter().enumerate() {
        let key = format!("key-{number}");
        repeat(&http, method, path, &key, body).await;
    }
    let empty_it = format!(r#"{{"from":"{to}","to":"{from}","money":20}}"#);
    assert_eq!(http.post("/transfer", &empty_it).await.status, 201);
    repeat(&http, "POST", &close, "close", "").await;
}

async fn repeat(http: &Http, method: &str, path: &str, key: &str, body: &str) {
    let headers = [("Idempotency-Key", key)];
    let first = http.ask(method, path, &headers, body).await;
    assert!(first.status.is_success(), "{method} {path}: {first:?}");
    assert_eq!(first.header("idempotent-replayed"), None);
    let events = http.bank.events().await;
    // Spelled in another way it still means the same.
    let spaced = body.replace(':', " : ");
    for body in [body, &spaced] {
        let mut again = http.ask(method, path, &headers, body).await;
        assert_eq!(again.headers.remove("idempotent-replayed").unwrap(), "true", "{method} {path}");
        assert_eq!(again, first);
    }
    let other = body.replace("10", "11").replace("\"C\"", "\"E\"").replace("\"D\"", "\"E\"");
    if other != body {
        http.ask(method, path, &headers, &other).await.refused(422, "idempotency_key_reused");
    }
    assert_eq!(http.bank.events().await, events);
}

#[tokio::test]
async fn an_unavailable_store_is_told_and_when_to_come_back() {
    let http = Http::new();
    let id = http.create(r#"{"owner":"A","money":50}"#).await;
    http.bank.store.break_down(1);
    let refused = http.post("/deposit", &format!(r#"{{"id":"{id}","money":1}}"#)).await;
    refused.refused(503, "unavailable");
    assert_eq!(refused.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn whoever_learns_no_outcome_is_told_to_ask_with_the_key_or_to_look() {
    let http = Http::new();
    let id = http.create(r#"{"owner":"A","money":50}"#).await;
    let body = format!(r#"{{"id":"{id}","money":1}}"#);
    let with_key = [("Idempotency-Key", "k")];
    let told = [
        (with_key.as_slice(), Some("1"), "; send it again under the same key to learn the outcome"),
        (&[], None, "in the list of its owner's accounts"),
    ];
    for (headers, retry_after, advice) in told {
        http.bank.store.lose_answers_for_good(1);
        let unknown = http.ask("POST", "/deposit", headers, &body).await;
        unknown.refused(503, "outcome_unknown");
        assert_eq!(unknown.header("retry-after"), retry_after);
        assert!(unknown.body["detail"].as_str().unwrap().ends_with(advice), "{unknown:?}");
    }
}

#[tokio::test]
async fn the_service_describes_exactly_what_it_does() {
    let http = Http::new();
    the_description_and_the_routes_are_the_same(&http.router).await;
    assert_eq!(http.get("/healthz").await.status, 200);
    assert_eq!(http.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn no_route_ignores_a_parameter_it_does_not_know() {
    let http = Http::new();
    every_route_refuses_a_parameter_it_does_not_know(&http.router).await;
    assert_eq!(http.bank.events().await, 0);
}
