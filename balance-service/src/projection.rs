use std::convert::Infallible;

use shared::backends::Backends;
use shared::clock::Clock;
use shared::id::Ids;
use shared::supervise::{OnFailure, Supervisor, TaskFailure};
use tokio_util::sync::CancellationToken;

use crate::BalanceConfig;
use crate::nudge::Nudge;
use crate::ownership::{Ownership, own_share};
use crate::parking::keep_counting;
use crate::rebuild::{Conductor, conduct};
use crate::right_of_way::RightOfWay;
use crate::roster::{Roster, keep_roster};
use crate::verify::Routine;
use crate::visibility::Visibility;

/// Projects this process's share of the partitions, conducts rebuilds while it holds that lease, takes its turn to
/// verify the view, and counts the parked accounts, until `shutdown`.
///
/// `nudge` wakes it when a request has changed the job, and shows it whether a client's check runs; `visibility`
/// notifies waiting queries of written documents.
///
/// # Errors
/// Only if one of its tasks cannot run; failures of backends are waited out.
pub async fn project<B: Backends>(
    config: BalanceConfig,
    backends: B,
    clock: Clock,
    ids: Ids,
    nudge: Nudge,
    visibility: Visibility,
    shutdown: CancellationToken,
) -> Result<(), TaskFailure> {
    let mut supervisor = Supervisor::new(shutdown.clone());
    let (roster, right_of_way) = (Roster::default(), RightOfWay::default());
    supervisor.spawn_with(
        "roster",
        OnFailure::Restart,
        (backends.clone(), clock.clone(), nudge.clone(), roster.clone(), shutdown.clone()),
        |(backends, clock, nudge, roster, shutdown)| keep_roster(backends, clock, nudge, roster, shutdown),
    );
    let counting = (backends.clone(), roster.clone(), shutdown.clone());
    supervisor.spawn_with("parking", OnFailure::Restart, counting, |(backends, roster, shutdown)| async move {
        shutdown.run_until_cancelled(keep_counting(&backends, &roster)).await;
        Ok::<(), Infallible>(())
    });
    let ownership = Ownership {
        backends: backends.clone(),
        config: config.clone(),
        clock: clock.clone(),
        roster,
        visibility,
        right_of_way: right_of_way.clone(),
    };
    supervisor.spawn_with("ownership", OnFailure::Restart, (ownership, shutdown.clone()), |(ownership, shutdown)| {
        own_share(ownership, shutdown)
    });
    if let Some(every) = config.verify_every {
        let routine = Routine {
            backends: backends.clone(),
            holder: config.holder.clone(),
            partitions: config.partitions,
            lease_ttl: config.lease_ttl,
            clock: clock.clone(),
            checks: nudge.checks.clone(),
            right_of_way: right_of_way.clone(),
        };
        let context = (routine, shutdown.clone());
        supervisor.spawn_with("verification", OnFailure::Restart, context, move |(routine, shutdown)| async move {
            routine.keep_verifying(every, &shutdown).await;
            Ok::<(), Infallible>(())
        });
    }
    let conductor = Conductor { backends, config, clock, ids, nudge, right_of_way };
    supervisor.spawn_with("conductor", OnFailure::Restart, (conductor, shutdown), |(conductor, shutdown)| {
        conduct(conductor, shutdown)
    });
    supervisor.wait().await
}
