//! The positions of feeds, as text: where in the oplog, and in which collection.
//!
//! Where is a moment of the cluster, or a token of the server. Which collection is the UUID that the server gave it
//! when it was created, for a name is not enough: an oplog also holds what a dropped collection of that name had. After
//! a backup is restored, the forwarder's position comes from the backup, and what follows it in the oplog are commits
//! that the restore has removed. Published, they would be folded onto what was restored. Since a restored collection
//! has another UUID, such a position counts as lost instead.
//!
//! Positions of earlier releases name no collection. They are taken as they are.

use mongodb::Database;
use mongodb::bson::{Bson, Document, RawDocument, Timestamp as ClusterTime, Uuid, doc};

use super::failure::read;
use super::schema::EVENTS;
use crate::coordinate::Position;
use crate::error::BackendError;

/// Marks a moment of the cluster; everything else is the server's own token, in hexadecimal.
const MOMENT: &str = "moment:";

/// Stands before the collection. No moment and no token has it.
const OF: char = '@';

/// The options of a change stream for a moment to begin at and a token to begin after.
pub(super) const MOMENT_FIELD: &str = "startAtOperationTime";
pub(super) const TOKEN: &str = "resumeAfter";

/// Which collection the events are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CollectionId(Uuid);

impl CollectionId {
    #[cfg(test)]
    pub(super) const fn new(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The one that has the events of this database now.
    pub(super) async fn of_events(database: &Database) -> Result<Self, BackendError> {
        let list = doc! { "listCollections": 1, "filter": { "name": EVENTS } };
        let answer = read("open", async { database.run_command(list).await }).await?;
        let uuid = uuid_in(&answer);
        uuid.map(Self).ok_or_else(|| BackendError::not_done("open", "the collection of events is not listed"))
    }

    /// The position from which a feed yields everything at and after a moment.
    pub(super) fn position_at(self, moment: ClusterTime) -> Position {
        self.position(&format!("{MOMENT}{}:{}", moment.time, moment.increment))
    }

    /// The position after a token of the server.
    pub(super) fn position_after(self, token: &RawDocument) -> Option<Position> {
        token.get_str("_data").ok().map(|data| self.position(data))
    }

    fn position(self, place: &str) -> Position {
        Position::Token(format!("{place}{OF}{}", self.0).into())
    }

    /// Where the server should begin; `None` for a position that was not made for this collection. `start` is a moment
    /// before the first commit.
    pub(super) fn beginning(self, after: &Position, start: ClusterTime) -> Option<Document> {
        match after {
            Position::Start => Some(doc! { MOMENT_FIELD: start }),
            Position::Number(_) => None,
            Position::Token(token) => self.place_in(token).and_then(beginning_at),
        }
    }

    fn place_in(self, token: &str) -> Option<&str> {
        match token.split_once(OF) {
            Some((place, collection)) => (Uuid::parse_str(collection).ok()? == self.0).then_some(place),
            None => Some(token),
        }
    }
}

fn beginning_at(place: &str) -> Option<Document> {
    match place.strip_prefix(MOMENT) {
        Some(moment) => {
            let (time, increment) = moment.split_once(':')?;
            let moment = ClusterTime { time: time.parse().ok()?, increment: increment.parse().ok()? };
            Some(doc! { MOMENT_FIELD: moment })
        }
        None => place.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| doc! { TOKEN: { "_data": place } }),
    }
}

/// The UUID of the only collection that is listed.
fn uuid_in(answer: &Document) -> Option<Uuid> {
    let listed = answer.get_document("cursor").ok()?.get_array("firstBatch").ok()?.first()?;
    let info = listed.as_document()?.get_document("info").ok()?;
    let Some(Bson::Binary(uuid)) = info.get("uuid") else { return None };
    uuid.to_uuid().ok()
}

#[cfg(test)]
mod tests {
    use mongodb::bson::rawdoc;

    use super::*;

    const THIS: CollectionId = CollectionId::new([1; 16]);
    const START: ClusterTime = ClusterTime { time: 1, increment: 1 };
    const LATER: ClusterTime = ClusterTime { time: 7, increment: 2 };

    #[test]
    fn a_position_is_known_to_its_own_collection_alone() {
        let at = THIS.position_at(LATER);
        let after = THIS.position_after(&rawdoc! { "_data": "82AB" }).unwrap();
        assert_eq!(THIS.beginning(&at, START), Some(doc! { MOMENT_FIELD: LATER }));
        assert_eq!(THIS.beginning(&after, START), Some(doc! { TOKEN: { "_data": "82AB" } }));
        for position in [at, after] {
            assert_eq!(CollectionId::new([2; 16]).beginning(&position, START), None, "{position}");
        }
    }

    #[test]
    fn a_position_of_a_release_that_named_no_collection_is_still_read() {
        for (before, expected) in
            [("moment:7:2", doc! { MOMENT_FIELD: LATER }), ("82AB", doc! { TOKEN: { "_data": "82AB" } })]
        {
            assert_eq!(THIS.beginning(&Position::Token(before.into()), START), Some(expected));
        }
    }

    #[test]
    fn a_position_of_another_kind_of_store_has_no_beginning() {
        let tokens = ["from elsewhere", "moment:x", "moment:7", "82AB@", "82AB@x"];
        let tokens = tokens.map(|text| Position::Token(text.into()));
        for position in [Position::Number(1)].into_iter().chain(tokens) {
            assert_eq!(THIS.beginning(&position, START), None, "{position}");
        }
    }
}
