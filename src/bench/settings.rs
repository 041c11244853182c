//! The settings of a run that opens a bank of its own, and the folder of that bank.

use std::path::Path;

use anyhow::{Context, bail};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};
use shared::config::Settings;
use shared::process::BeginError;
use shared::sqlite::DataFolder;
use shared::store::EmbeddedStore;
use tempfile::TempDir;

/// The argument that names the folder.
const DATA: &str = "data";

const DATA_HELP: &str = "Folder of the embedded bank that the run opens, which must not hold a bank yet; if omitted, a \
    temporary folder that is removed at the end";

/// The settings as given, and whether they name a folder: the default one is that of the user's own bank, where a run
/// must not leave its deposits.
#[derive(Debug)]
pub(super) struct RunSettings {
    pub(super) given: Settings,
    is_folder_named: bool,
}

impl RunSettings {
    /// The settings of a new embedded bank, and its folder if that is to be removed after the run.
    pub(super) fn for_new_bank(self) -> anyhow::Result<(Settings, Option<TempDir>)> {
        let Self { given: mut settings, is_folder_named } = self;
        if is_folder_named {
            refuse_bank(&settings.backends.data)?;
            return Ok((settings, None));
        }
        let folder = tempfile::Builder::new().prefix("bank-bench-").tempdir();
        let folder = folder.context("cannot create a temporary folder; set --data to a new one")?;
        folder.path().clone_into(&mut settings.backends.data);
        Ok((settings, Some(folder)))
    }
}

fn refuse_bank(folder: &Path) -> anyhow::Result<()> {
    if EmbeddedStore::is_in(folder) {
        // A folder that is in use has an exit code of its own.
        DataFolder::open(folder).map_err(|failure| BeginError::Backends(failure.into()))?;
        bail!(
            "there is a bank in {}, and the run would leave its deposits there: set --data to a new folder, or omit it \
             (and BANK_DATA) to use a temporary one",
            folder.display()
        );
    }
    Ok(())
}

fn is_folder_named(matches: &ArgMatches) -> bool {
    matches.value_source(DATA).is_some_and(|source| source != ValueSource::DefaultValue)
}

impl FromArgMatches for RunSettings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self { given: Settings::from_arg_matches(matches)?, is_folder_named: is_folder_named(matches) })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.is_folder_named |= is_folder_named(matches);
        self.given.update_from_arg_matches(matches)
    }
}

impl Args for RunSettings {
    fn augment_args(command: Command) -> Command {
        Settings::augment_args(command).mut_arg(DATA, |data| data.help(DATA_HELP).hide_default_value(true))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Settings::augment_args_for_update(command).mut_arg(DATA, |data| data.help(DATA_HELP).hide_default_value(true))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use shared::process::EXIT_DATA_IN_USE;

    use super::*;

    #[derive(Debug, Parser)]
    struct Run {
        #[command(flatten)]
        settings: RunSettings,
    }

    fn settings_for(folder: &Path) -> RunSettings {
        Run::try_parse_from(["run", "--data", folder.to_str().unwrap()]).unwrap().settings
    }

    #[test]
    fn a_named_folder_is_used_if_it_holds_no_bank() {
        let folder = tempfile::tempdir().unwrap();
        let (settings, scratch) = settings_for(folder.path()).for_new_bank().unwrap();
        assert!(scratch.is_none());
        assert_eq!(settings.backends.data, folder.path());

        let locked = DataFolder::open(folder.path()).unwrap();
        drop(EmbeddedStore::open(&locked).unwrap());
        let refusal = settings_for(folder.path()).for_new_bank().unwrap_err();
        assert_eq!(refusal.downcast_ref::<BeginError>().map(BeginError::exit_code), Some(EXIT_DATA_IN_USE));
        drop(locked);
        let refusal = settings_for(folder.path()).for_new_bank().unwrap_err().to_string();
        assert!(refusal.contains("set --data to a new folder"), "{refusal}");
    }
}
