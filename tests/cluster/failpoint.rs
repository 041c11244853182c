//! Faults that MongoDB inflicts on one kind of service, known by its `appName`.

use std::time::Duration;

use mongodb::Client;
use mongodb::bson::{Bson, Document, doc};

use crate::server::Server;

/// The service a fault hits.
pub(crate) struct Victim<'a> {
    /// The name the service gives itself to MongoDB.
    pub(crate) application: &'a str,
    /// Only commands on this collection, `database.collection`; on any collection if `None`.
    pub(crate) collection: Option<String>,
}

/// What happens to a command.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// It fails with this code before it has an effect.
    Error(i32),
    /// It waits, and then takes effect, even if its sender is dead by then.
    Late(Duration),
}

/// Sets a fault for the next commands of these names; for all of them if no number is given.
pub(crate) async fn set(victim: &Victim<'_>, commands: &[&str], fault: Fault, times: impl Into<Option<i32>>) {
    let mut data = doc! { "failCommands": commands.to_vec(), "appName": victim.application };
    if let Some(collection) = &victim.collection {
        data.insert("namespace", collection);
    }
    match fault {
        Fault::Error(code) => data.insert("errorCode", code),
        Fault::Late(time) => {
            data.insert("blockConnection", true);
            data.insert("blockTimeMS", i64::try_from(time.as_millis()).expect("a short time"))
        }
    };
    let mode = times.into().map_or_else(|| Bson::from("alwaysOn"), |times| doc! { "times": times }.into());
    order(doc! { "configureFailPoint": "failCommand", "mode": mode, "data": data }).await;
}

/// Clears all faults.
pub(crate) async fn clear() {
    order(doc! { "configureFailPoint": "failCommand", "mode": "off" }).await;
}

async fn order(command: Document) {
    let client = Client::with_uri_str(Server::Mongo.url()).await.expect("a URL of MongoDB");
    client.database("admin").run_command(command).await.expect("MongoDB takes test commands");
}
