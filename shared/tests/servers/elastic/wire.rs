//! Network faults: whatever is lost, the caller learns that the call may have taken effect, and repeating it is
//! harmless.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use elasticsearch::http::Method;
use shared::clock::Timestamp;
use shared::coordinate::{Epoch, Version};
use shared::error::{BackendError, Effect};
use shared::index::{
    ApplyError, Balance, BalanceIndex, ElasticIndex, ElasticOptions, Generation, Parked, Projected, PromoteError, Seal,
    Sealing,
};
use shared::money::Money;
use shared::partition::Partition;
use shared::proxy::{Proxy, Trouble};
use tokio::time::sleep;
use uuid::Uuid;

use super::pressure::checkpoint;
use super::{Scratch, ask, document, projected};
use crate::server::Server;

/// How long a disturbed call may take.
const HASTE: Duration = Duration::from_millis(700);

/// How often an undisturbed call is tried.
const TRIES_MAX: usize = 5;

const SEAL: Seal = Seal(Uuid::from_u128(7));

/// An index behind a proxy, with a short and with the usual time limit, and the same index without the proxy.
struct Wired {
    scratch: Scratch,
    proxy: Proxy,
    hasty: ElasticIndex,
    patient: ElasticIndex,
    direct: ElasticIndex,
}

impl Wired {
    async fn new() -> Self {
        let scratch = Scratch::new();
        let server = Server::Elastic.url();
        let address = server.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let proxy = Proxy::start(address).await.unwrap();
        let url = format!("http://{}", proxy.address());
        let hasty = scratch.index_at(&url, &ElasticOptions { call_max: HASTE, ..ElasticOptions::default() });
        let patient = scratch.index_at(&url, &ElasticOptions::default());
        let direct = scratch.index();
        Self { scratch, proxy, hasty, patient, direct }
    }
}

/// The outcome of a disturbed call: only "it may have happened" is honest.
trait Outcome {
    fn effect(self) -> Option<Effect>;
}

impl<T> Outcome for Result<T, BackendError> {
    fn effect(self) -> Option<Effect> {
        self.err().map(|failure| failure.effect)
    }
}

impl<T> Outcome for Result<T, ApplyError> {
    fn effect(self) -> Option<Effect> {
        match self {
            Ok(_) => None,
            Err(ApplyError::Backend(failure)) => Some(failure.effect),
            Err(other) => panic!("{other}"),
        }
    }
}

impl<T> Outcome for Result<T, PromoteError> {
    fn effect(self) -> Option<Effect> {
        match self {
            Ok(_) => None,
            Err(PromoteError::Backend(failure)) => Some(failure.effect),
            Err(other) => panic!("{other}"),
        }
    }
}

/// Every kind of write of the port, in an order that makes up the life of two generations: each call has something to
/// do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Bulk,
    Park,
    Unpark,
    Checkpoint,
    Repair,
    Seal,
    Prepare,
    Promote,
    Unseal,
    Discard,
    Create,
}

const LIFE: [Call; 11] = [
    Call::Bulk,
    Call::Park,
    Call::Unpark,
    Call::Checkpoint,
    Call::Repair,
    Call::Seal,
    Call::Prepare,
    Call::Promote,
    Call::Unseal,
    Call::Discard,
    Call::Create,
];

/// The generation that answers, and the one that is to follow it.
struct Two {
    old: Generation,
    new: Generation,
    sealing: Option<Sealing>,
}

fn parked() -> Parked {
    let account = document(2, 1).id;
    Parked { account, at: Version::new(3), reason: "poison".to_owned(), since: Timestamp::EPOCH }
}

async fn set_up(index: &ElasticIndex) -> Two {
    let old = index.create().await.unwrap();
    index.promote(old, None).await.unwrap();
    Two { old, new: index.create().await.unwrap(), sealing: None }
}

