//! The fate of a batch, whatever Elasticsearch answers to its lines.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::bulk::{BULKS_AT_ONCE, BUSY_PAUSE_MIN, BUSY_TRIES_MAX};
use super::fake::{Asked, Fake};
use super::logged::Log;
use super::together::ALONE_FROM;
use super::{ElasticIndex, ElasticOpenError, ElasticOptions};
use crate::clock::Timestamp;
use crate::coordinate::Version;
use crate::error::{Effect, Retry};
use crate::id::{AccountId, EventId};
use crate::index::{
    AccountStatus, Applied, ApplyError, Balance, BalanceIndex, Generation, Generations, Projected, QueryError,
};
use crate::money::Money;
use crate::owner::Owner;
use crate::partition::Partition;

pub(super) const GENERATION: Generation = Generation(1);

fn account(number: usize) -> AccountId {
    AccountId::from_bytes((number as u128).to_be_bytes())
}

pub(super) fn documents(count: usize) -> Projected {
    let document = |number| Balance {
        id: account(number),
        event_id: EventId::from_number(1),
        owner: Owner::new("Ann").unwrap(),
        status: AccountStatus::Open,
        currency: "EUR".parse().unwrap(),
        balance: Money::ZERO,
        version: Version::new(3),
        opened_at: Timestamp::EPOCH,
        updated_at: Timestamp::EPOCH,
    };
    Projected { balances: (0..count).map(document).collect(), ..Projected::default() }
}

/// How Elasticsearch answers a line of a bulk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meets {
    Written,
    Stale,
    Busy,
    Unavailable,
    Unfit,
}

impl Meets {
    fn said(self) -> Value {
        match self {
            Self::Written => json!({ "status": 201 }),
            Self::Stale => json!({ "status": 409, "error": { "type": "version_conflict_engine_exception" } }),
            Self::Busy => json!({ "status": 429, "error": { "type": "es_rejected_execution_exception" } }),
            Self::Unavailable => json!({ "status": 503, "error": { "type": "unavailable_shards_exception" } }),
            Self::Unfit => json!({ "status": 400, "error": { "type": "strict_dynamic_mapping_exception" } }),
        }
    }

    const fn is_busy(self) -> bool {
        matches!(self, Self::Busy | Self::Unavailable)
    }
}

/// One document for each of these accounts.
fn of(accounts: std::ops::Range<usize>) -> Projected {
    Projected { balances: documents(accounts.end).balances.split_off(accounts.start), ..Projected::default() }
}

pub(super) fn all(fates: impl Iterator<Item = Value>) -> (u16, String) {
    let items: Vec<Value> = fates.map(|fate| json!({ "index": fate })).collect();
    (200, json!({ "items": items }).to_string())
}

/// The documents that are asked for, each at this version.
pub(super) fn show(asked: &Asked, version: u64) -> (u16, String) {
    let question: Value = serde_json::from_str(&asked.body).unwrap();
    let shown = json!({ "found": true, "_seq_no": 7, "_primary_term": 2, "_source": { "version": version } });
    let docs: Vec<Value> = question["docs"].as_array().unwrap().iter().map(|_| shown.clone()).collect();
    (200, json!({ "docs": docs }).to_string())
}

