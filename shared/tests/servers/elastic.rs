//! The index in Elasticsearch keeps the laws of the index, and what it promises of its own.

use std::thread;
use std::time::Duration;

use elasticsearch::http::Method;
use elasticsearch::http::headers::HeaderMap;
use elasticsearch::http::transport::Transport;
use serde_json::{Value, json};
use shared::clock::{Clock, Timestamp};
use shared::config::Namespace;
use shared::coordinate::Version;
use shared::error::Effect;
use shared::id::{AccountId, EventId, Ids};
use shared::index::{
    AccountStatus, ApplyError, Balance, BalanceIndex, BalanceQuery, ElasticIndex, Generation, Projected, QueryError,
    Seal,
};
use shared::money::Money;
use shared::owner::Owner;

use super::server::Server;

/// The indices of one test; deleted with it.
struct Scratch {
    namespace: Namespace,
}

impl Scratch {
    fn new() -> Self {
        let tail = Ids::new(Clock::system()).account().uuid().simple().to_string();
        Self { namespace: format!("t{}", &tail[8..]).parse().expect("a letter and digits") }
    }

    fn index(&self) -> ElasticIndex {
        ElasticIndex::new(&Server::Elastic.url(), &self.namespace).expect("a URL")
    }

    fn alias(&self) -> String {
        self.namespace.balance_alias()
    }

