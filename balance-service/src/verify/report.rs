use serde::{Deserialize, Serialize};
use shared::coordinate::Version;
use shared::id::AccountId;
use shared::index::Generation;
use shared::partition::Partition;
use utoipa::ToSchema;

/// How many findings a report lists; the counts include all.
pub const FINDINGS_MAX: usize = 20;

/// What is wrong with one document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The account has events and no document.
    Missing,
    /// The document stays below the head the store had when the check began.
    Behind,
    /// The document is not the fold of its account's first events, as many as its version says.
    Diverged,
    /// There is a document for an account without events.
    Orphan,
    /// The document has a version the store has not.
    Ahead,
}

impl Fault {
    /// All of them.
    pub(crate) const ALL: [Self; 5] = [Self::Missing, Self::Behind, Self::Diverged, Self::Orphan, Self::Ahead];

    /// The word for it, as in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Behind => "behind",
            Self::Diverged => "diverged",
            Self::Orphan => "orphan",
            Self::Ahead => "ahead",
        }
    }
}

/// One document that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// The account.
    #[schema(value_type = Uuid)]
    pub account: AccountId,
    /// What is wrong.
    pub fault: Fault,
    /// The first field that differs, with what the store says and what the document says; personal data is not shown.
    pub detail: String,
    /// The version of the document; 0 if there is none.
    #[schema(value_type = u64)]
    pub version: Version,
}

/// The result of comparing a generation with the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Verification {
    /// Documents that were compared field by field.
    pub checked: u64,
    /// Events that were folded for that.
    pub events: u64,
    /// Accounts that are parked; they stand still by intention.
    pub parked: u64,
    /// Accounts without a document.
    pub missing: u64,
    /// Documents that stay behind.
    pub behind: u64,
    /// Documents that are not a fold of their account's events.
    pub diverged: u64,
    /// Documents without an account.
    pub orphans: u64,
    /// Documents with a version the store has not.
    pub ahead: u64,
    /// The first findings, at most 20.
    pub findings: Vec<Finding>,
}

impl Verification {
    /// Whether every document is right.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.differences() == 0
    }

    /// How many documents are wrong, in whatever way.
    #[must_use]
    pub const fn differences(&self) -> u64 {
        self.missing + self.behind + self.diverged + self.orphans + self.ahead
    }

    /// How many documents are wrong in this way.
    pub(crate) const fn count_of(&self, fault: Fault) -> u64 {
        match fault {
            Fault::Missing => self.missing,
            Fault::Behind => self.behind,
            Fault::Diverged => self.diverged,
            Fault::Orphan => self.orphans,
            Fault::Ahead => self.ahead,
        }
    }

    /// Counts a finding, and lists it while there is room.
    pub fn add(&mut self, finding: Finding) {
        match finding.fault {
            Fault::Missing => self.missing += 1,
            Fault::Behind => self.behind += 1,
            Fault::Diverged => self.diverged += 1,
            Fault::Orphan => self.orphans += 1,
            Fault::Ahead => self.ahead += 1,
        }
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }

    /// Adds what another part of the same check has found.
    pub fn merge(&mut self, part: Self) {
        self.checked += part.checked;
        self.events += part.events;
        self.parked += part.parked;
        self.missing += part.missing;
        self.behind += part.behind;
        self.diverged += part.diverged;
        self.orphans += part.orphans;
        self.ahead += part.ahead;
        let room = FINDINGS_MAX.saturating_sub(self.findings.len());
        self.findings.extend(part.findings.into_iter().take(room));
    }
}

/// The result of checking one partition, or the accounts of it that the check names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionReport {
    /// The partition.
    pub partition: Partition,
    /// The generation that answered the queries meanwhile.
    pub generation: Generation,
    /// What the comparison found.
    pub found: Verification,
    /// Documents that were wrong, and are right since they were rewritten.
    pub repaired: u64,
    /// What a second comparison found after the repair; `None` if there was nothing to repair.
    pub left: Option<Verification>,
}

impl PartitionReport {
    /// Whether every document is right, after the repair if there was one.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.left.as_ref().unwrap_or(&self.found).is_clean()
    }
}
