//! Customers: they open accounts, move money, repeat requests that get no answer, and remember what they were told.

use std::time::Duration;

use account_service::account::Command;
use account_service::command::{CommandError, Request, Teller};
use shared::id::AccountId;
use shared::money::{Amount, Currency};
use shared::owner::Owner;
use shared::store::{IdempotencyKey, KeyedRequest};
use tokio::time::{sleep, timeout};

use crate::fleet::Fleet;
use crate::journal::{Journal, Order};
use crate::world::World;
use crate::world::random::Random;
use crate::world::store::WorldStore;

/// How long a customer waits for an answer.
const WAIT_MAX: Duration = Duration::from_secs(8);

/// How often a customer tries the same order.
const ATTEMPTS_MAX: u32 = 8;

/// How many orders in a thousand have no key, and so are sent only once.
const KEYLESS: u64 = 100;

/// How many orders in a thousand are sent to two desks at once.
const DOUBLED: u64 = 100;

/// One customer.
pub(crate) struct Client {
    number: u64,
    random: Random,
    world: World,
    fleet: Fleet,
    journal: Journal,
}

/// What a customer wants. A new account gets its id from the teller that takes the order, so it has another id in every
/// attempt, as over HTTP.
#[derive(Clone, Debug)]
enum Wish {
    Open { owner: Owner, opening: Option<Amount>, overdraft_limit: Option<Amount> },
    Known(Command),
}

impl Wish {
    fn command(&self, teller: &Teller<WorldStore>) -> Command {
        match self {
            Self::Open { owner, opening, overdraft_limit } => Command::Open {
                account: teller.ids().account(),
                owner: owner.clone(),
                currency: currency(),
                opening: *opening,
                overdraft_limit: *overdraft_limit,
            },
            Self::Known(command) => command.clone(),
        }
    }
}

fn currency() -> Currency {
    "EUR".parse().expect("EUR is a currency")
}

impl Client {
    pub(crate) fn new(number: u64, random: &mut Random, world: &World, fleet: &Fleet, journal: &Journal) -> Self {
        let (world, fleet, journal) = (world.clone(), fleet.clone(), journal.clone());
        Self { number, random: random.split(), world, fleet, journal }
    }

    /// Deposits something to every account there is.
    pub(crate) async fn deposit_everywhere(mut self) {
        let amount = Amount::new(1).expect("an amount");
        for (order, account) in (0..).zip(self.journal.accounts()) {
            self.order(order, &Wish::Known(Command::Deposit { account, amount })).await;
        }
    }

    /// Carries out some orders, one after the other.
    pub(crate) async fn run(mut self, orders: u64) {
        for order in 0..orders {
            sleep(Duration::from_millis(self.random.below(200))).await;
            let accounts = self.journal.accounts();
            if self.random.chance(150) && !accounts.is_empty() {
                let account = self.random.pick(&accounts);
                self.look(account).await;
            } else {
                let wish = self.wish(&accounts);
                self.order(order, &wish).await;
            }
        }
    }

    fn wish(&mut self, accounts: &[AccountId]) -> Wish {
        let random = &mut self.random;
        if accounts.len() < 2 || random.chance(100) {
            return Wish::Open {
                owner: owner(random),
                opening: Amount::new(i64::try_from(random.below(200)).expect("small")).ok(),
                overdraft_limit: Amount::new(i64::try_from(random.below(3) * 20).expect("small")).ok(),
            };
        }
        let account = random.pick(accounts);
        let amount = Amount::new(i64::try_from(random.between(1, 60)).expect("small")).expect("an amount");
        Wish::Known(match random.below(100) {
            0..=24 => Command::Deposit { account, amount },
            25..=49 => Command::Withdraw { account, amount },
            50..=89 => Command::Transfer { from: account, to: random.pick(accounts), amount },
            90..=95 => Command::Rename { account, owner: owner(random) },
            _ => Command::Close { account },
        })
    }

