//! Settings and mappings of the three kinds of index. No index template affects them: they are part of the call that
//! creates the index.

use serde_json::{Value, json};

/// How late a search may be. Set explicitly, because an index without it stops refreshing while nobody searches.
const REFRESH: &str = "1s";

/// One shard, so that a seal refuses or admits a bulk as a whole; a replica as soon as there is a second node. Every
/// acknowledged write is on disk. The version of a document that was deleted by hand is forgotten at once: the bank
/// deletes none, and a missing document must be written again at the version it had.
fn settings(refresh: &str, hidden: bool) -> Value {
    json!({
        "number_of_shards": 1,
        "auto_expand_replicas": "0-1",
        "refresh_interval": refresh,
        "translog.durability": "request",
        "gc_deletes": "0s",
        "hidden": hidden,
    })
}

/// The fields of a document; see [`documents`].
pub(super) const FIELDS: &[&str] =
    &["id", "slot", "event_id", "owner", "status", "currency", "balance", "version", "opened_at", "updated_at"];

/// A keyword or number that is stored in a column only: search, sorting and filters still work, by reading the column,
/// and a written document costs no entry in an index of terms or points (ADR 14).
fn column(kind: &str) -> Value {
    json!({ "type": kind, "index": false })
}

/// An index of documents, which takes writes through the alias `open`, and may be promoted while it has the alias
/// `idle`.
///
/// Times keep their microseconds in the document itself, which is returned as it was written; only sorting by them
/// rounds to milliseconds.
pub(super) fn documents(open: &str, idle: &str) -> Value {
    json!({
        "settings": settings(REFRESH, false),
        "aliases": { open: { "is_hidden": true }, idle: { "is_hidden": true } },
        "mappings": {
            "dynamic": "strict",
            "properties": {
                "id": column("keyword"),
                "slot": { "type": "short" },
                "event_id": column("keyword"),
                "owner": { "type": "keyword", "fields": { "keyword": column("keyword") } },
                "status": { "type": "keyword" },
                "currency": { "type": "keyword" },
                "balance": { "type": "long" },
                "version": column("long"),
                "opened_at": { "type": "date", "format": "strict_date_optional_time" },
                "updated_at": { "type": "date", "format": "strict_date_optional_time" },
            },
        },
    })
}

/// An index of checkpoints and parked accounts. Only the list of parked accounts searches it, and refreshes it first.
pub(super) fn work(open: &str) -> Value {
    json!({
        "settings": settings("-1", true),
        "aliases": { open: { "is_hidden": true } },
        "mappings": {
            "dynamic": "strict",
            "properties": {
                "account": { "type": "keyword" },
                "slot": { "type": "short" },
                "at": { "type": "long" },
                "reason": { "type": "keyword", "index": false, "doc_values": false },
                "since": { "type": "date", "format": "strict_date_optional_time" },
                "checkpoint": { "type": "object", "enabled": false },
            },
        },
    })
}

/// The index of the one document whose version counts the generations.
pub(super) fn state() -> Value {
    json!({ "settings": settings("-1", true), "mappings": { "dynamic": "strict" } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_those_of_the_mapping() {
        let layout = documents("open", "idle");
        let mapped = layout["mappings"]["properties"].as_object().unwrap();
        assert_eq!(
            mapped.keys().collect::<std::collections::BTreeSet<_>>(),
            FIELDS.iter().map(|f| (*f).to_owned()).collect::<Vec<_>>().iter().collect()
        );
    }
}
