//! The document, of which only the part between two markers is generated.

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};

const BEGIN: &str = "<!-- measured: begin -->";
const END: &str = "<!-- measured: end -->";

/// Puts a text between the markers.
pub(crate) fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let old = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let new = replaced(&old, text).with_context(|| format!("{} has no place for a report", path.display()))?;
    fs::write(path, new).with_context(|| format!("{} cannot be written", path.display()))
}

fn replaced(old: &str, text: &str) -> anyhow::Result<String> {
    let (before, rest) = old.split_once(BEGIN).with_context(|| format!("the line {BEGIN} is missing"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("no line {END} comes behind {BEGIN}"))?;
    ensure!(!after.contains(BEGIN), "the line {BEGIN} stands there twice");
    Ok(format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", text.trim()))
}

#[test]
fn only_what_is_between_the_markers_changes() {
    let old = format!("# T\n{BEGIN}\nold\n{END}\n## More\n");
    let new = replaced(&old, "new\n").unwrap();
    assert_eq!(new, format!("# T\n{BEGIN}\n\nnew\n\n{END}\n## More\n"));
    assert_eq!(replaced(&new, "new").unwrap(), new);
    for broken in ["# T", "# T\n<!-- measured: begin -->", "# T\n<!-- measured: end --><!-- measured: begin -->"] {
        assert!(replaced(broken, "new").is_err(), "{broken}");
    }
}
