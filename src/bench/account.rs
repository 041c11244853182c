//! The accounts of a run, and what they must hold according to the acknowledged commands.

use std::cell::Cell;

use anyhow::{Context, ensure};
use futures::future::try_join_all;
use hyper::StatusCode;
use indicatif::ProgressBar;
use serde::Deserialize;
use shared::id::{AccountId, CommitId};

use super::connection::{Call, Connection};
use super::options::LoadOptions;
use super::progress;

/// The opening balance of each account, in cents: so large that no withdrawal or transfer of a run is ever refused.
pub(super) const OPENING: i64 = 1_000_000_000;

/// One account.
pub(super) struct Account {
    pub(super) id: AccountId,
    /// Unique to this account.
    pub(super) owner: Box<str>,
    balance: Cell<i64>,
    version: Cell<u64>,
    is_used: Cell<bool>,
    is_uncertain: Cell<bool>,
}

impl Account {
    /// Records what an acknowledged command did to it, and the version it had after that.
    pub(super) fn acknowledge(&self, change: i64, version: u64) {
        self.balance.set(self.balance.get() + change);
        self.version.set(self.version.get().max(version));
        self.is_used.set(true);
    }

    /// Records that the outcome of a command to it is unknown.
    pub(super) fn become_uncertain(&self) {
        self.is_uncertain.set(true);
    }

    /// The balance it must hold, and at which version; `None` if that is unknown or the account was not used.
    pub(super) fn expected(&self) -> Option<(i64, u64)> {
        (self.is_used.get() && !self.is_uncertain.get()).then(|| (self.balance.get(), self.version.get()))
    }

    pub(super) fn is_uncertain(&self) -> bool {
        self.is_uncertain.get()
    }
}

/// All accounts of a run.
pub(super) struct Accounts(Vec<Account>);

impl Accounts {
    /// Opens as many accounts as the options say, over as many connections. A URL of another service is refused before,
    /// since many runs ask the projection only at their end.
    pub(super) async fn open(options: &LoadOptions) -> anyhow::Result<Self> {
        options.target.refuse_others().await?;
        let ids = shared::id::Ids::new(shared::clock::Clock::system());
        let run = ids.commit();
        let bar = progress::counted("opening accounts", u64::from(options.accounts));
        let next = Cell::new(0);
        let openers = (0..options.connections.min(u16::try_from(options.accounts).unwrap_or(u16::MAX)))
            .map(|_| open_in_turn(options, run, &next, &bar));
        let opened = try_join_all(openers).await;
        bar.finish_and_clear();
        Ok(Self(opened?.into_iter().flatten().collect()))
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    pub(super) fn get(&self, index: usize) -> &Account {
        &self.0[index]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Account> {
        self.0.iter()
    }
}

async fn open_in_turn(
    options: &LoadOptions,
    run: CommitId,
    next: &Cell<u32>,
    bar: &ProgressBar,
) -> anyhow::Result<Vec<Account>> {
    let mut connection = Connection::new(&options.target.url);
    let mut opened = Vec::new();
    while next.get() < options.accounts {
        let number = next.replace(next.get() + 1);
        let owner = format!("bench {run} {number}");
        let body = format!(r#"{{"owner":"{owner}","money":{OPENING}}}"#);
        let answer = connection.send(&Call::post("/accounts", body)).await.context("cannot open an account")?;
        let text = String::from_utf8_lossy(&answer.body);
        ensure!(answer.status == StatusCode::CREATED, "no account was opened: {} {text}", answer.status);
        let id = serde_json::from_str(&text).context("the answer to opening an account is not an id")?;
        opened.push(Account {
            id,
            owner: owner.into(),
            balance: Cell::new(OPENING),
            version: Cell::new(1),
            is_used: Cell::new(false),
            is_uncertain: Cell::new(false),
        });
        bar.inc(1);
    }
    Ok(opened)
}

/// The part of an answer about one account that is read.
#[derive(Deserialize)]
pub(super) struct Side {
    pub(super) version: u64,
    pub(super) balance: i64,
}
