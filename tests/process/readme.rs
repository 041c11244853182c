//! The README's session with the bank in one process.

use std::path::Path;

use crate::bank::{BANK, Bank};
use crate::customers::session;

#[tokio::test]
async fn the_session_in_the_readme_works_as_printed() {
    let folder = tempfile::tempdir().unwrap();
    let bank = Bank::start(&folder.path().join("data")).await;
    session::play(Path::new(env!("CARGO_MANIFEST_DIR")), Path::new(BANK), &bank.account_url(""), &bank.balance_url(""))
        .await;
}
