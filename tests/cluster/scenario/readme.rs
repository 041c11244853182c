//! The README's session, with a bank of separate processes on servers.

use std::sync::Arc;

use crate::cluster::Plan;
use crate::customers::session;
use crate::root;
use crate::service::{Kind, program};
use crate::tally::Tally;

pub(super) async fn play(name: &'static str, tally: Arc<Tally>) {
    let mut cluster = Plan::new(name, tally).start().await;
    let account_service = cluster.of(Kind::Account).next().expect("there is one").url("");
    let balance_service = cluster.of(Kind::Balance).next().expect("there is one").url("");
    session::play(&root(), &program("bank"), &account_service, &balance_service).await;
    cluster.stop().await;
}
