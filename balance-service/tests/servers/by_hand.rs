//! What users do to the index by hand while the bank is open.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use shared::id::AccountId;
use shared::index::{Applied, Balance, BalanceIndex, BalanceQuery, Generation, Projected};
use shared::partition::SlotRange;

use crate::bank::{Bank, ask, until};

/// The two fields of a tutorial.
fn two_fields() -> Value {
    json!({ "mappings": { "properties": { "owner": { "type": "keyword" }, "balance": { "type": "long" } } } })
}

async fn deleted(index: &str) {
    assert_eq!(ask(Method::DELETE, index, None).await.0, 200);
}

/// Waits until another generation answers, while events are appended.
async fn restored(bank: &Bank, gone: Generation) {
    bank.while_watched(async {
        until("another generation answers", async || {
            bank.append().await;
            bank.ports.index.generations().await.unwrap().active.is_some_and(|active| active > gone)
        })
        .await;
        bank.append().await;
        bank.wait_until_settled().await;
    })
    .await;
}

async fn active(bank: &Bank) -> Generation {
    bank.ports.index.generations().await.unwrap().active.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_deleted_by_hand_is_restored_without_being_asked_and_leaves_nothing_behind() {
    let bank = Bank::open().await;
    let first = active(&bank).await;
    // The documents alone: the index beside them is hidden.
    deleted(&format!("{}-{first}", bank.alias)).await;
    restored(&bank, first).await;
    let second = active(&bank).await;
    let names = [format!("{}-{second}", bank.alias), format!("{}-{second}-work", bank.alias)];
    until("only the new generation is left", async || {
        let mut indices = bank.indices().await;
        indices.retain(|index| !index.ends_with("-state"));
        indices == names
    })
    .await;

    // Everything at once, even the counter, and a plain index in its place before the bank looks.
    for index in bank.indices().await {
        deleted(&index).await;
    }
    ask(Method::PUT, &bank.alias, Some(two_fields())).await;
    until("there is a view again", async || bank.ports.index.generations().await.unwrap().active.is_some()).await;
    bank.append().await;
    bank.wait_until_settled().await;
    bank.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkpoints_deleted_by_hand_are_written_again() {
    let bank = Bank::open().await;
    deleted(&format!("{}-{}-work", bank.alias, active(&bank).await)).await;
    bank.while_watched(async {
        for _ in 0..3 {
            bank.append().await;
            bank.wait_until_settled().await;
        }
    })
    .await;
    bank.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_index_made_before_the_first_start_becomes_the_projection() {
    let mut bank = Bank::closed().await;
    let alias = bank.alias.clone();
    assert_eq!(ask(Method::PUT, &alias, Some(two_fields())).await.0, 200);
    let own = json!({ "owner": "Ann", "balance": 7 });
    assert_eq!(ask(Method::PUT, &format!("{alias}/_doc/mine?refresh=true"), Some(own)).await.0, 201);
    bank.append().await;
    bank.start();
    bank.wait_until_settled().await;
    // As a user searches, under the same name.
    until("the search shows all", async || {
        let (status, found) = ask(Method::GET, &format!("{alias}/_search?size=0"), None).await;
        status == 200 && found["hits"]["total"]["value"] == bank.accounts.len()
    })
    .await;
    let first = active(&bank).await;
    bank.append().await;
    bank.while_watched(bank.rebuild()).await;
    bank.wait_until_settled().await;
    assert!(active(&bank).await > first);
    bank.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_elses_index_is_left_alone_until_he_takes_it_away() {
    let mut bank = Bank::closed().await;
    let alias = bank.alias.clone();
    let theirs = json!({ "animal": "cat", "balance": "on a fence" });
    assert_eq!(ask(Method::PUT, &format!("{alias}/_doc/1?refresh=true"), Some(theirs.clone())).await.0, 201);
    bank.append().await;
    bank.start();
    // The conductor tries again and again.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let failure = bank.ports.index.create().await.unwrap_err();
    assert!(
        failure.to_string().contains("fields animal") && failure.to_string().contains("BANK_NAMESPACE"),
        "{failure}"
    );
    let (_, found) = ask(Method::GET, &format!("{alias}/_doc/1"), None).await;
    assert_eq!(found["_source"], theirs);

    deleted(&alias).await;
    bank.wait_until_settled().await;
    bank.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_parked_while_an_index_goes_and_comes() {
    let bank = Bank::open().await;
    for _ in 0..2 {
        let gone = active(&bank).await;
        deleted(&format!("{}-{gone}", bank.alias)).await;
        restored(&bank, gone).await;
        let parked = bank.ports.index.parked(active(&bank).await, SlotRange::ALL, None, 10).await.unwrap();
        assert_eq!(parked, []);
    }
    bank.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_that_was_made_unreadable_holds_up_nobody() {
    let bank = Bank::open().await;
    let generation = active(&bank).await;
    let (index, damaged) = (format!("{}-{generation}", bank.alias), bank.accounts[0]);
    // The mapping accepts it, but no release has such a status.
    let change = json!({ "doc": { "status": "closed" } });
    assert_eq!(ask(Method::POST, &format!("{index}/_update/{damaged}?refresh=true"), Some(change)).await.0, 200);
    let loaded = bank.ports.index.load(generation, &bank.accounts[..2]).await.unwrap();
    assert_eq!((loaded[0].balance.is_none(), loaded[1].balance.is_none()), (true, false));
    let listed = bank.ports.index.search(&BalanceQuery::default()).await.unwrap();
    assert_eq!(listed.balances.len(), bank.accounts.len() - 1);
    bank.append().await;
    bank.wait_until_settled().await;
    bank.remove().await;
}

/// Changes a field of some documents that the next event sets anew, as Kibana does; this raises the version that
/// Elasticsearch keeps of each.
async fn edited(index: &str, accounts: &[AccountId]) {
    for account in accounts {
        let change = json!({ "doc": { "updated_at": "2001-02-03T04:05:06Z" } });
        assert_eq!(ask(Method::POST, &format!("{index}/_update/{account}?refresh=true"), Some(change)).await.0, 200);
    }
}

/// Law X2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_edited_by_hand_shows_the_next_event_and_can_be_repaired() {
    let bank = Bank::open().await;
    let generation = active(&bank).await;
    let index = format!("{}-{generation}", bank.alias);
    let edits = &bank.accounts[..3];
    edited(&index, edits).await;
    for _ in 0..3 {
        bank.while_watched(bank.append()).await;
        bank.wait_until_settled().await;
    }

    let load = async || bank.ports.index.load(generation, edits).await.unwrap();
    let before = load().await;
    let right: Vec<Balance> = before.iter().filter_map(|loaded| loaded.balance.clone()).collect();
    edited(&index, edits).await;
    assert_ne!(load().await, before);
    bank.ports.index.repair(generation, right.clone()).await.unwrap();
    assert_eq!(load().await, before);

    // What is old stays old, for a repair and for a worker.
    let old = |balance: &Balance| Balance { version: balance.version.before(), ..balance.clone() };
    let old: Vec<Balance> = right.iter().map(old).collect();
    bank.ports.index.repair(generation, old.clone()).await.unwrap();
    let projected = Projected { balances: [old, right].concat(), ..Projected::default() };
    let applied = bank.ports.index.apply(generation, &projected).await.unwrap();
    assert_eq!((applied, load().await), (Applied { written: 0, stale: 6 }, before));
    bank.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_that_no_release_writes_stop_neither_a_comparison_nor_a_switch() {
    let bank = Bank::open().await;
    let index = format!("{}-{}", bank.alias, active(&bank).await);
    let copied = async |account: AccountId| {
        let (_, found) = ask(Method::GET, &format!("{index}/_doc/{account}"), None).await;
        found["_source"].clone()
    };
    let mut stray = copied(bank.accounts[0]).await;
    stray["id"] = json!("test");
    assert_eq!(ask(Method::PUT, &format!("{index}/_doc/test?refresh=true"), Some(stray)).await.0, 201);
    let mut without_version = copied(bank.accounts[1]).await;
    without_version.as_object_mut().unwrap().remove("version");
    let place = format!("{index}/_doc/{}?refresh=true", bank.accounts[1]);
    assert_eq!(ask(Method::PUT, &place, Some(without_version)).await.0, 200);

    bank.append().await;
    bank.wait_until_settled().await;
    bank.while_watched(bank.rebuild()).await;
    bank.wait_until_settled().await;
    bank.remove().await;
}