    fn documents(&self, generation: Generation) -> String {
        format!("{}-{generation}", self.alias())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let alias = self.alias();
        // On a thread of its own, since a test's runtime cannot be waited for from within.
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
async fn a_users_own_queries_work_as_written() {
    let (index, scratch) = empty_index();
    let generation = index.create().await.unwrap();
    index.apply(generation, projected(vec![document(2, 1), document(1, 7)])).await.unwrap();
    index.promote(generation, None).await.unwrap();
    let alias = scratch.alias();
    let hits = |found: Value| -> Vec<Value> { found["hits"]["hits"].as_array().unwrap().clone() };

    let all = json!({ "query": { "match_all": {} }, "sort": [{ "owner.keyword": { "order": "asc" } }] });
    let (status, found) = ask(Method::Post, &format!("{alias}/_search"), Some(all)).await;
    assert_eq!((status, hits(found).len()), (200, 2));
    let newest = json!({ "sort": [{ "event_id": { "order": "desc" } }] });
    let (_, found) = ask(Method::Post, &format!("{alias}/_search?size=1"), Some(newest)).await;
    assert_eq!(hits(found)[0]["_id"], json!(document(1, 7).id));
    let (_, found) = ask(Method::Get, &format!("{alias}/_doc/{}", document(1, 7).id), None).await;
    assert_eq!(found["_version"], 7);
    assert_eq!(found["_source"]["updated_at"], "2023-11-14T22:13:20.000001Z");
}

/// What a user of an earlier release may have done before the first start.
#[tokio::test]
async fn a_plain_index_of_the_same_name_is_replaced_in_one_step() {
    let (index, scratch) = empty_index();
    let own =
        json!({ "mappings": { "properties": { "owner": { "type": "keyword" }, "balance": { "type": "long" } } } });
    assert_eq!(ask(Method::Put, &scratch.alias(), Some(own)).await.0, 200);
    assert!(matches!(index.get(document(1, 1).id).await, Err(QueryError::NoGeneration)));
    assert!(matches!(index.search(&BalanceQuery::default()).await, Err(QueryError::NoGeneration)));

    let generation = index.create().await.unwrap();
    index.apply(generation, projected(vec![document(1, 1)])).await.unwrap();
    index.promote(generation, None).await.unwrap();
    assert_eq!(index.search(&BalanceQuery::default()).await.unwrap().balances, [document(1, 1)]);
    assert_eq!(index.generations().await.unwrap().active, Some(generation));
}

#[tokio::test]
async fn an_index_that_a_user_deleted_is_gone_and_its_number_is_not_used_again() {
    let (index, scratch) = empty_index();
    let generation = index.create().await.unwrap();
    index.promote(generation, None).await.unwrap();
    assert_eq!(ask(Method::Delete, &scratch.documents(generation), None).await.0, 200);
    let refused = index.apply(generation, projected(vec![document(1, 1)])).await;
    assert!(matches!(refused, Err(ApplyError::Gone(_))), "{refused:?}");
    assert!(matches!(index.get(document(1, 1).id).await, Err(QueryError::NoGeneration)));
    assert_eq!(index.generations().await.unwrap().all, []);

    let next = index.create().await.unwrap();
    assert!(next > generation);
    index.promote(next, None).await.unwrap();
    // The counter too.
    assert_eq!(ask(Method::Delete, &format!("{}-state", scratch.alias()), None).await.0, 200);
    assert_eq!(index.create().await.unwrap(), Generation(next.0 + 1));
    assert_eq!(index.create().await.unwrap(), Generation(next.0 + 2));
}

#[tokio::test]
async fn one_document_the_index_refuses_is_named_and_the_others_are_written() {
    let (index, scratch) = empty_index();
    let generation = index.create().await.unwrap();
    let documents = scratch.documents(generation);
    // Somebody makes the index by hand, and takes owners for numbers.
    ask(Method::Delete, &documents, None).await;
    let mapping = json!({
        "aliases": { format!("{documents}-open"): { "is_hidden": true } },
        "mappings": { "properties": { "owner": { "type": "long" } } },
    });
    assert_eq!(ask(Method::Put, &documents, Some(mapping)).await.0, 200);
    let numeric = Balance { owner: Owner::new("17").unwrap(), ..document(2, 1) };
    let refused = index.apply(generation, projected(vec![document(1, 1), numeric.clone()])).await;
    let Err(ApplyError::Refused { account, reason }) = refused else { panic!("{refused:?}") };
    assert_eq!((account, reason.as_str()), (document(1, 1).id, "document_parsing_exception"));
    let loaded = index.load(generation, &[document(1, 1).id, numeric.id]).await.unwrap();
    assert_eq!((&loaded[0].balance, &loaded[1].balance), (&None, &Some(numeric)));
}

/// The lifting of a seal that is over may come when the next seal is there.
#[tokio::test]
async fn a_seal_refuses_writes_also_without_its_block() {
    let (index, scratch) = empty_index();
    let generation = index.create().await.unwrap();
    index.seal(generation, Seal(uuid::Uuid::from_u128(1))).await.unwrap();
    let lifted = json!({ "index.blocks.write": null });
    let settings = format!("{}/_settings", scratch.documents(generation));
    assert_eq!(ask(Method::Put, &settings, Some(lifted)).await.0, 200);
    let refused = index.apply(generation, projected(vec![document(1, 1)])).await;
    assert!(matches!(refused, Err(ApplyError::Sealed(_))), "{refused:?}");
}

#[tokio::test]
async fn a_bulk_of_many_bodies_is_written_whole() {
    let (index, _scratch) = empty_index();
    let generation = index.create().await.unwrap();
    let ids: Vec<AccountId> = (0..6_000_u128).map(|number| AccountId::from_bytes(number.to_be_bytes())).collect();
    let many = ids.iter().map(|id| Balance { id: *id, ..document(1, 3) }).collect();
    assert_eq!(index.apply(generation, projected(many)).await.unwrap().written, 6_000);
    let loaded = index.load(generation, &ids).await.unwrap();
    assert!(loaded.iter().zip(&ids).all(|(loaded, id)| loaded.balance.as_ref().is_some_and(|found| found.id == *id)));
}

#[tokio::test]
async fn a_server_that_does_not_answer_has_done_nothing() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://user:secret@{}", listener.local_addr().unwrap());
    drop(listener);
    let index = ElasticIndex::new(&url, &"bank".parse().unwrap()).unwrap();
    let failure = index.generations().await.unwrap_err();
    assert_eq!(failure.effect, Effect::None);
    assert!(!format!("{failure} {failure:?} {index:?}").contains("secret"));
    for wrong in ["", "elastic", "mongodb://x", "http://"] {
        assert!(ElasticIndex::new(wrong, &"bank".parse().unwrap()).is_err(), "{wrong}");
    }
}
