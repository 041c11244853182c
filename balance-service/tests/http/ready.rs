use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};
use shared::backends::Ports;
use shared::clock::Timestamp;
use shared::coordinate::{Epoch, Offset};
use shared::error::BackendError;
use shared::lease::{Held, Holder, Lease, LeaseName, LeaseStore, RenewError};
use shared::log::{EmbeddedReader, Extent, Incarnation, PartitionLog, PublishError, ReadError};
use shared::partition::Partition;
use shared::store::FeedEntry;

use crate::fixture::{Bank, account, balance};

/// A log, or leases, of which every call fails.
#[derive(Clone)]
struct Away;

fn failure(operation: &'static str) -> BackendError {
    BackendError::not_done(operation, "the server is away")
}

impl PartitionLog for Away {
    type Reader = EmbeddedReader;

    async fn extent(&self, _: Partition) -> Result<Extent, BackendError> {
        Err(failure("extent"))
    }

    async fn publish(&self, _: Partition, _: &Incarnation, _: Offset, _: &[FeedEntry]) -> Result<Offset, PublishError> {
        Err(failure("publish").into())
    }

    async fn reader(&self, _: Partition, _: &Incarnation, _: Offset) -> Result<EmbeddedReader, ReadError> {
        Err(failure("reader").into())
    }

    async fn trim(&self, _: Partition, _: Offset, _: Timestamp) -> Result<u64, BackendError> {
        Err(failure("trim"))
    }

    async fn renew(&self, _: Partition, _: &Incarnation) -> Result<Extent, BackendError> {
        Err(failure("renew"))
    }
}

impl LeaseStore for Away {
    async fn acquire(&self, _: &LeaseName, _: &Holder, _: Duration, _: Epoch) -> Result<Option<Lease>, BackendError> {
        Err(failure("acquire"))
    }

    async fn renew(&self, _: &Lease, _: Duration) -> Result<(), RenewError> {
        Err(failure("renew").into())
    }

    async fn release(&self, _: Lease) -> Result<(), BackendError> {
        Err(failure("release"))
    }

    async fn list(&self, _: &str) -> Result<Vec<Held>, BackendError> {
        Err(failure("list"))
    }
}

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
