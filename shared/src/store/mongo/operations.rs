//! What the server is at work on.

use futures::TryStreamExt;
use mongodb::Client;
use mongodb::bson::{Document, doc};
use mongodb::error::Error;
use mongodb::options::ReadConcern;

/// These fields of the operations and idle sessions that match, of all that the primary lists. It needs no privilege:
/// only those of the bank's own user are asked for.
pub(super) async fn operations(client: &Client, matching: Document, fields: Document) -> Result<Vec<Document>, Error> {
    let admin = client.database("admin");
    let found = admin.aggregate([
        doc! { "$currentOp": { "allUsers": false, "idleSessions": true } },
        doc! { "$match": matching },
        doc! { "$project": fields },
    ]);
    // Running operations are not data that a majority could have.
    found.read_concern(ReadConcern::local()).await?.try_collect().await
}
