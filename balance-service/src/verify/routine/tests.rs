//! When a routine verification begins, ends early, and is noted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::*;
use crate::nudge::Nudge;
use crate::rebuild::{JobState, Purpose, Rebuilds};
use crate::testing::{Embedded, document, embedded};
use crate::verify::{Accounts, Scope};
use shared::id::Ids;
use shared::index::Projected;
use shared::store::EmbeddedStore;
use tempfile::TempDir;
use tokio::time::timeout;

const EVERY: Duration = Duration::from_hours(1);

/// A bank without events and workers, at a time of its own.
struct Bank {
    routine: Routine<Embedded>,
    rebuilds: Rebuilds<Embedded>,
    active: Generation,
    now: Arc<AtomicI64>,
    _folder: TempDir,
}

impl Bank {
    async fn open() -> Self {
        let partitions = PartitionMap::new(1).unwrap();
        let (backends, folder) = embedded(partitions).await;
        let now = Arc::new(AtomicI64::new(1_700_000_000_000_000));
        let clock = Clock::of({
            let now = Arc::clone(&now);
            move || Timestamp::from_micros(now.load(Ordering::Relaxed))
        });
        let active = backends.index.create().await.unwrap();
        backends.index.promote(active, None).await.unwrap();
        let ids = Ids::new(clock.clone());
        let rebuilds = Rebuilds::new(backends.clone(), partitions, clock.clone(), ids, Nudge::default());
        let routine = Routine {
            backends,
            holder: Holder("one".into()),
            partitions,
            // A look is made once, so a lease that is lost because a disk is slow would be missed.
            lease_ttl: Duration::from_mins(1),
            clock,
            checks: Turn::default(),
            right_of_way: RightOfWay::default(),
        };
        Self { routine, rebuilds, active, now, _folder: folder }
    }

    /// Looks once; returns what is noted then.
    async fn look(&self) -> Option<Verified> {
        let interval = Interval { every: EVERY, delay: Duration::ZERO, began: Instant::now() };
        self.routine.look(interval, &CancellationToken::new()).await.unwrap();
        Note::load(self.store()).await.unwrap().verified
    }

    const fn store(&self) -> &EmbeddedStore {
        &self.routine.backends.store
    }

    fn wait(&self, time: Duration) {
        self.now.fetch_add(i64::try_from(time.as_micros()).unwrap(), Ordering::Relaxed);
    }

    fn set_back(&self, time: Duration) {
        self.now.fetch_sub(i64::try_from(time.as_micros()).unwrap(), Ordering::Relaxed);
    }

    fn time(&self) -> Timestamp {
        self.routine.clock.now()
    }

    fn clean(&self, generation: Generation) -> Verified {
        Verified { generation, ended_at: self.time(), found: Verification::default() }
    }

    async fn note(&self, verified: &Verified) {
        Note::load(self.store()).await.unwrap().write(self.store(), verified).await.unwrap();
    }

    /// Notes a job that has built and verified the active generation by now.
    async fn note_built(&self) {
        let id = self.rebuilds.start().await.unwrap().job.id;
        let built = Job {
            generation: Some(self.active),
            verification: Some(Verification::default()),
            ..Job::new(id, Purpose::Rebuild, None, self.time()).finished(JobState::Done, self.time())
        };
        JobFile::load(self.store()).await.unwrap().save(self.store(), built).await.unwrap();
    }

    /// Writes a document of an account that the store does not know.
    async fn plant_orphan(&self) {
        let orphan = document(AccountId::from_bytes([7; 16]), 1);
        let projected = Projected { balances: vec![orphan], ..Projected::default() };
        self.routine.backends.index.apply(self.active, &projected).await.unwrap();
    }
}

const fn of_partitions() -> Scope {
    Scope::Partitions(Vec::new())
}

#[tokio::test]
async fn the_view_is_verified_when_the_interval_is_over_and_no_sooner() {
    let bank = Bank::open().await;
    let first = bank.clean(bank.active);
    assert_eq!(bank.look().await, Some(first.clone()));
    bank.wait(EVERY.saturating_sub(Duration::from_micros(1)));
    assert_eq!(bank.look().await, Some(first));
    bank.wait(Duration::from_micros(1));
    assert_eq!(bank.look().await, Some(bank.clean(bank.active)));
}

