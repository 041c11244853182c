//! What every backend of the store must keep: one function per promise, named after it.
//!
//! Each takes an empty store and uses only the port, so that the embedded store, a server's and a simulated one pass
//! the same suite. [`store_contract`](crate::store_contract) turns each into a test.
//!
//! What the laws leave open is accepted here: a feed may repeat itself, a page may be a little longer than its limit.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a contract is a test: a broken promise panics")]

mod append;
mod feed;
mod fixture;
mod model;
mod read;
mod register;
mod reopen;
mod repeat;
mod scan;
mod snapshot;

pub use append::{
    a_batch_takes_effect_in_its_order_each_commit_for_itself, a_commit_that_builds_on_a_repeated_key_is_refused,
    a_commit_to_several_streams_is_taken_whole_or_not_at_all, concurrent_transfers_reach_both_streams_or_none,
    concurrent_writers_of_a_stream_leave_no_gap_and_no_twin,
};
pub use feed::{
    a_dropped_call_of_a_feed_loses_nothing, a_feed_from_the_head_yields_what_comes_later,
    a_feed_resumes_behind_every_position, a_feed_sees_everything_that_is_appended_meanwhile,
    a_feed_without_news_says_that_it_is_alive,
};
pub use fixture::plain_commit;
pub use model::random_batches_are_answered_as_by_a_simple_model;
pub use read::{
    answers_stand_in_the_order_of_the_questions, reading_on_begins_behind_what_the_reader_has_and_stops_at_the_limit,
    what_was_written_is_read_back_exactly,
};
pub use register::{
    concurrent_writers_of_a_register_count_without_loss, registers_are_listed_by_prefix_in_order,
    revisions_of_a_register_grow_also_over_a_removal, the_wrong_revision_changes_nothing,
};
pub use reopen::what_was_acknowledged_is_there_when_the_store_is_opened_again;
pub use repeat::{
    a_refused_commit_takes_neither_its_id_nor_its_key, a_repeated_id_writes_nothing_and_returns_the_first_commit,
    a_repeated_key_writes_nothing_and_returns_the_first_commit, repeats_at_the_same_time_have_one_effect,
};
pub use scan::{
    a_scan_loses_nothing_while_others_write, a_scan_yields_each_range_in_order_and_in_pages_of_any_size,
    heads_are_the_last_versions_in_pages_of_any_size,
};
pub use snapshot::{an_older_snapshot_never_replaces_a_newer_one, snapshots_are_read_back_exactly};

/// Makes a test of each promise. Takes an expression of a future that yields an empty store and something to keep for
/// as long as the store is used, such as a temporary folder or `()`.
///
/// ```text
/// store_contract!(empty_store());
/// ```
#[macro_export]
macro_rules! store_contract {
    ($open:expr) => {
        $crate::store_contract! { @each $open;
            a_batch_takes_effect_in_its_order_each_commit_for_itself
            a_commit_that_builds_on_a_repeated_key_is_refused
            a_commit_to_several_streams_is_taken_whole_or_not_at_all
            concurrent_transfers_reach_both_streams_or_none
            concurrent_writers_of_a_stream_leave_no_gap_and_no_twin
            a_refused_commit_takes_neither_its_id_nor_its_key
            a_repeated_id_writes_nothing_and_returns_the_first_commit
            a_repeated_key_writes_nothing_and_returns_the_first_commit
            repeats_at_the_same_time_have_one_effect
            random_batches_are_answered_as_by_a_simple_model
            answers_stand_in_the_order_of_the_questions
            reading_on_begins_behind_what_the_reader_has_and_stops_at_the_limit
            what_was_written_is_read_back_exactly
            a_scan_loses_nothing_while_others_write
            a_scan_yields_each_range_in_order_and_in_pages_of_any_size
            heads_are_the_last_versions_in_pages_of_any_size
            a_dropped_call_of_a_feed_loses_nothing
            a_feed_from_the_head_yields_what_comes_later
            a_feed_resumes_behind_every_position
            a_feed_sees_everything_that_is_appended_meanwhile
            a_feed_without_news_says_that_it_is_alive
            concurrent_writers_of_a_register_count_without_loss
            registers_are_listed_by_prefix_in_order
            revisions_of_a_register_grow_also_over_a_removal
            the_wrong_revision_changes_nothing
            an_older_snapshot_never_replaces_a_newer_one
            snapshots_are_read_back_exactly
        }
    };
    (@each $open:expr; $($promise:ident)+) => {
        $(
            #[tokio::test]
            async fn $promise() {
                let (store, _kept) = $open.await;
                $crate::store::contract::$promise(&store).await;
            }
        )+
    };
}
