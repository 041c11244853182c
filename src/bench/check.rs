//! Whether the projection shows what was acknowledged (law BE4).

use std::cell::{Cell, RefCell};
use std::time::Duration;

use anyhow::Context;
use futures::future::try_join_all;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde::Serialize;
use tokio::time::Instant;

use super::account::{Account, Accounts};
use super::connection::Connection;
use super::options::LoadOptions;
use super::progress;
use super::shown::shown;

/// How many accounts are compared at most: enough that a fault of one in a thousand is not missed.
const CHECKED_MAX: usize = 10_000;

/// How many wrong accounts are listed.
const LISTED_MAX: usize = 5;

/// How long the projection may take to reach the versions: a load may leave a backlog of minutes.
const PATIENCE: Duration = Duration::from_mins(10);

/// What was found.
#[derive(Debug, Serialize)]
pub(super) struct Check {
    /// How many accounts were compared.
    pub(super) checked: usize,
    /// How many were used and have a known state.
    pub(super) used: usize,
    /// How many have an unknown state, since a command to them had no answer.
    pub(super) uncertain: usize,
    /// The first accounts that are wrong.
    pub(super) wrong: Vec<String>,
    /// How many accounts are wrong.
    pub(super) wrong_count: usize,
}

/// Compares the accounts that were used, or a random choice of [`CHECKED_MAX`] of them.
pub(super) async fn balances(accounts: &Accounts, options: &LoadOptions) -> anyhow::Result<Check> {
    let mut used: Vec<(&Account, (i64, u64))> =
        accounts.iter().filter_map(|account| Some((account, account.expected()?))).collect();
    let used_count = used.len();
    used.shuffle(&mut StdRng::seed_from_u64(options.seed));
    used.truncate(CHECKED_MAX);
    let bar = progress::counted("checking balances", used.len() as u64);
    let (next, wrong) = (Cell::new(0), RefCell::new(Vec::new()));
    let give_up = Instant::now() + PATIENCE;
    let checkers = (0..options.connections).map(|_| async {
        let mut connection = Connection::new(&options.target.balance_url);
        while let Some((account, expected)) = used.get(next.replace(next.get() + 1)) {
            if let Some(finding) = compare(&mut connection, account, *expected, give_up).await? {
                wrong.borrow_mut().push(finding);
            }
            bar.inc(1);
        }
        anyhow::Ok(())
    });
    let done = try_join_all(checkers).await;
    bar.finish_and_clear();
    done.context("cannot check the balances")?;
    let mut wrong = wrong.into_inner();
    let wrong_count = wrong.len();
    wrong.truncate(LISTED_MAX);
    let uncertain = accounts.iter().filter(|account| account.is_uncertain()).count();
    Ok(Check { checked: used.len(), used: used_count, uncertain, wrong, wrong_count })
}

async fn compare(
    connection: &mut Connection,
    account: &Account,
    (balance, version): (i64, u64),
    give_up: Instant,
) -> anyhow::Result<Option<String>> {
    let id = account.id;
    let shown = match shown(connection, id, version, give_up).await? {
        Ok(shown) => shown,
        Err(answer) => {
            let text = String::from_utf8_lossy(&answer.body);
            return Ok(Some(format!("{id} is not visible at version {version}: {} {text}", answer.status)));
        }
    };
    let is_right = (shown.version, shown.balance) == (version, balance);
    Ok((!is_right).then(|| {
        format!("{id} has balance {} at version {}, expected {balance} at {version}", shown.balance, shown.version)
    }))
}
