//! What customers ask for: an endless, repeatable sequence of orders.

use hyper::StatusCode;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Zipf};
use serde::Deserialize;

use super::account::{Accounts, Side};
use super::connection::{Answer, Call};
use super::options::LoadOptions;

/// The largest amount of one order, in cents.
const MONEY_MAX: i64 = 100;

/// How many of a hundred reads are lists; the others read one balance.
const LISTS_PERCENT: u32 = 10;

/// The orders of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mix {
    /// Deposits only.
    Deposits,
    /// Deposits and withdrawals.
    OneAccount,
    /// Transfers only.
    Transfers,
    /// Deposits, withdrawals and transfers, a third each.
    All,
    /// Reads of the projection.
    Reads,
}

/// A call, and what it does if it is acknowledged.
pub(super) struct Order {
    pub(super) call: Call,
    effect: Effect,
}

enum Effect {
    None,
    One { account: usize, change: i64 },
    Transfer { from: usize, to: usize, money: i64 },
}

/// The outcome of an order.
pub(super) enum Outcome {
    /// It was done as asked.
    Done,
    /// It was answered with something else.
    Other(StatusCode),
}

#[derive(Deserialize)]
struct BothSides {
    from: Side,
    to: Side,
}

impl Order {
    /// Records what the answer says.
    pub(super) fn settle(&self, answer: &Answer, accounts: &Accounts) -> Outcome {
        let is_settled = answer.status.is_success()
            && match self.effect {
                Effect::None => true,
                Effect::One { account, change } => serde_json::from_slice(&answer.body)
                    .map(|side: Side| accounts.get(account).acknowledge(change, side.version))
                    .is_ok(),
                Effect::Transfer { from, to, money } => serde_json::from_slice(&answer.body)
                    .map(|sides: BothSides| {
                        accounts.get(from).acknowledge(-money, sides.from.version);
                        accounts.get(to).acknowledge(money, sides.to.version);
                    })
                    .is_ok(),
            };
        if is_settled {
            return Outcome::Done;
        }
        if answer.status.is_server_error() || answer.status.is_success() {
            self.become_uncertain(accounts);
        }
        Outcome::Other(answer.status)
    }

    /// Records that its outcome is unknown.
    pub(super) fn become_uncertain(&self, accounts: &Accounts) {
        match self.effect {
            Effect::None => {}
            Effect::One { account, .. } => accounts.get(account).become_uncertain(),
            Effect::Transfer { from, to, .. } => {
                accounts.get(from).become_uncertain();
                accounts.get(to).become_uncertain();
            }
        }
    }
}

/// Makes orders.
pub(super) struct Orders<'a> {
    mix: Mix,
    random: StdRng,
    accounts: &'a Accounts,
    zipf: Option<Zipf<f64>>,
    /// Prefix of the idempotency keys, if keys are sent.
    keys: Option<String>,
    count: u64,
}

impl<'a> Orders<'a> {
    pub(super) fn new(mix: Mix, options: &LoadOptions, accounts: &'a Accounts) -> Self {
        let zipf = options.zipf.map(|exponent| {
            Zipf::new(f64::from(options.accounts), exponent).expect("there are accounts, and the exponent is checked")
        });
        let keys = options.keys.then(|| format!("bench-{}", accounts.get(0).id));
        Self { mix, random: StdRng::seed_from_u64(options.seed), accounts, zipf, keys, count: 0 }
    }

    pub(super) fn next(&mut self) -> Order {
        let mut order = match self.mix {
            Mix::Deposits => self.deposit(),
            Mix::OneAccount => self.one_account(),
            Mix::All if self.random.random_range(0..3) > 0 => self.one_account(),
            Mix::All | Mix::Transfers => self.transfer(),
            Mix::Reads => return self.read(),
        };
        self.count += 1;
        order.call.key = self.keys.as_ref().map(|prefix| format!("{prefix}-{}", self.count));
        order
    }

    /// A deposit to one of the accounts.
    fn deposit(&mut self) -> Order {
        let (account, money) = (self.pick(), self.random.random_range(1..=MONEY_MAX));
        deposit(self.accounts, account, money)
    }

    fn one_account(&mut self) -> Order {
        if self.random.random() {
            return self.deposit();
        }
        let (account, money) = (self.pick(), self.random.random_range(1..=MONEY_MAX));
        let body = format!(r#"{{"id":"{}","money":{money}}}"#, self.accounts.get(account).id);
        Order { call: Call::post("/withdraw", body), effect: Effect::One { account, change: -money } }
    }

    /// A transfer; with a single account a deposit, since there is nobody to transfer to.
    fn transfer(&mut self) -> Order {
        let (from, mut to, money) = (self.pick(), self.pick(), self.random.random_range(1..=MONEY_MAX));
        if self.accounts.count() == 1 {
            return self.deposit();
        }
        if from == to {
            to = (to + 1) % self.accounts.count();
        }
        let (sender, receiver) = (self.accounts.get(from).id, self.accounts.get(to).id);
        let body = format!(r#"{{"from":"{sender}","to":"{receiver}","money":{money}}}"#);
        Order { call: Call::post("/transfer", body), effect: Effect::Transfer { from, to, money } }
    }

    fn read(&mut self) -> Order {
        let account = self.accounts.get(self.pick());
        let path = if self.random.random_range(0..100) >= LISTS_PERCENT {
            format!("/balance/{}", account.id)
        } else {
            match self.random.random_range(0..3) {
                0 => format!("/balance?owner={}", account.owner.replace(' ', "%20")),
                1 => "/balance?sort=-balance&limit=10".to_owned(),
                _ => "/balance?status=OPEN&balance_gt=0&limit=100".to_owned(),
            }
        };
        Order { call: Call::get(path), effect: Effect::None }
    }

    fn pick(&mut self) -> usize {
        let count = self.accounts.count();
        match &self.zipf {
            None => self.random.random_range(0..count),
            Some(zipf) => rank(zipf.sample(&mut self.random)).min(count) - 1,
        }
    }
}

/// A deposit of this much to this account.
pub(super) fn deposit(accounts: &Accounts, account: usize, money: i64) -> Order {
    let body = format!(r#"{{"id":"{}","money":{money}}}"#, accounts.get(account).id);
    Order { call: Call::post("/deposit", body), effect: Effect::One { account, change: money } }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank is a small whole number from 1")]
const fn rank(sample: f64) -> usize {
    sample as usize
}
