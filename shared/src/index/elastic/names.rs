//! What the indices and aliases of one bank are called.

use uuid::Uuid;

use crate::config::Namespace;
use crate::index::{Generation, Seal, Sealing};

/// The names derived from the alias of queries, such as `balance`.
#[derive(Debug)]
pub(super) struct Names {
    alias: String,
}

impl Names {
    pub(super) fn of(namespace: &Namespace) -> Self {
        Self { alias: namespace.balance_alias() }
    }

    /// What queries are sent to.
    pub(super) fn alias(&self) -> &str {
        &self.alias
    }

    /// Matches every index that may hold a generation; also others, which [`Self::generation`] tells apart.
    pub(super) fn pattern(&self) -> String {
        format!("{}-*", self.alias)
    }

    /// The documents of a generation.
    pub(super) fn documents(&self, generation: Generation) -> String {
        format!("{}-{generation}", self.alias)
    }

    /// The checkpoints and parked accounts of a generation.
    pub(super) fn work(&self, generation: Generation) -> String {
        format!("{}-work", self.documents(generation))
    }

    /// The alias that documents are written through; it is there while the generation is not sealed.
    pub(super) fn open(&self, generation: Generation) -> String {
        format!("{}-open", self.documents(generation))
    }

    /// The alias of a generation that answers no queries and may be promoted.
    pub(super) fn idle(&self, generation: Generation) -> String {
        format!("{}-idle", self.documents(generation))
    }

    /// The alias of a generation that is about to be deleted.
    pub(super) fn discarded(&self, generation: Generation) -> String {
        format!("{}-discarded", self.documents(generation))
    }

    /// The alias that checkpoints and parked accounts are written through.
    pub(super) fn open_work(&self, generation: Generation) -> String {
        format!("{}-open", self.work(generation))
    }

    /// The alias that stands for a sealing. The first releases did not tell sealings under one seal apart: theirs have
    /// no id.
    pub(super) fn sealed(&self, generation: Generation, Sealing { seal, id }: Sealing) -> String {
        let sealed = format!("{}{}", self.sealed_by(generation), seal.0.as_hyphenated());
        if id.is_nil() { sealed } else { format!("{sealed}.{}", id.as_hyphenated()) }
    }

    fn sealed_by(&self, generation: Generation) -> String {
        format!("{}-sealed-by-", self.documents(generation))
    }

    /// Where the number of the newest generation is kept.
    pub(super) fn state(&self) -> String {
        format!("{}-state", self.alias)
    }

    /// The generation whose documents an index holds.
    pub(super) fn generation(&self, index: &str) -> Option<Generation> {
        let number = index.strip_prefix(&self.alias)?.strip_prefix('-')?;
        let generation = Generation(number.parse().ok()?);
        (generation.to_string() == number).then_some(generation)
    }

    /// The generation whose checkpoints and parked accounts an index holds.
    pub(super) fn generation_at_work(&self, index: &str) -> Option<Generation> {
        self.generation(index.strip_suffix("-work")?)
    }

    /// Whether an index is one of this bank's.
    pub(super) fn is_own(&self, index: &str) -> bool {
        index == self.state() || self.generation(index).or_else(|| self.generation_at_work(index)).is_some()
    }

    /// The sealing that an alias of a generation stands for.
    pub(super) fn sealing(&self, generation: Generation, alias: &str) -> Option<Sealing> {
        let sealing = alias.strip_prefix(&self.sealed_by(generation))?;
        let (seal, id) = match sealing.split_once('.') {
            Some((seal, id)) => (seal, Uuid::try_parse(id).ok()?),
            None => (sealing, Uuid::nil()),
        };
        Some(Sealing { seal: Seal(Uuid::try_parse(seal).ok()?), id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_what_it_was_made_of_and_no_other_is() {
        let names = Names::of(&"bank".parse().unwrap());
        let generation = Generation(12);
        let sealing = Sealing { seal: Seal(Uuid::from_u128(7)), id: Uuid::from_u128(8) };
        assert_eq!(names.documents(generation), "balance-000012");
        assert_eq!(names.generation("balance-000012"), Some(generation));
        assert_eq!(names.generation("balance-1000000"), Some(Generation(1_000_000)));
        assert_eq!(names.generation_at_work("balance-000012-work"), Some(generation));
        assert_eq!(names.generation_at_work("balance-000012"), None);
        for sealing in [sealing, Sealing { id: Uuid::nil(), ..sealing }] {
            assert_eq!(names.sealing(generation, &names.sealed(generation, sealing)), Some(sealing));
        }
        let of_an_earlier_release = format!("balance-000012-sealed-by-{}", sealing.seal.0);
        assert!(names.sealing(generation, &of_an_earlier_release).is_some_and(|found| found.seal == sealing.seal));
        assert_eq!(names.sealing(Generation(13), &names.sealed(generation, sealing)), None);
        for other in ["balance", "balance-12", "balance-0000012", "balance-000012-work", "balance-balance-000012"] {
            assert_eq!(names.generation(other), None, "{other}");
        }
    }
}
