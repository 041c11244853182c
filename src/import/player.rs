//! Plays statements: opens each account, posts its lines one after the other, reads its balance.

use futures::{StreamExt, TryStreamExt, stream};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use shared::id::AccountId;
use shared::money::{Currency, Money};

use super::client::{Account, Client, ClientError, Outcome, Rejection};
use super::reader::{Direction, Line, Statement};
use super::report::{RejectedLine, Summary};
use super::tally::Tally;

/// Why an import stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlayError {
    /// The bank gave no answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// An account cannot be opened, so its lines cannot be played.
    #[error("account {account} of the file cannot be opened: {} ({}){}", rejection.detail, rejection.code, hint(rejection))]
    NotOpened {
        /// The account's id in the file.
        account: Box<str>,
        /// Why.
        rejection: Rejection,
    },
}

fn hint(rejection: &Rejection) -> &'static str {
    if rejection.is_of_used_key() {
        "; an earlier import of this name had another overdraft limit or currency: use the same, or another --name"
    } else {
        ""
    }
}

/// Plays the statements of one import.
pub(crate) struct Player {
    client: Client,
    name: String,
    overdraft_limit: Money,
    currency: Option<Currency>,
    progress: ProgressBar,
}

impl Player {
    /// A player of the import of this name; the accounts are opened with this limit and currency.
    pub(crate) fn new(
        client: Client,
        name: String,
        overdraft_limit: Money,
        currency: Option<Currency>,
        progress: ProgressBar,
    ) -> Self {
        Self { client, name, overdraft_limit, currency, progress }
    }

    /// Plays the statements, `parallel` of them at a time. The first failure ends it: requests in flight stay undecided
    /// until the next run decides them.
    pub(crate) async fn play(&self, statements: Vec<Statement>, parallel: usize) -> Result<Summary, PlayError> {
        let mut summary = stream::iter(statements)
            .map(|statement| self.play_one(statement))
            .buffer_unordered(parallel)
            .try_fold(Summary::default(), |sum, one| async { Ok(sum.plus(one)) })
            .await?;
        summary.rejected.sort_by_key(|rejected| rejected.line);
        summary.differences.sort_by(|a, b| a.account.cmp(&b.account));
        summary.uncompared.sort_by(|a, b| a.account.cmp(&b.account));
        Ok(summary)
    }

    async fn play_one(&self, statement: Statement) -> Result<Summary, PlayError> {
        let mut summary = Summary::default();
        let (id, before) = self.open(&statement, &mut summary).await?;
        let mut tally = Tally::since(before);
        for line in &statement.lines {
            let key = format!("import:{}:transaction:{}", self.name, line.transaction);
            match self.client.transact(&key, &body_of(line, id)).await? {
                Outcome::Done { is_repeat, .. } => {
                    summary.count_transaction(is_repeat);
                    tally.count(line.effect(), is_repeat);
                }
                Outcome::Rejected(why) => summary.rejected.push(RejectedLine::new(line, why)),
            }
            self.progress.inc(1);
        }
        let after = self.client.account(id).await?;
        summary.compare(statement.account, id, tally.expected(&after), after.balance);
        Ok(summary)
    }

    /// Opens the account of a statement, and returns what it is like before the first line is sent.
    async fn open(&self, statement: &Statement, summary: &mut Summary) -> Result<(AccountId, Account), PlayError> {
        let key = format!("import:{}:account:{}", self.name, statement.account);
        let mut body = json!({
            "owner": format!("account {}", statement.account),
            "overdraft_limit": self.overdraft_limit,
        });
        if let Some(currency) = self.currency {
            body["currency"] = json!(currency);
        }
        match self.client.open(&key, &body).await? {
            Outcome::Done { body: id, is_repeat } => {
                summary.count_account(is_repeat);
                let before = if is_repeat { self.client.account(id).await? } else { Account::NEW };
                Ok((id, before))
            }
            Outcome::Rejected(rejection) => Err(PlayError::NotOpened { account: statement.account.clone(), rejection }),
        }
    }
}

fn body_of(line: &Line, id: AccountId) -> Value {
    match line.direction {
        Direction::Credit => json!({ "to": id, "money": line.amount }),
        Direction::Debit => json!({ "from": id, "money": line.amount }),
    }
}
