//! The faults of a run: while the bank is at work, processes crash, freeze and are replaced, and backends lose things.

use std::time::Duration;

use bytes::Bytes;
use shared::clock::Timestamp;
use shared::event::EncodedEvents;
use shared::id::{AccountId, CommitId, EventId};
use shared::partition::Partition;
use shared::store::{Commit, StreamWrite};
use tokio::time::sleep;

use crate::fleet::Fleet;
use crate::journal::Journal;
use crate::operator::Operator;
use crate::options::Options;
use crate::world::World;
use crate::world::fault::Fault;
use crate::world::random::Random;
use crate::world::trace::CHAOS;

/// The interval between two occasions for a fault.
const TICK: Duration = Duration::from_millis(200);

/// Graceful restarts, per mille of ticks.
const RESTARTS: u64 = 20;

/// Requests about rebuilds, per mille of ticks.
const REBUILDS: u64 = 150;

/// Repairs, and attempts with parked accounts, per mille of ticks.
const OPERATIONS: u64 = 40;

/// Injects the faults of one run.
pub(crate) struct Chaos {
    pub(crate) random: Random,
    pub(crate) world: World,
    pub(crate) fleet: Fleet,
    pub(crate) operator: Option<Operator>,
    pub(crate) journal: Journal,
    pub(crate) options: Options,
}

impl Chaos {
    /// Injects faults until it is dropped.
    pub(crate) async fn run(mut self) {
        loop {
            sleep(TICK).await;
            for (fault, _) in Fault::ALL {
                let rate = self.options.faults.rate(fault) / if fault.is_grave() { 5 } else { 1 };
                if self.random.chance(rate) {
                    self.strike(fault);
                }
            }
            if self.options.rebuilds && self.random.chance(REBUILDS) {
                self.ask_for_a_rebuild();
            }
            if self.operator.is_some() && self.random.chance(OPERATIONS) {
                self.ask_the_operator();
            }
            if self.random.chance(RESTARTS) {
                let place = self.random.index(self.fleet.len());
                if let Err(wrong) = self.fleet.stop(place).await {
                    self.world.with(|state| state.audit.violate("liveness", || wrong));
                }
                self.fleet.start_at(place);
            }
            let place = self.random.index(self.fleet.len());
            self.fleet.start_at(place);
        }
    }

    fn strike(&mut self, fault: Fault) {
        let partition = self.partition();
        match fault {
            Fault::Crash => self.fleet.crash(self.random.index(self.fleet.len())),
            Fault::Freeze => {
                let ttl = u64::try_from(self.options.lease_ttl.as_millis()).unwrap_or(u64::MAX);
                let pause = Duration::from_millis(self.random.between(ttl, 3 * ttl));
                if let Some(process) = self.fleet.number(self.random.index(self.fleet.len())) {
                    self.world.freeze(process, pause, self.random.chance(300));
                }
            }
            Fault::LeasesFlushed => self.world.flush_leases(),
            Fault::LeaseExpired => self.world.expire_lease(),
            Fault::TailLost => {
                let records = self.random.between(1, 4);
                self.world.lose_tail(partition, records, !self.options.compare_heads);
            }
            Fault::LogEmptied => self.world.empty_log(partition),
            Fault::LogTrimmed => self.world.trim_log(partition),
            Fault::LogFull => {
                let full = self.random.chance(300);
                self.world.fill_log(partition, full);
            }
            Fault::FeedLost => self.world.forget_feed(),
            Fault::SnapshotsLost => self.world.lose_snapshots(),
            Fault::Poison => self.poison(),
            Fault::DocumentsDeleted => self.world.delete_document(),
            Fault::GenerationDeleted => self.world.delete_generation(),
            Fault::DocumentChanged => self.world.change_document(),
            Fault::FillingChanged => self.world.change_filling(),
            Fault::ErrorBefore
            | Fault::ErrorAfter
            | Fault::Late
            | Fault::Twice
            | Fault::Cut
            | Fault::Short
            | Fault::Skew
            | Fault::DocumentRefused
            | Fault::FeedRepeats => {}
        }
    }

    /// Requests a rebuild, a cancellation or a rollback.
    fn ask_for_a_rebuild(&mut self) {
        let Some(rebuilds) = self.fleet.rebuilds(&mut self.random) else { return };
        let wish = self.random.below(10);
        let world = self.world.clone();
        #[expect(clippy::disallowed_methods, reason = "whoever asks is no task of a service")]
        tokio::spawn(async move {
            let (label, answered) = match wish {
                0..=5 => ("asked: rebuild", rebuilds.start().await.is_ok()),
                6..=7 => ("asked: cancel", rebuilds.cancel().await.is_ok()),
                _ => ("asked: rollback", rebuilds.rollback().await.is_ok()),
            };
            world.with(|state| state.note(CHAOS, label, u64::from(answered), 0));
        });
    }

    /// Has the view repaired, or accounts unparked.
    fn ask_the_operator(&mut self) {
        let Some(operator) = self.operator.clone() else { return };
        let (repairs, world) = (self.random.chance(500), self.world.clone());
        #[expect(clippy::disallowed_methods, reason = "the operator is no task of a service")]
        tokio::spawn(async move {
            let (label, answered) = if repairs {
                ("asked: repair", operator.repair().await.is_ok())
            } else {
                ("asked: retry", operator.retry_parked().await.is_ok())
            };
            world.with(|state| state.note(CHAOS, label, u64::from(answered), 0));
        });
    }

    fn partition(&mut self) -> Partition {
        let count = u64::from(self.options.partitions.partitions());
        Partition::new(u16::try_from(self.random.between(1, count)).expect("a partition's number is small"))
    }

    /// A newer release writes an event that this one cannot read.
    fn poison(&mut self) {
        let accounts = self.journal.accounts();
        if accounts.is_empty() {
            return;
        }
        let stream: AccountId = self.random.pick(&accounts);
        let number = u128::from(self.random.next());
        let json = format!(
            "[{{\"id\":\"{}\",\"type\":\"AccountFrozen\",\"schema\":1,\"time\":\"{}\",\"data\":{{}}}}]",
            EventId::from_number(number),
            Timestamp::EPOCH,
        );
        let commit = Commit {
            id: CommitId::from_bytes(number.to_be_bytes()),
            time: Timestamp::EPOCH,
            key: None,
            receipt: Bytes::new(),
            writes: vec![StreamWrite {
                stream,
                expected: self.world.with(|state| state.store.version(stream)),
                events: EncodedEvents { count: 1, json: Bytes::from(json) },
            }],
        };
        self.world.intrude(&commit).expect("the version was asked for a moment ago");
    }
}
