use shared::http::contract::the_description_and_the_routes_are_the_same;

use crate::fixture::Bank;

#[tokio::test]
async fn what_is_described_is_there_and_what_is_there_is_described() {
    let (bank, _) = Bank::with(Vec::new()).await;
    the_description_and_the_routes_are_the_same(&bank.router).await;
    let description = bank.get("/openapi.json").await.json();
    for path in [
        "/",
        "/balance",
        "/balance/",
        "/balance/{id}",
        "/balance/parked",
        "/balance/parked/{id}/retry",
        "/balance/verify",
        "/balance/rebuild",
        "/balance/rebuild/status",
        "/balance/rebuild/rollback",
        "/rebuild/balance",
        "/healthz",
        "/readyz",
        "/metrics",
    ] {
        assert!(description["paths"].get(path).is_some(), "{path} is not described");
    }
    for schema in ["Balance", "Parked", "Problem", "FieldError", "Rebuild", "RebuildPartition"] {
        assert!(description["components"]["schemas"].get(schema).is_some(), "{schema} is not described");
    }
}
