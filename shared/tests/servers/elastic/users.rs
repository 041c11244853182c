//! What users ask of Elasticsearch themselves, and what they do to it by hand.

use elasticsearch::http::Method;
use serde_json::{Value, json};
use shared::index::{ApplyError, BalanceIndex, BalanceQuery, Generation, QueryError};

use super::{ask, document, empty_index, projected};

/// The queries of the HTTP contract's section on Elasticsearch, word for word but for the name.
#[tokio::test]
async fn a_users_own_queries_work_as_written() {
    let (index, scratch) = empty_index();
    let generation = index.create().await.unwrap();
    index.apply(generation, &projected(vec![document(2, 1), document(1, 7)])).await.unwrap();
    index.promote(generation, None).await.unwrap();
    let alias = scratch.alias();
    let hits = |found: Value| -> Vec<Value> { found["hits"]["hits"].as_array().unwrap().clone() };

    let all = json!({ "query": { "match_all": {} }, "sort": [{ "owner.keyword": { "order": "asc" } }] });
    let (status, found) = ask(Method::Get, &format!("{alias}/_search"), Some(all)).await;
    assert_eq!((status, hits(found).len()), (200, 2));
    let newest = json!({ "sort": [{ "event_id": { "order": "desc" } }] });
    let (_, found) = ask(Method::Get, &format!("{alias}/_search?size=1"), Some(newest)).await;
    assert_eq!(hits(found)[0]["_id"], json!(document(1, 7).id));
    let (_, found) = ask(Method::Get, &format!("{alias}/_doc/{}", document(1, 7).id), None).await;
    assert_eq!(found["_version"], 7);
    assert_eq!(found["_source"]["updated_at"], "2023-11-14T22:13:20.000001Z");

    let names = |listed: Value, field: &str| -> Vec<String> {
        let listed = listed.as_array().unwrap().iter().map(|entry| entry[field].as_str().unwrap().to_owned());
        listed.filter(|name| name.starts_with(&alias)).collect()
    };
    let (_, listed) = ask(Method::Get, "_cat/indices?format=json", None).await;
    assert_eq!(names(listed, "index"), [scratch.documents(generation)], "the rest is hidden");
    let (_, listed) = ask(Method::Get, "_cat/aliases?format=json", None).await;
    assert!(names(listed, "alias").contains(&alias));
    // It cannot be deleted by its alias, and the answer says what to name instead.
    let (status, refused) = ask(Method::Delete, &alias, None).await;
    assert!(status == 400 && refused.to_string().contains("concrete indices"), "{refused}");
}

/// Even the fields of ADR 14, for which there is no index of terms.
#[tokio::test]
async fn a_document_is_found_sorted_and_counted_by_each_of_its_fields() {
    let (index, scratch) = empty_index();
    let generation = index.create().await.unwrap();
    let (one, other) = (document(1, 7), document(2, 1));
    index.apply(generation, &projected(vec![one.clone(), other.clone()])).await.unwrap();
    index.promote(generation, None).await.unwrap();
    let path = format!("{}/_search", scratch.alias());
    for (field, value) in [
        ("id", json!(one.id)),
        ("event_id", json!(one.event_id)),
        ("version", json!(7)),
        ("owner.keyword", json!(one.owner)),
        ("owner", json!(one.owner)),
        ("balance", json!(one.balance)),
    ] {
        let (status, found) = ask(Method::Get, &path, Some(json!({ "query": { "term": { field: value } } }))).await;
        assert_eq!(status, 200, "{field}: {found}");
        assert!(found["hits"]["hits"].as_array().unwrap().iter().any(|hit| hit["_id"] == json!(one.id)), "{field}");
        let counted = json!({
            "size": 0, "sort": [{ field: "asc" }], "aggs": { "values": { "terms": { "field": field } } },
        });
        let (status, found) = ask(Method::Get, &path, Some(counted)).await;
        assert_eq!((status, found["hits"]["total"]["value"].as_u64()), (200, Some(2)), "{field}: {found}");
        assert!(!found["aggregations"]["values"]["buckets"].as_array().unwrap().is_empty(), "{field}");
    }
    let newer = json!({ "query": { "range": { "version": { "gte": 2 } } } });
    let (_, found) = ask(Method::Get, &path, Some(newer)).await;
    assert_eq!(found["hits"]["total"]["value"], 1);
}

