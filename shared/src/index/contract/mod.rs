//! The contract of every balance index: one function per promise, each run on a fresh index.
//!
//! [`index_contract!`](crate::index_contract) turns them into the tests of a backend. A search may see a document later
//! than [`BalanceIndex::get`] does, but a promoted generation shows everything written to it before. So these functions
//! write, then promote, then search.
#![expect(clippy::unwrap_used, clippy::missing_panics_doc, reason = "these functions are the bodies of tests")]

mod generation;
mod read;
mod search;
mod write;

use std::time::Duration;

use super::{
    AccountStatus, ApplyError, Balance, BalanceIndex, Checkpoint, Generation, Parked, Phase, Projected, PromoteError,
    Seal,
};
use crate::clock::Timestamp;
use crate::coordinate::{Epoch, Offset, Version};
use crate::id::{AccountId, EventId};
use crate::log::Incarnation;
use crate::money::Money;
use crate::owner::Owner;
use crate::partition::{Partition, Slot};
use uuid::Uuid;

pub use generation::*;
pub use read::*;
pub use search::*;
pub use write::*;

/// The tests of a balance index. Takes an expression for a future that yields an empty index and something to keep for
/// as long as the index is used, such as a temporary folder or `()`. A second argument such as `(start_paused = true)`
/// is passed to `#[tokio::test]`.
///
/// ```text
/// index_contract!(empty_index());
/// ```
#[macro_export]
macro_rules! index_contract {
    (@each $open:expr, $runtime:tt, $($law:ident),+ $(,)?) => {
        $(
            #[tokio::test $runtime]
            async fn $law() {
                let (fresh, _kept) = $open.await;
                let law = Box::pin($crate::index::contract::$law(fresh));
                tokio::time::timeout($crate::index::contract::PATIENCE, law).await.expect("it comes to an end");
            }
        )+
    };
    ($open:expr) => {
        $crate::index_contract!($open, (flavor = "current_thread"));
    };
    ($open:expr, $runtime:tt) => {
        $crate::index_contract!(@each $open, $runtime,
            a_document_is_read_as_it_was_written,
            a_checkpoint_is_read_as_it_was_written,
            a_later_version_replaces_the_whole_document,
            an_equal_or_lower_version_is_skipped,
            concurrent_writers_end_with_the_highest_version,
            a_checkpoint_of_a_lower_epoch_is_refused,
            checkpoints_of_partitions_and_generations_stand_apart,
            a_write_without_a_checkpoint_keeps_the_old_one,
            a_repair_overwrites_the_same_version_and_no_later_one,
            a_parked_account_keeps_its_first_entry,
            an_unparked_account_may_park_again,
            an_account_whose_entry_its_document_has_passed_can_be_parked_again,
            a_fresh_index_has_no_generation,
            a_generation_has_a_number_that_was_never_used,
            queries_are_refused_until_a_generation_is_promoted,
            queries_see_the_promoted_generation_alone,
            a_query_during_a_swap_sees_one_generation,
            promoting_compares_before_it_sets,
            of_two_concurrent_promotes_one_wins,
            promoting_needs_the_callers_own_seal_on_the_active_generation,
            whoever_seals_again_is_the_only_one_to_promote,
            preparing_changes_nothing_anyone_sees,
            a_generation_that_does_not_exist_is_not_promoted,
            a_sealed_generation_takes_no_write_until_it_is_unsealed,
            a_seal_is_lifted_by_its_owner_alone,
            nothing_changes_behind_an_acknowledged_seal,
            a_discarded_generation_stays_gone,
            a_discard_among_writes_is_final,
            the_active_generation_is_not_discarded,
            accounts_are_loaded_in_the_order_of_the_questions,
            versions_are_paged_by_slot_and_account,
            parked_accounts_are_paged_by_account,
            every_order_pages_through_all_documents_without_repeats,
            every_filter_selects_exactly_what_it_says,
            filters_combine_and_page,
            owners_sort_by_code_point,
            the_last_page_has_no_next,
            a_cursor_goes_on_in_another_generation,
            a_cursor_that_was_not_made_here_is_refused,
            a_cursor_of_another_order_is_refused,
        );
    };
}

/// The longest a law may take: a test that waits in vain fails instead of hanging.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// The account with this number. Numbers and ids sort alike.
fn account(number: u16) -> AccountId {
    let mut bytes = [0x5a; 16];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    AccountId::from_bytes(bytes)
}

