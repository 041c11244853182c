//! Every metric of the bank, once: name, kind, meaning, labels.
//!
//! Use them by their constants, as in `counter!(COMMANDS.name, "kind" => "deposit", "result" => "done")`. Labels take
//! few values that are known beforehand: never an id, a path or a name.

/// How a metric moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only up.
    Counter,
    /// Up and down.
    Gauge,
    /// A distribution, in seconds.
    Seconds,
    /// A distribution of sizes.
    Sizes,
}

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name, as in `/metrics`.
    pub name: &'static str,
    /// How it moves.
    pub kind: Kind,
    /// What it counts, and its labels.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($constant:ident = $kind:ident $name:literal $help:literal;)*) => {
        $(#[doc = $help] pub const $constant: Metric = Metric { name: $name, kind: Kind::$kind, help: $help };)*

        /// All of them.
        pub const METRICS: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    HTTP_REQUESTS = Counter "http_requests_total" "Requests, by service, method, route pattern and status.";
    HTTP_REQUEST_SECONDS = Seconds "http_request_duration_seconds" "Time until the response starts, by service and route pattern.";
    HTTP_CONNECTIONS = Gauge "http_connections" "Open connections, by service.";

    COMMANDS = Counter "bank_commands_total" "Commands, by kind and result (done, replayed, or the code of the problem).";
    COMMAND_BATCH = Sizes "bank_command_batch_size" "Commands decided and appended together.";
    APPEND_SECONDS = Seconds "bank_append_duration_seconds" "Duration of an append to the event store.";
    APPEND_CONFLICTS = Counter "bank_append_conflicts_total" "Commits decided again because another writer appended first.";

    FORWARDED_EVENTS = Counter "bank_forwarded_events_total" "Events the forwarder published, by partition.";
    FORWARDER_POSITION_SECONDS = Gauge "bank_forwarder_position_seconds" "Unix time of the last commit the forwarder published with all before it; 0 if it does not lead or does not know.";
    FORWARDER_POSITIONS_LOST = Counter "bank_forwarder_positions_lost_total" "Times the store no longer knew the forwarder's position.";
    PARTITIONS_RENEWED = Counter "bank_partitions_renewed_total" "Renewals of a partition because the partition log may have lost writes, by partition.";
    LOG_TRIMMED = Counter "bank_log_trimmed_total" "Writes trimmed from the partition log.";
    PUBLISH_FAILURES = Counter "bank_publish_failures_total" "Times the log failed the forwarder for so long that it let the partition rest, by partition.";
    LOG_FULL_WAITS = Counter "bank_log_full_waits_total" "Times the forwarder waited because a partition was full, by partition.";
    FORWARDER_LEADING = Gauge "bank_forwarder_leading" "Whether this process holds the forwarder's lease (1 or 0).";

    LAG_EVENTS = Gauge "bank_lag_events" "Writes of a partition, each of one or more events, that are not folded yet, by partition and generation (active, building, standby).";
    LAG_SECONDS = Gauge "bank_lag_seconds" "Age of the oldest write of a partition that is not folded yet, as far as it is known, by partition and generation (active, building, standby); else 0.";
    FOLDED_EVENTS = Counter "bank_folded_events_total" "Events folded, by partition.";
    INDEX_WRITES = Counter "bank_index_writes_total" "Documents written to the index.";
    INDEX_STALE = Counter "bank_index_stale_total" "Documents the index skipped because it had the same or a later version.";
    INDEX_BUSY = Counter "bank_index_busy_total" "Documents sent again because the index was busy.";
    INDEX_APPLY_SECONDS = Seconds "bank_index_apply_duration_seconds" "Duration of a batch write to the index.";
    VISIBLE_SECONDS = Seconds "bank_visible_duration_seconds" "Time from an event until it is visible in the active generation.";
    GAPS_REFILLED = Counter "bank_gaps_refilled_total" "Gaps in a stream that a worker refilled from the store, by partition.";
    SYNCHRONISED = Counter "bank_synchronised_total" "Times a worker brought its partition up to date from the store, by partition.";
    AHEAD_OF_STORE = Counter "bank_ahead_of_store_total" "Documents ahead of the store, by partition: the store was restored to an earlier state.";
    ACCOUNTS_HEALED = Counter "bank_accounts_healed_total" "Accounts found behind the store by the regular comparison and healed, by partition.";
    VERIFIED_SECONDS = Gauge "bank_verified_seconds" "Unix time of the last verification of the active generation that compared every document, or 0.";
    DOCUMENTS_WRONG = Gauge "bank_documents_wrong" "Documents that this verification found wrong, by fault (missing, behind, diverged, orphan, ahead).";
    DOCUMENTS_REPAIRED = Counter "bank_documents_repaired_total" "Documents rewritten by `bank verify --repair`, by partition.";
    DOCUMENTS_UNREADABLE = Counter "bank_documents_unreadable_total" "Documents of the index that could not be read and counted as missing: somebody changed them.";
    DOCUMENTS_EDITED = Counter "bank_documents_edited_total" "Writes over documents of the index that somebody edited by hand.";
    WORKER_FAILURES = Counter "bank_worker_failures_total" "Times a worker failed and was started again, by partition.";
    ACCOUNTS_PARKED = Counter "bank_accounts_parked_total" "Accounts that were parked, by partition.";
    ACCOUNTS_PARKED_NOW = Gauge "bank_accounts_parked" "Accounts of the active generation that are parked, as every balance service counts them: at most 1000.";
    LEASES_HELD = Gauge "bank_leases_held" "Partitions this process holds the lease of.";
    LEASES_LOST = Counter "bank_leases_lost_total" "Leases lost before they were released.";

    REBUILDS = Counter "bank_rebuilds_total" "Rebuilds that ended, by result (done, failed, cancelled).";
    REBUILD_EVENTS = Counter "bank_rebuild_events_total" "Events a rebuild replayed from the store.";
    REBUILD_RUNNING = Gauge "bank_rebuild_running" "Whether a rebuild is running (1 or 0).";

    TASK_RESTARTS = Counter "bank_task_restarts_total" "Restarts of failed tasks, by task.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_say_how_they_move() {
        let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len());
        for Metric { name, kind, .. } in METRICS {
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert_eq!(name.ends_with("_duration_seconds"), *kind == Kind::Seconds, "{name}");
        }
    }
}
