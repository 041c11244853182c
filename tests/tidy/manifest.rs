//! TI3: which member may depend on which.

use std::process::Command;

use serde_json::Value;

use crate::{Fault, root};

/// Every member, and the members it may depend on. A service never depends on a service.
const MAY_DEPEND: [(&str, &[&str]); 7] = [
    ("shared", &[]),
    ("account-service", &["shared"]),
    ("forwarder", &["shared"]),
    ("balance-service", &["shared"]),
    ("bank", &["shared", "account-service", "forwarder", "balance-service"]),
    ("bench-report", &[]),
    ("cluster", &[]),
];

/// A member of the workspace as its manifest describes it.
pub(crate) struct Member {
    name: String,
    path: String,
    manifest: String,
    dependencies: Vec<String>,
}

/// The members, as cargo sees them.
pub(crate) fn members() -> Vec<Member> {
    let cargo = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs: it started this test");
    assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
    let metadata: Value = serde_json::from_slice(&cargo.stdout).expect("cargo metadata is JSON");
    let texts = |list: &Value| -> Vec<String> {
        // Dev-dependencies, such as what tests start beside their own crate, have no direction.
        let built = list.as_array().into_iter().flatten().filter(|item| item["kind"] != "dev");
        let names = built.map(|item| item["name"].as_str().unwrap_or_default());
        names.map(str::to_owned).collect()
    };
    let packages = metadata["packages"].as_array().expect("a workspace has packages");
    packages
        .iter()
        .map(|package| {
            let path = package["manifest_path"].as_str().expect("a package has a manifest").to_owned();
            Member {
                name: package["name"].as_str().expect("a package has a name").to_owned(),
                manifest: std::fs::read_to_string(&path).expect("a manifest can be read"),
                dependencies: texts(&package["dependencies"]),
                path,
            }
        })
        .collect()
}

pub(crate) fn faults(members: &[Member]) -> Vec<Fault> {
    let ours: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
    let mut faults = Vec::new();
    for member in members {
        let mut fault = |what: String| faults.push(Fault { path: member.path.clone(), line: 1, what });
        if !member.manifest.contains("[lints]\nworkspace = true") {
            fault("add [lints] workspace = true".to_owned());
        }
        let Some((_, allowed)) = MAY_DEPEND.iter().find(|(name, _)| *name == member.name) else {
            fault(format!("{} is a new member: say in tests/tidy/manifest.rs what it may depend on", member.name));
            continue;
        };
        for dependency in member.dependencies.iter().filter(|name| ours.contains(&name.as_str())) {
            // A crate may name itself for the features its tests need.
            if *dependency != member.name && !allowed.contains(&dependency.as_str()) {
                fault(format!("{} must not depend on {dependency}: meet in shared", member.name));
            }
        }
    }
    faults
}

#[test]
fn a_service_that_depends_on_a_service_is_found() {
    let member = |name: &str, manifest: &str, dependencies: &[&str]| Member {
        name: name.to_owned(),
        path: name.to_owned(),
        manifest: manifest.to_owned(),
        dependencies: dependencies.iter().map(|&name| name.to_owned()).collect(),
    };
    let lints = "[lints]\nworkspace = true\n";
    let good = member("forwarder", lints, &["shared", "tokio"]);
    let planted = [
        good,
        member("balance-service", lints, &["shared", "forwarder"]),
        member("shared", "", &["serde"]),
        member("novelty", lints, &[]),
    ];
    let found: Vec<String> = faults(&planted).iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "balance-service:1: balance-service must not depend on forwarder: meet in shared",
            "shared:1: add [lints] workspace = true",
            "novelty:1: novelty is a new member: say in tests/tidy/manifest.rs what it may depend on",
        ]
    );
}
