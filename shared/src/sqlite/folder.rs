use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const LOCK_FILE: &str = "LOCK";

/// The folder that holds all files of an embedded bank, locked for this process. Clones share the lock; it is given
/// back with the last of them, and by the operating system when the process dies.
#[derive(Clone)]
pub struct DataFolder(Arc<Locked>);

struct Locked {
    path: PathBuf,
    _lock: File,
}

impl DataFolder {
    /// Makes the folder if there is none, and locks it.
    ///
    /// # Errors
    /// [`OpenError::InUse`] while another process (or this one) has it; [`OpenError::Folder`] when it cannot be made or
    /// written.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref().to_path_buf();
        let failed = |source| OpenError::Folder { path: path.clone(), source };
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
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        note_holder(&mut lock).map_err(failed)?;
        Ok(Self(Arc::new(Locked { path, _lock: lock })))
    }

    /// Where it is.
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

/// The number in the file only serves the message; the lock itself is the operating system's.
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

/// Why a folder or a file in it was not opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operating system refused.
    #[error("{} cannot be used: {source}", path.display())]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Two processes would write over each other.
    #[error(
        "data folder {} is in use by {holder}: stop that one first, or give this one a folder of its own",
        path.display()
    )]
    InUse {
        /// The folder.
        path: PathBuf,
        /// Who has it, in words.
        holder: String,
    },
    /// Some other program's file stands where ours belongs.
    #[error("{} was not made by this program: move it away, or use another data folder", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be trusted.
    #[error(
        "{} is damaged ({finding}) and was left as it is: put a good copy of the data folder in place, or move this one \
         away and start with an empty one",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What gave it away.
        finding: String,
    },
    /// A later release wrote the file.
    #[error(
        "{} has schema version {found}, this release knows versions up to {known}: start the release that wrote it, or \
         a later one",
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
    #[error("{} cannot be opened: {source}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}
