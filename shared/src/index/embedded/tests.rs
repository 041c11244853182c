use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::clock::Timestamp;
use crate::id::EventId;
use crate::index::cursor::{Place, SortValue};
use crate::index::{AccountStatus, Sort};
use crate::money::Money;
use crate::owner::Owner;

async fn plan(index: &EmbeddedIndex, generation: Generation, query: &BalanceQuery, place: Option<Place>) -> String {
    let query = query.clone();
    let explain = move |connection: &Connection| search::explain(connection, generation, &query, place.as_ref());
    index.database.read("explain", explain).await.unwrap()
}

fn place(sort: Sort) -> Place {
    let value = match sort {
        Sort::Owner | Sort::OwnerDescending => SortValue::Owner(Owner::new("Ann").unwrap()),
        Sort::Balance | Sort::BalanceDescending => SortValue::Balance(Money::ZERO),
    };
    Place { value, account: AccountId::from_bytes([1; 16]) }
}

fn by_balance() -> BalanceQuery {
    BalanceQuery { sort: Sort::Balance, ..BalanceQuery::default() }
}

/// An active generation with accounts 1, 2 and 3 at balances 30, 10 and 20, and the folder it is in.
async fn answering(kept: Duration) -> (TempDir, EmbeddedIndex, Generation) {
    let dir = tempfile::tempdir().unwrap();
    let index = EmbeddedIndex::open_keeping(&DataFolder::open(dir.path()).unwrap(), kept).unwrap();
    let generation = index.create().await.unwrap();
    write(&index, generation, 1, [30, 10, 20]).await;
    index.promote(generation, None).await.unwrap();
    (dir, index, generation)
}

async fn write(index: &EmbeddedIndex, generation: Generation, version: u64, balances: [i64; 3]) {
    let accounts = (1..).map(|number| AccountId::from_bytes([number; 16]));
    let balances = accounts.zip(balances).map(|(id, balance)| Balance {
        id,
        event_id: EventId::from_number(version.into()),
        owner: Owner::new("Ann").unwrap(),
        status: AccountStatus::Open,
        currency: "EUR".parse().unwrap(),
        balance: Money::new(balance).unwrap(),
        version: Version::new(version),
        opened_at: Timestamp::from_micros(1),
        updated_at: Timestamp::from_micros(1),
    });
    let projected = Projected { balances: balances.collect(), parked: Vec::new(), checkpoint: None };
    index.apply(generation, &projected).await.unwrap();
}

async fn listed(index: &EmbeddedIndex) -> Vec<i64> {
    let page = index.search(&by_balance()).await.unwrap();
    page.balances.iter().map(|balance| balance.balance.get()).collect()
}

async fn has_tree(index: &EmbeddedIndex, generation: Generation) -> bool {
    index.database.read("tree", move |connection| by_balance::is_there(connection, generation)).await.unwrap()
}

/// A generation in an index whose disk cannot sync. Nobody has noticed yet.
async fn on_a_disk_that_fails() -> (TempDir, EmbeddedIndex, Generation) {
    let dir = tempfile::tempdir().unwrap();
    let index = EmbeddedIndex::open(&DataFolder::open(dir.path()).unwrap()).unwrap();
    let generation = index.create().await.unwrap();
    // SQLite goes on with the log that it has open, which has no name any more.
    let log = dir.path().join("index.db-wal");
    std::fs::remove_file(&log).unwrap();
    std::os::unix::fs::symlink("/dev/null", &log).unwrap();
    write(&index, generation, 1, [30, 10, 20]).await;
    (dir, index, generation)
}

/// Goal: a rebuild or a repair that was reported done is not undone by a power cut.
#[tokio::test]
async fn a_switch_and_a_repair_are_on_the_disk_when_they_are_answered_and_other_writes_need_not_be() {
    let (_promoted, index, generation) = on_a_disk_that_fails().await;
    let promoted = index.promote(generation, None).await;
    assert!(matches!(promoted, Err(PromoteError::Backend(_))), "{promoted:?}");
    let (_unsealed, index, generation) = on_a_disk_that_fails().await;
    index.unseal(generation, Seal(Uuid::nil())).await.unwrap_err();
    let (_repaired, index, generation) = on_a_disk_that_fails().await;
    let repaired = index.repair(generation, Vec::new()).await;
    assert!(matches!(repaired, Err(ApplyError::Backend(_))), "{repaired:?}");
    let (_unparked, index, generation) = on_a_disk_that_fails().await;
    let unparked = index.unpark(generation, &[]).await;
    assert!(matches!(unparked, Err(ApplyError::Backend(_))), "{unparked:?}");
}