#[tokio::test]
async fn nobody_verifies_while_another_process_does() {
    let bank = Bank::open().await;
    let (leases, other) = (&bank.routine.backends.leases, Holder("two".into()));
    let lease = leases.acquire(&LeaseName(LEASE.into()), &other, EVERY, Epoch::NONE).await.unwrap().unwrap();
    assert_eq!(bank.look().await, None);
    leases.release(lease).await.unwrap();
    assert_eq!(bank.look().await, Some(bank.clean(bank.active)));
}

#[tokio::test]
async fn the_verification_by_the_job_that_built_the_view_counts_and_that_of_another_view_does_not() {
    let bank = Bank::open().await;
    bank.note(&bank.clean(Generation(99))).await;
    assert_eq!(bank.look().await, Some(bank.clean(bank.active)));
    bank.wait(EVERY / 2);
    bank.note_built().await;
    let built = Some(bank.clean(bank.active));
    assert_eq!(bank.look().await, built);
    bank.wait(EVERY / 2);
    assert_eq!(bank.look().await, built);
    bank.wait(EVERY / 2);
    assert_eq!(bank.look().await, Some(bank.clean(bank.active)));
}

/// Goal: a job that comes to nothing does not take away what an earlier one has proved.
#[tokio::test]
async fn the_verification_by_a_job_counts_when_other_jobs_have_come_and_gone() {
    let bank = Bank::open().await;
    bank.note_built().await;
    let built = Some(bank.clean(bank.active));
    assert_eq!(bank.look().await, built, "nobody had noted it");
    let note = Note::load(bank.store()).await.unwrap();

    bank.wait(Duration::from_mins(1));
    let seen = async || bank.routine.see().await.unwrap().unwrap().verified();
    bank.rebuilds.start().await.unwrap();
    assert_eq!(seen().await, built);
    bank.rebuilds.cancel().await.unwrap();
    assert_eq!(seen().await, built);
    assert_eq!(bank.look().await, built);
    assert!(!note.has_moved(bank.store()).await.unwrap(), "it is noted once");
}

/// Goal: a clock that was ahead when a job ended neither has the bank verified every minute, nor hides what is found.
#[tokio::test]
async fn what_is_verified_after_a_job_whose_clock_was_ahead_takes_the_place_of_the_job() {
    let bank = Bank::open().await;
    bank.note_built().await;
    bank.set_back(EVERY * 2);
    let verified = Some(bank.clean(bank.active));
    assert_eq!(bank.look().await, verified);
    bank.wait(Duration::from_mins(1));
    assert_eq!(bank.look().await, verified, "neither written over nor made again");
    assert_eq!(bank.routine.see().await.unwrap().unwrap().verified(), verified, "it is shown as well");
}

/// An index that was deleted counts its generations from the beginning.
#[tokio::test]
async fn what_is_noted_of_an_earlier_generation_of_the_same_number_is_told_no_longer() {
    let bank = Bank::open().await;
    bank.note(&bank.clean(bank.active)).await;
    bank.wait(Duration::from_mins(1));
    bank.note_built().await;
    let seen = bank.routine.see().await.unwrap().unwrap();
    assert_eq!(seen.verified().map(|verified| verified.ended_at), Some(bank.time()));
}

#[tokio::test]
async fn no_verification_begins_beside_a_rebuild_or_a_check_of_partitions() {
    let bank = Bank::open().await;
    let turn = bank.routine.checks.take(&of_partitions());
    assert_eq!(bank.look().await, None);
    drop(turn);
    bank.rebuilds.start().await.unwrap();
    assert_eq!(bank.look().await, None);
    bank.rebuilds.cancel().await.unwrap();
    assert_eq!(bank.look().await, Some(bank.clean(bank.active)));
}

