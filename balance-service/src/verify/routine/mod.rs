//! The routine verification: an open bank compares its view with the store from time to time, without being asked.
//!
//! Reconciliation compares versions, so it does not notice a document that is wrong at the right version. Every balance
//! service looks from time to time when the active generation was verified last: by this module, by a check of all
//! partitions that a client has asked a balance service for, or by the job that built it. If that is longer ago than
//! the configured interval, one of them compares every document. It tells what is wrong and repairs nothing. A check
//! that had less patience than this module has counts only if it found nothing wrong.
//!
//! All of these are noted in one register, a job's when it is done. If that note failed, whoever looks next makes up
//! for it. So a verification counts whichever job comes next, and for a generation that queries are switched back to.
//! A job counts once: if its clock was ahead, what is verified later takes its place nevertheless.
//!
//! RV1  It disturbs nobody. It only reads, one partition after the other, and its pages give way to workers that are
//!      late. It does not run beside a job, nor beside a check of partitions that a client has asked its process for:
//!      once either begins, it is given up within [`STOP_LOOK_EVERY`], and nobody waits for it. A check of single
//!      accounts takes so little that neither waits for the other. Processes do not know of each other's checks.
//! RV2  Once a generation was verified, no process begins to verify it before the interval has passed. Whoever begins
//!      holds a lease, and has read after the grant when the last verification ended. The lease only saves work: two at
//!      once, because one was frozen past its lease, both only read, and one of them is noted. Once another one is
//!      noted, whoever made it, this one is given up within [`STOP_LOOK_EVERY`], and its process shows that one
//!      when it looks again.
//! RV3  What is noted is about every document of a generation that was active throughout: only a job switches queries,
//!      and none has begun meanwhile. A process that dies has noted nothing. Its lease expires, and the next process
//!      that looks begins anew.

#[cfg(test)]
mod tests;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use metrics::gauge;
use shared::backends::Backends;
use shared::clock::{Clock, Timestamp};
use shared::coordinate::Epoch;
use shared::error::BackendError;
use shared::id::AccountId;
use shared::index::{BalanceIndex, Generation};
use shared::lease::{Ended, Holder, LeaseName, LeaseStore, act_while_held};
use shared::partition::PartitionMap;
use shared::telemetry::metric::{DOCUMENTS_WRONG, VERIFIED_SECONDS};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::check::Progress;
use super::note::{Note, Verified};
use super::report::{Fault, Verification};
use super::turn::Turn;
use super::verification_patience;
use super::walk::Comparison;
use crate::rebuild::{Job, JobFile, JobId};
use crate::right_of_way::RightOfWay;

/// The lease of the process that verifies.
const LEASE: &str = "balance/verification";

/// How often a process looks whether a verification is due, and shows the last one.
const LOOK_EVERY: Duration = Duration::from_mins(1);

/// How often a running verification looks whether it has to stop.
const STOP_LOOK_EVERY: Duration = Duration::from_millis(500);

/// A process begins later than it may, by less than this part of the interval.
const DELAY_MAX_PART: u32 = 8;

/// How many accounts a line of the log names. The note keeps more of them.
const NAMED_MAX: usize = 3;

/// Everything needed to verify the view from time to time.
#[derive(Clone)]
pub(crate) struct Routine<B> {
    pub(crate) backends: B,
    /// The name of this process: it holds the lease, and decides how much later the process begins.
    pub(crate) holder: Holder,
    pub(crate) partitions: PartitionMap,
    pub(crate) lease_ttl: Duration,
    pub(crate) clock: Clock,
    /// The turn of the checks that clients of this process request.
    pub(crate) checks: Turn,
    pub(crate) right_of_way: RightOfWay,
}

/// When a verification is due.
#[derive(Clone, Copy, Debug)]
struct Interval {
    every: Duration,
    /// How much later this process begins.
    delay: Duration,
    /// When this process began to look.
    began: Instant,
}