/// `None` if the call succeeded, else what the failure says of its effect.
async fn make(index: &ElasticIndex, call: Call, two: &mut Two) -> Option<Effect> {
    let Two { old, new, sealing } = *two;
    let applied = async |projected| index.apply(old, &projected).await;
    match call {
        Call::Bulk => applied(projected(vec![document(1, 2), document(2, 2)])).await.effect(),
        Call::Park => applied(Projected { parked: vec![parked()], ..Projected::default() }).await.effect(),
        Call::Unpark => index.unpark(old, &[parked().account]).await.effect(),
        Call::Checkpoint => {
            applied(Projected { checkpoint: Some(checkpoint(2)), ..Projected::default() }).await.effect()
        }
        Call::Repair => {
            let repaired = Balance { balance: Money::new(5).unwrap(), ..document(1, 2) };
            index.repair(old, vec![repaired]).await.effect()
        }
        Call::Seal => {
            let sealed = index.seal(old, SEAL).await;
            two.sealing = sealed.as_ref().ok().copied().or(sealing);
            sealed.effect()
        }
        Call::Prepare => index.prepare(new).await.effect(),
        Call::Promote => match index.promote(new, Some((old, sealing.unwrap()))).await {
            // It had taken effect: a caller that repeats it checks which one is active.
            Err(PromoteError::Moved(Some(active))) if active == new => None,
            promoted => promoted.effect(),
        },
        Call::Unseal => index.unseal(old, SEAL).await.effect(),
        Call::Discard => index.discard(old).await.effect(),
        Call::Create => index.create().await.effect(),
    }
}

/// Makes a call until it succeeds: the connections that were open during the trouble have ended as well.
async fn repeat(index: &ElasticIndex, call: Call, two: &mut Two) {
    for _ in 0..TRIES_MAX {
        if make(index, call, two).await.is_none() {
            return;
        }
    }
    panic!("{call:?} does not succeed");
}

/// Everything of the port that a call may change, in words that are the same for every bank.
async fn state(index: &ElasticIndex, &Two { old, new, .. }: &Two) -> String {
    let found = index.generations().await.unwrap();
    let exists = [old, new].map(|generation| found.all.contains(&generation));
    let answers = [old, new].map(|generation| found.active == Some(generation));
    let sealed = [old, new].map(|generation| found.sealed.contains(&(generation, SEAL)));
    let loaded = index.load(old, &[document(1, 1).id, document(2, 1).id]).await.unwrap();
    let noted = index.checkpoint(old, Partition::new(1)).await.unwrap();
    format!("exists {exists:?} answers {answers:?} sealed {sealed:?} {loaded:?} {noted:?}")
}

/// The state after each undisturbed call; before them the state at the beginning.
async fn undisturbed() -> Vec<String> {
    let scratch = Scratch::new();
    let index = scratch.index();
    let mut two = set_up(&index).await;
    let mut states = vec![state(&index, &two).await];
    for call in LIFE {
        assert_eq!(make(&index, call, &mut two).await, None, "{call:?}");
        states.push(state(&index, &two).await);
    }
    assert!(states.windows(2).filter(|pair| pair[0] == pair[1]).count() <= 2, "a call of this life does nothing");
    states
}

/// Makes the same calls, each first disturbed and then again; returns the states in between.
async fn disturbed(expected: &[String], trouble: Trouble) -> Vec<String> {
    let wired = Wired::new().await;
    let mut two = set_up(&wired.direct).await;
    let mut between = Vec::new();
    for (call, after) in LIFE.into_iter().zip(&expected[1..]) {
        wired.proxy.make(trouble);
        let told = make(&wired.hasty, call, &mut two).await;
        assert_eq!(told, Some(Effect::Unknown), "{call:?} in {trouble:?}");
        between.push(state(&wired.direct, &two).await);
        wired.proxy.make(Trouble::None);
        repeat(&wired.patient, call, &mut two).await;
        repeat(&wired.patient, call, &mut two).await;
        assert_eq!(&state(&wired.direct, &two).await, after, "{call:?} after {trouble:?}");
    }
    between
}

#[tokio::test]
async fn a_call_that_nobody_answers_ends_and_may_be_repeated() {
    let expected = undisturbed().await;
    let between = disturbed(&expected, Trouble::Silence).await;
    assert_eq!(between, expected[..LIFE.len()], "a call came through silence");
}

#[tokio::test]
async fn a_call_whose_reply_is_lost_may_have_happened_and_may_be_repeated() {
    let expected = undisturbed().await;
    let between = disturbed(&expected, Trouble::LoseReplies).await;
    // Calls of a single request have taken effect, although their answers were lost.
    assert_eq!(between[..5], expected[1..6]);
}

