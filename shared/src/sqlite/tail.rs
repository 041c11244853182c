//! The newest items of a numbered sequence, in memory, besides the file that keeps all of them.
//!
//! A reader that follows a sequence nearly always wants what was just written. Reading it from the file costs a
//! transaction and, since every commit of the writer invalidates a reader's pages, a walk through pages that are read
//! anew. A [`Tail`] answers from memory, and says when it cannot.
//!
//! Its owner pushes only committed items, in the order of their numbers, so it never differs from the file.

use std::collections::VecDeque;

/// The newest items of a sequence whose numbers have no gap.
#[derive(Debug)]
pub struct Tail<T> {
    items: VecDeque<T>,
    /// The number after the last item; `None` until one was pushed.
    next: Option<u64>,
    items_max: usize,
}

impl<T: Clone> Tail<T> {
    /// An empty tail that keeps at most `items_max` items.
    #[must_use]
    pub const fn new(items_max: usize) -> Self {
        Self { items: VecDeque::new(), next: None, items_max }
    }

    /// Adds items, the first of which has number `first`. If that is not the next number, the items before are dropped.
    pub fn push(&mut self, first: u64, items: impl IntoIterator<Item = T>) {
        if self.next != Some(first) {
            self.items.clear();
        }
        let mut next = first;
        for item in items {
            if self.items.len() == self.items_max {
                self.items.pop_front();
            }
            self.items.push_back(item);
            next += 1;
        }
        self.next = Some(next);
    }

    /// At most `limit` items after a number, or `None` if not all items after it are here.
    #[must_use]
    pub fn after(&self, number: u64, limit: usize) -> Option<Vec<T>> {
        let next = self.next?;
        let first = next - self.items.len() as u64;
        if number + 1 < first || number >= next {
            return None;
        }
        let skipped = usize::try_from(number + 1 - first).ok()?;
        Some(self.items.iter().skip(skipped).take(limit).cloned().collect())
    }

    /// Drops the items through this number.
    pub fn forget_through(&mut self, number: u64) {
        let Some(next) = self.next else { return };
        let first = next - self.items.len() as u64;
        let gone = usize::try_from((number + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        self.items.drain(..gone.min(self.items.len()));
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.items.clear();
        self.next = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail() -> Tail<u64> {
        let mut tail = Tail::new(4);
        tail.push(11, 11..=13);
        tail
    }

    #[test]
    fn what_lies_behind_a_number_is_here_whole_or_not_at_all() {
        let tail = tail();
        assert_eq!(tail.after(9, 10), None, "number 10 is not here");
        assert_eq!(tail.after(10, 10), Some(vec![11, 12, 13]));
        assert_eq!(tail.after(11, 1), Some(vec![12]));
        assert_eq!(tail.after(13, 10), Some(vec![]));
        assert_eq!(tail.after(14, 10), None, "nobody has been there");
        assert_eq!(Tail::<u64>::new(4).after(0, 10), None, "nothing is known yet");
    }

    #[test]
    fn the_oldest_are_let_go() {
        let mut tail = tail();
        tail.push(14, 14..=16);
        assert_eq!(tail.after(11, 10), None);
        assert_eq!(tail.after(12, 10), Some(vec![13, 14, 15, 16]));
        tail.forget_through(14);
        assert_eq!((tail.after(13, 10), tail.after(14, 10)), (None, Some(vec![15, 16])));
        tail.forget_through(99);
        assert_eq!((tail.after(15, 10), tail.after(16, 10)), (None, Some(vec![])));
    }

    #[test]
    fn a_sequence_that_goes_on_elsewhere_leaves_no_gap() {
        for first in [12, 15, 1] {
            let mut tail = tail();
            tail.push(first, [first]);
            assert_eq!(tail.after(first - 1, 10), Some(vec![first]), "from {first}");
            assert_eq!(tail.after(first + 1, 10), None, "from {first}");
        }
        let mut tail = tail();
        tail.clear();
        assert_eq!(tail.after(13, 10), None);
    }
}
