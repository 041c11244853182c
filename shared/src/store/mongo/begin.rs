//! How a process starts to use its database.

use std::time::Duration;

use mongodb::Database;
use mongodb::bson::{Timestamp as ClusterTime, doc};
use tokio::time::Instant;
use tracing::debug;

use super::schema::{About, create};
use super::{MongoOpenError, failure};
use crate::error::BackendError;
use crate::store::SERVER_FOUND_WITHIN;

/// How long a starting process looks for a primary: longer than an election takes. Later calls give up sooner, and
/// callers with more time than a customer retry.
pub(super) const PRIMARY_MAX: Duration = Duration::from_secs(8);

/// Creates what is missing in the database; if there is no primary, looks for one for up to `patience`.
pub(super) async fn begin(database: &Database, patience: Duration) -> Result<About, MongoOpenError> {
    let began = Instant::now();
    loop {
        let asked = Instant::now();
        match Box::pin(make(database)).await {
            // A call that failed sooner did not run out of time, and would fail again.
            Err(MongoOpenError::Backend(failure))
                if failure::is_without_server(&failure)
                    && asked.elapsed() >= SERVER_FOUND_WITHIN
                    && began.elapsed() < patience =>
            {
                debug!(%failure, "no primary yet, looking again");
            }
            made => return made,
        }
    }
}

async fn make(database: &Database) -> Result<About, MongoOpenError> {
    let now = cluster_time(database).await?.ok_or(MongoOpenError::NotReplicated)?;
    Ok(failure::read("open", Box::pin(create(database, now))).await?)
}

/// The newest moment of the cluster; `None` if the server is not a member of one.
async fn cluster_time(database: &Database) -> Result<Option<ClusterTime>, BackendError> {
    let hello = failure::read("open", Box::pin(async { database.run_command(doc! { "hello": 1 }).await })).await?;
    Ok(hello.get_timestamp("operationTime").ok())
}

#[cfg(test)]
mod tests {
    use super::super::tests::store_without_server;
    use super::*;

    #[tokio::test]
    async fn a_process_that_starts_looks_for_a_primary_for_longer_than_a_call_does() {
        let store = store_without_server().await;
        let began = Instant::now();
        // The first look ends long before that, the second one after it.
        let patience = (SERVER_FOUND_WITHIN * 2).saturating_sub(Duration::from_millis(1));
        let failed = Box::pin(begin(&store.database, patience)).await.unwrap_err();
        assert!(matches!(&failed, MongoOpenError::Backend(failure) if failure::is_without_server(failure)), "{failed}");
        assert!(began.elapsed() >= 2 * SERVER_FOUND_WITHIN, "{:?}", began.elapsed());
    }
}
