//! What every lease store must keep: one function per promise, each on a fresh store.
//!
//! [`lease_contract!`](crate::lease_contract) turns them into the tests of a backend. If a lease has to expire, they
//! wait until it has, by tokio's clock, so paused time works as well as a server's own clock.
#![expect(clippy::unwrap_used, clippy::missing_panics_doc, reason = "these functions are the bodies of tests")]

use std::time::Duration;

use futures::future::join_all;

use super::{Held, Holder, Lease, LeaseName, LeaseStore, RenewError};
use crate::coordinate::Epoch;

/// The tests of a lease store. Takes an expression of a future that yields a store without leases and something to keep
/// for as long as it is used, such as a temporary folder or `()`. A second argument such as `(start_paused = true)`
/// goes to `#[tokio::test]`.
///
/// ```text
/// lease_contract!(empty_leases());
/// ```
#[macro_export]
macro_rules! lease_contract {
    (@each $open:expr, $runtime:tt, $($law:ident),+ $(,)?) => {
        $(
            #[tokio::test $runtime]
            async fn $law() {
                let (fresh, _kept) = $open.await;
                let law = Box::pin($crate::lease::contract::$law(fresh));
                tokio::time::timeout($crate::lease::contract::PATIENCE, law).await.expect("it comes to an end");
            }
        )+
    };
    ($open:expr) => {
        $crate::lease_contract!($open, (flavor = "current_thread"));
    };
    ($open:expr, $runtime:tt) => {
        $crate::lease_contract!(@each $open, $runtime,
            a_held_lease_is_granted_to_nobody,
            of_many_who_ask_at_once_one_is_granted_the_lease,
            an_expired_lease_is_granted_again,
            a_renewed_lease_outlives_its_first_term,
            leases_of_other_names_do_not_matter,
            each_grant_has_a_higher_epoch_than_the_last,
            an_epoch_is_above_what_the_asker_knows,
            an_expired_lease_cannot_be_renewed,
            a_lease_granted_to_somebody_else_cannot_be_renewed,
            releasing_a_lease_of_somebody_else_changes_nothing,
            a_released_lease_is_free_at_once,
            held_leases_are_listed_by_name,
            a_prefix_means_its_letters_and_nothing_else,
        );
    };
}

/// Long enough for a lease that must not expire while a test runs.
const LONG: Duration = Duration::from_mins(10);

/// For a lease that is meant to expire: short to wait for, long enough to do something first.
const SHORT: Duration = Duration::from_millis(400);

/// How long a law may take at most: a test that waits in vain fails instead of hanging.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// The pause between two checks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

fn name(text: &str) -> LeaseName {
    LeaseName(text.into())
}

fn holder(text: &str) -> Holder {
    Holder(text.into())
}

async fn ask<S: LeaseStore>(leases: &S, name: &LeaseName, who: &str, ttl: Duration) -> Option<Lease> {
    leases.acquire(name, &holder(who), ttl, Epoch::NONE).await.unwrap()
}

