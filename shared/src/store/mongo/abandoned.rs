//! Transactions that their owner will never end.
//!
//! If a process dies between the first insert of a transaction and its commit, the server keeps the transaction, and
//! every place it wrote to, for `transactionLifetimeLimitSeconds`: a minute. Meanwhile every other process that wants
//! one of these places meets a write conflict. So a process that is blocked for long looks for inactive transactions of
//! the bank, and ends them. If the owner of one is only slow, its transaction has no effect, and it starts over as
//! after any lost race.

use std::pin::pin;
use std::time::Duration;

use mongodb::Client;
use mongodb::bson::{Bson, doc};
use mongodb::error::Error;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::failure::CALL_MAX;
use super::operations::operations;

/// How long an append waits, or loses races, before it looks for the reason. A winner needs a few milliseconds.
pub(super) const HINDERED_AFTER: Duration = Duration::from_secs(1);

/// How long a transaction must be inactive to count as abandoned: a living process sends its next command at once.
const IDLE_AFTER: Duration = Duration::from_secs(1);

/// Waits for a step that an abandoned transaction may block, and ends such transactions if it takes long.
pub(super) async fn unhindered<T>(client: &Client, application: &str, step: impl Future<Output = T>) -> T {
    let mut step = pin!(step);
    loop {
        let relieve = async {
            sleep(HINDERED_AFTER).await;
            end_abandoned(client, application).await;
        };
        tokio::select! {
            biased;
            done = &mut step => return done,
            () = relieve => {}
        }
    }
}

/// Ends abandoned transactions. It needs no privilege beyond the user's own sessions; if even that is refused, the
/// server's own limit remains.
pub(super) async fn end_abandoned(client: &Client, application: &str) {
    match timeout(CALL_MAX, Box::pin(end(client, application))).await {
        Ok(Ok(0)) => debug!("appends are blocked, but no transaction is abandoned"),
        Ok(Ok(transactions)) => warn!(transactions, "ended abandoned transactions"),
        Ok(Err(error)) => warn!(%error, "appends are blocked, cannot end abandoned transactions"),
        Err(late) => warn!(%late, "appends are blocked, cannot find out by what"),
    }
}

async fn end(client: &Client, application: &str) -> Result<usize, Error> {
    let idle_micros = i64::try_from(IDLE_AFTER.as_micros()).unwrap_or(i64::MAX);
    let abandoned = doc! {
        "type": "idleSession",
        "appName": application,
        "transaction.timeInactiveMicros": { "$gte": idle_micros },
    };
    let found = operations(client, abandoned, doc! { "session": { "id": "$lsid.id" } }).await?;
    let sessions: Vec<Bson> = found.into_iter().filter_map(|mut operation| operation.remove("session")).collect();
    let count = sessions.len();
    if count > 0 {
        client.database("admin").run_command(doc! { "killSessions": sessions }).await?;
    }
    Ok(count)
}
