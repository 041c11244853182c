//! How a process begins to work with its database.

use std::time::Duration;

use mongodb::Database;
use mongodb::bson::{Timestamp as ClusterTime, doc};
use tokio::time::Instant;
use tracing::debug;

use super::schema::{About, create};
use super::{MongoOpenError, failure};
use crate::error::BackendError;
use crate::store::SERVER_FOUND_WITHIN;

/// How long a process that starts looks for a primary: longer than an election. Later on a call ends sooner, and
/// whoever has more time than a customer makes it again.
pub(super) const PRIMARY_MAX: Duration = Duration::from_secs(8);

/// Makes what is missing in the database, and looks for a primary for so long if there is none.
pub(super) async fn begin(database: &Database, patience: Duration) -> Result<About, MongoOpenError> {
    let began = Instant::now();
    loop {
        let asked = Instant::now();
        match Box::pin(make(database)).await {
            // What failed sooner was not for want of time, and would fail again.
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

/// The newest moment of the cluster; nothing when the server is not a member of one.
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
        // The first look ends long before that, and the second one behind it.
        let patience = (SERVER_FOUND_WITHIN * 2).saturating_sub(Duration::from_millis(1));
        let failed = Box::pin(begin(&store.database, patience)).await.unwrap_err();
        assert!(matches!(&failed, MongoOpenError::Backend(failure) if failure::is_without_server(failure)), "{failed}");
        assert!(began.elapsed() >= 2 * SERVER_FOUND_WITHIN, "{:?}", began.elapsed());
    }
}