    async fn order(&mut self, number: u64, wish: &Wish) {
        let key = (!self.random.chance(KEYLESS)).then(|| self.key(number));
        let mut order = Order { key: key.as_ref().map(|keyed| keyed.key.clone()), ..Order::default() };
        for attempt in 0..ATTEMPTS_MAX {
            let Some(teller) = self.fleet.teller(&mut self.random) else {
                sleep(Duration::from_millis(200)).await;
                continue;
            };
            let other = self.fleet.teller(&mut self.random).filter(|_| key.is_some() && self.random.chance(DOUBLED));
            let asked = self.ask(&teller, wish, key.clone());
            let settled = if let Some(other) = other {
                let (first, second) = tokio::join!(asked, self.ask(&other, wish, key.clone()));
                let first = note(&mut order, first);
                note(&mut order, second) || first
            } else {
                note(&mut order, asked.await)
            };
            if settled || key.is_none() {
                break;
            }
            sleep(Duration::from_millis(self.random.below(100 << attempt.min(6)))).await;
        }
        if let (Wish::Open { .. }, Some((_, receipt))) = (wish, order.done.first()) {
            self.journal.opened(receipt.account().id);
        }
        self.journal.close(order);
    }

    fn key(&self, order: u64) -> KeyedRequest {
        let key = IdempotencyKey::new(&format!("client-{}-order-{order}", self.number)).expect("visible characters");
        let mut request = [0; 32];
        request[..8].copy_from_slice(&self.number.to_be_bytes());
        request[8..16].copy_from_slice(&order.to_be_bytes());
        KeyedRequest { key, request }
    }

    /// Sends an order. One that took effect before must not be refused, whatever has happened to the account since.
    async fn ask(&self, teller: &Teller<WorldStore>, wish: &Wish, key: Option<KeyedRequest>) -> Answer {
        let keyed = key.as_ref().map(|keyed| keyed.key.clone());
        let taken = keyed.filter(|key| self.world.with(|state| state.store.key(key).is_some()));
        let request = Request { command: wish.command(teller), key, if_match: None };
        let answer = timeout(WAIT_MAX, teller.execute(request)).await.ok();
        if let (Some(key), Some(Err(CommandError::Rejected(_) | CommandError::KeyReused))) = (taken, &answer) {
            self.world.with(|state| {
                state.audit.violate("AU2 what took effect is answered as it was", || format!("{key} is refused"));
            });
        }
        answer
    }

    /// Reads an account. The answer must be at least as new as the account was when the question was asked.
    async fn look(&mut self, account: AccountId) {
        let Some(teller) = self.fleet.teller(&mut self.random) else { return };
        let before = self.world.with(|state| state.store.version(account));
        let Ok(Ok(Some(seen))) = timeout(WAIT_MAX, teller.account(account)).await else { return };
        self.world.with(|state| {
            let truth = state.audit.at(account, seen.version).cloned();
            let same = truth.as_ref().is_some_and(|truth| {
                (truth.balance, &truth.owner, truth.updated_at) == (seen.balance, &seen.owner, seen.updated_at)
            });
            if !same {
                state.audit.violate("AU6 an account is the fold of its version", || format!("{seen:?} is {truth:?}"));
            }
            if seen.version < before {
                state.audit.violate("AU7 an account is read as of now", || {
                    format!("{account} at {} when it was at {before}", seen.version)
                });
            }
        });
    }
}

/// The outcome of one attempt; `None` without an answer.
type Answer = Option<Result<account_service::command::Outcome, CommandError>>;

/// Records an answer; returns whether it is final.
fn note(order: &mut Order, answer: Answer) -> bool {
    match answer {
        Some(Ok(outcome)) => {
            order.done(outcome);
            true
        }
        Some(Err(
            CommandError::Rejected(_)
            | CommandError::VersionMismatch { .. }
            | CommandError::KeyReused
            | CommandError::Unreadable,
        )) => {
            order.refused += 1;
            true
        }
        Some(Err(CommandError::Conflict | CommandError::Overloaded | CommandError::Unavailable)) => {
            order.refused += 1;
            false
        }
        Some(Err(CommandError::OutcomeUnknown)) | None => {
            order.unknown += 1;
            false
        }
    }
}

fn owner(random: &mut Random) -> Owner {
    let name = random.pick(&["Paulo", "Zoë", "Ana María", "Ole", "李雷", "d'Arc"]);
    Owner::new(name).expect("a name")
}
