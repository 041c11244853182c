//! The result of a verification, for people, for programs, and for the exit code.

use std::fmt::{Display, Write};

use balance_service::verify::{Finding, PartitionReport, Verification};
use serde::Serialize;

use crate::exit::Exit;
use crate::number::grouped as n;
use crate::text::Text;

/// Where operators find help.
const HOW: &str = "docs/OPERATIONS.md says what to do";

/// All partitions together.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    /// Whether every document is right now.
    clean: bool,
    /// What the comparison found.
    found: Verification,
    /// Documents that were rewritten.
    repaired: u64,
    /// What is wrong now, after a repair; the same as `found` without one.
    left: Verification,
    #[serde(skip)]
    is_repair: bool,
    #[serde(skip)]
    is_bank_stopped: bool,
}

impl Summary {
    pub(super) fn of(reports: &[PartitionReport], is_repair: bool, is_bank_stopped: bool) -> Self {
        let (mut found, mut left) = (Verification::default(), Verification::default());
        for report in reports {
            found.merge(report.found.clone());
            left.merge(report.left.as_ref().unwrap_or(&report.found).clone());
        }
        let repaired = reports.iter().map(|report| report.repaired).sum();
        Self { clean: left.is_clean(), found, repaired, left, is_repair, is_bank_stopped }
    }

    /// Documents that are right as far as they go, and will go on when the bank runs.
    const fn lagging(&self) -> u64 {
        if self.is_bank_stopped { self.left.missing + self.left.behind } else { 0 }
    }

    /// Documents that are wrong now.
    const fn differing(&self) -> u64 {
        self.left.differences() - self.lagging()
    }

    pub(super) const fn exit(&self) -> Exit {
        match (self.differing(), self.lagging()) {
            (0, 0) => Exit::Done,
            (0, _) => Exit::DocumentsLag,
            _ => Exit::DocumentsDiffer,
        }
    }
}

#[derive(Serialize)]
struct Json<'a> {
    #[serde(flatten)]
    summary: &'a Summary,
    partitions: &'a [PartitionReport],
}

/// Everything, as one JSON object.
pub(super) fn json(summary: &Summary, partitions: &[PartitionReport]) -> serde_json::Result<String> {
    serde_json::to_string(&Json { summary, partitions })
}

/// A line for each partition, what is wrong, and what that means.
pub(super) fn table(summary: &Summary, partitions: &[PartitionReport]) -> String {
    let mut text = Text::default();
    let names = ["documents", "parked", "missing", "behind", "diverged", "orphans", "ahead", "repaired"];
    row(&mut text, "partition", names.map(str::to_owned));
    for PartitionReport { partition, found, repaired, .. } in partitions {
        row(&mut text, partition.get(), columns(found, *repaired));
    }
    row(&mut text, "all", columns(&summary.found, summary.repaired));
    for report in partitions {
        list_findings(&mut text, &format!("found in {}: ", report.partition.get()), &report.found);
    }
    if summary.is_repair && !summary.clean {
        for report in partitions {
            if let Some(left) = &report.left {
                list_findings(&mut text, &format!("left in {}: ", report.partition.get()), left);
            }
        }
    }
    text.line(verdict(summary));
    text.into_string()
}

fn verdict(summary: &Summary) -> String {
    let repaired = if summary.is_repair && !summary.found.is_clean() {
        format!("{} repaired; ", documents(summary.repaired))
    } else {
        String::new()
    };
    let told = match (summary.differing(), summary.lagging()) {
        (0, 0) => "the projection agrees with the store".to_owned(),
        (0, lagging) => lag(lagging),
        (differing, 0) => difference(summary, differing),
        (differing, lagging) => format!("{}; besides, {}", difference(summary, differing), lag(lagging)),
    };
    repaired + &told
}

fn difference(summary: &Summary, differing: u64) -> String {
    // These are for an operator to decide, so a repair leaves them alone.
    let undecided = summary.left.orphans + summary.left.ahead;
    let (left, differ) = (documents(differing), if differing == 1 { "differs" } else { "differ" });
    if summary.is_repair {
        format!("{left} still {differ} from the store; {HOW}")
    } else if undecided == differing {
        format!("{left} {differ} from the store; --repair leaves orphans and documents that are ahead; {HOW}")
    } else if undecided > 0 {
        format!(
            "{left} {differ} from the store; to repair all but {}, run again with --repair; for the rest, {HOW}",
            n(undecided)
        )
    } else {
        format!("{left} {differ} from the store; to repair, run again with --repair")
    }
}

fn lag(lagging: u64) -> String {
    let (left, lag) = (documents(lagging), if lagging == 1 { "lags" } else { "lag" });
    format!("{left} {lag} behind the store: the bank is stopped, and will catch up when it runs")
}

/// A number of documents, for people.
pub(crate) fn documents(count: u64) -> String {
    format!("{} {}", n(count), if count == 1 { "document" } else { "documents" })
}

fn columns(found: &Verification, repaired: u64) -> [String; 8] {
    let Verification { checked, parked, missing, behind, diverged, orphans, ahead, .. } = found;
    [*checked, *parked, *missing, *behind, *diverged, *orphans, *ahead, repaired].map(n)
}

fn row(text: &mut Text, first: impl Display, columns: [String; 8]) {
    let mut line = format!("{first:>9}");
    for column in columns {
        write!(line, " {column:>10}").expect("a string takes every text");
    }
    text.line(line);
}

