//! `bank bench limits` on MongoDB, NATS and Elasticsearch.

use futures::TryStreamExt;
use serde_json::Value;
use tokio::time::timeout;

use crate::bank::{PATIENCE, command, http, new_namespace, url};

/// What is measured of the servers, beside HTTP.
const FIGURES: [&str; 10] = [
    "http_answers_per_second",
    "mongodb_batched_inserts_per_second",
    "mongodb_changes_per_second",
    "mongodb_scanned_per_second",
    "mongodb_single_inserts_per_second",
    "nats_single_publishes_per_second",
    "nats_packed_publishes_per_second",
    "nats_reads_per_second",
    "elasticsearch_new_per_second",
    "elasticsearch_updates_per_second",
];

/// Everything on the servers whose name contains this.
async fn left_behind(name: &str) -> Vec<String> {
    let mongo = mongodb::Client::with_uri_str(url("BANK_TEST_MONGO_URL")).await.unwrap();
    let mut names = mongo.list_database_names().await.unwrap();
    let nats = async_nats::connect(url("BANK_TEST_NATS_URL")).await.unwrap();
    let streams: Vec<String> = async_nats::jetstream::new(nats).stream_names().try_collect().await.unwrap();
    names.extend(streams);
    let elastic = format!("{}/_cat/indices?h=index", url("BANK_TEST_ELASTIC_URL").trim_end_matches('/'));
    let indices = http().get(elastic).send().await.unwrap().text().await.unwrap();
    names.extend(indices.lines().map(|index| index.trim().to_owned()));
    names.retain(|found| found.contains(name));
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_server_has_its_limits_and_nothing_of_them_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (namespace, file) = (new_namespace(), folder.path().join("limits.json"));
    let mut command = command(&namespace);
    command.args(["bench", "limits", "--duration", "1", "--json", file.to_str().unwrap()]);
    let ended = timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    let report: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    for figure in FIGURES {
        assert!(report["figures"][figure].as_f64().is_some_and(|rate| rate > 0.0), "{figure}: {report}");
    }
    assert_eq!(left_behind(namespace.as_str()).await, [""; 0]);
}
