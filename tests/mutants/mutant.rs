//! The planted faults.

/// One rule broken in one place.
pub(crate) struct Mutant {
    pub(crate) name: &'static str,
    /// The file, from the root of the workspace.
    pub(crate) file: &'static str,
    /// The text to replace, which occurs exactly once.
    pub(crate) text: &'static str,
    /// Its replacement.
    pub(crate) replacement: &'static str,
    /// A seed that is known to find it, which is played first. It saves time and proves nothing by itself: when the
    /// simulation changes, the other seeds are played as well.
    pub(crate) seed: u64,
}

/// All of them, in the order in which an event travels.
pub(crate) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "commands_lose_their_key",
        file: "account-service/src/command/decide.rs",
        text: " key: key.clone(),",
        replacement: " key: key.clone().filter(|_| false),",
        seed: 0,
    },
    Mutant {
        name: "an_unknown_outcome_is_told_as_nothing_happened",
        file: "account-service/src/command/append.rs",
        text: "if failure.effect == Effect::Unknown {",
        replacement: "if failure.effect == Effect::Unknown && false {",
        seed: 32,
    },
    Mutant {
        name: "a_refusal_does_not_look_for_the_key",
        file: "account-service/src/command/job.rs",
        text: "partition(|(pending, _)| pending.request.key.is_some());",
        replacement: "partition(|(pending, _)| pending.request.key.is_some() && false);",
        seed: 105,
    },
    Mutant {
        name: "a_store_takes_what_builds_on_a_refused_commit",
        file: "tests/simulation/world/store.rs",
        text: "    if !holds {\n        spoiled",
        replacement: "    if !holds && false {\n        spoiled",
        seed: 27,
    },
    Mutant {
        name: "an_account_is_read_from_memory",
        file: "account-service/src/command/teller.rs",
        text: "        let read = || load(&self.desk, vec![(id, None)], until);",
        replacement: "        if let Some(known) = self.desk.cache.get(id) { return Ok(Some(known)); }\n        let read = || load(&self.desk, vec![(id, None)], until);",
        seed: 0,
    },
    Mutant {
        name: "the_forwarder_notes_a_position_before_it_published",
        file: "forwarder/src/forward.rs",
        text: "noted.save(checkpoint).await",
        replacement: "noted.save({ let mut ahead = checkpoint; if let Ok(Next::Batch(next)) = &next { ahead.position = next.reached.clone(); } ahead }).await",
        seed: 1,
    },
    Mutant {
        name: "the_forwarder_notes_a_position_beyond_what_a_late_partition_has",
        file: "forwarder/src/lanes/mod.rs",
        text: "oldest.map_or(&self.taken, |source| &source.before)",
        replacement: "oldest.map_or(&self.taken, |_| &self.taken)",
        seed: 0,
    },
    Mutant {
        name: "a_publish_conflict_is_taken_for_success",
        file: "forwarder/src/publish.rs",
        text: "Err(PublishError::Conflict(extent)) => self.adopt(extent).await?,",
        replacement: "Err(PublishError::Conflict(extent)) => { self.adopt(extent).await?; return Ok(()); }",
        seed: 47,
    },
    Mutant {
        name: "a_lost_feed_position_tells_no_reader",
        file: "forwarder/src/resume.rs",
        text: "let end = if position == Position::Start { extent.into() }",
        replacement: "let end = if position == Position::Start || true { extent.into() }",
        seed: 1,
    },
    Mutant {
        name: "a_gap_is_folded_over",
        file: "balance-service/src/fold/folding.rs",
        text: "if recorded.first_version > version.next() {",
        replacement: "if recorded.first_version > version.next() && false {",
        seed: 131,
    },
    Mutant {
        name: "a_gap_is_skipped",
        file: "balance-service/src/worker/project.rs",
        text: "if !gaps.is_empty() {",
        replacement: "if !gaps.is_empty() && false {",
        seed: 149,
    },
    Mutant {
        name: "a_checkpoint_moves_without_its_documents",
        file: "balance-service/src/worker/follow.rs",
        text: "        self.project(cache, batch).await?;\n        reach.send_replace(last);",
        replacement: "        reach.send_replace(last);\n        self.project(cache, batch).await?;",
        seed: 2,
    },
    Mutant {
        name: "a_log_that_moved_is_followed_at_its_end",
        file: "balance-service/src/worker/begin.rs",
        text: "Phase::Live { replayed } => Begin::Synchronise { replayed },",
        replacement: "Phase::Live { .. } => Begin::Follow(Checkpoint { incarnation: extent.incarnation.clone(), offset: extent.last, ..checkpoint }),",
        seed: 1,
    },
    Mutant {
        name: "the_end_of_the_log_is_noted_after_the_store_was_read",
        file: "balance-service/src/worker/synchronise.rs",
        text: "        let refilled = refill_behind(self).await?;",
        replacement: "        let refilled = refill_behind(self).await?;\n        let end = &shared::log::PartitionLog::extent(self.backends.log(), self.partition).await?;",
        seed: 295,
    },
    Mutant {
        name: "a_replay_leaves_out_the_last_stream",
        file: "balance-service/src/worker/replay.rs",
        text: "            finished.extend(streams.close());",
        replacement: "            let _forgotten = streams.close();",
        seed: 1,
    },
    Mutant {
        name: "a_replay_goes_on_behind_what_came_during_its_scan",
        file: "balance-service/src/worker/replay.rs",
        text: "        self.note(checkpoint(Phase::Live { replayed: streams.done })).await?;",
        replacement: "        let noted = shared::log::PartitionLog::extent(self.backends.log(), self.partition).await?;\n\
                      self.note(self.checkpoint(noted.incarnation, noted.last, Phase::Live { replayed: streams.done })).await?;",
        seed: 10,
    },
    Mutant {
        name: "floors_of_generations_that_are_gone_stay",
        file: "balance-service/src/rebuild/conductor.rs",
        text: "                self.sweep_floors(&generations).await?;\n",
        replacement: "",
        seed: 1,
    },
    Mutant {
        name: "the_index_takes_the_checkpoint_of_a_lower_epoch",
        file: "tests/simulation/world/generation.rs",
        text: "Some(stored) if checkpoint.epoch < stored.epoch =>",
        replacement: "Some(stored) if checkpoint.epoch < stored.epoch && false =>",
        seed: 62,
    },
    Mutant {
        name: "a_poison_event_parks_nobody",
        file: "balance-service/src/fold/folding.rs",
        text: "projected.parked.extend(folding.to_parked(since));",
        replacement: "projected.parked.extend(folding.to_parked(since).filter(|_| false));",
        seed: 26,
    },
    Mutant {
        name: "a_repaired_balance_stays_in_memory",
        file: "balance-service/src/worker/repair.rs",
        text: "            cache.forget_all();\n",
        replacement: "            let _ = &cache;\n",
        seed: 535,
    },
    Mutant {
        name: "a_generation_that_differs_is_switched_to",
        file: "balance-service/src/rebuild/conductor.rs",
        text: "        if !clean {\n",
        replacement: "        if !clean && false {\n",
        seed: 1,
    },
    Mutant {
        name: "generations_are_discarded_without_a_write_of_the_job",
        file: "balance-service/src/rebuild/conductor.rs",
        text: "        let file = file.save(self.backends.store(), job).await?;\n",
        replacement: "        let _ = job;\n",
        seed: 0,
    },
    Mutant {
        name: "the_queries_are_switched_before_the_new_generation_caught_up",
        file: "balance-service/src/rebuild/switch.rs",
        text: "        fill(backends, new, &lagging).await?;",
        replacement: "        if false { fill(backends, new, &lagging).await?; }",
        seed: 350,
    },
];
