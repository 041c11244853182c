//! Plays statements: opens each account, posts its lines one after the other, reads its balance.

use futures::{StreamExt, TryStreamExt, stream};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use shared::id::AccountId;
use shared::money::{Currency, Money};

use super::client::{Client, ClientError, Outcome, Rejection};
use super::reader::{Direction, Line, Statement};
use super::report::{Difference, RejectedLine, Summary};

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
    if rejection.code == "idempotency_key_reused" {
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
        Ok(summary)
    }

    async fn play_one(&self, statement: Statement) -> Result<Summary, PlayError> {
        let mut summary = Summary::default();
        let id = self.open(&statement, &mut summary).await?;
        let mut expected = 0;
        for line in &statement.lines {
            let key = format!("import:{}:transaction:{}", self.name, line.transaction);
            match self.client.transact(&key, &body_of(line, id)).await? {
                Outcome::Done { is_repeat, .. } => {
                    summary.count_transaction(is_repeat);
                    expected += line.effect();
                }
                Outcome::Rejected(why) => summary.rejected.push(RejectedLine::new(line, why)),
            }
            self.progress.inc(1);
        }
        let found = self.client.account(id).await?.balance;
        summary.sum = i128::from(found);
        if summary.sum != expected {
            summary.differences.push(Difference { account: statement.account, id, expected, found });
        }
        Ok(summary)
    }

    async fn open(&self, statement: &Statement, summary: &mut Summary) -> Result<AccountId, PlayError> {
        let key = format!("import:{}:account:{}", self.name, statement.account);
        let mut body = json!({
            "owner": format!("account {}", statement.account),
            "overdraft_limit": self.overdraft_limit,
        });
        if let Some(currency) = self.currency {
            body["currency"] = json!(currency);
        }
        match self.client.open(&key, &body).await? {
            Outcome::Done { body, is_repeat } => {
                summary.count_account(is_repeat);
                Ok(body)
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
