use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const LOCK_FILE: &str = "LOCK";

/// The folder that holds all files of an embedded bank, locked for this process. Clones share the lock; it is released
/// with the last of them, and by the operating system when the process dies.
#[derive(Clone)]
pub struct DataFolder(Arc<Locked>);

struct Locked {
    path: PathBuf,
    _lock: File,
}

impl DataFolder {
    /// Creates the folder if there is none, and locks it.
    ///
    /// # Errors
    /// [`OpenError::InUse`] while another process (or this one) has it; [`OpenError::Folder`] when it cannot be created
    /// or written.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref().to_path_buf();
        let failed = |reason| OpenError::Folder { path: path.clone(), reason };
        std::fs::create_dir_all(&path).map_err(failed)?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join(LOCK_FILE))
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { holder: holder(&mut lock), path }),
            Err(TryLockError::Error(reason)) => return Err(failed(reason)),
        }
        note_holder(&mut lock).map_err(failed)?;
        Ok(Self(Arc::new(Locked { path, _lock: lock })))
    }

    /// A file in a folder that is built again from the store, if there is one. Opens, locks and creates nothing.
    pub(crate) fn built_from_store(folder: &Path) -> Option<&'static str> {
        BUILT_AGAIN.into_iter().find(|name| folder.join(name).exists())
    }

    /// The path of the folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }
}

impl fmt::Debug for DataFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DataFolder").field(&self.0.path).finish()
    }
}

/// The process id in the file is only for the message; the lock itself is the operating system's.
fn note_holder(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    lock.write_all(std::process::id().to_string().as_bytes())
}

fn holder(lock: &mut File) -> String {
    let mut noted = String::new();
    match lock.read_to_string(&mut noted) {
        Ok(_) if !noted.trim().is_empty() => format!("process {}", noted.trim()),
        Ok(_) | Err(_) => "another process".to_owned(),
    }
}

/// The files that can be deleted without a loss: everything in them comes from the store, or, like the epochs of
/// leases, continues above what checkpoints remember.
const BUILT_AGAIN: [&str; 3] = ["index.db", "leases.db", "log.db"];

/// What to do about a damaged file. Deleting it is the advice only where that loses nothing.
fn way_out(file: &Path) -> String {
    if BUILT_AGAIN.iter().any(|name| file.ends_with(name)) {
        format!("stop the bank and delete {}* (also -wal, -shm); it is built again from the store", file.display())
    } else {
        "restore the data folder from a backup, or move it away and start with an empty one".to_owned()
    }
}

/// All that can be deleted without a loss, as a shell takes it.
fn all_built_again() -> String {
    BUILT_AGAIN.map(|name| format!("{name}*")).join(", ")
}

/// Why a folder or a file in it was not opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operating system refused.
    #[error("cannot use {}: {reason}", path.display())]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// What the operating system said.
        reason: io::Error,
    },
    /// Two processes would write over each other.
    #[error(
        "data folder {} is in use by {holder}: stop it first; separate services need servers (BANK_STORE_URL, \
         BANK_LOG_URL, BANK_LEASE_URL, BANK_INDEX_URL), `bank` runs everything on one folder",
        path.display()
    )]
    InUse {
        /// The folder.
        path: PathBuf,
        /// Who has it, in words.
        holder: String,
    },
    /// Another program's file is where ours belongs.
    #[error("{} was not made by this program: move it away, or choose another folder with --data", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be trusted.
    #[error("{} is damaged ({finding}) and was left unchanged: {}", path.display(), way_out(path))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        finding: String,
    },
    /// The store is gone, which nothing can build again, but a file that is built from it is there.
    #[error(
        "{} is missing, but {beside} is there, and nothing was changed: put it back, or restore it from a backup and \
         delete the files that are built again from it ({}); or, to begin an empty bank, only delete these",
        path.display(),
        all_built_again()
    )]
    StoreMissing {
        /// The file of the store.
        path: PathBuf,
        /// The name of the other file.
        beside: &'static str,
    },
    /// A later release wrote the file.
    #[error(
        "{} has schema version {found}, but this release knows versions up to {known}: start the release that wrote \
         it, or a later one",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema version.
        found: i64,
        /// The newest that can be read.
        known: usize,
    },
    /// SQLite failed for another reason, such as a full disk.
    #[error("cannot open {}: {reason}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        reason: rusqlite::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn damaged(name: &str) -> String {
        OpenError::Damaged { path: Path::new("bank").join(name), finding: "as planted".to_owned() }.to_string()
    }

    #[test]
    fn only_what_the_store_can_rebuild_is_to_be_deleted() {
        for name in BUILT_AGAIN {
            let text = damaged(name);
            let file = Path::new("bank").join(name);
            assert!(text.contains(&format!("delete {}* (also -wal, -shm)", file.display())), "{text}");
            assert!(text.contains("built again from the store") && !text.contains("empty one"), "{text}");
        }
        let text = damaged("store.db");
        assert!(text.contains("backup") && !text.contains("delete"), "{text}");
        let text = OpenError::StoreMissing { path: "store.db".into(), beside: "log.db" }.to_string();
        assert!(text.contains("built again from it (index.db*, leases.db*, log.db*)"), "{text}");
    }
}
