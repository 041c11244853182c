//! The operator: has wrong documents repaired and accounts unparked, while the bank is at work and once it is
//! healed.

use std::pin::pin;
use std::time::Duration;

use balance_service::parking::{self, ParkingError};
use balance_service::verify::{Check, CheckError, Finding, Progress, Scope, check};
use futures::StreamExt;
use shared::backends::Ports;
use shared::clock::Clock;
use shared::partition::PartitionMap;

use crate::fleet::WorldPorts;
use crate::world::{ProcessPorts, World};

/// How long a difference may be due to events in flight.
const PATIENCE: Duration = Duration::from_secs(1);

/// More parked accounts than a run has.
const PARKED_MAX: usize = 1_000;

/// An operator, with a process of its own.
#[derive(Clone)]
pub(crate) struct Operator {
    backends: WorldPorts,
    clock: Clock,
    partitions: PartitionMap,
}

impl Operator {
    pub(crate) fn new(world: &World, partitions: PartitionMap) -> Self {
        let ProcessPorts { store, log, leases, index, clock, .. } = world.process("operator");
        Self { backends: Ports { store, log, leases, index }, clock, partitions }
    }

    /// Compares the view with the store, and has repaired what differs.
    ///
    /// # Errors
    /// What the repair could not put right, or why nothing can be said.
    pub(crate) async fn repair(&self) -> Result<(), String> {
        loop {
            match self.repair_once().await {
                Ok(left) if left.is_empty() => return Ok(()),
                Ok(left) => return Err(format!("P4 a repair leaves {left:?}")),
                // Rebuilds came in between, so nothing is known of the generation that answers now.
                Err(CheckError::Switched(_)) => {}
                Err(failure) => return Err(failure.to_string()),
            }
        }
    }

    /// Returns what is still wrong afterwards.
    async fn repair_once(&self) -> Result<Vec<Finding>, CheckError> {
        let scope = Scope::Partitions(self.partitions.all().collect());
        let what = Check { scope, patience: PATIENCE, repair: true };
        let mut reports = pin!(check(self.backends.clone(), self.partitions, what, Progress::default()));
        let mut left = Vec::new();
        while let Some(report) = reports.next().await {
            let report = report?;
            left.extend(report.left.unwrap_or(report.found).findings);
        }
        Ok(left)
    }

    /// Tries every parked account again.
    ///
    /// # Errors
    /// One could not be tried.
    pub(crate) async fn retry_parked(&self) -> Result<(), String> {
        let listed = parking::parked(&self.backends, None, PARKED_MAX).await;
        for parked in listed.map_err(|failure| failure.to_string())? {
            match parking::retry(&self.backends, &self.clock, parked.account).await {
                Ok(_) | Err(ParkingError::StillPoison(_) | ParkingError::NotParked) => {}
                Err(failure @ (ParkingError::Query(_) | ParkingError::Apply(_) | ParkingError::Backend(_))) => {
                    return Err(failure.to_string());
                }
            }
        }
        Ok(())
    }
}
