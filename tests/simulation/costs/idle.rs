//! What an idle bank costs.

use std::time::Duration;

use super::bank::Bank;
use super::bill::{Bill, bound};
use crate::fleet::Role;

/// The default number of partitions.
const PARTITIONS: u16 = 8;

#[tokio::test(start_paused = true)]
async fn a_minute_in_which_nothing_happens_asks_two_dozen_times_a_second() {
    let bank = Bank::new(PARTITIONS);
    bank.fill().await;
    let running = [Role::Teller, Role::Forwarder, Role::Projector].map(|role| bank.start(role));
    bank.rest().await;
    let bill = Bill::of(&bank.world, tokio::time::sleep(Duration::from_mins(1))).await;
    bill.assert(&[
        bound("lease.renew", 396, "the leader, the conductor, the member and 8 partitions renew three times in 5 s"),
        bound("lease.list", 72, "members and owners are listed three times in 5 s"),
        bound("index.generations", 240, "the roster and the conductor look for changes every 500 ms"),
        bound("store.read_register", 248, "the roster and the conductor read the job, and 8 floors are read once"),
        bound("store.write_register", 8, "each worker notes its floor, which then stays"),
        bound(
            "store.list_registers",
            132,
            "the forwarder reads the floors every 10 s, to trim, and the conductor to sweep; the roster looks for repairs",
        ),
        bound("store.next_batch", 12, "the simulated feed says every 5 s that it is alive"),
        bound("log.next_batch", 96, "each of 8 simulated readers says every 5 s that it is alive"),
        bound(
            "log.extent",
            240,
            "8 ends are looked at every 5 s for losses, every 5 s for the lag, every 10 s to trim",
        ),
        bound("index.checkpoint", 112, "8 workers look every 5 s whether it still stands, and when they compare heads"),
        bound("index.parked", 2, "the parked accounts, of which there are none, are counted every 30 s"),
        bound("store.heads", 16, "8 workers compare heads every 30 s, the first time after 30 to 60 s"),
        bound("index.versions", 16, "8 workers compare heads every 30 s, the first time after 30 to 60 s"),
    ]);
    for fleet in running {
        fleet.stop(0).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn the_partitions_of_a_process_compare_their_heads_at_different_moments() {
    let bank = Bank::new(PARTITIONS);
    bank.fill().await;
    let _running = [Role::Forwarder, Role::Projector].map(|role| bank.start(role));
    bank.rest().await;
    let compared = || bank.world.with(|state| state.trace.counts().get("store.heads").copied().unwrap_or_default());
    let mut counts = vec![compared()];
    for _ in 0..120 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        counts.push(compared());
    }
    assert!(counts[120] - counts[0] > 3 * u64::from(PARTITIONS) / 2, "compared too seldom: {counts:?}");
    assert!(counts.is_sorted_by(|before, after| after - before <= 1), "two at the same moment: {counts:?}");
}
