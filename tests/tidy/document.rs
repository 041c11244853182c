//! TI6 for documents: one title each, and no broken link inside the project.

use crate::Fault;
use crate::source::Source;

/// The targets of a line's links, as in `[text](target)`.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
}

/// The file a link leads to, relative to the root; `None` for a link out of the project or within the page.
fn target_of(document: &str, link: &str) -> Option<String> {
    let file = link.split('#').next().unwrap_or_default();
    if file.is_empty() || link.contains("://") {
        return None;
    }
    let mut folders: Vec<&str> = document.split('/').collect();
    folders.pop();
    for part in file.split('/') {
        match part {
            ".." => drop(folders.pop()),
            "." | "" => {}
            name => folders.push(name),
        }
    }
    Some(folders.join("/"))
}

pub(crate) fn faults(sources: &[Source], exists: &dyn Fn(&str) -> bool) -> Vec<Fault> {
    let mut faults = Vec::new();
    for document in sources.iter().filter(|source| source.is_document()) {
        let mut fault = |line: usize, what: String| faults.push(Fault { path: document.path.clone(), line, what });
        let mut is_code = false;
        let mut titles = 0;
        for (index, line) in document.text.lines().enumerate() {
            if line.starts_with("```") {
                is_code = !is_code;
            }
            if is_code {
                continue;
            }
            titles += usize::from(line.starts_with("# "));
            for target in links(line).filter_map(|link| target_of(&document.path, link)) {
                if !exists(&target) {
                    fault(index + 1, format!("{target} does not exist"));
                }
            }
        }
        if titles != 1 {
            fault(1, format!("a document has one title, not {titles}"));
        }
    }
    faults
}

#[test]
fn a_link_into_nothing_and_a_second_title_are_found() {
    let found = |text: &str| {
        let exists = |path: &str| path == "docs/a.md" || path == "README.md";
        let faults = faults(&[Source::new("docs/b.md", text)], &exists);
        faults.into_iter().map(|fault| fault.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(found("# T\n[a](a.md#x) [r](../README.md) [w](https://example.org) [h](#here)"), [""; 0]);
    assert_eq!(found("# T\n\n[c](c.md)"), ["docs/b.md:3: docs/c.md does not exist"]);
    assert_eq!(found("# T\n# U\n```\n# a comment\n[x](y)\n```"), ["docs/b.md:1: a document has one title, not 2"]);
}
