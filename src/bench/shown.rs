//! Waits until the projection shows a version of an account.

use std::time::Duration;

use anyhow::Context;
use hyper::StatusCode;
use shared::id::AccountId;
use tokio::time::{Instant, sleep};

use super::account::Side;
use super::connection::{Answer, Call, Connection};

/// How long one request waits for a version; it is sent again while there is time.
const WAIT_MS: u32 = 30_000;

/// How long to wait before asking again for an account that is not visible yet.
const AGAIN_AFTER: Duration = Duration::from_millis(20);

/// The account at this version or a later one; or the answer that says why not, if the version may never come or has
/// not come by `give_up`.
pub(super) async fn shown(
    connection: &mut Connection,
    account: AccountId,
    version: u64,
    give_up: Instant,
) -> anyhow::Result<Result<Side, Answer>> {
    let call = Call::get(format!("/balance/{account}?min_version={version}&wait_ms={WAIT_MS}"));
    loop {
        let answer = connection.send(&call).await?;
        if answer.status.is_success() {
            return Ok(Ok(serde_json::from_slice(&answer.body).context("cannot read a balance")?));
        }
        let is_late = matches!(answer.status, StatusCode::GATEWAY_TIMEOUT | StatusCode::SERVICE_UNAVAILABLE);
        if !is_late || Instant::now() >= give_up {
            return Ok(Err(answer));
        }
        sleep(AGAIN_AFTER).await;
    }
}
