//! Who goes first when there is more to do than can be done: workers that follow the log, before whoever reads the
//! whole store.
//!
//! A replay and a proof take what they can get, and eight partitions of a replay have eight large writes under way. On
//! machines that have just enough to do, that would make the view of an open bank later and later. So a worker of the
//! active generation that is late claims the right of way for a while, and before each page whoever reads the store
//! gives way to it:
//!
//! U1  Nobody gives way while no worker of this process is late.
//! U2  While one is, pages go one at a time, and each waits a little before. It waits no longer than
//!     [`GIVE_WAY_MAX`], so a rebuild comes to its end also in a bank that is always late.
//! U3  A claim ends by itself, so a worker that died holds nobody up.
//!
//! Workers of other processes are not asked: each has its fair share of the partitions, and is as late as the others.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as Queue, OwnedMutexGuard};
use tokio::time::{Instant, sleep_until};

/// A worker whose oldest event waited longer than this is late. Twice a long beat, and more.
const LATE_AFTER: Duration = Duration::from_secs(1);

/// How long a claim lasts: longer than the pauses between the batches of a worker.
const CLAIM: Duration = Duration::from_secs(1);

/// How long a page waits for those who are late.
const GIVE_WAY_MAX: Duration = Duration::from_millis(250);

/// What the workers and the readers of one process know of each other. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct RightOfWay {
    claimed_until: Arc<Mutex<Option<Instant>>>,
    queue: Arc<Queue<()>>,
}

/// Leave to read a page and to write what came of it; of those who give way only one has it.
pub(crate) struct PagePermit {
    _alone: Option<OwnedMutexGuard<()>>,
}

impl RightOfWay {
    /// A worker has shown events of which the oldest waited so long.
    pub(crate) fn shown_after(&self, waited: Duration) {
        if waited > LATE_AFTER {
            *self.claimed_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + CLAIM);
        }
    }

    /// Gives way if that is asked for. The page ends when the answer is dropped.
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

    fn claimed_until(&self) -> Option<Instant> {
        let claimed_until = *self.claimed_until.lock().unwrap_or_else(PoisonError::into_inner);
        claimed_until.filter(|until| *until > Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::sleep;

    const PAGE: Duration = Duration::from_millis(100);

    /// How long so many pages take, each of another reader.
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
        let late = async {
            loop {
                way.shown_after(LATE_AFTER * 2);
                sleep(CLAIM / 2).await;
            }
        };
        tokio::select! {
            biased;
            () = late => {}
            took = pages(&way, 8) => assert_eq!(took, (GIVE_WAY_MAX + PAGE) * 8),
        }
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
