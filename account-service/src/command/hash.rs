use std::hash::{BuildHasherDefault, Hasher};

/// The hasher of maps whose keys are ids of accounts.
pub(super) type IdHash = BuildHasherDefault<IdHasher>;

/// An odd number whose bits are spread evenly: the fractional part of the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// A fast hash of ids. It has no random seed, so a run can be repeated exactly.
///
/// Half of an id is random already. Made-up ids that collide do little harm: only existing accounts are kept, under ids
/// that the bank generated, and the number of ids requested at one time is bounded.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.0 = (self.0.rotate_left(32) ^ u64::from_le_bytes(word)).wrapping_mul(SPREAD);
        }
    }

    /// Ignores the length, which is the same for all ids.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        // The high bits of a product depend on all bits of its factors, the low bits on few.
        self.0 ^ (self.0 >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::hash::BuildHasher;

    use shared::clock::{Clock, Timestamp};
    use shared::id::Ids;

    #[test]
    fn ids_of_one_moment_are_spread_over_all_places() {
        let ids = Ids::seeded(Clock::of(|| Timestamp::from_micros(1_700_000_000_000_000)), 1);
        let hashes: Vec<u64> = (0..4_096).map(|_| IdHash::default().hash_one(ids.account())).collect();
        for bits_from in [0, 16, 32, 57] {
            let places: BTreeSet<u64> = hashes.iter().map(|hash| (hash >> bits_from) & 63).collect();
            assert_eq!(places.len(), 64, "from bit {bits_from}");
        }
        assert_eq!(hashes.iter().collect::<BTreeSet<_>>().len(), hashes.len());
    }
}
