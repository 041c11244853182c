//! Priority under overload: workers that follow the log go before replay and verification, which read the whole store.
//!
//! Replay and verification use all the capacity they can get, and a replay of eight partitions has eight large writes
//! in flight. On a machine near its capacity, the view of a running bank would fall further and further behind. So a
//! late worker of the active generation claims the right of way for a while, and replay and verification give way to it
//! before each page:
//!
//! U1  No page gives way while no worker of this process is late.
//! U2  While one is late, pages go one at a time, each after a short wait. The wait is at most [`GIVE_WAY_MAX`], so a
//!     rebuild finishes even in a bank that is always late.
//! U3  A claim expires by itself, so a worker that died holds up no page.
//! U4  Of the partitions of a process that follow the log one at a time compares its heads to reconcile, whether a
//!     worker is late or not. A comparison walks through the streams of its partition, and all of them at once would
//!     take every core of the store. Other comparisons take no turns: a worker that synchronises stands still until it
//!     has compared, and those of verification give way page by page (law U2).
//!
//! Other processes are not considered: each has its fair share of the partitions, and is as late as the others.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as Queue, OwnedMutexGuard};
use tokio::time::{Instant, sleep_until};

/// A worker whose oldest event waited longer than this is late. More than twice a long beat.
const LATE_AFTER: Duration = Duration::from_secs(1);

/// How long a claim lasts: longer than the pauses between the batches of a worker.
const CLAIM: Duration = Duration::from_secs(1);

/// The longest a page waits for late workers.
pub(crate) const GIVE_WAY_MAX: Duration = Duration::from_millis(250);

/// The claim of one process's late workers, the queue of the pages that give way, and that of the comparisons of heads.
/// Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct RightOfWay {
    claimed_until: Arc<Mutex<Option<Instant>>>,
    queue: Arc<Queue<()>>,
    comparisons: Arc<Queue<()>>,
}

/// Permission to read a page and to write its result; exclusive while a worker is late.
pub(crate) struct PagePermit {
    _alone: Option<OwnedMutexGuard<()>>,
}

impl RightOfWay {
    /// Notes that a worker has made events visible, the oldest of which had waited this long.
    pub(crate) fn shown_after(&self, waited: Duration) {
        if waited > LATE_AFTER {
            *self.claimed_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + CLAIM);
        }
    }

    /// Gives way if a worker is late. The page ends when the permit is dropped.
    pub(crate) async fn page(&self) -> PagePermit {
        let place = Arc::clone(&self.queue).lock_owned().await;
        let at_most_until = Instant::now() + GIVE_WAY_MAX;
        while let Some(claimed_until) = self.claimed_until()
            && Instant::now() < at_most_until
        {
            sleep_until(at_most_until.min(claimed_until)).await;
        }
        PagePermit { _alone: self.claimed_until().map(|_| place) }
    }

    /// Waits for the turn to compare heads for a reconciliation (law U4). The turn ends when it is dropped.
    pub(crate) async fn comparison(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.comparisons).lock_owned().await
    }

    fn claimed_until(&self) -> Option<Instant> {
        let claimed_until = *self.claimed_until.lock().unwrap_or_else(PoisonError::into_inner);
        claimed_until.filter(|until| *until > Instant::now())
    }

    /// Claims the right of way for as long as it is polled, as a worker does that is always late.
    #[cfg(test)]
    pub(crate) async fn keep_claimed(&self) {
        loop {
            self.shown_after(LATE_AFTER * 2);
            tokio::time::sleep(CLAIM / 2).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::sleep;

    const PAGE: Duration = Duration::from_millis(100);

    /// How long this many pages take, each requested by another task.
    async fn pages(way: &RightOfWay, count: usize) -> Duration {
        let began = Instant::now();
        let page = async || {
            let _permit = way.page().await;
            sleep(PAGE).await;
        };
        futures::future::join_all((0..count).map(|_| page())).await;
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_gives_way_while_nobody_is_late() {
        let way = RightOfWay::default();
        way.shown_after(LATE_AFTER);
        assert_eq!(pages(&way, 8).await, PAGE);
    }

    #[tokio::test(start_paused = true)]
    async fn while_a_worker_is_late_pages_go_one_at_a_time_after_a_pause() {
        let way = RightOfWay::default();
        tokio::select! {
            biased;
            () = way.keep_claimed() => {}
            took = pages(&way, 8) => assert_eq!(took, (GIVE_WAY_MAX + PAGE) * 8),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn heads_are_compared_one_partition_at_a_time_and_who_no_longer_waits_holds_nobody_up() {
        let way = RightOfWay::default();
        let began = Instant::now();
        let comparison = async || {
            let _turn = way.comparison().await;
            sleep(PAGE).await;
        };
        let given_up = async || assert!(tokio::time::timeout(PAGE / 2, way.comparison()).await.is_err());
        let first = futures::future::join_all((0..2).map(|_| comparison()));
        let then = futures::future::join_all((0..2).map(|_| comparison()));
        tokio::join!(first, given_up(), then);
        assert_eq!(began.elapsed(), PAGE * 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_ends_by_itself() {
        let way = RightOfWay::default();
        way.shown_after(LATE_AFTER * 2);
        let rest = GIVE_WAY_MAX / 2;
        sleep(CLAIM.saturating_sub(rest)).await;
        assert_eq!(pages(&way, 8).await, rest + PAGE);
        assert_eq!(pages(&way, 8).await, PAGE);
    }

    #[tokio::test(start_paused = true)]
    async fn who_no_longer_waits_for_a_page_holds_nobody_up() {
        let way = RightOfWay::default();
        way.shown_after(LATE_AFTER * 2);
        assert!(tokio::time::timeout(GIVE_WAY_MAX / 2, way.page()).await.is_err());
        assert_eq!(pages(&way, 1).await, GIVE_WAY_MAX + PAGE);
    }
}