/// Busy for a while, and then a final answer.
fn course() -> impl Strategy<Value = Vec<Meets>> {
    let busy = prop::sample::select(vec![Meets::Busy, Meets::Unavailable]);
    let last = prop::sample::select(vec![Meets::Written, Meets::Stale, Meets::Unfit]);
    (prop::collection::vec(busy, 0..3), last).prop_map(|(mut course, last)| {
        course.push(last);
        course
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn every_line_is_sent_until_it_is_answered_for_good_and_no_longer(
        courses in prop::collection::vec(course(), 1..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let ids = (0..courses.len()).map(|number| account(number).to_string());
            let mut left: BTreeMap<String, VecDeque<Meets>> =
                ids.zip(&courses).map(|(id, course)| (id, course.iter().copied().collect())).collect();
            let answer = move |asked: &Asked| {
                if asked.is_look() {
                    return show(asked, 1_000_000);
                }
                let mut next = |id: &String| left.get_mut(id).unwrap().pop_front().expect("sent after its last answer");
                all(asked.ids().iter().map(|id| next(id).said()).collect::<Vec<_>>().into_iter())
            };
            let fake = Fake::start(answer).await;
            let applied = fake.index().apply(GENERATION, &documents(courses.len())).await;

            let ends = |wanted: Meets| courses.iter().filter(|course| course.last() == Some(&wanted)).count();
            match applied {
                Ok(applied) => {
                    assert_eq!(ends(Meets::Unfit), 0);
                    assert_eq!(applied, Applied { written: ends(Meets::Written), stale: ends(Meets::Stale) });
                }
                Err(ApplyError::Refused { account: refused, .. }) => {
                    let number = (0..courses.len()).find(|number| account(*number) == refused).unwrap();
                    assert_eq!(courses[number].last(), Some(&Meets::Unfit));
                }
                other @ Err(_) => panic!("{other:?}"),
            }
            let rounds = courses.iter().map(Vec::len).max().unwrap();
            let bulks = fake.bulks();
            assert_eq!(bulks.len(), rounds);
            for (round, bulk) in bulks.iter().enumerate() {
                let open = courses.iter().filter(|course| {
                    course.len() > round && course[..round].iter().all(|answer| answer.is_busy())
                });
                assert_eq!(bulk.ids().len(), open.count());
            }
        });
    }
}

#[tokio::test]
async fn a_busy_server_is_asked_again_a_bounded_number_of_times_and_nobody_is_parked_for_it() {
    for (status, kind) in [(429, "es_rejected_execution_exception"), (503, "no_master_block"), (503, "")] {
        let refusal = json!({ "error": { "type": kind } }).to_string();
        let fake = Fake::start(move |_| (status, refusal.clone())).await;
        let applied = fake.index().apply(GENERATION, &documents(3)).await;
        let Err(ApplyError::Backend(failure)) = applied else { panic!("{applied:?}") };
        assert_eq!((failure.effect, failure.retry), (Effect::Unknown, Retry::Later));
        assert_eq!(fake.bulks().len(), BUSY_TRIES_MAX + 1);
    }
}

/// An outage, a proxy's own answer, a full disk, a wrong request: no document is to blame.
#[tokio::test]
async fn nobody_is_parked_for_what_is_not_about_his_document() {
    let item = |status: u16, kind: &str| all((0..2).map(|_| json!({ "status": status, "error": { "type": kind } })));
    for answer in [
        item(429, "cluster_block_exception"),
        item(403, "cluster_block_exception"),
        item(400, "illegal_argument_exception"),
        item(500, "document_parsing_exception"),
        item(404, "index_not_found_exception"),
        (400, json!({ "error": { "type": "document_parsing_exception" } }).to_string()),
        (413, String::new()),
        (502, "<html>Bad Gateway</html>".to_owned()),
        (200, "<html>Welcome to the hotel's network</html>".to_owned()),
        (200, "{}".to_owned()),
        all([json!({ "status": 201 })].into_iter()),
    ] {
        let said = answer.clone();
        let fake = Fake::start(move |_| said.clone()).await;
        let applied = fake.index().apply(GENERATION, &documents(2)).await;
        assert!(!matches!(applied, Ok(_) | Err(ApplyError::Refused { .. })), "{applied:?} after {answer:?}");
    }
}

/// A proxy that finds nobody to ask: neither the generation nor an account is gone.
#[tokio::test]
async fn only_elasticsearch_can_say_that_something_is_absent() {
    for body in [r#"{"message":"no Route matched"}"#, "404 page not found", r#"{"error":"not found"}"#] {
        let fake = Fake::start(move |_| (404, body.to_owned())).await;
        let index = fake.index();
        let applied = index.apply(GENERATION, &documents(2)).await;
        let Err(ApplyError::Backend(failure)) = applied else { panic!("{applied:?} after {body}") };
        assert_eq!((failure.effect, failure.retry), (Effect::Unknown, Retry::Later), "{body}");
        let got = index.get(account(0)).await;
        assert!(matches!(got, Err(QueryError::Backend(_))), "{got:?} after {body}");
        assert!(index.checkpoint(GENERATION, Partition::new(1)).await.is_err(), "{body}");
    }
}

#[tokio::test]
async fn an_answer_longer_than_any_is_not_read() {
    let fake = Fake::start(|_| (200, " ".repeat(65 << 20))).await;
    let applied = fake.index().apply(GENERATION, &documents(1)).await;
    let Err(ApplyError::Backend(failure)) = applied else { panic!("{applied:?}") };
    assert_eq!(failure.effect, Effect::Unknown);
    assert!(failure.to_string().contains("68157440 bytes"), "{failure}");
}

/// A call that owns what it writes, so that it can run beside others.
async fn apply(index: &ElasticIndex, projected: Projected) -> Result<Applied, ApplyError> {
    index.apply(GENERATION, &projected).await
}

#[tokio::test]
async fn a_process_has_a_bounded_number_of_bulks_under_way_and_few_of_them_are_large() {
    let (sender, mut open) = tokio::sync::watch::channel(BTreeSet::new());
    // Never done: every call keeps its place until it gives up.
    let fake = Fake::start(move |asked| {
        sender.send_modify(|open| _ = open.insert((asked.ids().len(), asked.path.clone(), asked.ids().pop())));
        (429, String::new())
    })
    .await;
    let index = fake.index();
    let large = (0..12).map(|call| apply(&index, of(call * ALONE_FROM..(call + 1) * ALONE_FROM)));
    // One line each, in a generation of its own.
    let small = (10..22).map(async |generation| index.apply(Generation(generation), &of(0..1)).await);
    let calls = futures::future::join(futures::future::join_all(large), futures::future::join_all(small));
    let looks = async {
        open.wait_for(|open| open.len() >= BULKS_AT_ONCE).await.unwrap();
        tokio::time::sleep(BUSY_PAUSE_MIN * 10).await;
        open.borrow().iter().map(|(lines, ..)| *lines).collect::<Vec<_>>()
    };
    tokio::select! {
        biased;
        _ = calls => panic!("the calls ended first"),
        seen = looks => assert_eq!(seen, [1, 1, ALONE_FROM, ALONE_FROM]),
    }
}

/// Each line is written, except that the one of account 7 does not fit and the one of account 3 meets a failure.
fn each_its_own(asked: &Asked) -> (u16, String) {
    let said = |id: &String| match id.parse::<AccountId>().unwrap() {
        id if id == account(7) => Meets::Unfit.said(),
        id if id == account(3) => json!({ "status": 500, "error": { "type": "other" } }),
        _ => Meets::Written.said(),
    };
    all(asked.ids().iter().map(said).collect::<Vec<_>>().into_iter())
}

#[tokio::test]
async fn small_bulks_that_come_together_go_together_and_each_caller_hears_of_its_own_lines() {
    let fake = Fake::start(each_its_own).await;
    let index = fake.index();
    let calls = (0..12).map(|call| apply(&index, of(call..call + call % 3 + 1)));
    for (call, applied) in futures::future::join_all(calls).await.into_iter().enumerate() {
        let own = call..call + call % 3 + 1;
        let heard_right = match &applied {
            Err(ApplyError::Backend(failure)) => own.contains(&3) && failure.effect == Effect::Unknown,
            Err(ApplyError::Refused { account: refused, .. }) => own.contains(&7) && *refused == account(7),
            Ok(applied) => {
                *applied == Applied { written: own.len(), stale: 0 } && !own.contains(&3) && !own.contains(&7)
            }
            Err(_) => false,
        };
        assert!(heard_right, "call {call}: {applied:?}");
    }
    let sizes: Vec<usize> = fake.bulks().iter().map(|bulk| bulk.ids().len()).collect();
    assert_eq!(sizes, [1, 23], "the first goes at once, the others with each other");
}

#[tokio::test]
async fn who_goes_away_takes_nobody_along_for_good() {
    let held = Arc::new(AtomicBool::new(true));
    let answers = Arc::clone(&held);
    let fake = Fake::start(move |asked| {
        let is_held = answers.load(Ordering::SeqCst);
        if is_held { (429, String::new()) } else { all(asked.ids().iter().map(|_| Meets::Written.said())) }
    })
    .await;
    let index = fake.index();
    let [mut first, mut sender, mut along, mut waiting] =
        [0, 1, 2, 3].map(|number| Box::pin(apply(&index, of(number..number + 1))));
    // The first sends its own line, and gives up; the next one sends its own and the third's, and gives up.
    assert!(timeout(BUSY_PAUSE_MIN, &mut first).await.is_err());
    assert!(sender.as_mut().now_or_never().is_none() && along.as_mut().now_or_never().is_none());
    drop(first);
    assert!(timeout(BUSY_PAUSE_MIN, &mut sender).await.is_err());
    assert!(waiting.as_mut().now_or_never().is_none());
    drop(sender);
    held.store(false, Ordering::SeqCst);
    let Err(ApplyError::Backend(failure)) = along.await else { panic!("lines of which nobody knows") };
    assert_eq!((failure.effect, failure.retry), (Effect::Unknown, Retry::Later));
    assert_eq!(waiting.await.unwrap(), Applied { written: 1, stale: 0 });
    let sent: Vec<Vec<String>> = fake.bulks().iter().map(Asked::ids).collect();
    let ids = |accounts: &[usize]| accounts.iter().map(|number| account(*number).to_string()).collect::<Vec<_>>();
    assert_eq!((sent.first(), sent.last()), (Some(&ids(&[0])), Some(&ids(&[3]))));
    assert!(sent.contains(&ids(&[1, 2])));
}

#[tokio::test]
async fn a_line_that_nobody_waits_for_is_not_sent() {
    let fake = Fake::start(each_its_own).await;
    let index = fake.index();
    let [mut first, mut second, mut third] = [0, 1, 2].map(|number| Box::pin(apply(&index, of(number..number + 1))));
    assert!(first.as_mut().now_or_never().is_none());
    assert!(second.as_mut().now_or_never().is_none() && third.as_mut().now_or_never().is_none());
    drop(second);
    futures::future::try_join(first, third).await.unwrap();
    let sent: Vec<String> = fake.bulks().iter().flat_map(Asked::ids).collect();
    assert_eq!(sent, [account(0).to_string(), account(2).to_string()]);
}

#[tokio::test]
async fn whoever_the_url_names_is_told_to_the_server() {
    for (user, told) in [
        ("", ""),
        ("ann:p%40ss@", "Basic YW5uOnBAc3M="),
        ("ApiKey:VnVhQ2Z%2BY0JDZGJrU==@", "ApiKey VnVhQ2Z+Y0JDZGJrU=="),
    ] {
        let fake = Fake::start(|_| (200, "{}".to_owned())).await;
        assert_eq!(fake.index_as(user).generations().await.unwrap(), Generations::default());
        assert_eq!(fake.asked()[0].authorization, told);
    }
}

#[tokio::test]
async fn neither_a_failure_nor_a_log_line_shows_a_secret() {
    let (log, _guard) = Log::up_to(tracing::Level::TRACE);
    let mut said = Vec::new();
    // Twice: if another test's thread reaches a log line first, it is not logged here until the cache is rebuilt.
    for _ in 0..2 {
        tracing::callsite::rebuild_interest_cache();
        for answer in
            [(401, r#"{"error":"who are you?"}"#), (200, "<html>"), (429, ""), (503, ""), (200, r#"{"items":[]}"#)]
        {
            let fake = Fake::start(move |_| (answer.0, answer.1.to_owned())).await;
            let index = fake.index_as("elastic:hunter2@");
            index.check().await.unwrap();
            said.push(format!("{:?} {index:?}", index.apply(GENERATION, &documents(1)).await.unwrap_err()));
            let listed = index.generations().await;
            said.push(listed.map_or_else(|failure| failure.to_string(), |found| format!("{found:?}")));
            drop(fake);
            said.push(format!("{:?}", index.create().await.unwrap_err()));
        }
    }
    let wrong = ElasticIndex::new("ftp://elastic:hunter2@host", &"bank".parse().unwrap(), &ElasticOptions::default());
    said.push(wrong.unwrap_err().to_string());
    said.push(log.text());
    let said = said.join("\n");
    assert!(said.contains("who are you?") && said.contains("index is busy"), "{said}");
    // In plain text, and as HTTP sends it.
    for secret in ["hunter2", "ZWxhc3RpYzpodW50ZXIy"] {
        assert!(!said.contains(secret), "{said}");
    }
}

/// A check of nodes that report these versions, and nothing else.
async fn of_version(versions: &[&str]) -> Result<(), ElasticOpenError> {
    let nodes: Vec<(String, Value)> =
        versions.iter().enumerate().map(|(n, version)| (n.to_string(), json!({ "version": version }))).collect();
    let nodes = json!({ "nodes": nodes.into_iter().collect::<serde_json::Map<_, _>>() }).to_string();
    let fake = Fake::start(
        move |asked| {
            if asked.path.starts_with("/_nodes") { (200, nodes.clone()) } else { (403, String::new()) }
        },
    )
    .await;
    fake.index().check().await
}

#[tokio::test]
async fn a_release_that_is_too_old_is_refused_with_what_to_do() {
    of_version(&["8.0.0"]).await.unwrap();
    of_version(&["9.1.0", "8.19.2"]).await.unwrap();
    let refusal = of_version(&["8.1.0", "7.17.29"]).await.unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "Elasticsearch 7.17.29 is too old: upgrade it to version 8 or newer, or use another server"
    );
}
