//! The collections in MongoDB accept what the bank writes, and nothing else.

use bytes::Bytes;
use mongodb::bson::{Document, doc};
use shared::coordinate::Revision;
use shared::store::{MongoOpenError, MongoStore, Registers};

use super::mongo::Scratch;
use super::server::Server;

#[tokio::test]
async fn a_document_that_no_release_writes_is_refused_by_the_database_itself() {
    let scratch = Scratch::new();
    let store = scratch.opened().await;
    store.write_register("kept", Revision::ABSENT, Bytes::from_static(b"value")).await.expect("what the bank writes");
    let client = mongodb::Client::with_uri_str(Server::Mongo.url()).await.expect("a URL of a server");
    let database = client.database(scratch.name());
    for collection in ["events", "snapshots", "registers"] {
        let foreign = doc! { "_id": "somebody", "money": 1_000_000 };
        let refusal = database.collection::<Document>(collection).insert_one(foreign).await.unwrap_err();
        assert!(refusal.to_string().contains("failed validation"), "{collection}: {refusal}");
    }
}

#[tokio::test]
async fn a_database_of_another_layout_is_left_as_it_was() {
    let scratch = Scratch::new();
    let client = mongodb::Client::with_uri_str(Server::Mongo.url()).await.expect("a URL of a server");
    let database = client.database(scratch.name());
    let start = mongodb::bson::Timestamp { time: 1, increment: 1 };
    let about = doc! { "_id": "store", "format": 1, "start": start };
    database.collection::<Document>("about").insert_one(about).await.unwrap();
    let refusal = MongoStore::open(&Server::Mongo.url(), scratch.name(), None).await.unwrap_err();
    assert!(matches!(&refusal, MongoOpenError::Layout { found: 1, .. }), "{refusal}");
    assert_eq!(database.list_collection_names().await.unwrap(), ["about"]);
}
