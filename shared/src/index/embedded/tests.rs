use super::*;
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

#[tokio::test]
async fn a_page_is_read_from_the_tree_of_its_order_and_never_sorted() {
    let dir = tempfile::tempdir().unwrap();
    let index = EmbeddedIndex::open(&DataFolder::open(dir.path()).unwrap()).unwrap();
    let generation = index.create().await.unwrap();
    index.promote(generation, None).await.unwrap();
    let all = BalanceQuery::default();
    for (sort, tree, column) in [
        (Sort::Owner, "by_owner", "owner"),
        (Sort::OwnerDescending, "by_owner", "owner"),
        (Sort::Balance, "by_balance", "balance"),
        (Sort::BalanceDescending, "by_balance", "balance"),
    ] {
        let open = BalanceQuery { status: Some(AccountStatus::Open), ..all.clone() };
        for query in [BalanceQuery { sort, ..all.clone() }, BalanceQuery { sort, ..open }] {
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
