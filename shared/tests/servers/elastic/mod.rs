//! The index in Elasticsearch keeps the laws of the index, and some promises of its own.

mod costs;
mod pressure;
mod seal;
mod secure;
mod users;
mod wire;

use std::thread;
use std::time::Duration;

use elasticsearch::http::Method;
use elasticsearch::http::headers::HeaderMap;
use elasticsearch::http::transport::Transport;
use serde_json::{Value, json};
use shared::clock::Timestamp;
use shared::config::Namespace;
use shared::coordinate::Version;
use shared::error::Effect;
use shared::id::{AccountId, EventId};
use shared::index::{
    AccountStatus, ApplyError, Balance, BalanceIndex, ElasticIndex, ElasticOptions, Generation, Projected,
};
use shared::money::Money;
use shared::owner::Owner;
use shared::partition::Partition;

use super::server::{Server, fresh};

/// The indices of one test; deleted with it.
struct Scratch {
    namespace: Namespace,
}

impl Scratch {
    fn new() -> Self {
        Self { namespace: fresh() }
    }

    fn index(&self) -> ElasticIndex {
        self.index_at(&Server::Elastic.url(), &ElasticOptions::default())
    }

    fn index_at(&self, url: &str, options: &ElasticOptions) -> ElasticIndex {
        ElasticIndex::new(url, &self.namespace, options).expect("a URL")
    }

    fn alias(&self) -> String {
        self.namespace.balance_alias()
    }

    fn documents(&self, generation: Generation) -> String {
        format!("{}-{generation}", self.alias())
    }

    fn work(&self, generation: Generation) -> String {
        format!("{}-work", self.documents(generation))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let alias = self.alias();
        // On a thread of its own, since a test's runtime cannot be blocked on from within.
        let cleaned = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(delete_all(&alias));
        });
        // A test that failed may have failed because no server answers.
        if !thread::panicking() {
            cleaned.join().expect("the indices are deleted");
        }
    }
}

/// By their names, because a server may refuse to delete by a pattern.
async fn delete_all(alias: &str) {
    let (_, found) = ask(Method::Get, &format!("{alias}*/_alias?expand_wildcards=all"), None).await;
    for name in found.as_object().expect("indices by name").keys() {
        ask(Method::Delete, name, None).await;
    }
}

/// Asks the server as a user's `curl` does.
async fn ask(method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
    let transport = Transport::single_node(&Server::Elastic.url()).expect("a URL");
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let query: Vec<(&str, &str)> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
    let body = body.map(|body| body.to_string());
    let limit = Some(Duration::from_secs(30));
    let answer = transport.send(method, path, HeaderMap::new(), Some(&query), body, limit).await.expect("an answer");
    (answer.status_code().as_u16(), answer.json().await.expect("JSON"))
}

fn empty_index() -> (ElasticIndex, Scratch) {
    let scratch = Scratch::new();
    (scratch.index(), scratch)
}

shared::index_contract!(std::future::ready(empty_index()));

fn document(number: u8, version: u64) -> Balance {
    Balance {
        id: AccountId::from_bytes([number; 16]),
        event_id: EventId::from_number(u128::from(version)),
        owner: Owner::new("Ann").expect("a name"),
        status: AccountStatus::Open,
        currency: "EUR".parse().expect("a currency"),
        balance: Money::ZERO,
        version: Version::new(version),
        opened_at: Timestamp::from_micros(1_700_000_000_123_456),
        updated_at: Timestamp::from_micros(1_700_000_000_000_001),
    }
}

fn projected(balances: Vec<Balance>) -> Projected {
    Projected { balances, ..Projected::default() }
}

#[tokio::test]
async fn one_document_the_index_refuses_is_named_and_the_others_are_written() {
    let (index, scratch) = empty_index();
    let generation = index.create().await.unwrap();
    let documents = scratch.documents(generation);
    // The index is made by hand, and takes owners for numbers.
    ask(Method::Delete, &documents, None).await;
    let mapping = json!({
        "aliases": { format!("{documents}-open"): { "is_hidden": true } },
        "mappings": { "properties": { "owner": { "type": "long" } } },
    });
    assert_eq!(ask(Method::Put, &documents, Some(mapping)).await.0, 200);
    let numeric = Balance { owner: Owner::new("17").unwrap(), ..document(2, 1) };
    let refused = index.apply(generation, &projected(vec![document(1, 1), numeric.clone()])).await;
    let Err(ApplyError::Refused { account, reason }) = refused else { panic!("{refused:?}") };
    assert_eq!((account, reason.as_str()), (document(1, 1).id, "document_parsing_exception"));
    let loaded = index.load(generation, &[document(1, 1).id, numeric.id]).await.unwrap();
    assert_eq!((&loaded[0].balance, &loaded[1].balance), (&None, &Some(numeric)));
}

#[tokio::test]
async fn a_bulk_of_many_bodies_is_written_whole() {
    let (index, _scratch) = empty_index();
    let generation = index.create().await.unwrap();
    let ids: Vec<AccountId> = (0..6_000_u128).map(|number| AccountId::from_bytes(number.to_be_bytes())).collect();
    let many = ids.iter().map(|id| Balance { id: *id, ..document(1, 3) }).collect();
    assert_eq!(index.apply(generation, &projected(many)).await.unwrap().written, 6_000);
    let loaded = index.load(generation, &ids).await.unwrap();
    assert!(loaded.iter().zip(&ids).all(|(loaded, id)| loaded.balance.as_ref().is_some_and(|found| found.id == *id)));
}

#[tokio::test]
async fn a_server_that_does_not_answer_has_done_nothing() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://user:secret@{}", listener.local_addr().unwrap());
    drop(listener);
    let open = |url: &str| ElasticIndex::new(url, &"bank".parse().unwrap(), &ElasticOptions::default());
    let index = open(&url).unwrap();
    // Commands go on without their projection.
    index.check().await.unwrap();
    let failure = index.generations().await.unwrap_err();
    assert_eq!(failure.effect, Effect::None);
    assert!(!format!("{failure} {failure:?} {index:?}").contains("secret"));
    for wrong in ["", "elastic", "mongodb://x", "http://"] {
        assert!(open(wrong).is_err(), "{wrong}");
    }
}

/// Its creator died between the two indices.
#[tokio::test]
async fn a_generation_that_was_only_half_made_is_known_and_can_be_discarded() {
    let scratch = Scratch::new();
    let index = scratch.index();
    let generation = index.create().await.unwrap();
    ask(Method::Delete, &format!("{}-work", scratch.documents(generation)), None).await;
    assert_eq!(index.checkpoint(generation, Partition::new(1)).await.unwrap(), None);
    assert_eq!(index.generations().await.unwrap().all, [generation]);
    index.discard(generation).await.unwrap();
    let (_, found) = ask(Method::Get, &format!("{}-*/_alias?expand_wildcards=all", scratch.alias()), None).await;
    let left: Vec<&String> = found.as_object().unwrap().keys().collect();
    assert_eq!(left, [&format!("{}-state", scratch.alias())]);
}