#[tokio::test]
async fn a_verification_is_given_up_when_a_rebuild_or_a_check_of_partitions_begins() {
    let bank = Bank::open().await;
    // It takes the whole patience to judge.
    bank.plant_orphan().await;
    let soon = || sleep(STOP_LOOK_EVERY / 2);
    let (began, mut turn) = (Instant::now(), None);
    let asking = async {
        soon().await;
        turn = bank.routine.checks.take(&of_partitions());
    };
    let (noted, ()) = tokio::join!(bank.look(), asking);
    assert_eq!((noted, turn.is_some()), (None, true), "the client was refused");
    drop(turn);

    let asking = async {
        soon().await;
        bank.rebuilds.start().await.unwrap();
    };
    let (noted, ()) = tokio::join!(bank.look(), asking);
    assert_eq!(noted, None);
    assert!(began.elapsed() < verification_patience(bank.routine.lease_ttl), "{:?}", began.elapsed());
}

#[tokio::test]
async fn whoever_gives_up_a_verification_knows_why() {
    let bank = Bank::open().await;
    let note = Note::load(bank.store()).await.unwrap();
    let reason = async || bank.routine.has_to_stop(None, &note).await;
    let turn = bank.routine.checks.take(&of_partitions());
    assert_eq!(reason().await, GivenUp::Check);
    drop(turn);
    bank.note(&bank.clean(bank.active)).await;
    assert_eq!(reason().await, GivenUp::Noted);
    bank.rebuilds.start().await.unwrap();
    assert_eq!(reason().await, GivenUp::Job);
}

/// Goal: a client that asks for an account now and then does not keep the view from ever being verified.
#[tokio::test]
async fn a_check_of_single_accounts_neither_ends_a_verification_nor_waits_for_it() {
    let bank = Bank::open().await;
    let account = Accounts::new(vec![AccountId::from_bytes([7; 16])]).unwrap();
    let turn = bank.routine.checks.take(&Scope::Accounts(account));
    assert!(turn.is_some() && bank.routine.checks.take(&of_partitions()).is_none(), "one check at a time");
    let note = Note::load(bank.store()).await.unwrap();
    assert!(timeout(STOP_LOOK_EVERY * 2, bank.routine.has_to_stop(None, &note)).await.is_err());
    assert_eq!(bank.look().await, Some(bank.clean(bank.active)));
    drop(turn);
}

/// Goal: a process that was frozen past its lease does not go on for hours with what another one has done meanwhile.
#[tokio::test]
async fn a_verification_is_given_up_when_another_one_is_noted() {
    let bank = Bank::open().await;
    // It takes the whole patience to judge.
    bank.plant_orphan().await;
    let began = Instant::now();
    let found = Verification { diverged: 7, ..Verification::default() };
    let other = Verified { found, ..bank.clean(bank.active) };
    let noting = async {
        sleep(STOP_LOOK_EVERY / 2).await;
        bank.note(&other).await;
    };
    let (noted, ()) = tokio::join!(bank.look(), noting);
    assert_eq!(noted, Some(other));
    assert!(began.elapsed() < verification_patience(bank.routine.lease_ttl), "{:?}", began.elapsed());
}

#[test]
fn processes_begin_at_different_times_within_an_eighth_of_the_interval() {
    let holders = (0..20).map(|number| Holder(format!("process {number}").into()));
    let delays: BTreeSet<Duration> = holders.map(|holder| delay(EVERY, &holder)).collect();
    assert!(delays.len() > 10, "{delays:?}");
    assert!(delays.iter().all(|delay| *delay < EVERY / DELAY_MAX_PART), "{delays:?}");
}

#[test]
fn a_clock_that_was_wrong_puts_no_verification_off_for_longer_than_the_interval() {
    let interval = Interval { every: EVERY, delay: Duration::ZERO, began: Instant::now() };
    let now = Timestamp::from_micros(1_700_000_000_000_000);
    for (last, is_over) in [
        (now.minus(EVERY), true),
        (now.minus(EVERY / 2), false),
        (now.plus(EVERY / 2), false),
        (now.plus(EVERY), true),
        (now.plus(EVERY * 9_000), true),
    ] {
        assert_eq!(interval.is_over(Some(last), now), is_over, "{last}");
    }
}
