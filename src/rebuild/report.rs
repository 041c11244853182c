//! How a job has ended, for people and for the exit code.

use std::time::Duration;

use balance_service::rebuild::JobState;
use balance_service::verify::Verification;

use super::Kind;
use super::job::Job;
use crate::exit::Exit;
use crate::number::grouped as n;
use crate::text::Text;
use crate::verify::{documents, list_findings};

/// Where operators find help with a job that has failed.
const HOW: &str = "docs/OPERATIONS.md (Rebuild and roll back) says what to do";

/// How the process ends after a job that has ended.
pub(super) fn exit(job: &Job) -> Exit {
    if job.state == JobState::Done { Exit::Done } else { Exit::NotSwitched }
}

/// What has become of a job.
pub(super) fn render(kind: Kind, job: &Job) -> String {
    let mut text = Text::default();
    let took = job.finished_at.map_or(Duration::ZERO, |at| job.started_at.until(at));
    let why = job.failure.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    text.line(format_args!("{kind:<13} {} after {:.1} s{why}", job.state_in_words(), took.as_secs_f64()));
    let generation = job.generation.filter(|_| job.state == JobState::Done);
    let answered =
        generation.map_or_else(|| "as before".to_owned(), |generation| format!("by generation {generation}"));
    text.line(format_args!("{:<13} answered {answered}", "queries"));
    if let Some(verification) = &job.verification {
        tell(&mut text, verification);
    }
    if let (Some(_), Some(previous), Some(until)) = (generation, job.previous, job.keep_previous_until) {
        text.line(format_args!("{:<13} {previous}, kept until {until}; bank rollback returns to it", "previous"));
    }
    if job.state == JobState::Failed {
        text.line(HOW);
    }
    text.into_string()
}

fn tell(text: &mut Text, verification: &Verification) {
    let (compared, wrong) = (documents(verification.checked), n(verification.differences()));
    text.line(format_args!("{:<13} {compared} compared with the store, {wrong} wrong", "verified"));
    list_findings(text, "  ", verification);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rebuild::job::tests::job_of;

    const ENDED: &str = "\"2026-01-01T00:00:01.500Z\"";

    fn verification(diverged: u64, findings: &str) -> String {
        format!(
            r#"{{ "checked": 9000, "events": 12000, "parked": 0, "missing": 0, "behind": 0, "diverged": {diverged},
                 "orphans": 0, "ahead": 0, "findings": [{findings}] }}"#
        )
    }

    #[test]
    fn a_rebuild_that_is_done_says_what_was_verified_and_how_to_go_back() {
        let done = job_of("done", ENDED, &verification(0, ""));
        assert_eq!(exit(&done), Exit::Done);
        assert_eq!(
            render(Kind::Rebuild, &done),
            "rebuild       done after 1.5 s\n\
             queries       answered by generation 000002\n\
             verified      9,000 documents compared with the store, 0 wrong\n\
             previous      000001, kept until 2026-01-01T00:00:01.500000Z; bank rollback returns to it\n"
        );
    }

    #[test]
    fn a_rebuild_that_found_differences_names_some_of_them_and_counts_the_rest() {
        let finding = r#"{ "account": "07070707-0707-0707-0707-070707070707", "fault": "diverged",
                           "detail": "as planted", "version": 2 }"#;
        let failed = job_of("failed", ENDED, &verification(5_000, finding));
        let failed = Job { failure: Some("the new generation differs from the store".to_owned()), ..failed };
        assert_eq!(exit(&failed), Exit::NotSwitched);
        assert_eq!(
            render(Kind::Rebuild, &failed),
            format!(
                "rebuild       failed after 1.5 s: the new generation differs from the store\n\
                 queries       answered as before\n\
                 verified      9,000 documents compared with the store, 5,000 wrong\n  \
                   07070707-0707-0707-0707-070707070707 diverged: as planted\n  \
                   and 4,999 more\n\
                 {HOW}\n"
            )
        );
    }

    #[test]
    fn a_rollback_that_was_cancelled_is_no_success() {
        let cancelled = job_of("cancelled", ENDED, "null");
        assert_eq!(exit(&cancelled), Exit::NotSwitched);
        let told = "rollback      cancelled after 1.5 s\nqueries       answered as before\n";
        assert_eq!(render(Kind::Rollback, &cancelled), told);
    }
}
