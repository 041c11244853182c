//! Lists of balances, a search for each page. A document that cannot be read is left out; the list goes on behind it.

use serde::Deserialize;
use serde_json::{Value, json};

use super::ElasticIndex;
use super::answer::Failure;
use super::read::{HIT_PARTS, Hit, readable};
use crate::id::AccountId;
use crate::index::cursor::{self, Place, SortValue};
use crate::index::{Balance, BalancePage, BalanceQuery, QueryError, Sort};
use crate::money::Money;
use crate::owner::Owner;

impl ElasticIndex {
    /// Whether queries would reach anything but a generation.
    async fn is_taken(&self) -> Result<bool, Failure> {
        match self.aliases_of(self.names.alias()).await {
            Ok(found) => Ok(found.keys().any(|index| self.names.generation(index).is_none())),
            Err(failure) if failure.is_absence() => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    pub(super) async fn search_balances(&self, query: &BalanceQuery) -> Result<BalancePage, QueryError> {
        let place = query.cursor.as_ref().map(|cursor| cursor::read(cursor, query.sort)).transpose()?;
        let body = page(query, place.as_ref());
        let backend = |failure: Failure| QueryError::from(failure.of_read("search"));
        let found: Vec<Hit> = match self.find(self.names.alias(), HIT_PARTS, body).await {
            Err(failure) if failure.is_absence() => return Err(QueryError::NoGeneration),
            // A foreign index of that name is no generation.
            Ok(found) if found.iter().any(|hit: &Hit| self.names.generation(&hit.index).is_none()) => {
                return Err(QueryError::NoGeneration);
            }
            Ok(found) if !found.is_empty() => found,
            _ if self.is_taken().await.map_err(backend)? => return Err(QueryError::NoGeneration),
            found => found.map_err(backend)?,
        };
        let has_next = found.len() > query.limit;
        let shown = &found[..found.len().min(query.limit)];
        let balances: Vec<Balance> = shown.iter().filter_map(|hit| readable(&hit.source, &hit.id)).collect();
        if !has_next {
            return Ok(BalancePage { balances, next: None });
        }
        let Some(last) = shown.iter().rev().find_map(|hit| place_of(hit, query.sort)) else {
            // There is no place to continue from, and ending the list here would hide what follows.
            return Err(backend(Failure::Unreadable("a whole page of documents".to_owned())));
        };
        Ok(BalancePage { balances, next: Some(cursor::naming(&last, query.sort)) })
    }
}

/// The place of a document in this order. It is what the document was sorted by, which tells the place even of one that
/// cannot be read; `None` if somebody else wrote that as well.
fn place_of(hit: &Hit, sort: Sort) -> Option<Place> {
    let [value, account] = &*hit.sort else { return None };
    let value = match sort {
        Sort::Owner | Sort::OwnerDescending => {
            let text = value.as_str()?;
            // Another spelling of the name would be another place.
            SortValue::Owner(Owner::new(text).ok().filter(|owner| owner.as_str() == text)?)
        }
        Sort::Balance | Sort::BalanceDescending => SortValue::Balance(Money::new(value.as_i64()?).ok()?),
    };
    Some(Place { value, account: AccountId::deserialize(account).ok()? })
}

/// The request for a page and one more document, to know whether there is another page.
fn page(query: &BalanceQuery, place: Option<&Place>) -> Value {
    let mut filter = Vec::new();
    if let Some(owner) = &query.owner {
        filter.push(json!({ "term": { "owner": owner } }));
    }
    if let Some(bound) = query.balance_gt {
        filter.push(json!({ "range": { "balance": { "gt": bound } } }));
    }
    if let Some(bound) = query.balance_lt {
        filter.push(json!({ "range": { "balance": { "lt": bound } } }));
    }
    if let Some(status) = query.status {
        filter.push(json!({ "term": { "status": status } }));
    }
    if let Some(currency) = query.currency {
        filter.push(json!({ "term": { "currency": currency } }));
    }
    let (field, order) = match query.sort {
        Sort::Owner => ("owner", "asc"),
        Sort::OwnerDescending => ("owner", "desc"),
        Sort::Balance => ("balance", "asc"),
        Sort::BalanceDescending => ("balance", "desc"),
    };
    let mut body = json!({
        "size": query.limit + 1,
        "query": { "bool": { "filter": filter } },
        "sort": [{ field: order }, { "id": order }],
    });
    match place {
        Some(Place { value: SortValue::Owner(owner), account }) => body["search_after"] = json!([owner, account]),
        Some(Place { value: SortValue::Balance(balance), account }) => body["search_after"] = json!([balance, account]),
        None => {}
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::BalanceIndex;
    use crate::index::elastic::fake::Fake;
    use crate::index::elastic::names::Names;
    use crate::index::elastic::tests::{GENERATION, documents};

    /// Finds these documents, each with what it was sorted by.
    fn found(documents: impl IntoIterator<Item = (AccountId, Value, Value)>) -> String {
        let index = Names::of(&"bank".parse().unwrap()).documents(GENERATION);
        let hit = |(id, source, value): (AccountId, Value, Value)| {
            let sort = json!([value, id]);
            json!({ "_index": index, "_id": id, "_source": source, "sort": sort })
        };
        json!({ "hits": { "hits": documents.into_iter().map(hit).collect::<Vec<_>>() } }).to_string()
    }

    fn unreadable() -> Value {
        json!({ "version": "seven" })
    }

    #[tokio::test]
    async fn a_list_goes_on_behind_a_page_of_documents_that_cannot_be_read() {
        let balances = documents(2).balances;
        let [first, second] = [balances[0].id, balances[1].id];
        for (sort, value) in [(Sort::Owner, json!("Ann")), (Sort::BalanceDescending, json!(0))] {
            let page = found([(first, unreadable(), value.clone()), (second, json!(balances[1]), value.clone())]);
            let fake = Fake::start(move |_| (200, page.clone())).await;
            let query = BalanceQuery { sort, limit: 1, ..BalanceQuery::default() };
            let BalancePage { balances: shown, next } = fake.index().search(&query).await.unwrap();
            assert_eq!(shown, []);
            let next = BalanceQuery { cursor: Some(next.unwrap()), ..query };
            fake.index().search(&next).await.unwrap();
            let asked: Value = serde_json::from_str(&fake.asked().pop().unwrap().body).unwrap();
            assert_eq!(asked["search_after"], json!([value, first]), "{sort:?}");
        }
    }

    #[tokio::test]
    async fn whatever_readers_are_answered_comes_from_the_same_copy_of_a_shard() {
        let balance = documents(1).balances.remove(0);
        let (id, page) = (balance.id, found([(balance.id, json!(balance), json!("Ann"))]));
        let document = json!({ "found": true, "_source": balance }).to_string();
        let fake = Fake::start(move |asked| {
            let is_list = asked.path.ends_with("/_search");
            (200, if is_list { page.clone() } else { document.clone() })
        })
        .await;
        let index = fake.index();
        assert_eq!(index.get(id).await.unwrap().map(|balance| balance.id), Some(id));
        assert_eq!(index.search(&BalanceQuery::default()).await.unwrap().balances.len(), 1);
        let asked = fake.asked();
        assert_eq!(asked.len(), 2);
        for (asked, preference) in asked.iter().zip([format!("preference={id}"), "preference=bank".to_owned()]) {
            assert!(asked.query.split('&').any(|part| part == preference), "{asked:?}");
        }
    }

    #[tokio::test]
    async fn a_list_whose_place_nobody_can_tell_is_not_ended() {
        let [first, second] = [documents(2).balances[0].id, documents(2).balances[1].id];
        for value in [json!(null), json!(7), json!("e\u{301}")] {
            let page = found([first, second].map(|id| (id, unreadable(), value.clone())));
            let fake = Fake::start(move |_| (200, page.clone())).await;
            let query = BalanceQuery { limit: 1, ..BalanceQuery::default() };
            let answer = fake.index().search(&query).await;
            assert!(matches!(answer, Err(QueryError::Backend(_))), "{answer:?} after {value}");
        }
    }
}
