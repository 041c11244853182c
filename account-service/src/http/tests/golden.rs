//! What the store keeps of a command for ever is the same in every release: the digest of a request that came with a
//! key, or a repeat would be refused as another request (law T5); and the receipt, or a repeat would have no answer.
//!
//! `golden/requests.json` holds requests with their digests, `golden/receipts.json` a receipt of every kind, whose text
//! is compared in `command/receipt.rs`. A new route, field or kind adds a row; none is ever changed or removed.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;
use shared::money::Amount;
use shared::store::{EventStore, IdempotencyKey, StoredCommit};

use super::Http;
use crate::account::Command;

/// The accounts of the requests. One in a path is the first.
const ACCOUNTS: [&str; 2] = ["0197f0a0-0000-7000-8000-00000000000a", "0197f0a0-0000-7000-8000-00000000000b"];

/// A request, and the digest that is stored with its key.
#[derive(Deserialize)]
struct Row {
    method: String,
    /// As `/openapi.json` has it.
    path: String,
    body: Option<Value>,
    digest: String,
}

fn rows() -> Vec<Row> {
    serde_json::from_str(include_str!("../../../golden/requests.json")).unwrap()
}

/// What the store keeps of a request that a new bank carries out.
async fn stored(Row { method, path, body, .. }: &Row) -> StoredCommit {
    let http = Http::new();
    for account in ACCOUNTS {
        // It has no money, so that it can be closed, and credit, so that it can pay.
        let command = Command::Open {
            account: account.parse().unwrap(),
            owner: serde_json::from_str("\"Maria\"").unwrap(),
            currency: "EUR".parse().unwrap(),
            opening: None,
            overdraft_limit: Amount::new(1_000).ok(),
        };
        http.bank.execute(command).await.unwrap();
    }
    let body = body.as_ref().map(Value::to_string).unwrap_or_default();
    let answer = http.ask(method, &path.replace("{id}", ACCOUNTS[0]), &[("Idempotency-Key", "k")], &body).await;
    assert!(answer.status.is_success(), "{method} {path} {body}: {answer:?}");
    let found = http.bank.store.find_keys(&[IdempotencyKey::new("k").unwrap()]).await.unwrap();
    found.into_iter().next().flatten().expect("what was carried out is stored under its key")
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

#[tokio::test]
async fn a_request_with_a_key_has_the_digest_that_it_had_in_every_release() {
    for row in rows() {
        let digest = hexadecimal(&stored(&row).await.key.unwrap().request);
        let Row { method, path, body, .. } = &row;
        assert_eq!(
            digest, row.digest,
            "{method} {path} {body:?} has another digest, so its repeat would be refused as another request: keep \
             the word for the route and the order and names of the fields, and leave out a new optional field while \
             it is absent (CONTRIBUTING.md, \"To add a command\"). Only a new row takes the digest that was found"
        );
    }
}

#[tokio::test]
async fn every_route_that_takes_a_key_has_a_golden_digest() {
    let description = Http::new().get("/openapi.json").await.body;
    let mut taking = BTreeSet::new();
    for (path, operations) in description["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let mut taken = operation["parameters"].as_array().into_iter().flatten();
            if taken.any(|parameter| parameter["name"] == "Idempotency-Key") {
                taking.insert((method.to_uppercase(), path.clone()));
            }
        }
    }
    let golden: BTreeSet<_> = rows().into_iter().map(|row| (row.method, row.path)).collect();
    assert_eq!(golden, taking, "golden/requests.json lacks a route, or has one that is gone");
}

#[tokio::test]
async fn every_kind_of_receipt_that_a_request_leaves_is_golden() {
    let kind = |receipt: &Value| receipt["kind"].as_str().unwrap().to_owned();
    let mut left = BTreeSet::new();
    for row in rows() {
        left.insert(kind(&serde_json::from_slice(&stored(&row).await.receipt).unwrap()));
    }
    let golden: Vec<Value> = serde_json::from_str(include_str!("../../../golden/receipts.json")).unwrap();
    assert_eq!(golden.iter().map(kind).collect::<BTreeSet<_>>(), left, "golden/receipts.json lacks a kind");
}
