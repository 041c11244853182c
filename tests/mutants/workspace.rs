//! A copy of the workspace in which one file is changed at a time.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::mutant::Mutant;

/// What a build of the simulation needs, beside the manifest and a program.
const COPIED: &[&str] = &[
    "Cargo.lock",
    "clippy.toml",
    "scripts/bench-report",
    "shared",
    "account-service",
    "balance-service",
    "forwarder",
    "tests",
];

/// The version of the copy's packages. Cargo tells packages of the same name by their version and by their place in the
/// workspace, which is the same here.
const VERSION: &str = "0.0.0-mutant";

/// Replaces the program of the bank, which cargo builds for every test of its package although no schedule runs it.
const PROGRAM: &str = "//! Stands for the program, which no schedule runs.\n\nfn main() {}\n";

/// The fate of a mutant.
pub(crate) enum Verdict {
    /// A schedule noticed it, and said so in these words.
    Found(String),
    /// No schedule noticed it.
    Survived,
    /// It could not be built, or its text is not where it should be.
    Broken(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found(words) => f.write_str(words),
            Self::Survived => f.write_str("survived"),
            Self::Broken(reason) => write!(f, "broken: {reason}"),
        }
    }
}

/// The copy. It shares the built dependencies with the bank, and nothing else: its packages have another version, and
/// its programs another folder.
pub(crate) struct Workspace {
    root: PathBuf,
    built: PathBuf,
    programs: PathBuf,
}

impl Workspace {
    /// Brings the copy up to date. Files that did not change keep their times, so that little is built again.
    pub(crate) fn copy() -> io::Result<Self> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR"));
        let built = source.join("target");
        let mutants = built.join("mutants");
        let root = mutants.join("workspace");
        fs::create_dir_all(&root)?;
        let version = |version| format!("\nversion = \"{version}\"\n");
        let manifest = fs::read_to_string(source.join("Cargo.toml"))?;
        let renamed = manifest.replacen(&version(env!("CARGO_PKG_VERSION")), &version(VERSION), 1);
        assert_ne!(renamed, manifest, "the manifest says the version");
        put(renamed.as_bytes(), &root.join("Cargo.toml"))?;
        for name in COPIED {
            copy(&source.join(name), &root.join(name))?;
        }
        put_program(&root.join("src"))?;
        Ok(Self { root, built, programs: mutants.join("target") })
    }

    /// Plays schedules without a mutant.
    pub(crate) fn judge_unchanged(&self, seeds: &BTreeSet<u64>) -> Verdict {
        let played = self.play(seeds.iter().map(|seed| (*seed, 1)));
        played.unwrap_or_else(|error| Verdict::Broken(error.to_string()))
    }

    /// Plants a mutant, plays schedules until one fails, and takes it out again.
    pub(crate) fn judge(&self, mutant: &Mutant, schedules: u64) -> Verdict {
        let file = self.root.join(mutant.file);
        let Ok(original) = fs::read_to_string(&file) else {
            return Verdict::Broken(format!("there is no {}", mutant.file));
        };
        let places = original.matches(mutant.text).count();
        if places != 1 {
            return Verdict::Broken(format!("its text stands {places} times in {}", mutant.file));
        }
        let played = fs::write(&file, original.replace(mutant.text, mutant.replacement))
            .and_then(|()| self.play([(mutant.seed, 1), (0, schedules)]));
        let restored = fs::write(&file, &original);
        match (played, restored) {
            (Ok(verdict), Ok(())) => verdict,
            (Err(error), _) | (_, Err(error)) => Verdict::Broken(error.to_string()),
        }
    }

    /// Plays ranges of schedules until one fails: each range is a first seed and a count.
    fn play(&self, ranges: impl IntoIterator<Item = (u64, u64)>) -> io::Result<Verdict> {
        let built = self.cargo(&["--no-run"], 0, 0)?;
        if !built.status.success() {
            let errors = String::from_utf8_lossy(&built.stderr).into_owned();
            let first = errors.lines().find(|line| line.starts_with("error")).unwrap_or("the build failed");
            return Ok(Verdict::Broken(first.to_owned()));
        }
        for (first, count) in ranges {
            let verdict = self.explore(first, count)?;
            if !matches!(verdict, Verdict::Survived) {
                return Ok(verdict);
            }
        }
        Ok(Verdict::Survived)
    }

    fn explore(&self, first: u64, schedules: u64) -> io::Result<Verdict> {
        let played = self.cargo(&["every_schedule_keeps_the_laws"], first, schedules)?;
        if played.status.success() {
            return Ok(Verdict::Survived);
        }
        let told = String::from_utf8_lossy(&played.stdout).into_owned();
        Ok(match told.lines().find(|line| line.starts_with("seed ")) {
            Some(words) => Verdict::Found(words.chars().take(120).collect()),
            None => Verdict::Broken("the simulation failed without naming a seed".to_owned()),
        })
    }

    fn cargo(&self, arguments: &[&str], first: u64, schedules: u64) -> io::Result<Output> {
        let mut cargo = Command::new(env!("CARGO"));
        // Otherwise build scripts that look at these variables, set by the cargo around this test, would run again.
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_of_a_package(name)) {
            cargo.env_remove(name);
        }
        // As scripts/test builds the simulation, so that nothing is built twice. The lock file has another version of
        // the packages, so `--locked` would fail.
        cargo
            .args(["test", "--quiet", "--offline", "--workspace", "--all-features", "--test", "simulation"])
            .args(arguments)
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.programs)
            .env("CARGO_BUILD_BUILD_DIR", &self.built)
            .env_remove("BANK_SIMULATION_SEED")
            .env("BANK_SIMULATION_FIRST", first.to_string())
            .env("BANK_SIMULATIONS", schedules.to_string())
            .env("RUST_BACKTRACE", "0")
            .output()
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if from.is_dir() {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let name = entry?.file_name();
            copy(&from.join(&name), &to.join(&name))?;
        }
        return Ok(());
    }
    put(&fs::read(from)?, to)
}

/// Writes the replacement of the bank's program into its folder, and nothing else.
fn put_program(folder: &Path) -> io::Result<()> {
    let file = folder.join("main.rs");
    if fs::read(&file).is_ok_and(|there| there != PROGRAM.as_bytes()) {
        // An older copy, with all of the bank's modules.
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    put(PROGRAM.as_bytes(), &file)
}

/// Writes a file, unless it already has this content.
fn put(wanted: &[u8], to: &Path) -> io::Result<()> {
    if fs::read(to).is_ok_and(|there| there == wanted) { Ok(()) } else { fs::write(to, wanted) }
}

fn is_of_a_package(variable: &OsStr) -> bool {
    let name = variable.to_string_lossy();
    name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
}
