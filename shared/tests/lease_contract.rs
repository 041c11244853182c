//! The embedded leases keep the laws of leases, and some promises of their own.

use std::path::Path;
use std::time::Duration;

use shared::coordinate::Epoch;
use shared::lease::{EmbeddedLeases, Holder, LeaseName, LeaseStore};
use shared::sqlite::DataFolder;
use tempfile::TempDir;

fn empty_leases() -> (EmbeddedLeases, TempDir) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    (opened(dir.path()), dir)
}

fn opened(path: &Path) -> EmbeddedLeases {
    let folder = DataFolder::open(path).expect("a folder nobody else uses");
    EmbeddedLeases::open(&folder).expect("leases that are new or ours")
}

shared::lease_contract!(std::future::ready(empty_leases()));

#[tokio::test]
async fn epochs_grow_when_the_leases_are_opened_again_and_no_lease_outlives_the_process() {
    let (leases, dir) = empty_leases();
    drop(leases);
    let (name, holder) = (LeaseName("balance/p1".into()), Holder("ann".into()));
    let mut last = Epoch::NONE;
    for above in [0, 0, 700, 0] {
        let leases = opened(dir.path());
        let granted = leases.acquire(&name, &holder, Duration::from_mins(10), Epoch::new(above)).await.unwrap();
        let epoch = granted.expect("whoever held it died with the last process").epoch();
        assert!(epoch > last && epoch > Epoch::new(above));
        last = epoch;
    }
}
