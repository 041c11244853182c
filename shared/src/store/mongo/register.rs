use bytes::Bytes;
use mongodb::bson::{Binary, Document, doc};
use mongodb::options::ReturnDocument;
use mongodb::{Collection, error};
use serde::{Deserialize, Serialize};

use super::MongoStore;
use super::failure::{is_duplicate, of_write, read, write};
use super::schema::{REGISTERS, binary};
use crate::coordinate::Revision;
use crate::error::BackendError;
use crate::store::{Register, Registers, WriteError};

/// A register. A removed one stays, without its value, so that its revisions keep growing (law R2).
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RegisterDocument {
    #[serde(rename = "_id")]
    name: String,
    revision: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Binary>,
}

impl RegisterDocument {
    fn into_register(self) -> Option<(String, Register)> {
        let value = Bytes::from(self.value?.bytes);
        Some((self.name, Register { revision: Revision::new(self.revision.cast_unsigned()), value }))
    }
}

impl Registers for MongoStore {
    async fn read_register(&self, name: &str) -> Result<Option<Register>, BackendError> {
        let found = read("read_register", Box::pin(async { self.registers().find_one(doc! { "_id": name }).await }));
        Ok(found.await?.and_then(RegisterDocument::into_register).map(|(_, register)| register))
    }

    async fn write_register(&self, name: &str, expected: Revision, value: Bytes) -> Result<Revision, WriteError> {
        let change = doc! { "$inc": { "revision": 1_i64 }, "$set": { "value": binary(value.to_vec()) } };
        match self.change("write_register", name, expected, change).await? {
            Some(document) => Ok(Revision::new(document.revision.cast_unsigned())),
            None => Err(self.moved(name, expected).await?),
        }
    }

    async fn remove_register(&self, name: &str, expected: Revision) -> Result<(), WriteError> {
        if expected == Revision::ABSENT && self.read_register(name).await?.is_none() {
            return Ok(());
        }
        let change = doc! { "$inc": { "revision": 1_i64 }, "$unset": { "value": "" } };
        let filter = doc! { "_id": name, "revision": signed(expected), "value": { "$exists": true } };
        let registers = self.registers();
        let removed = write("remove_register", Box::pin(async { registers.update_one(filter, change).await })).await?;
        match removed.map_err(|error| of_write("remove_register", error))?.modified_count {
            0 => Err(self.moved(name, expected).await?),
            _ => Ok(()),
        }
    }

    async fn list_registers(&self, prefix: &str) -> Result<Vec<(String, Register)>, BackendError> {
        let registers = self.registers();
        let list = async {
            let filter = doc! { "_id": { "$gte": prefix }, "value": { "$exists": true } };
            let mut cursor = registers.find(filter).sort(doc! { "_id": 1 }).await?;
            let mut found = Vec::new();
            while cursor.advance().await? {
                let register = cursor.deserialize_current()?;
                if !register.name.starts_with(prefix) {
                    break;
                }
                found.push(register);
            }
            Ok(found)
        };
        let found = read("list_registers", Box::pin(list)).await?;
        Ok(found.into_iter().filter_map(RegisterDocument::into_register).collect())
    }
}

impl MongoStore {
    fn registers(&self) -> Collection<RegisterDocument> {
        self.database.collection(REGISTERS)
    }

    /// Changes a register that is at `expected`; `None` if it is at another revision. The driver retries with a number
    /// by which the server recognises the retry, so a lost answer does not count twice.
    async fn change(
        &self,
        operation: &'static str,
        name: &str,
        expected: Revision,
        change: Document,
    ) -> Result<Option<RegisterDocument>, BackendError> {
        let absent = expected == Revision::ABSENT;
        // An upsert whose filter does not match an existing register collides with it.
        let filter = if absent {
            doc! { "_id": name, "value": { "$exists": false } }
        } else {
            doc! { "_id": name, "revision": signed(expected), "value": { "$exists": true } }
        };
        let registers = self.registers();
        let changed =
            registers.find_one_and_update(filter, change).upsert(absent).return_document(ReturnDocument::After);
        let outcome: error::Result<_> = write(operation, Box::pin(async { changed.await })).await?;
        match outcome {
            Ok(document) => Ok(document),
            Err(error) if is_duplicate(&error) => Ok(None),
            Err(error) => Err(of_write(operation, error)),
        }
    }

    async fn moved(&self, name: &str, expected: Revision) -> Result<WriteError, BackendError> {
        let actual = self.read_register(name).await?.map_or(Revision::ABSENT, |register| register.revision);
        Ok(WriteError::Moved { name: name.to_owned(), expected, actual })
    }
}

/// A revision as a BSON integer; one too large for it matches no register.
fn signed(revision: Revision) -> i64 {
    i64::try_from(revision.get()).unwrap_or(i64::MAX)
}