impl Interval {
    fn new(every: Duration, holder: &Holder) -> Self {
        Self { every, delay: delay(every, holder), began: Instant::now() }
    }

    /// Whether a verification is due, if the last one ended then. A time that lies in the future by more than the
    /// interval comes from a wrong clock.
    fn is_over(&self, last: Option<Timestamp>, now: Timestamp) -> bool {
        let wait = self.every + self.delay;
        match last {
            Some(ended_at) => ended_at.until(now) >= wait || now.until(ended_at) >= wait,
            None => self.began.elapsed() >= self.delay,
        }
    }
}

/// A delay that differs from process to process, so that the banks of several namespaces, which were started together,
/// do not read the same servers at once.
fn delay(every: Duration, holder: &Holder) -> Duration {
    let mut hasher = DefaultHasher::new();
    holder.hash(&mut hasher);
    let [byte, ..] = hasher.finish().to_be_bytes();
    every / DELAY_MAX_PART * u32::from(byte) / (u32::from(u8::MAX) + 1)
}

/// Why a running verification is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum GivenUp {
    #[error("a client has this process check partitions")]
    Check,
    #[error("a job has begun")]
    Job,
    #[error("another verification was noted")]
    Noted,
}

/// What a process sees when it looks.
#[derive(Debug)]
struct Seen {
    note: Note,
    /// The running or last job.
    job: Option<Job>,
    active: Generation,
}

impl Seen {
    /// The last verification of the active generation.
    fn verified(&self) -> Option<Verified> {
        let job = self.job.as_ref().filter(|job| !self.note.has_taken(job));
        let by_job = job.and_then(Verified::by_job);
        // A generation of the same number may be another one: an index that was lost begins to count anew.
        let found = self.note.each().cloned().chain(by_job);
        found.filter(|verified| verified.generation == self.active).max_by_key(|verified| verified.ended_at)
    }
}

impl<B: Backends> Routine<B> {
    /// Looks whether a verification is due, again and again, until `shutdown`.
    pub(crate) async fn keep_verifying(&self, every: Duration, shutdown: &CancellationToken) {
        let interval = Interval::new(every, &self.holder);
        while !shutdown.is_cancelled() {
            if let Err(failure) = self.look(interval, shutdown).await {
                warn!(%failure, "cannot verify the view, trying again later");
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                () = sleep(LOOK_EVERY.min(every)) => {}
            }
        }
    }

    /// Shows the last verification, and makes the next one if it is due and nobody else does.
    async fn look(&self, interval: Interval, shutdown: &CancellationToken) -> Result<(), BackendError> {
        let Some(seen) = self.see().await? else { return Ok(()) };
        show(seen.verified().as_ref());
        let may_begin = self.may_begin(&seen, interval);
        if let Some(job) = &seen.job {
            seen.note.write_by_job(self.backends.store(), job).await?;
        }
        if !may_begin {
            return Ok(());
        }
        let (name, asked) = (LeaseName(LEASE.into()), Instant::now());
        let (leases, ttl) = (self.backends.leases(), self.lease_ttl);
        let Some(lease) = leases.acquire(&name, &self.holder, ttl, Epoch::NONE).await? else { return Ok(()) };
        let work = self.verify_if_due(interval, shutdown);
        match act_while_held(leases, lease, asked, ttl, work).await {
            Ended::Done(result) => result,
            Ended::Lost => Ok(()),
        }
    }

    /// What is to be seen now; `None` while no generation is active.
    async fn see(&self) -> Result<Option<Seen>, BackendError> {
        let note = Note::load(self.backends.store()).await?;
        let job = JobFile::load(self.backends.store()).await?.job;
        // Read after the job: what another job has switched to meanwhile is noticed, since the job is compared again.
        let active = self.backends.index().generations().await?.active;
        Ok(active.map(|active| Seen { note, job, active }))
    }

    fn may_begin(&self, seen: &Seen, interval: Interval) -> bool {
        let last = seen.verified().map(|verified| verified.ended_at);
        let is_job_running = seen.job.as_ref().is_some_and(|job| job.state.is_running());
        interval.is_over(last, self.clock.now()) && !is_job_running && !self.checks.is_of_partitions()
    }