#[tokio::test]
async fn the_fields_are_those_of_the_contract_and_no_others_come_in() {
    let (index, scratch) = empty_index();
    let documents = scratch.documents(index.create().await.unwrap());
    let (_, found) = ask(Method::Get, &format!("{documents}/_mapping"), None).await;
    let mapping = &found[&documents]["mappings"];
    assert_eq!(mapping["dynamic"], "strict");
    for (field, kind) in [
        ("event_id", "keyword"),
        ("owner", "keyword"),
        ("status", "keyword"),
        ("currency", "keyword"),
        ("balance", "long"),
        ("version", "long"),
        ("opened_at", "date"),
        ("updated_at", "date"),
    ] {
        assert_eq!(mapping["properties"][field]["type"], kind, "{field}");
    }
    assert_eq!(mapping["properties"]["owner"]["fields"]["keyword"]["type"], "keyword");
    let strange = json!({ "colour": "red" });
    assert_eq!(ask(Method::Put, &format!("{documents}/_doc/1"), Some(strange)).await.0, 400);
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
    index.apply(generation, &projected(vec![document(1, 1)])).await.unwrap();
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
    let refused = index.apply(generation, &projected(vec![document(1, 1)])).await;
    assert!(matches!(refused, Err(ApplyError::Gone(_))), "{refused:?}");
    assert!(matches!(index.get(document(1, 1).id).await, Err(QueryError::NoGeneration)));
    assert_eq!(index.generations().await.unwrap().all, []);
    // The server creates a missing index on the first write to it; the bank asks it not to.
    let (status, _) = ask(Method::Get, &scratch.documents(generation), None).await;
    assert_eq!(status, 404, "a late write has made the index again");

    let next = index.create().await.unwrap();
    assert!(next > generation);
    index.promote(next, None).await.unwrap();
    // Even the counter.
    assert_eq!(ask(Method::Delete, &format!("{}-state", scratch.alias()), None).await.0, 200);
    assert_eq!(index.create().await.unwrap(), Generation(next.0 + 1));
    assert_eq!(index.create().await.unwrap(), Generation(next.0 + 2));
}

#[tokio::test]
async fn an_alias_that_somebody_set_for_an_index_of_his_own_is_reported() {
    let (index, scratch) = empty_index();
    let own = format!("{}-of-mine", scratch.alias());
    let aliases = json!({ "aliases": { scratch.alias(): {} } });
    assert_eq!(ask(Method::Put, &own, Some(aliases)).await.0, 200);
    let failure = index.create().await.unwrap_err();
    assert!(failure.to_string().contains(&own), "{failure}");
    assert!(matches!(index.search(&BalanceQuery::default()).await, Err(QueryError::NoGeneration)));
    assert!(matches!(index.get(document(1, 1).id).await, Err(QueryError::NoGeneration)));
}

#[tokio::test]
async fn an_index_that_does_not_write_through_is_found_at_start() {
    let (index, scratch) = empty_index();
    let generation = index.create().await.unwrap();
    assert_eq!(index.lax_indices().await.unwrap(), Vec::<String>::new());
    let lax = json!({ "index.translog.durability": "async" });
    let settings = format!("{}/_settings", scratch.documents(generation));
    assert_eq!(ask(Method::Put, &settings, Some(lax)).await.0, 200);
    assert_eq!(index.lax_indices().await.unwrap(), [scratch.documents(generation)]);
    index.check().await.unwrap();
}
