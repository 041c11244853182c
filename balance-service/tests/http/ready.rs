use axum::http::StatusCode;
use serde_json::{Value, json};
use shared::backends::Ports;

use crate::away::Away;
use crate::fixture::{Bank, account, balance};

fn dependency(name: &str, needed: bool, ready: bool) -> Value {
    json!({ "name": name, "needed": needed, "ready": ready })
}

#[tokio::test]
async fn queries_go_on_without_log_and_leases_and_readiness_names_both() {
    let (bank, _) = Bank::with(vec![balance(1, "Paulo", 500, 3)]).await;
    let backends = Ports { store: bank.store.clone(), log: Away, leases: Away, index: bank.index.clone() };
    let bank = bank.with_backends(backends);
    let ready = bank.get("/readyz").await;
    assert_eq!(ready.status, StatusCode::OK, "{}", ready.text);
    let expected = json!([
        dependency("store", false, true),
        dependency("log", false, false),
        dependency("leases", false, false),
        dependency("index", true, true),
    ]);
    assert_eq!(ready.json()["dependencies"], expected);
    assert_eq!(bank.get(&format!("/balance/{}", account(1))).await.json()["balance"], 500);
}

#[cfg(feature = "servers")]
#[tokio::test]
async fn a_service_whose_index_does_not_answer_is_not_ready() {
    use shared::index::{ElasticIndex, ElasticOptions};

    let bank = Bank::empty().await;
    // Nothing listens there.
    let index = ElasticIndex::new("http://127.0.0.1:9", &"bank".parse().unwrap(), &ElasticOptions::default());
    let backends = Ports { store: bank.store.clone(), log: Away, leases: Away, index: index.unwrap() };
    let bank = bank.with_backends(backends);
    let refusal = bank.get("/readyz").await;
    assert_eq!(refusal.status, StatusCode::SERVICE_UNAVAILABLE, "{}", refusal.text);
    assert_eq!(refusal.json()["dependencies"][3], dependency("index", true, false));
}
