//! How many partitions a bank has, agreed on by all of its processes.
//!
//! PA1  All processes on one store have the same partitions, whichever logs they name.
//! PA2  A process that is refused has changed nothing.
//!
//! Offsets, floors and checkpoints are kept by partition, and another number of partitions puts an account elsewhere. A
//! log remembers its number, but a log can be new while the rest of the bank is old; the store is what lasts.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::config::StoreUrl;
use crate::coordinate::Revision;
use crate::error::BackendError;
use crate::partition::PartitionMap;
use crate::store::{Registers, WriteError};

/// The register that holds the number.
const REGISTER: &str = "partitions";

/// Why a process may not work with a number of partitions.
#[derive(Debug, thiserror::Error)]
pub enum PartitionsError {
    /// The bank has another number.
    #[error(
        "this bank has {stored} partitions, not {asked}: set --partitions {stored} (BANK_PARTITIONS={stored}){}",
        other_ways(*is_embedded, *asked)
    )]
    Other {
        /// How many the bank has.
        stored: u16,
        /// How many were asked for.
        asked: u16,
        /// Whether the number is in the store of a data folder.
        is_embedded: bool,
    },
    /// The store failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// What else can be done than to ask for the number that the bank has. No tool of the bank removes a register from the
/// file of an embedded store, and one process has little use for another number.
fn other_ways(is_embedded: bool, asked: u16) -> String {
    if is_embedded {
        ", with which its data folder was made; that number cannot be changed".to_owned()
    } else {
        format!(
            " for each of its processes; or, to change the number, stop all of them but account services, delete its \
             partition log and the register \"{REGISTER}\" of its store, and start with {asked}; nothing is lost, the \
             workers read what they need from the store"
        )
    }
}

#[derive(Serialize, Deserialize)]
struct Agreed {
    partitions: u16,
}

/// Refuses a number other than the bank's. Nothing is noted, so this may run before a log is created. `store` is where
/// the registers are.
///
/// # Errors
/// The bank has another number, or the store failed.
pub(super) async fn check<R: Registers>(
    registers: &R,
    store: &StoreUrl,
    asked: PartitionMap,
) -> Result<(), PartitionsError> {
    let Some(stored) = registers.read_register(REGISTER).await? else { return Ok(()) };
    let Agreed { partitions } = serde_json::from_slice(&stored.value)
        .map_err(|error| BackendError::broken("read the number of partitions", error))?;
    if partitions == asked.partitions() {
        Ok(())
    } else {
        let is_embedded = *store == StoreUrl::Embedded;
        Err(PartitionsError::Other { stored: partitions, asked: asked.partitions(), is_embedded })
    }
}

/// Notes the number of a bank that has none, once its log has accepted it.
///
/// # Errors
/// Another process noted another number meanwhile, or the store failed.
pub(super) async fn agree<R: Registers>(
    registers: &R,
    store: &StoreUrl,
    asked: PartitionMap,
) -> Result<(), PartitionsError> {
    let value = serde_json::to_vec(&Agreed { partitions: asked.partitions() })
        .map_err(|error| BackendError::broken("write the number of partitions", error))?;
    if registers.read_register(REGISTER).await?.is_none() {
        match registers.write_register(REGISTER, Revision::ABSENT, Bytes::from(value)).await {
            Ok(_) | Err(WriteError::Moved { .. }) => {}
            Err(WriteError::Backend(failure)) => return Err(failure.into()),
        }
    }
    check(registers, store, asked).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::DataFolder;
    use crate::store::EmbeddedStore;

    #[tokio::test]
    async fn the_first_number_stays_and_another_one_is_refused_with_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(&DataFolder::open(folder.path()).unwrap()).unwrap();
        let here = &StoreUrl::Embedded;
        let [eight, nine] = [8, 9].map(|count| PartitionMap::new(count).unwrap());
        check(&store, here, nine).await.unwrap();
        check(&store, here, eight).await.unwrap();
        agree(&store, here, eight).await.unwrap();
        agree(&store, here, eight).await.unwrap();
        for refused in [check(&store, here, nine).await, agree(&store, here, nine).await] {
            let refusal = refused.unwrap_err();
            assert!(matches!(refusal, PartitionsError::Other { stored: 8, asked: 9, is_embedded: true }), "{refusal}");
        }
        check(&store, here, eight).await.unwrap();
    }

    #[test]
    fn the_advice_can_be_followed_where_the_number_is_kept() {
        let told = |is_embedded| PartitionsError::Other { stored: 8, asked: 9, is_embedded }.to_string();
        for (is_embedded, told) in [true, false].map(|is_embedded| (is_embedded, told(is_embedded))) {
            assert!(told.contains("has 8 partitions, not 9: set --partitions 8 (BANK_PARTITIONS=8)"), "{told}");
            let change =
                "stop all of them but account services, delete its partition log and the register \"partitions\"";
            assert_eq!(told.contains(change), !is_embedded, "{told}");
        }
    }
}
