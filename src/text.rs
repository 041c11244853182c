//! The text of a report, line by line.

use std::fmt::{Display, Write};

use crate::number::grouped;

/// How many things of one kind are listed one by one.
const LISTED_MAX: usize = 20;

/// A text that grows by lines.
#[derive(Debug, Default)]
pub(crate) struct Text(String);

impl Text {
    /// Adds a line.
    pub(crate) fn line(&mut self, line: impl Display) {
        writeln!(self.0, "{line}").expect("a string takes every text");
    }

    /// Adds a line for each of some things, as far as there is room, and says how many of all of them are not listed.
    /// Each line begins with `before`.
    pub(crate) fn list(&mut self, before: &str, things: impl IntoIterator<Item = impl Display>, total: u64) {
        let mut listed = 0;
        for thing in things.into_iter().take(LISTED_MAX) {
            self.line(format_args!("{before}{thing}"));
            listed += 1;
        }
        if total > listed {
            self.line(format_args!("{before}and {} more", grouped(total - listed)));
        }
    }

    /// The whole text.
    pub(crate) fn into_string(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_listed_is_counted() {
        let told = |things: u64, total| {
            let mut text = Text::default();
            text.list("  ", 1..=things, total);
            text.into_string()
        };
        assert_eq!(told(0, 0), "");
        assert_eq!(told(2, 2), "  1\n  2\n");
        assert!(told(20, 20).ends_with("  19\n  20\n"));
        assert!(told(21, 21).ends_with("  19\n  20\n  and 1 more\n"));
        assert_eq!(told(1, 5_001), "  1\n  and 5,000 more\n");
    }
}
