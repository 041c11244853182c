//! What `/openapi.json` says of requests and answers, held against both.

use serde_json::json;
use shared::http::contract::{every_route_refuses_a_body_it_does_not_take, the_answer_is_described};

use super::Http;

#[tokio::test]
async fn every_answer_is_as_it_is_described() {
    let http = Http::new();
    let description = http.get("/openapi.json").await.body;
    let (from, to) = (http.create(r#"{"owner":"A","money":50}"#).await, http.create(r#"{"owner":"B"}"#).await);
    let money = format!(r#"{{"id":"{from}","money":10}}"#);
    let transfer = format!(r#"{{"from":"{from}","to":"{to}","money":10}}"#);
    let requests = [
        ("post", "/create", r#"{"owner":"C","money":9}"#),
        ("post", "/accounts", r#"{"owner":"C","money":9}"#),
        ("get", "/{id}", ""),
        ("get", "/accounts/{id}", ""),
        ("get", "/accounts/{id}/statement", ""),
        ("post", "/deposit", &money),
        ("post", "/withdraw", &money),
        ("post", "/transfer", &transfer),
        ("post", "/transactions", &transfer),
        ("patch", "/accounts/{id}", r#"{"owner":"D"}"#),
    ];
    for (number, (method, path, body)) in requests.into_iter().enumerate() {
        let key = format!("key-{number}");
        let headers = [("Idempotency-Key", &*key), ("Prefer", "return=representation")];
        for attempt in ["first", "repeated"] {
            let answer = http.ask(&method.to_uppercase(), &path.replace("{id}", &from), &headers, body).await;
            assert!(answer.status.is_success(), "{attempt} {method} {path}: {answer:?}");
            the_answer_is_described(&description, method, path, answer.status, &answer.headers);
        }
    }
    let id_alone = http.post("/transactions", &transfer).await;
    the_answer_is_described(&description, "post", "/transactions", id_alone.status, &id_alone.headers);
    let found = http.get(id_alone.header("location").unwrap()).await;
    the_answer_is_described(&description, "get", "/transactions/{id}", found.status, &found.headers);
    let page = http.get(&format!("/accounts/{from}/statement?limit=1")).await;
    assert!(page.header("link").is_some(), "{page:?}");
    the_answer_is_described(&description, "get", "/accounts/{id}/statement", page.status, &page.headers);
    let empty = http.create(r#"{"owner":"E"}"#).await;
    let closed = http.post(&format!("/accounts/{empty}/close"), "").await;
    assert_eq!(closed.status, 200);
    the_answer_is_described(&description, "post", "/accounts/{id}/close", closed.status, &closed.headers);
}

#[tokio::test]
async fn a_transaction_is_described_as_its_id_or_as_a_whole() {
    let http = Http::new();
    let description = http.get("/openapi.json").await.body;
    let created = &description["paths"]["/transactions"]["post"]["responses"]["201"]["content"]["application/json"];
    assert_eq!(created["schema"]["$ref"], "#/components/schemas/TransactionOrId");
    let schemas = &description["components"]["schemas"];
    assert_eq!(schemas["TransactionOrId"]["oneOf"].as_array().map(Vec::len), Some(2));
    assert!(schemas["Transaction"]["properties"].get("created_at").is_some(), "{schemas}");
}

#[tokio::test]
async fn whatever_takes_a_key_is_described_as_telling_of_a_repeat_unless_it_is_refused() {
    let http = Http::new();
    let description = http.get("/openapi.json").await.body;
    let paths = description["paths"].as_object().unwrap().values();
    let commands = paths.flat_map(|path| [path.get("post"), path.get("patch")]).flatten();
    let mut telling = 0;
    for command in commands {
        let taken: Vec<_> = command["parameters"].as_array().unwrap().iter().map(|taken| &taken["name"]).collect();
        assert!(taken.contains(&&json!("Idempotency-Key")), "{command}");
        for (status, answer) in command["responses"].as_object().unwrap() {
            let tells = answer["headers"].get("Idempotent-Replayed").is_some();
            assert_eq!(tells, status.starts_with('2'), "{status} of {command}");
            telling += usize::from(tells);
        }
    }
    assert_eq!(telling, 8);
}

#[tokio::test]
async fn a_version_can_be_asked_for_wherever_there_is_an_account_already() {
    let http = Http::new();
    let description = http.get("/openapi.json").await.body;
    for (path, method, is_asked_for) in [
        ("/create", "post", false),
        ("/accounts", "post", false),
        ("/accounts/{id}", "patch", true),
        ("/accounts/{id}/close", "post", true),
        ("/deposit", "post", true),
        ("/withdraw", "post", true),
        ("/transfer", "post", true),
        ("/transactions", "post", true),
    ] {
        let taken = description["paths"][path][method]["parameters"].as_array().unwrap();
        let if_match = taken.iter().find(|taken| taken["name"] == "If-Match");
        assert_eq!(if_match.is_some(), is_asked_for, "{method} {path}");
        assert!(if_match.is_none_or(|header| header["in"] == "header" && header["required"] == false), "{path}");
    }
}

#[tokio::test]
async fn a_key_is_described_as_forgetting_refusals_and_does_forget_them() {
    let http = Http::new();
    let description = http.get("/openapi.json").await.body;
    let mut described = 0;
    for operation in description["paths"].as_object().unwrap().values().filter_map(|path| path.get("post")) {
        for parameter in operation["parameters"].as_array().unwrap() {
            if parameter["name"] == "Idempotency-Key" {
                assert!(parameter["description"].as_str().unwrap().contains("decided anew"), "{parameter}");
                described += 1;
            }
        }
    }
    assert_eq!(described, 7);

    let id = http.create(r#"{"owner":"A"}"#).await;
    let body = format!(r#"{{"id":"{id}","money":10}}"#);
    let key = [("Idempotency-Key", "k")];
    http.ask("POST", "/withdraw", &key, &body).await.refused(422, "insufficient_funds");
    http.post("/deposit", &body).await;
    assert_eq!(http.ask("POST", "/withdraw", &key, &body).await.status, 200);
}

#[tokio::test]
async fn a_statement_is_described_with_the_sizes_of_its_pages() {
    let http = Http::new();
    let description = http.get("/openapi.json").await.body;
    let taken = description["paths"]["/accounts/{id}/statement"]["get"]["parameters"].as_array().unwrap();
    let limit = taken.iter().find(|taken| taken["name"] == "limit").unwrap();
    let sizes = json!({"type": "integer", "format": "int32", "minimum": 1, "maximum": 1_000, "default": 100});
    assert_eq!((&limit["required"], &limit["schema"]), (&json!(false), &sizes));
}

#[tokio::test]
async fn an_account_that_is_opened_has_no_version_to_match() {
    let http = Http::new();
    for path in ["/create", "/accounts"] {
        for tag in ["\"0\"", "\"1\"", "*"] {
            let refused = http.ask("POST", path, &[("If-Match", tag)], r#"{"owner":"A"}"#).await;
            refused.refused(400, "validation_failed");
            assert_eq!(refused.body["errors"][0]["field"], "if-match");
        }
    }
    assert_eq!(http.bank.events().await, 0);
}

#[tokio::test]
async fn no_route_ignores_a_body_it_does_not_take() {
    let http = Http::new();
    every_route_refuses_a_body_it_does_not_take(&http.router).await;
    assert_eq!(http.bank.events().await, 0);
}