/// Lists the findings of a verification; each line begins with `before`.
pub(crate) fn list_findings(text: &mut Text, before: &str, found: &Verification) {
    let findings = found.findings.iter();
    let told = findings.map(|Finding { account, fault, detail, .. }| format!("{account} {}: {detail}", fault.as_str()));
    text.list(before, told, found.differences());
}

#[cfg(test)]
mod tests {
    use super::*;
    use balance_service::verify::Fault;
    use shared::coordinate::Version;
    use shared::id::AccountId;
    use shared::index::Generation;
    use shared::partition::Partition;

    fn found(fault: Fault, checked: u64) -> Verification {
        let account = AccountId::from_bytes([7; 16]);
        let mut found = Verification { checked, ..Verification::default() };
        found.add(Finding { account, fault, detail: "as planted".to_owned(), version: Version::new(2) });
        found
    }

    fn report(partition: u16, found: Verification, repaired: u64, left: Option<Verification>) -> PartitionReport {
        PartitionReport { partition: Partition::new(partition), generation: Generation(1), found, repaired, left }
    }

    #[test]
    fn differences_are_listed_by_partition_and_have_an_exit_code() {
        let clean = Verification { checked: 1_200, ..Verification::default() };
        let reports = [report(1, clean, 0, None), report(2, found(Fault::Behind, 5), 0, None)];
        let summary = Summary::of(&reports, false, false);
        assert_eq!(summary.exit(), Exit::DocumentsDiffer);
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(
            table(&summary, &reports).lines().map(words).collect::<Vec<_>>(),
            [
                "partition documents parked missing behind diverged orphans ahead repaired",
                "1 1,200 0 0 0 0 0 0 0",
                "2 5 0 0 1 0 0 0 0",
                "all 1,205 0 0 1 0 0 0 0",
                "found in 2: 07070707-0707-0707-0707-070707070707 behind: as planted",
                "1 document differs from the store; to repair, run again with --repair",
            ]
        );
    }

    #[test]
    fn a_partition_with_many_wrong_documents_says_how_many_are_not_listed() {
        let mut many = found(Fault::Diverged, 9_000);
        for _ in 1..5_000 {
            many.add(many.findings[0].clone());
        }
        let left = Some(many.clone());
        let reports = [report(1, found(Fault::Behind, 5), 0, None), report(2, many, 0, left)];
        let text = table(&Summary::of(&reports, true, false), &reports);
        for when in ["found", "left"] {
            assert_eq!(text.matches(&format!("{when} in 2: 07070707-")).count(), 20, "{text}");
            assert!(text.contains(&format!("\n{when} in 2: and 4,980 more\n")), "{text}");
        }
        assert!(!text.contains("in 1: and"), "{text}");
    }

    #[test]
    fn a_repair_is_offered_only_for_what_it_would_change() {
        let verdict_on = |faults: &[Fault]| {
            let reports: Vec<_> = faults.iter().map(|fault| report(1, found(*fault, 5), 0, None)).collect();
            verdict(&Summary::of(&reports, false, false))
        };
        for faults in [&[Fault::Orphan][..], &[Fault::Ahead], &[Fault::Orphan, Fault::Ahead]] {
            let verdict = verdict_on(faults);
            assert!(verdict.contains("from the store; --repair leaves orphans"), "{verdict}");
            assert!(verdict.ends_with("docs/OPERATIONS.md says what to do"), "{verdict}");
        }
        let mixed = verdict_on(&[Fault::Orphan, Fault::Missing, Fault::Diverged]);
        assert!(mixed.contains("3 documents differ from the store; to repair all but 1, run again"), "{mixed}");
        assert!(mixed.ends_with("docs/OPERATIONS.md says what to do"), "{mixed}");
    }

    #[test]
    fn what_is_late_in_a_stopped_bank_lags_and_is_not_wrong() {
        let late = [report(1, found(Fault::Missing, 5), 0, None), report(2, found(Fault::Behind, 5), 0, None)];
        let lag = "2 documents lag behind the store: the bank is stopped, and will catch up when it runs";
        let summary = Summary::of(&late, false, true);
        assert_eq!((summary.exit(), &*verdict(&summary)), (Exit::DocumentsLag, lag));
        assert_eq!(Summary::of(&late, false, false).exit(), Exit::DocumentsDiffer);

        let wrong = [&late[..], &[report(3, found(Fault::Diverged, 5), 0, None)]].concat();
        let summary = Summary::of(&wrong, false, true);
        let both = format!("1 document differs from the store; to repair, run again with --repair; besides, {lag}");
        assert_eq!((summary.exit(), verdict(&summary)), (Exit::DocumentsDiffer, both));
    }

    #[test]
    fn what_was_repaired_is_clean_and_what_is_left_is_not() {
        let right = Verification { checked: 5, ..Verification::default() };
        let mended = [report(1, found(Fault::Diverged, 5), 1, Some(right))];
        let summary = Summary::of(&mended, true, false);
        assert_eq!(summary.exit(), Exit::Done);
        assert!(table(&summary, &mended).ends_with("1 document repaired; the projection agrees with the store\n"));
        assert!(json(&summary, &mended).unwrap().contains(r#""clean":true"#));

        let orphan = found(Fault::Orphan, 5);
        let stuck = [report(1, orphan.clone(), 0, Some(orphan))];
        let summary = Summary::of(&stuck, true, false);
        assert_eq!(summary.exit(), Exit::DocumentsDiffer);
        let text = table(&summary, &stuck);
        assert!(text.contains("left in 1: 07070707-0707-0707-0707-070707070707 orphan: as planted\n"), "{text}");
        assert!(text.contains("0 documents repaired; 1 document still differs from the store"), "{text}");
    }
}
