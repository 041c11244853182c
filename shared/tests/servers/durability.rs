//! Settings of a server that promise too little are reported when a bank starts, each with the value to set.

use std::path::Path;
use std::time::Duration;

use mongodb::bson::{Document, doc};
use shared::clock::Clock;
use shared::id::Ids;
use shared::lease::RedisLeases;
use shared::log::{NatsLog, NatsOpenError, NatsOptions};
use shared::partition::PartitionMap;
use shared::store::{MongoOpenError, MongoStore};

use crate::own::{Own, Program, mongod, until, words};

/// The settings that were found weak, and their values.
macro_rules! weak {
    ($backend:expr) => {
        $backend.weaknesses().await.into_iter().map(|weakness| (weakness.setting, weakness.found)).collect::<Vec<_>>()
    };
}

async fn redis(settings: &str) -> (Own, RedisLeases) {
    let own = Own::start(Program::Redis, |folder, port| {
        words(&format!("--port {port} --bind 127.0.0.1 --dir {} --save \"\" {settings}", folder.display()))
    });
    let own = own.await;
    let url = format!("redis://{}", own.address());
    let leases = RedisLeases::open(&url, &"bank".parse().unwrap(), None).await.expect("a Redis that answers");
    (own, leases)
}

#[tokio::test]
async fn a_redis_that_forgets_is_told_with_the_setting_and_a_sound_one_is_not() {
    let (_own, forgetful) = redis("--maxmemory 100mb --maxmemory-policy volatile-lru").await;
    let found = weak!(forgetful);
    assert_eq!(found, [("appendonly", "no".to_owned()), ("maxmemory-policy", "volatile-lru".to_owned())]);
    let (_own, lazy) = redis("--appendonly yes --appendfsync no").await;
    assert_eq!(weak!(lazy), [("appendfsync", "no".to_owned())]);
    let (_own, sound) = redis("--appendonly yes --appendfsync always").await;
    assert_eq!(weak!(sound), []);
}

/// As with managed servers.
#[tokio::test]
async fn a_redis_that_does_not_tell_its_settings_is_used_all_the_same() {
    let (_own, silent) = redis("--appendonly yes --appendfsync no --rename-command CONFIG \"\"").await;
    assert_eq!(weak!(silent), []);
}

async fn initiate(url: &str, config: Document) {
    let client = mongodb::Client::with_uri_str(url).await.expect("a URL");
    let command = doc! { "replSetInitiate": config };
    client.database("admin").run_command(command).await.expect("a new replica set");
}

#[tokio::test]
async fn a_mongod_that_is_alone_is_refused_with_what_to_do() {
    let own = Own::start(Program::Mongo, mongod).await;
    let refusal = MongoStore::open(&format!("mongodb://{}", own.address()), "bank", None).await.unwrap_err();
    assert!(matches!(refusal, MongoOpenError::NotReplicated), "{refusal}");
    let text = refusal.to_string();
    assert!(text.contains("--replSet") && text.contains("rs.initiate()"), "{text}");
}

#[tokio::test]
async fn a_mongodb_whose_majority_may_forget_and_whose_history_is_short_is_told_with_its_settings() {
    let member =
        |folder: &Path, port| [mongod(folder, port), words("--replSet rs0 --oplogSize 1 --syncdelay 1")].concat();
    let own = Own::start(Program::Mongo, member).await;
    let url = format!("mongodb://{}/?directConnection=true", own.address());
    let members = vec![doc! { "_id": 0, "host": own.address() }];
    initiate(&url, doc! { "_id": "rs0", "members": members, "writeConcernMajorityJournalDefault": false }).await;
    let store = until("a primary is there", async || MongoStore::open(&url, "bank", None).await.ok()).await;
    let system = Clock::system();
    let names: Vec<&str> = store.weaknesses(&system).await.iter().map(|weakness| weakness.setting).collect();
    assert_eq!(names, ["version", "writeConcernMajorityJournalDefault"]);
    let fast = Clock::of(|| Clock::system().now().plus(Duration::from_mins(1)));
    let names: Vec<&str> = store.weaknesses(&fast).await.iter().map(|weakness| weakness.setting).collect();
    assert_eq!(names, ["version", "writeConcernMajorityJournalDefault", "localTime"]);

    // Until the oplog is full, so that it shows how much time it covers.
    let client = mongodb::Client::with_uri_str(&url).await.unwrap();
    let filler = client.database("filler").collection::<Document>("filler");
    for _ in 0..40 {
        filler.insert_one(doc! { "text": "x".repeat(50_000) }).await.unwrap();
    }
    let weaknesses = store.weaknesses(&system).await;
    let oplog = weaknesses.last().unwrap();
    assert_eq!((oplog.setting, oplog.found.as_str()), ("replication.oplogSizeMB", "enough for 0.0 hours"));
    assert!(oplog.to_string().contains("oplogMinRetentionHours"), "{oplog}");
}

async fn nats(settings: &str) -> (Own, Result<NatsLog, NatsOpenError>) {
    let own = Own::start(Program::Nats, |folder, port| {
        let text = format!("listen: \"127.0.0.1:{port}\"\n{settings}").replace("FOLDER", &folder.display().to_string());
        std::fs::write(folder.join("nats.conf"), text).expect("a file");
        words("--config nats.conf")
    });
    let own = own.await;
    let url = format!("nats://{}", own.address());
    let options = NatsOptions { url: &url, ..NatsOptions::default() };
    let one = PartitionMap::new(1).unwrap();
    let log = NatsLog::open(options, &"bank".parse().unwrap(), one, Ids::new(Clock::system())).await;
    (own, log)
}

#[tokio::test]
async fn a_nats_that_cannot_keep_a_log_is_refused_with_the_setting() {
    let (_own, refused) = nats("").await;
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("JetStream") && text.contains("store_dir"), "{text}");
    let (_own, refused) = nats("max_payload: 65536\njetstream { store_dir: \"FOLDER\" }").await;
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("max_payload") && text.contains("262144"), "{text}");
    let (_own, opened) = nats("jetstream { store_dir: \"FOLDER\" }").await;
    assert_eq!(weak!(opened.unwrap()), []);
}