    async fn verify_if_due(&self, interval: Interval, shutdown: &CancellationToken) -> Result<(), BackendError> {
        // Looked at again: whoever held the lease before may have verified meanwhile.
        let seen = self.see().await?.filter(|seen| self.may_begin(seen, interval));
        let Some(Seen { note, job, active }) = seen else { return Ok(()) };
        let job = job.map(|job| job.id);
        let found = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            reason = self.has_to_stop(job, &note) => {
                tell_given_up(reason);
                return Ok(());
            }
            found = Box::pin(self.compare(active)) => found?,
        };
        if self.has_job_begun_since(job).await? {
            tell_given_up(GivenUp::Job);
            return Ok(());
        }
        let verified = Verified { generation: active, ended_at: self.clock.now(), found };
        tell(&verified);
        show(Some(&verified));
        note.write(self.backends.store(), &verified).await
    }

    /// Waits until something begins beside which no verification runs, or until another one is noted.
    async fn has_to_stop(&self, last: Option<JobId>, note: &Note) -> GivenUp {
        loop {
            sleep(STOP_LOOK_EVERY).await;
            if self.checks.is_of_partitions() {
                return GivenUp::Check;
            }
            // If job or note cannot be read now, they are read again at the next look, and before anything is noted.
            if self.has_job_begun_since(last).await.unwrap_or(false) {
                return GivenUp::Job;
            }
            if note.has_moved(self.backends.store()).await.unwrap_or(false) {
                return GivenUp::Noted;
            }
        }
    }

    /// Whether there is another job than the last one seen, which was over.
    async fn has_job_begun_since(&self, last: Option<JobId>) -> Result<bool, BackendError> {
        let job = JobFile::load(self.backends.store()).await?.job;
        Ok(job.map(|job| job.id) != last)
    }

    /// Compares every document. One partition at a time: nobody waits for this.
    async fn compare(&self, generation: Generation) -> Result<Verification, BackendError> {
        let Self { backends, partitions, right_of_way, .. } = self;
        let (patience, progress) = (verification_patience(self.lease_ttl), Progress::default());
        let mut found = Verification::default();
        for partition in partitions.all() {
            let (slots, progress) = (partitions.slots(partition), &progress);
            let comparison = Comparison { backends, generation, slots, patience, progress, right_of_way };
            found.merge(comparison.run().await?);
        }
        Ok(found)
    }
}

/// Logs why nothing was found out: an operator who is told that the view was not verified for days looks for it.
fn tell_given_up(reason: GivenUp) {
    info!(%reason, "the verification of the view is given up, and begins anew later");
}

/// Logs what was found: one line a verification.
fn tell(verified: &Verified) {
    let Verified { generation, found, .. } = verified;
    if found.is_clean() {
        info!(%generation, checked = found.checked, "the view was verified");
        return;
    }
    let Verification { missing, behind, diverged, orphans, ahead, findings, .. } = found;
    let accounts: Vec<AccountId> = findings.iter().take(NAMED_MAX).map(|finding| finding.account).collect();
    warn!(%generation, missing, behind, diverged, orphans, ahead, ?accounts,
        "documents differ from the store, run bank verify");
}

/// Shows a verification in the metrics; for `None`, that there was none.
fn show(verified: Option<&Verified>) {
    let ended_at = verified.map_or(Timestamp::EPOCH, |verified| verified.ended_at);
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float; microseconds of this era fit its 53 bits")]
    gauge!(VERIFIED_SECONDS.name).set(ended_at.as_micros() as f64 / 1e6);
    for fault in Fault::ALL {
        let wrong = verified.map_or(0, |verified| verified.found.count_of(fault));
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float; there are no 2^53 documents")]
        gauge!(DOCUMENTS_WRONG.name, "fault" => fault.as_str()).set(wrong as f64);
    }
}