/// Many calls take several requests: the connection ends before, during and after each of them.
#[tokio::test]
async fn a_call_that_is_cut_anywhere_can_be_repeated() {
    let expected = undisturbed().await;
    let mut cuts = 0;
    for moment in [5, 60, 120, 180] {
        let wired = Wired::new().await;
        let mut two = set_up(&wired.direct).await;
        for (call, after) in LIFE.into_iter().zip(&expected[1..]) {
            wired.proxy.make(Trouble::Delay(Duration::from_millis(50)));
            let cutting = async {
                sleep(Duration::from_millis(moment)).await;
                wired.proxy.cut();
            };
            let (told, ()) = tokio::join!(make(&wired.patient, call, &mut two), cutting);
            cuts += usize::from(told.is_some());
            wired.proxy.make(Trouble::None);
            repeat(&wired.patient, call, &mut two).await;
            assert_eq!(&state(&wired.direct, &two).await, after, "{call:?} cut at {moment} ms, told {told:?}");
        }
    }
    assert!(cuts > 11, "only {cuts} calls were cut");
}

/// The names of the indices behind an alias.
async fn named(alias: &str) -> Vec<String> {
    match ask(Method::Get, &format!("_alias/{alias}"), None).await {
        (200, found) => found.as_object().unwrap().keys().cloned().collect(),
        other => panic!("{other:?}"),
    }
}

async fn until<T>(work: impl Future<Output = T>, mut look: impl AsyncFnMut()) -> T {
    let watching = async {
        loop {
            look().await;
        }
    };
    tokio::select! {
        biased;
        done = work => done,
        () = watching => unreachable!("it never ends"),
    }
}

/// Readers look all the time while the bank switches to and fro over a bad connection.
#[tokio::test]
async fn the_alias_names_exactly_one_index_at_every_moment() {
    let wired = Wired::new().await;
    let Two { old: mut active, new: mut idle, .. } = set_up(&wired.direct).await;
    let turns = async {
        for turn in 0..12_u64 {
            let sealing = wired.direct.seal(active, SEAL).await.unwrap();
            wired.proxy.make(if turn % 3 == 0 {
                Trouble::LoseReplies
            } else {
                Trouble::Delay(Duration::from_millis(5))
            });
            let cutting = async {
                if turn % 3 == 1 {
                    sleep(Duration::from_millis(turn)).await;
                    wired.proxy.cut();
                }
            };
            let (_, ()) = tokio::join!(wired.hasty.promote(idle, Some((active, sealing))), cutting);
            wired.proxy.make(Trouble::None);
            let mut two = Two { old: active, new: idle, sealing: Some(sealing) };
            repeat(&wired.patient, Call::Promote, &mut two).await;
            assert_eq!(wired.direct.generations().await.unwrap().active, Some(idle));
            wired.direct.unseal(active, SEAL).await.unwrap();
            (active, idle) = (idle, active);
        }
    };
    let alias = wired.scratch.alias();
    let mut seen = BTreeMap::new();
    until(turns, async || {
        let names = named(&alias).await;
        assert_eq!(names.len(), 1, "{names:?}");
        *seen.entry(names[0].clone()).or_insert(0) += 1;
    })
    .await;
    assert!(seen.len() == 2 && seen.values().sum::<i32>() > 50, "{seen:?}");
}

#[tokio::test]
async fn a_worker_of_a_lower_epoch_is_told_so_after_a_lost_reply_too() {
    let wired = Wired::new().await;
    let Two { old, .. } = set_up(&wired.direct).await;
    wired.proxy.make(Trouble::LoseReplies);
    let higher = shared::index::Checkpoint { epoch: Epoch::new(9), ..checkpoint(5) };
    let lost = wired.hasty.apply(old, &Projected { checkpoint: Some(higher), ..Projected::default() }).await;
    assert_eq!(lost.effect(), Some(Effect::Unknown));
    let late = Projected { checkpoint: Some(checkpoint(6)), ..Projected::default() };
    let fenced = wired.direct.apply(old, &late).await;
    assert!(matches!(fenced, Err(ApplyError::Fenced { current }) if current == Epoch::new(9)), "{fenced:?}");
}