/// A document that differs from those of other accounts and versions in every field that may differ.
fn document(number: u16, version: u64) -> Balance {
    Balance {
        id: account(number),
        event_id: EventId::from_number((u128::from(version) << 64) + u128::from(number)),
        owner: Owner::new(&format!("owner {number:05}")).unwrap(),
        status: if number.is_multiple_of(2) { AccountStatus::Open } else { AccountStatus::Closed },
        currency: if number.is_multiple_of(3) { "EUR" } else { "JPY" }.parse().unwrap(),
        balance: Money::new(i64::from(number) * 100 + i64::try_from(version).unwrap()).unwrap(),
        version: Version::new(version),
        opened_at: Timestamp::from_micros(1_700_000_000_000_000 + i64::from(number)),
        updated_at: Timestamp::from_micros(1_800_000_000_000_000 + i64::try_from(version).unwrap()),
    }
}

fn documents(numbers: impl IntoIterator<Item = u16>, version: u64) -> Vec<Balance> {
    numbers.into_iter().map(|number| document(number, version)).collect()
}

fn checkpoint(partition: u16, epoch: u64, offset: u64) -> Checkpoint {
    Checkpoint {
        partition: Partition::new(partition),
        epoch: Epoch::new(epoch),
        incarnation: Incarnation("first life".into()),
        offset: Offset::new(offset),
        phase: Phase::Live { replayed: 7 },
    }
}

fn parked(number: u16, at: u64, reason: &str) -> Parked {
    Parked {
        account: account(number),
        at: Version::new(at),
        reason: reason.to_owned(),
        since: Timestamp::from_micros(1_900_000_000_000_000),
    }
}

fn of_balances(balances: Vec<Balance>) -> Projected {
    Projected { balances, ..Projected::default() }
}

fn of_checkpoint(checkpoint: Checkpoint) -> Projected {
    Projected { checkpoint: Some(checkpoint), ..Projected::default() }
}

fn of_parked(parked: Vec<Parked>) -> Projected {
    Projected { parked, ..Projected::default() }
}

async fn write<I: BalanceIndex>(index: &I, generation: Generation, balances: Vec<Balance>) {
    let expected = balances.len();
    let applied = index.apply(generation, &of_balances(balances)).await.unwrap();
    assert_eq!((applied.written, applied.stale), (expected, 0));
}

/// An active generation that holds these documents.
async fn serving<I: BalanceIndex>(index: &I, balances: Vec<Balance>) -> Generation {
    let generation = index.create().await.unwrap();
    write(index, generation, balances).await;
    let active = index.generations().await.unwrap().active;
    switch(index, active, generation).await.unwrap();
    generation
}

/// The seal these tests switch under.
const SEAL: Seal = Seal(Uuid::from_u128(7));

/// Switches the queries as a job does: under a seal, which is lifted whatever the outcome.
async fn switch<I: BalanceIndex>(
    index: &I,
    from: Option<Generation>,
    generation: Generation,
) -> Result<(), PromoteError> {
    let sealed = match from {
        Some(from) => Some((from, index.seal(from, SEAL).await.unwrap())),
        None => None,
    };
    let promoted = index.promote(generation, sealed).await;
    if let Some(from) = from {
        index.unseal(from, SEAL).await.unwrap();
    }
    promoted
}

/// The documents a generation has of these accounts.
async fn stored<I: BalanceIndex>(index: &I, generation: Generation, numbers: &[u16]) -> Vec<Option<Balance>> {
    let accounts: Vec<AccountId> = numbers.iter().copied().map(account).collect();
    let loaded = index.load(generation, &accounts).await.unwrap();
    assert_eq!(loaded.len(), accounts.len());
    loaded.into_iter().map(|loaded| loaded.balance).collect()
}

async fn is_gone<I: BalanceIndex>(index: &I, generation: Generation) -> bool {
    let refused = index.apply(generation, &of_balances(documents([1], 1))).await;
    matches!(refused, Err(ApplyError::Gone(gone)) if gone == generation)
}

fn seal(number: u128) -> Seal {
    Seal(Uuid::from_u128(number))
}

/// The place of an account in the order of slots.
fn place(id: &AccountId) -> (Slot, AccountId) {
    (Slot::of(id), *id)
}
