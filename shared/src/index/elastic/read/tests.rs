use axum::http::header::RETRY_AFTER;
use axum::response::IntoResponse;

use super::super::fake::Fake;
use super::super::tests::{GENERATION, documents};
use super::*;
use crate::clock::Timestamp;
use crate::error::{BackendError, Effect};
use crate::http::{Problem, Reason};
use crate::index::{BalanceIndex, BalanceQuery};

#[tokio::test]
async fn where_the_hidden_index_was_deleted_nobody_is_parked() {
    let gone = json!({ "error": { "type": INDEX_MISSING, "reason": "no such index" } }).to_string();
    let fake = Fake::start(move |_| (404, gone.clone())).await;
    assert_eq!(fake.index().parked(GENERATION, SlotRange::ALL, None, 10).await.unwrap(), []);
}

fn backend(refusal: QueryError) -> BackendError {
    let QueryError::Backend(failure) = refusal else { panic!("{refusal}") };
    failure
}

#[tokio::test]
async fn a_read_that_fails_had_no_effect_and_its_client_is_told_when_to_come_back() {
    let no_copy = r#"{"error":{"type":"no_shard_available_action_exception"}}"#;
    for (status, body) in [(503, no_copy), (500, ""), (502, "<html>Bad Gateway</html>"), (200, "<html>Welcome")] {
        let fake = Fake::start(move |_| (status, body.to_owned())).await;
        let (index, account) = (fake.index(), AccountId::from_bytes([1; 16]));
        let failures = [
            index.generations().await.unwrap_err(),
            index.checkpoint(GENERATION, Partition::new(1)).await.unwrap_err(),
            index.load(GENERATION, &[account]).await.unwrap_err(),
            index.versions(GENERATION, SlotRange::ALL, None, 10).await.unwrap_err(),
            index.parked(GENERATION, SlotRange::ALL, None, 10).await.unwrap_err(),
            index.lax_indices().await.unwrap_err(),
            backend(index.get(account).await.unwrap_err()),
            backend(index.search(&BalanceQuery::default()).await.unwrap_err()),
        ];
        for failure in failures {
            assert_eq!(failure.effect, Effect::None, "{failure}");
            let problem = Problem::from(failure);
            assert_eq!(problem.reason(), Reason::Unavailable);
            assert!(problem.into_response().headers().contains_key(RETRY_AFTER));
        }
    }
}

/// The entry of a parked account, and one that somebody has edited.
fn entries(accounts: [AccountId; 3]) -> [Value; 3] {
    let entry = |account| {
        let (at, reason) = (Version::new(4), "poison".to_owned());
        json!(Parked { account, at, reason, since: Timestamp::EPOCH })
    };
    let mut entries = accounts.map(entry);
    entries[1].as_object_mut().unwrap().remove("at");
    entries
}

#[tokio::test]
async fn an_entry_that_cannot_be_read_hides_no_other_and_shortens_no_page() {
    let balances = documents(3).balances;
    let accounts = [balances[0].id, balances[1].id, balances[2].id];
    let sources = entries(accounts);
    let hit = |at: usize| {
        let id = accounts[at];
        json!({ "_index": "balance-000001-work", "_id": id, "_source": sources[at], "sort": [id] })
    };
    let page = |hits: Vec<Value>| json!({ "hits": { "hits": hits } }).to_string();
    let (first, rest) = (page(vec![hit(0), hit(1)]), page(vec![hit(2)]));
    let fake = Fake::start(move |asked| {
        let is_rest = asked.body.contains("search_after");
        (200, if is_rest { rest.clone() } else { first.clone() })
    })
    .await;
    let listed = fake.index().parked(GENERATION, SlotRange::ALL, None, 2).await.unwrap();
    assert_eq!(listed.iter().map(|entry| entry.account).collect::<Vec<_>>(), [accounts[0], accounts[2]]);
    let asked: Value = serde_json::from_str(&fake.asked().pop().unwrap().body).unwrap();
    assert_eq!((&asked["search_after"], &asked["size"]), (&json!([accounts[1]]), &json!(1)));
}

#[tokio::test]
async fn an_account_whose_entry_cannot_be_read_counts_as_not_parked_beside_those_that_are() {
    let balances = documents(3).balances;
    let accounts = [balances[0].id, balances[1].id, balances[2].id];
    let docs = balances.iter().zip(entries(accounts)).flat_map(|(balance, entry)| [json!(balance), entry]);
    let found: Vec<Value> = docs.map(|source| json!({ "found": true, "_source": source })).collect();
    let shown = json!({ "docs": found }).to_string();
    let fake = Fake::start(move |_| (200, shown.clone())).await;
    let loaded = fake.index().load(GENERATION, &accounts).await.unwrap();
    let parked_at = Some(Version::new(4));
    assert_eq!(loaded.iter().map(Loaded::parked_at).collect::<Vec<_>>(), [parked_at, None, parked_at]);
    assert!(loaded.iter().all(|loaded| loaded.balance.is_some()));
}
