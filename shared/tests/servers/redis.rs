//! Redis keeps the laws of leases, and some promises of its own.

use std::time::Duration;

use shared::config::Namespace;
use shared::coordinate::Epoch;
use shared::lease::{Holder, LeaseName, LeaseStore, RedisLeases, RenewError};

use crate::server::{Server, fresh};

const LONG: Duration = Duration::from_mins(10);

async fn opened(namespace: &Namespace) -> RedisLeases {
    RedisLeases::open(&Server::Redis.url(), namespace, None).await.expect("a Redis that answers")
}

async fn empty_leases() -> (RedisLeases, ()) {
    (opened(&fresh()).await, ())
}

shared::lease_contract!(empty_leases());

/// Forgets everything of a namespace, as a Redis without persistence does when it stops.
async fn forget(namespace: &Namespace) {
    let client = redis::Client::open(Server::Redis.url()).expect("a URL of Redis");
    let mut connection = client.get_multiplexed_async_connection().await.expect("a Redis that answers");
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg(format!("{{{namespace}}}:*"))
        .query_async(&mut connection)
        .await
        .expect("a command that Redis knows");
    assert!(!keys.is_empty());
    let _: u64 = redis::cmd("DEL").arg(keys).query_async(&mut connection).await.expect("a command that Redis knows");
}

#[tokio::test]
async fn epochs_grow_past_a_redis_that_forgot_everything() {
    let namespace = fresh();
    let leases = opened(&namespace).await;
    let (name, holder) = (LeaseName("balance/p1".into()), Holder("ann".into()));
    let mut above = Epoch::NONE;
    for _ in 0..5 {
        let lease = leases.acquire(&name, &holder, LONG, above).await.unwrap().expect("nobody holds it any more");
        assert!(lease.epoch() > above);
        above = lease.epoch();
        forget(&namespace).await;
        assert!(matches!(leases.renew(&lease, LONG).await, Err(RenewError::Lost)));
    }
}

/// Not even a holder that has noted nothing yet is outrun.
#[tokio::test]
async fn epochs_grow_past_a_redis_that_forgot_everything_also_when_nothing_was_noted() {
    let namespace = fresh();
    let leases = opened(&namespace).await;
    let (name, holder) = (LeaseName("balance/p1".into()), Holder("ann".into()));
    let mut last = Epoch::NONE;
    for _ in 0..100 {
        let lease = leases.acquire(&name, &holder, LONG, Epoch::NONE).await.unwrap().expect("nobody holds it any more");
        assert!(lease.epoch() > last, "{} follows {last}", lease.epoch());
        last = lease.epoch();
        forget(&namespace).await;
    }
}

#[tokio::test]
async fn leases_live_on_when_their_holder_opens_them_again() {
    let namespace = fresh();
    let (name, holder) = (LeaseName("balance/p1".into()), Holder("ann with a space".into()));
    let lease = opened(&namespace).await.acquire(&name, &holder, LONG, Epoch::NONE).await.unwrap().unwrap();
    let again = opened(&namespace).await;
    assert_eq!(again.list("").await.unwrap()[0].holder, holder);
    again.renew(&lease, LONG).await.unwrap();
    let before = lease.epoch();
    again.release(lease).await.unwrap();
    let next = again.acquire(&name, &holder, LONG, Epoch::NONE).await.unwrap().unwrap();
    assert!(next.epoch() > before);
}

#[tokio::test]
async fn namespaces_do_not_see_each_other() {
    let (one, two) = (opened(&fresh()).await, opened(&fresh()).await);
    let (name, holder) = (LeaseName("forwarder".into()), Holder("ann".into()));
    one.acquire(&name, &holder, LONG, Epoch::NONE).await.unwrap().unwrap();
    assert_eq!(two.list("").await.unwrap(), []);
    assert!(two.acquire(&name, &holder, LONG, Epoch::NONE).await.unwrap().is_some());
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_error_and_no_hang() {
    let refused = RedisLeases::open("redis://127.0.0.1:1", &fresh(), None).await;
    assert!(refused.is_err());
}
