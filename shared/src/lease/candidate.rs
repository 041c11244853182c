use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Ended, Holder, LeaseName, LeaseStore, act_while_held};
use crate::coordinate::Epoch;
use crate::error::BackendError;

/// A process that competes with others for a lease, and takes it as soon as it is free.
#[derive(Debug)]
pub struct Candidate<'a, L> {
    /// Where the lease is granted.
    pub leases: &'a L,
    /// Its name.
    pub name: LeaseName,
    /// Who asks for it.
    pub holder: &'a Holder,
    /// How long it lives without renewal.
    pub ttl: Duration,
    /// How often it is asked for while somebody else holds it.
    pub ask_every: Duration,
}

impl<L: LeaseStore> Candidate<'_, L> {
    /// Does the work under the lease, and again whenever the lease was lost or the work ended, until `shutdown`. The
    /// work itself has to end at `shutdown`; it is given the epoch of its lease.
    ///
    /// # Errors
    /// When the work failed, after its lease was released, or when the lease could not be requested.
    pub async fn act<F, E>(&self, shutdown: &CancellationToken, mut work: impl FnMut(Epoch) -> F) -> Result<(), E>
    where
        F: Future<Output = Result<(), E>>,
        E: From<BackendError>,
    {
        while !shutdown.is_cancelled() {
            let asked = Instant::now();
            if let Some(lease) = self.leases.acquire(&self.name, self.holder, self.ttl, Epoch::NONE).await? {
                let work = work(lease.epoch());
                if let Ended::Done(result) = act_while_held(self.leases, lease, asked, self.ttl, work).await {
                    result?;
                }
            } else {
                tokio::select! {
                    biased;
                    () = shutdown.cancelled() => {}
                    () = tokio::time::sleep(self.ask_every) => {}
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::lease::EmbeddedLeases;
    use crate::sqlite::DataFolder;

    /// How often each of two takes its turn before the test ends.
    const TURNS: u32 = 5;

    fn candidate<'a>(leases: &'a EmbeddedLeases, holder: &'a Holder) -> Candidate<'a, EmbeddedLeases> {
        let (ttl, ask_every) = (Duration::from_mins(1), Duration::from_millis(1));
        Candidate { leases, name: LeaseName("some/lease".into()), holder, ttl, ask_every }
    }

    #[tokio::test]
    async fn two_who_compete_take_turns_and_never_act_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let leases = EmbeddedLeases::open(&DataFolder::open(folder.path()).unwrap()).unwrap();
        let (at_work, last, turns) = (Cell::new(0), Cell::new(Epoch::NONE), [Cell::new(0), Cell::new(0)]);
        let shutdown = CancellationToken::new();
        let holders = ["one", "two"].map(|name| Holder(name.into()));
        let act = async |number: usize| {
            let candidate = candidate(&leases, &holders[number]);
            let work = |epoch| {
                assert!(epoch > last.replace(epoch), "epochs grow");
                let (at_work, turns, shutdown) = (&at_work, &turns, &shutdown);
                async move {
                    assert_eq!(at_work.replace(1), 0, "both act at once");
                    tokio::task::yield_now().await;
                    at_work.set(0);
                    turns[number].set(turns[number].get() + 1);
                    if turns.iter().all(|turns| turns.get() >= TURNS) {
                        shutdown.cancel();
                    }
                    Ok::<(), BackendError>(())
                }
            };
            candidate.act(&shutdown, work).await
        };
        let (one, two) = tokio::join!(act(0), act(1));
        one.and(two).unwrap();
    }

    #[tokio::test]
    async fn the_failure_of_the_work_ends_it_and_leaves_the_lease_free() {
        let folder = tempfile::tempdir().unwrap();
        let leases = EmbeddedLeases::open(&DataFolder::open(folder.path()).unwrap()).unwrap();
        let holder = Holder("one".into());
        let fail = |_| async { Err(BackendError::not_done("work", "out of order")) };
        let failed = candidate(&leases, &holder).act(&CancellationToken::new(), fail).await;
        assert_eq!(failed.unwrap_err().operation, "work");
        let name = LeaseName("some/lease".into());
        assert!(leases.acquire(&name, &holder, Duration::from_mins(1), Epoch::NONE).await.unwrap().is_some());
    }
}
