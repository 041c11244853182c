//! The forwarder's checkpoint, judged whenever it is noted.
//!
//! SP1  Everything the feed yields up to a noted position was published, or was committed before the noted incarnation
//!      of its partition began, so that readers of that incarnation have it from the store; or its partition is noted
//!      as one to be renewed, so that this will be so.

use std::collections::BTreeMap;

use serde::Deserialize;
use shared::coordinate::{Offset, Position};
use shared::log::Incarnation;
use shared::partition::{Partition, PartitionMap};

use super::State;

/// The register that holds the checkpoint.
const REGISTER: &str = "forwarder/checkpoint";

/// The end that is noted of a partition that could not be renewed yet: no incarnation reaches it.
const TO_BE_RENEWED: Offset = Offset::new(i64::MAX.cast_unsigned());

#[derive(Deserialize)]
struct Checkpoint {
    position: Position,
    ends: BTreeMap<Partition, End>,
}

#[derive(Deserialize)]
struct End {
    incarnation: Incarnation,
    last: Offset,
}

fn noted(state: &State) -> Option<Checkpoint> {
    let register = state.registers.get(REGISTER)?;
    Some(serde_json::from_slice(&register.value).expect("only the forwarder writes its register"))
}

/// The end of a partition as the forwarder has noted it.
pub(super) fn noted_end(state: &State, partition: Partition) -> Option<(Incarnation, Offset)> {
    let End { incarnation, last } = noted(state)?.ends.remove(&partition)?;
    Some((incarnation, last))
}

/// Judges a written register if it holds the forwarder's checkpoint.
pub(super) fn judge(state: &mut State, register: &str) {
    let Some(Checkpoint { position, ends }) = noted(state).filter(|_| register == REGISTER) else { return };
    let reached = match position {
        Position::Start => 0,
        Position::Number(number) => number,
        Position::Token(_) => unreachable!("this store numbers its writes"),
    };
    let partitions = u16::try_from(ends.len()).ok().and_then(|count| PartitionMap::new(count).ok());
    let partitions = partitions.expect("the forwarder notes an end for every partition");
    let missing = (0..).zip(state.store.first(reached)).find(|(number, recorded)| {
        let end = ends.get(&partitions.partition_of(&recorded.stream));
        let born = end.and_then(|end| state.log.born_at(&end.incarnation));
        let is_to_be_renewed = end.is_some_and(|end| end.last == TO_BE_RENEWED);
        !state.log.was_published(recorded) && !is_to_be_renewed && born.is_none_or(|born| born <= *number)
    });
    if let Some((number, recorded)) = missing {
        let (stream, version) = (recorded.stream, recorded.last_version());
        state.audit.violate("SP1 a noted position is never ahead", || {
            format!("{reached} is noted, and {stream} {version} at {} was not published", number + 1)
        });
    }
}