async fn until_free<S: LeaseStore>(leases: &S, name: &LeaseName) {
    while !leases.list(&name.0).await.unwrap().is_empty() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// E1
pub async fn a_held_lease_is_granted_to_nobody<S: LeaseStore>(leases: S) {
    let wanted = name("balance/p1");
    let lease = ask(&leases, &wanted, "ann", LONG).await.unwrap();
    assert_eq!((lease.name(), lease.holder()), (&wanted, &holder("ann")));
    assert!(lease.epoch() > Epoch::NONE);
    assert_eq!(ask(&leases, &wanted, "bob", LONG).await, None);
    assert_eq!(ask(&leases, &wanted, "ann", LONG).await, None, "its own holder has it already");
}

/// E1
pub async fn of_many_who_ask_at_once_one_is_granted_the_lease<S: LeaseStore>(leases: S) {
    let wanted = name("balance/p1");
    let holders: Vec<String> = (0..20).map(|number| format!("holder {number}")).collect();
    let grants = join_all(holders.iter().map(|who| ask(&leases, &wanted, who, LONG))).await;
    let granted: Vec<&Lease> = grants.iter().flatten().collect();
    let [lease] = granted[..] else { panic!("{} were granted the lease", granted.len()) };
    let held = Held { name: wanted, holder: lease.holder().clone() };
    assert_eq!(leases.list("").await.unwrap(), [held]);
}

/// E1
pub async fn an_expired_lease_is_granted_again<S: LeaseStore>(leases: S) {
    let wanted = name("balance/p1");
    let first = ask(&leases, &wanted, "ann", SHORT).await.unwrap();
    let second = loop {
        if let Some(lease) = ask(&leases, &wanted, "bob", LONG).await {
            break lease;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    assert!(second.epoch() > first.epoch());
    assert_eq!(ask(&leases, &wanted, "ann", LONG).await, None);
}

/// E1
pub async fn a_renewed_lease_outlives_its_first_term<S: LeaseStore>(leases: S) {
    let (wanted, witness) = (name("balance/p1"), name("witness"));
    let term = SHORT * 4;
    let lease = ask(&leases, &wanted, "ann", term).await.unwrap();
    leases.renew(&lease, LONG).await.unwrap();
    ask(&leases, &witness, "ann", term).await.unwrap();
    until_free(&leases, &witness).await;
    assert_eq!(ask(&leases, &wanted, "bob", LONG).await, None);
    leases.renew(&lease, LONG).await.unwrap();
}

/// E1
pub async fn leases_of_other_names_do_not_matter<S: LeaseStore>(leases: S) {
    let first = ask(&leases, &name("balance/p1"), "ann", LONG).await.unwrap();
    let second = ask(&leases, &name("balance/p10"), "bob", LONG).await.unwrap();
    leases.release(first).await.unwrap();
    leases.renew(&second, LONG).await.unwrap();
    assert_eq!(ask(&leases, &name("balance/p10"), "ann", LONG).await, None);
}

/// E2
pub async fn each_grant_has_a_higher_epoch_than_the_last<S: LeaseStore>(leases: S) {
    let wanted = name("balance/p1");
    let mut last = Epoch::NONE;
    for round in 0..6 {
        // Alternately by release and by expiry.
        let ttl = if round % 2 == 0 { LONG } else { SHORT };
        let lease = ask(&leases, &wanted, "ann", ttl).await.unwrap();
        assert!(lease.epoch() > last, "{} follows {last}", lease.epoch());
        last = lease.epoch();
        if round % 2 == 0 {
            leases.release(lease).await.unwrap();
        } else {
            until_free(&leases, &wanted).await;
        }
    }
}

/// E2
pub async fn an_epoch_is_above_what_the_asker_knows<S: LeaseStore>(leases: S) {
    let wanted = name("balance/p1");
    let mut last = Epoch::NONE;
    for above in [Epoch::new(1_000), Epoch::new(3), Epoch::NONE, Epoch::new(1_000_000)] {
        let lease = leases.acquire(&wanted, &holder("ann"), LONG, above).await.unwrap().unwrap();
        assert!(lease.epoch() > above && lease.epoch() > last);
        last = lease.epoch();
        leases.release(lease).await.unwrap();
    }
}

/// [`RenewError::Lost`], even if nobody else has taken it yet.
pub async fn an_expired_lease_cannot_be_renewed<S: LeaseStore>(leases: S) {
    let wanted = name("balance/p1");
    let lease = ask(&leases, &wanted, "ann", SHORT).await.unwrap();
    until_free(&leases, &wanted).await;
    assert!(matches!(leases.renew(&lease, LONG).await, Err(RenewError::Lost)));
    assert!(ask(&leases, &wanted, "bob", LONG).await.is_some());
}

/// E3
pub async fn a_lease_granted_to_somebody_else_cannot_be_renewed<S: LeaseStore>(leases: S) {
    let wanted = name("balance/p1");
    let stale = ask(&leases, &wanted, "ann", SHORT).await.unwrap();
    until_free(&leases, &wanted).await;
    // The same holder again: what counts is the grant.
    for who in ["ann", "bob"] {
        let current = ask(&leases, &wanted, who, SHORT).await.unwrap();
        assert!(matches!(leases.renew(&stale, LONG).await, Err(RenewError::Lost)));
        drop(current);
        until_free(&leases, &wanted).await;
    }
}

/// E3
pub async fn releasing_a_lease_of_somebody_else_changes_nothing<S: LeaseStore>(leases: S) {
    let wanted = name("balance/p1");
    let stale = ask(&leases, &wanted, "ann", SHORT).await.unwrap();
    until_free(&leases, &wanted).await;
    let current = ask(&leases, &wanted, "bob", LONG).await.unwrap();
    leases.release(stale).await.unwrap();
    leases.renew(&current, LONG).await.unwrap();
    assert_eq!(leases.list("").await.unwrap(), [Held { name: wanted, holder: holder("bob") }]);
}

/// [`LeaseStore::release`]
pub async fn a_released_lease_is_free_at_once<S: LeaseStore>(leases: S) {
    let wanted = name("balance/p1");
    let lease = ask(&leases, &wanted, "ann", LONG).await.unwrap();
    leases.release(lease).await.unwrap();
    assert_eq!(leases.list("").await.unwrap(), []);
    assert!(ask(&leases, &wanted, "bob", LONG).await.is_some());
}

/// [`LeaseStore::list`]
pub async fn held_leases_are_listed_by_name<S: LeaseStore>(leases: S) {
    ask(&leases, &name("balance/p4"), "dan", SHORT).await.unwrap();
    until_free(&leases, &name("balance/p4")).await;
    let given_back = ask(&leases, &name("balance/p3"), "ann", LONG).await.unwrap();
    leases.release(given_back).await.unwrap();
    for (lease, who) in [("forwarder", "ann"), ("balance/p2", "bob"), ("balance/p10", "cid"), ("balance/p1", "ann")] {
        ask(&leases, &name(lease), who, LONG).await.unwrap();
    }
    let of = |lease: &str, who: &str| Held { name: name(lease), holder: holder(who) };
    let balances = [of("balance/p1", "ann"), of("balance/p10", "cid"), of("balance/p2", "bob")];
    assert_eq!(leases.list("balance/").await.unwrap(), balances);
    assert_eq!(leases.list("balance/p2").await.unwrap(), [of("balance/p2", "bob")]);
    assert_eq!(leases.list("nothing").await.unwrap(), []);
    assert_eq!(leases.list("").await.unwrap().len(), 4);
}

/// [`LeaseStore::list`]
pub async fn a_prefix_means_its_letters_and_nothing_else<S: LeaseStore>(leases: S) {
    for lease in ["a_b", "axb", "a*b", "a[x]b", "a%b", "a?b", "Axb"] {
        ask(&leases, &name(lease), "ann", LONG).await.unwrap();
    }
    for prefix in ["a_", "a*", "a[x]", "a%", "a?", "A"] {
        let held = leases.list(prefix).await.unwrap();
        assert_eq!(held.len(), 1, "{prefix}");
        assert!(held[0].name.0.starts_with(prefix));
    }
}
