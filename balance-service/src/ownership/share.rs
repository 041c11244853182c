//! Which process owns which partition, decided in each process by the same rule from what all can see. Pure.
//!
//! O1  While no process joins or leaves, all end up with a fair share: the sizes differ by at most one.
//! O2  Sticky: a process gives a partition away only if it has more than its share.

use std::collections::{BTreeMap, BTreeSet};

use shared::lease::Holder;
use shared::partition::Partition;

/// What a process should do now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moves {
    /// Partitions to acquire; no process owns them.
    pub(crate) acquire: Vec<Partition>,
    /// Partitions to release.
    pub(crate) release: Vec<Partition>,
}

/// Decides what `me` should do, given the members and who owns what.
pub(crate) fn share(
    me: &Holder,
    members: &BTreeSet<Holder>,
    owners: &BTreeMap<Partition, Holder>,
    partitions: impl Iterator<Item = Partition>,
) -> Moves {
    let partitions: Vec<Partition> = partitions.collect();
    let mine: Vec<Partition> =
        partitions.iter().filter(|partition| owners.get(partition) == Some(me)).copied().collect();
    let quota = quota(me, members, owners, partitions.len());
    if mine.len() > quota {
        return Moves { acquire: Vec::new(), release: mine[quota..].to_vec() };
    }
    let free: Vec<Partition> = partitions.into_iter().filter(|partition| !owners.contains_key(partition)).collect();
    // Members start at different places, so that they seldom ask for the same partition.
    let rank = members.iter().position(|member| member == me).unwrap_or(0);
    let start = if free.is_empty() { 0 } else { rank * free.len() / members.len().max(1) };
    let wanted = free.iter().cycle().skip(start).take(free.len().min(quota - mine.len()));
    Moves { acquire: wanted.copied().collect(), release: Vec::new() }
}

/// How many partitions `me` may own. A remainder of the division goes to the members that already own most, so that
/// nothing moves because of it.
fn quota(me: &Holder, members: &BTreeSet<Holder>, owners: &BTreeMap<Partition, Holder>, partitions: usize) -> usize {
    let mut owned: BTreeMap<&Holder, usize> = members.iter().map(|member| (member, 0)).collect();
    owned.entry(me).or_default();
    for owner in owners.values() {
        if let Some(count) = owned.get_mut(owner) {
            *count += 1;
        }
    }
    let (fair, rest) = (partitions / owned.len(), partitions % owned.len());
    let mut by_size: Vec<(&Holder, usize)> = owned.into_iter().collect();
    by_size.sort_by(|(a, has_a), (b, has_b)| has_b.cmp(has_a).then(a.cmp(b)));
    let rank = by_size.iter().position(|(holder, _)| *holder == me).unwrap_or(usize::MAX);
    if rank < rest { fair + 1 } else { fair }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn holder(number: usize) -> Holder {
        Holder(format!("h{number}").into())
    }

    fn all(partitions: u16) -> impl Iterator<Item = Partition> {
        (1..=partitions).map(Partition::new)
    }

    /// Lets every member act in turn until nothing moves; returns how many partitions were given away.
    fn settle(members: &BTreeSet<Holder>, owners: &mut BTreeMap<Partition, Holder>, partitions: u16) -> usize {
        let mut released = 0;
        for _ in 0..20 {
            let before = owners.clone();
            for me in members {
                let moves = share(me, members, owners, all(partitions));
                released += moves.release.len();
                owners.retain(|partition, _| !moves.release.contains(partition));
                owners.extend(moves.acquire.into_iter().map(|partition| (partition, me.clone())));
            }
            if *owners == before {
                return released;
            }
        }
        panic!("the shares do not settle");
    }

    proptest! {
        #[test]
        fn shares_are_fair_and_complete_whoever_comes_and_goes(
            partitions in 1_u16..40,
            steps in prop::collection::vec(prop::collection::btree_set(0_usize..6, 1..6), 1..5),
        ) {
            let mut owners = BTreeMap::new();
            for step in steps {
                let members: BTreeSet<Holder> = step.into_iter().map(holder).collect();
                owners.retain(|_, owner| members.contains(owner));
                settle(&members, &mut owners, partitions);
                prop_assert_eq!(owners.len(), usize::from(partitions));
                let sizes = members.iter().map(|m| owners.values().filter(|o| *o == m).count());
                let (least, most) = (sizes.clone().min().unwrap(), sizes.max().unwrap());
                prop_assert!(most - least <= 1, "{} to {}", least, most);
            }
        }
    }

    #[test]
    fn a_newcomer_moves_only_his_share() {
        let mut owners = BTreeMap::new();
        settle(&[holder(0), holder(1)].into(), &mut owners, 8);
        let released = settle(&[holder(0), holder(1), holder(2)].into(), &mut owners, 8);
        assert_eq!(released, 2);
    }
}