#[tokio::test]
async fn the_tree_by_balance_is_there_while_somebody_asks_and_changes_no_answer() {
    const KEPT: Duration = Duration::from_secs(2);
    const LOOKS_MAX: u32 = 100;
    let (_dir, index, generation) = answering(KEPT).await;
    index.search(&BalanceQuery::default()).await.unwrap();
    assert!(!has_tree(&index, generation).await, "nobody has asked for an order by balance");
    assert_eq!(listed(&index).await, [10, 20, 30]);
    assert!(has_tree(&index, generation).await);
    write(&index, generation, 2, [15, 25, 5]).await;
    assert!(has_tree(&index, generation).await, "it was just asked for");
    assert_eq!(listed(&index).await, [5, 15, 25]);
    tokio::time::sleep(KEPT).await;
    let mut version = 2;
    while has_tree(&index, generation).await {
        version += 1;
        assert!(version < u64::from(LOOKS_MAX), "nobody asks, and it is still there");
        write(&index, generation, version, [15, 25, 5]).await;
        tokio::time::sleep(KEPT / 20).await;
    }
    write(&index, generation, version + 1, [1, 3, 2]).await;
    assert_eq!(listed(&index).await, [1, 2, 3]);
    assert!(has_tree(&index, generation).await, "it was asked for again");
}

#[tokio::test]
async fn without_its_tree_the_order_is_the_same() {
    // What is built is removed in the same turn.
    let (_dir, index, generation) = answering(Duration::ZERO).await;
    assert_eq!(listed(&index).await, [10, 20, 30]);
    assert!(!has_tree(&index, generation).await);
}

#[tokio::test]
async fn a_list_by_balance_is_answered_also_when_there_is_no_room_for_its_tree() {
    let (_dir, index, generation) = answering(KEPT).await;
    // SQLite raises the limit to the number of pages there are.
    let full = |connection: &Connection| connection.query_row("PRAGMA max_page_count = 1", [], |_| Ok(()));
    index.database.write("fill", full).await.unwrap();
    assert_eq!(listed(&index).await, [10, 20, 30]);
    assert!(!has_tree(&index, generation).await);
}

#[tokio::test]
async fn a_prepared_generation_has_a_tree_by_balance_if_somebody_asks() {
    let (_dir, index, _) = answering(KEPT).await;
    let unasked = index.create().await.unwrap();
    index.prepare(unasked).await.unwrap();
    assert!(!has_tree(&index, unasked).await);
    listed(&index).await;
    index.prepare(unasked).await.unwrap();
    assert!(has_tree(&index, unasked).await);
}

#[tokio::test]
async fn the_tree_by_balance_is_asked_for_by_the_queries_it_serves() {
    let (_dir, index, generation) = answering(KEPT).await;
    listed(&index).await;
    let (owner, bound) = (Some(Owner::new("Ann").unwrap()), Some(Money::ZERO));
    for sort in [Sort::Owner, Sort::OwnerDescending, Sort::Balance, Sort::BalanceDescending] {
        for (owner, balance_gt, balance_lt, status) in [
            (None, None, None, None),
            (None, bound, None, None),
            (None, None, bound, None),
            (None, bound, bound, None),
            (owner.clone(), None, None, None),
            (owner.clone(), bound, bound, None),
            (None, bound, bound, Some(AccountStatus::Open)),
        ] {
            let query = BalanceQuery { owner, balance_gt, balance_lt, status, sort, ..BalanceQuery::default() };
            for place in [None, Some(place(sort))] {
                let plan = plan(&index, generation, &query, place).await;
                assert_eq!(plan.contains("by_balance"), by_balance::would_serve(&query), "{query:?}: {plan}");
            }
        }
    }
}

#[tokio::test]
async fn a_page_is_read_from_the_tree_of_its_order_and_never_sorted() {
    let dir = tempfile::tempdir().unwrap();
    let index = EmbeddedIndex::open(&DataFolder::open(dir.path()).unwrap()).unwrap();
    let generation = index.create().await.unwrap();
    index.promote(generation, None).await.unwrap();
    let all = BalanceQuery::default();
    index.search(&by_balance()).await.unwrap();
    for (sort, tree, column) in [
        (Sort::Owner, "by_owner", "owner"),
        (Sort::OwnerDescending, "by_owner", "owner"),
        (Sort::Balance, "by_balance", "balance"),
        (Sort::BalanceDescending, "by_balance", "balance"),
    ] {
        let open = BalanceQuery { status: Some(AccountStatus::Open), ..all.clone() };
        let in_euros = BalanceQuery { currency: "EUR".parse().ok(), ..all.clone() };
        for query in [all.clone(), open, in_euros].map(|query| BalanceQuery { sort, ..query }) {
            let first = plan(&index, generation, &query, None).await;
            assert!(first.contains(tree) && !first.contains("TEMP B-TREE"), "{sort:?}: {first}");
            let later = plan(&index, generation, &query, Some(place(sort))).await;
            assert!(later.contains(&format!("{tree} (({column},id)")), "{sort:?}: {later}");
            assert!(later.contains("SEARCH") && !later.contains("TEMP B-TREE"), "{sort:?}: {later}");
        }
    }
    let of_owner = BalanceQuery { owner: Some(Owner::new("Ann").unwrap()), ..all.clone() };
    let within = BalanceQuery { balance_gt: Some(Money::ZERO), sort: Sort::Balance, ..all };
    assert!(plan(&index, generation, &of_owner, None).await.contains("by_owner (owner=?)"));
    assert!(plan(&index, generation, &within, None).await.contains("by_balance (balance>?)"));
}
