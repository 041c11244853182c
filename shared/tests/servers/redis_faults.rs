//! A Redis that forgets, dies, falls silent or refuses a password costs time: epochs still grow, and a lease finds its
//! next holder.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use shared::coordinate::Epoch;
use shared::error::Effect;
use shared::lease::{Ended, Holder, Lease, LeaseName, LeaseStore, RedisLeases, RenewError, act_while_held};
use shared::proxy::Proxy;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::own::{Own, Program, until, words};

const TTL: Duration = Duration::from_millis(600);

const LONG: Duration = Duration::from_mins(10);

/// How long leases may stand still when nothing is answered on their connection: two calls without an answer take less
/// than half of it, and the next call is answered.
const STANDSTILL_MAX: Duration = Duration::from_secs(5);

/// How many ask at the same time.
const CALLERS: usize = 20;

async fn server(settings: &str) -> Own {
    Own::start(Program::Redis, |folder, port| {
        words(&format!("--port {port} --bind 127.0.0.1 --dir {} --save \"\" {settings}", folder.display()))
    })
    .await
}

async fn leases(own: &Own) -> RedisLeases {
    leases_at(own.address()).await
}

async fn leases_at(address: impl Display) -> RedisLeases {
    let url = format!("redis://{address}");
    RedisLeases::open(&url, &"bank".parse().expect("a name"), None).await.expect("a Redis that answers")
}

fn name() -> LeaseName {
    LeaseName("balance/p1".into())
}

async fn granted(leases: &RedisLeases, holder: &str, ttl: Duration, above: Epoch) -> Lease {
    let holder = Holder(holder.into());
    until("it is granted", async || leases.acquire(&name(), &holder, ttl, above).await.ok().flatten()).await
}

/// Takes the part of one of many holders, which gives up and takes over all the time. `noted` is what the store keeps:
/// the highest epoch that noted anything.
async fn work(leases: &RedisLeases, holder: &str, noted: &AtomicU64, goes_on: &watch::Receiver<bool>) -> u32 {
    let holder = Holder(holder.into());
    let mut terms = 0;
    while *goes_on.borrow() {
        let asked = Instant::now();
        let above = Epoch::new(noted.load(Ordering::SeqCst));
        let Ok(Some(lease)) = leases.acquire(&name(), &holder, TTL, above).await else {
            sleep(Duration::from_millis(5)).await;
            continue;
        };
        let epoch = lease.epoch();
        assert!(epoch > above, "an epoch at or below one that was noted");
        let note = async {
            // As with a checkpoint: a note of an older epoch than the last one is refused.
            let before = noted.fetch_max(epoch.get(), Ordering::SeqCst);
            assert_ne!(before, epoch.get(), "two holders have the same epoch");
            sleep(Duration::from_millis(20)).await;
        };
        if act_while_held(leases, lease, asked, TTL, note).await == Ended::Done(()) {
            terms += 1;
        }
    }
    terms
}

#[tokio::test]
async fn epochs_grow_while_redis_is_emptied_again_and_again_under_load() {
    let own = server("").await;
    let (one, two) = (leases(&own).await, leases(&own).await);
    let noted = AtomicU64::new(0);
    let (stop, goes_on) = watch::channel(true);
    let empty = async {
        let client = redis::Client::open(format!("redis://{}", own.address())).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        for _ in 0..30 {
            let before = noted.load(Ordering::SeqCst);
            until("somebody works", async || (noted.load(Ordering::SeqCst) > before).then_some(())).await;
            let () = redis::cmd("FLUSHALL").query_async(&mut connection).await.unwrap();
        }
        stop.send(false).unwrap();
    };
    let working = async { futures::join!(work(&one, "ann", &noted, &goes_on), work(&two, "bob", &noted, &goes_on)) };
    let ((anns, bobs), ()) = futures::join!(working, empty);
    assert!(anns + bobs > 10 && noted.load(Ordering::SeqCst) >= 30);
}

#[tokio::test]
async fn a_redis_with_its_file_knows_its_leases_after_it_was_killed() {
    let mut own = server("--appendonly yes --appendfsync always").await;
    let leases = leases(&own).await;
    let held = granted(&leases, "ann", LONG, Epoch::NONE).await;
    own.kill();
    assert!(matches!(leases.renew(&held, LONG).await, Err(RenewError::Backend(_))), "a dead server took nothing away");
    own.start_again().await;
    until("it is renewed", async || leases.renew(&held, LONG).await.ok()).await;
    assert_eq!(leases.acquire(&name(), &Holder("bob".into()), LONG, Epoch::NONE).await.unwrap(), None);
    let before = held.epoch();
    leases.release(held).await.unwrap();
    assert!(granted(&leases, "bob", LONG, Epoch::NONE).await.epoch() > before);
}

