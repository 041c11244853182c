//! What the clients were told: the evidence for anything that was lost or happened twice.
//!
//! An answer is *done*, *refused* or *unknown*, as in Jepsen. An order with a refused and an unknown attempt may have
//! taken effect, and is judged so.

use std::sync::{Arc, Mutex, PoisonError};

use account_service::command::{AccountAfter, Outcome, Receipt};
use shared::id::{AccountId, CommitId};
use shared::index::AccountStatus;
use shared::store::IdempotencyKey;

use crate::world::{State, World};

/// What a client was told about one order, over all of its attempts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Order {
    /// The key under which it was sent, if it had one.
    pub(crate) key: Option<IdempotencyKey>,
    /// The results of the successful attempts.
    pub(crate) done: Vec<(CommitId, Receipt)>,
    /// How many attempts were answered as having no effect.
    pub(crate) refused: u32,
    /// How many attempts have an unknown outcome.
    pub(crate) unknown: u32,
}

impl Order {
    /// Records a successful attempt.
    pub(crate) fn done(&mut self, outcome: Outcome) {
        self.done.push((outcome.transaction, outcome.receipt));
    }
}

/// What all clients were told, and the accounts they know of.
#[derive(Clone, Default)]
pub(crate) struct Journal(Arc<Mutex<Pages>>);

#[derive(Default)]
struct Pages {
    orders: Vec<Order>,
    accounts: Vec<AccountId>,
}

impl Journal {
    fn with<T>(&self, act: impl FnOnce(&mut Pages) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Records an order after its last attempt.
    pub(crate) fn close(&self, order: Order) {
        self.with(|pages| pages.orders.push(order));
    }

    /// Records that a client has opened an account, which others may use from now on.
    pub(crate) fn opened(&self, account: AccountId) {
        self.with(|pages| pages.accounts.push(account));
    }

    /// The accounts that clients know of.
    pub(crate) fn accounts(&self) -> Vec<AccountId> {
        self.with(|pages| pages.accounts.clone())
    }

    /// Compares what clients were told with what happened.
    ///
    /// # Errors
    /// The broken law, and what broke it.
    pub(crate) fn check(&self, world: &World) -> Result<(), String> {
        let orders = self.with(|pages| pages.orders.clone());
        world.with(|state| {
            orders.iter().try_for_each(|order| check_order(state, order))?;
            let surely: usize = orders.iter().filter(|order| !order.done.is_empty()).count();
            let perhaps: usize = orders.iter().map(Order::effects_max).sum();
            let commits = state.audit.commits() - state.store.foreign();
            if surely <= commits && commits <= perhaps {
                return Ok(());
            }
            Err(format!("AU2 {commits} commits where clients know of {surely} and can explain {perhaps}"))
        })
    }
}

impl Order {
    /// The largest number of commits the order can have.
    fn effects_max(&self) -> usize {
        let possible = self.done.len() + self.unknown as usize;
        if self.key.is_some() { possible.min(1) } else { possible }
    }
}

fn check_order(state: &State, order: &Order) -> Result<(), String> {
    for (transaction, receipt) in &order.done {
        if !state.audit.has(*transaction) || state.store.commit(*transaction).is_none() {
            return Err(format!("AU1 {transaction} was acknowledged and is not in the store"));
        }
        if order.done[0].0 != *transaction {
            return Err(format!("AU2 one order took effect as {} and as {transaction}", order.done[0].0));
        }
        accounts_of(receipt).try_for_each(|after| check_receipt(state, after))?;
    }
    let Some(key) = &order.key else { return Ok(()) };
    let stored = state.store.key(key).map(|commit| commit.id);
    match order.done.first() {
        Some((transaction, _)) if stored != Some(*transaction) => {
            Err(format!("AU2 {transaction} was acknowledged under {key}, which stands for {stored:?}"))
        }
        None if order.unknown == 0 && stored.is_some() => {
            Err(format!("AU1 an order under {key} was refused and took effect as {stored:?}"))
        }
        Some(_) | None => Ok(()),
    }
}

fn accounts_of(receipt: &Receipt) -> impl Iterator<Item = &AccountAfter> {
    let other = match receipt {
        Receipt::Transferred { to, .. } => Some(to),
        Receipt::Opened { .. }
        | Receipt::Deposited { .. }
        | Receipt::Withdrawn { .. }
        | Receipt::Renamed { .. }
        | Receipt::Closed { .. } => None,
    };
    std::iter::once(receipt.account()).chain(other)
}

fn check_receipt(state: &State, after: &AccountAfter) -> Result<(), String> {
    let AccountAfter { id, balance, version, status } = after;
    let open = *status == account_service::account::Status::Open;
    match state.audit.at(*id, *version) {
        Some(document) if document.balance == *balance && (document.status == AccountStatus::Open) == open => Ok(()),
        other => Err(format!("AU1 a receipt says {after:?}, the store {other:?}")),
    }
}