#[tokio::test]
async fn a_redis_without_a_file_forgets_its_leases_and_epochs_grow_by_what_is_noted() {
    let mut own = server("").await;
    let leases = leases(&own).await;
    let mut above = Epoch::NONE;
    for round in 0..3 {
        let held = granted(&leases, "ann", LONG, above).await;
        assert!(held.epoch() > above, "in round {round}");
        above = held.epoch();
        own.kill();
        own.start_again().await;
        let told = until("it answers", async || match leases.renew(&held, LONG).await {
            Err(RenewError::Backend(_)) => None,
            told => Some(told),
        });
        assert!(matches!(told.await, Err(RenewError::Lost)), "a lease nobody knows of is lost");
    }
}

#[tokio::test]
async fn a_lease_passes_on_when_its_holder_dies_and_the_dead_one_gets_nothing_back() {
    let own = server("").await;
    let (one, two) = (leases(&own).await, leases(&own).await);
    let asked = Instant::now();
    let dead = granted(&one, "ann", TTL, Epoch::NONE).await;
    let next = granted(&two, "bob", LONG, Epoch::NONE).await;
    assert!(asked.elapsed() >= TTL, "it was still ann's");
    assert!(next.epoch() > dead.epoch());
    assert!(matches!(one.renew(&dead, TTL).await, Err(RenewError::Lost)));
    one.release(dead).await.unwrap();
    two.renew(&next, LONG).await.unwrap();
}

#[tokio::test]
async fn leases_whose_connection_is_silent_for_ever_go_on_over_another_one() {
    let own = server("").await;
    let proxy = Proxy::start(own.address()).await.unwrap();
    let leases = leases_at(proxy.address()).await;
    let clone = leases.clone();
    let held = granted(&leases, "ann", LONG, Epoch::NONE).await;
    // The second time, the connection that took over is the silent one.
    for _ in 0..2 {
        proxy.strand();
        let renewed = until("it is renewed", async || leases.renew(&held, LONG).await.ok());
        timeout(STANDSTILL_MAX, renewed).await.expect("another connection after a few calls");
        clone.renew(&held, LONG).await.expect("a clone that shares the new connection");
    }
}

#[tokio::test]
async fn many_callers_at_once_open_one_connection_in_place_of_a_silent_one() {
    let own = server("").await;
    let opened = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&opened);
    let count = move || {
        counter.fetch_add(1, Ordering::SeqCst);
        |_: &[u8]| ()
    };
    let proxy = Proxy::start_overheard(own.address(), count).await.unwrap();
    let leases = leases_at(proxy.address()).await;
    let answered = async || {
        let answers = futures::future::join_all((0..CALLERS).map(|_| leases.list(""))).await;
        for failure in answers.iter().filter_map(|answer| answer.as_ref().err()) {
            assert_eq!(failure.effect, Effect::None, "{failure}");
        }
        answers.iter().filter(|answer| answer.is_ok()).count()
    };
    assert_eq!(answered().await, CALLERS);
    proxy.strand();
    assert_eq!(answered().await, 0, "over a silent connection");
    let all = until("everybody is answered", async || (answered().await == CALLERS).then_some(()));
    timeout(STANDSTILL_MAX, all).await.expect("another connection for everybody");
    assert_eq!(opened.load(Ordering::SeqCst), 2);
}

/// As while a server that was started again has not read its users yet, or while a password is being replaced.
#[tokio::test]
async fn leases_whose_password_was_refused_go_on_when_it_is_taken_again() {
    let own = server("--requirepass right").await;
    let address = format!("default:right@{}", own.address());
    let leases = leases_at(&address).await;
    let held = granted(&leases, "ann", LONG, Epoch::NONE).await;
    let client = redis::Client::open(format!("redis://{address}")).unwrap();
    let mut operator = client.get_multiplexed_async_connection().await.unwrap();
    let mut require = async |password: &str| {
        let set = redis::cmd("CONFIG").arg("SET").arg("requirepass").arg(password).take();
        let () = set.query_async(&mut operator).await.unwrap();
        // All connections but this one.
        let end = redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal").take();
        let _: u64 = end.query_async(&mut operator).await.unwrap();
    };
    require("another").await;
    let refused = async || {
        let renewed = leases.renew(&held, LONG).await;
        renewed.is_err_and(|failure| failure.to_string().contains("AuthenticationFailed")).then_some(())
    };
    until("the password is refused", refused).await;
    require("right").await;
    let renewed = until("it is renewed", async || leases.renew(&held, LONG).await.ok());
    timeout(STANDSTILL_MAX, renewed).await.expect("another connection after a few calls");
}
