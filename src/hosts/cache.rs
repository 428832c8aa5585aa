//! The cache: one file of JSON, which appears whole or not at all.
//!
//! ```json
//! { "version": 1, "hosts": [ { "name": "Computer 1", "address": "192.0.2.1", "origin": "imported", "verified": null } ] }
//! ```

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::{
    address::Address,
    list::{HOSTS_MAX, LIST_BYTES_MAX},
};

/// The environment variable that names another file.
pub const CACHE_VARIABLE: &str = "AMS2_HOSTS_CACHE";
/// The format of the file that this program reads and writes.
const VERSION: u32 = 1;
/// Largest file, in bytes: what the largest list makes, and room.
const CACHE_BYTES_MAX: u64 = 4 * LIST_BYTES_MAX;

/// One computer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Its name; names have no case.
    pub name: String,
    /// Its address.
    pub address: Address,
    /// Where it is known from.
    pub origin: Origin,
    /// When it last answered a probe, RFC 3339; `None` as long as it never did.
    pub verified: Option<String>,
}

/// Where a computer is known from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A list that was brought over.
    Imported,
    /// It answered to discovery.
    Discovered,
    /// The configuration names it.
    Configured,
}

impl Origin {
    /// The word in the file, on the command line and in tables.
    pub fn word(self) -> &'static str {
        match self {
            Origin::Imported => "imported",
            Origin::Discovered => "discovered",
            Origin::Configured => "configured",
        }
    }
}

/// Which computers are to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// All of them.
    All,
    /// Those that are known from there.
    Of(Origin),
}

/// The file, as JSON.
#[derive(Debug, Serialize, Deserialize)]
struct Content {
    version: u32,
    hosts: Vec<Host>,
}

/// The cache, locked: nobody else changes it meanwhile.
#[derive(Debug)]
pub struct Cache {
    path: PathBuf,
    /// The computers, in the order in which they came.
    pub hosts: Vec<Host>,
    _lock: Option<File>,
}

/// Why the cache cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// Nothing says where it is.
    #[error("nothing says where the cache is: neither XDG_STATE_HOME nor HOME is set to a whole path")]
    NoPlace,
    /// The system says no.
    #[error("the cache {} cannot be used: {error}", path.display())]
    Io {
        /// The file, or its folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Another process changes it.
    #[error("the cache {} is being changed by another ams2", .0.display())]
    Locked(PathBuf),
    /// It is not what this program writes.
    #[error("the cache {} cannot be read: {why}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// There is no room in it.
    #[error("the cache would have more than {HOSTS_MAX} computers")]
    Full,
}

impl CacheError {
    /// How to mend it.
    pub fn mend(&self) -> &'static str {
        match self {
            CacheError::NoPlace => "name a file with --cache",
            CacheError::Io { .. } => "name a file that you may write with --cache",
            CacheError::Locked(_) => "try again",
            CacheError::Wrong { .. } => "mend it or move it away, and import again",
            CacheError::Full => "clear it, or share the computers among several caches (--cache)",
        }
    }
}

/// Where the cache is unless something else is said: state of the user, not of a router.
pub fn default_path() -> Result<PathBuf, CacheError> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = folder("XDG_STATE_HOME").or_else(|| Some(folder("HOME")?.join(".local/state")));
    Ok(state.ok_or(CacheError::NoPlace)?.join("ams2/hosts.json"))
}

impl Cache {
    /// The cache to look at. One that is not there is empty.
    pub fn look(path: &Path) -> Result<Cache, CacheError> {
        let hosts = read(path)?;
        Ok(Cache { path: path.into(), hosts, _lock: None })
    }

    /// The cache to change: its folder is made, and nobody else changes it until this is dropped.
    pub fn open(path: &Path) -> Result<Cache, CacheError> {
        let wrong = |path: &Path, error: io::Error| CacheError::Io { path: path.into(), error };
        let folder = folder_of(path);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| wrong(folder, error))?;
        let lock_path = beside(path, "lock");
        let mut options = OpenOptions::new();
        let lock = options.create(true).write(true).truncate(false).mode(0o600).open(&lock_path);
        let lock = lock.map_err(|error| wrong(&lock_path, error))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(CacheError::Locked(path.into())),
            Err(error) => return Err(wrong(&lock_path, error.into())),
        }
        Ok(Cache { hosts: read(path)?, path: path.into(), _lock: Some(lock) })
    }

    /// Takes computers out; how many went.
    pub fn clear(&mut self, which: Which) -> usize {
        let before = self.hosts.len();
        self.hosts.retain(|host| match which {
            Which::All => false,
            Which::Of(origin) => host.origin != origin,
        });
        before - self.hosts.len()
    }

    /// Writes it: a temporary file, synced, takes the place of the old one.
    pub fn save(&self) -> Result<(), CacheError> {
        if self.hosts.len() > HOSTS_MAX {
            return Err(CacheError::Full);
        }
        let temporary = beside(&self.path, "tmp");
        self.write(&temporary).map_err(|error| {
            // On a full disk half a file would take room; why it failed is the error to tell.
            drop(fs::remove_file(&temporary));
            CacheError::Io { path: self.path.clone(), error }
        })
    }

    fn write(&self, temporary: &Path) -> io::Result<()> {
        let content = Content { version: VERSION, hosts: self.hosts.clone() };
        let mut text = serde_json::to_vec_pretty(&content).map_err(io::Error::other)?;
        text.push(b'\n');
        let mut options = OpenOptions::new();
        // One that a crash left behind is nobody's: whoever writes holds the lock.
        let mut file = options.create(true).truncate(true).write(true).mode(0o600).open(temporary)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(temporary, &self.path)?;
        File::open(folder_of(&self.path))?.sync_all()
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The file of this name with another ending behind its own.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{ending}"));
    path.with_file_name(name)
}

fn read(path: &Path) -> Result<Vec<Host>, CacheError> {
    let wrong = |why: String| CacheError::Wrong { path: path.into(), why };
    let mut text = Vec::new();
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file.map_err(|error| CacheError::Io { path: path.into(), error })?,
    };
    let read = file.take(CACHE_BYTES_MAX + 1).read_to_end(&mut text);
    read.map_err(|error| CacheError::Io { path: path.into(), error })?;
    if text.len() as u64 > CACHE_BYTES_MAX {
        return Err(wrong(format!("it has more than {CACHE_BYTES_MAX} bytes")));
    }
    // The version first: what a newer one has besides is not known here.
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let Version { version } = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    if version != VERSION {
        return Err(wrong(format!("it has version {version}, this program knows {VERSION}")));
    }
    let content: Content = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    Ok(content.hosts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, address: &str, origin: Origin) -> Host {
        Host { name: name.into(), address: address.parse().expect("an address"), origin, verified: None }
    }

    #[test]
    fn what_was_saved_is_read_again_and_only_by_us() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deep/er/hosts.json");
        assert!(Cache::look(&path).expect("empty").hosts.is_empty());
        assert!(!path.exists() && !folder.path().join("deep").exists(), "a look makes nothing");
        let mut cache = Cache::open(&path).expect("made");
        cache.hosts = vec![
            host("Computer 1", "192.0.2.1", Origin::Imported),
            host("b", "2001:db8::1", Origin::Discovered),
            host("c", "192.0.2.3", Origin::Configured),
        ];
        cache.save().expect("saved");
        assert!(matches!(Cache::open(&path), Err(CacheError::Locked(_))), "one at a time");
        let hosts = cache.hosts.clone();
        drop(cache);
        assert_eq!(Cache::look(&path).expect("readable").hosts, hosts);
        let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().expect("a folder"))), (0o600, 0o700));
        let mut cache = Cache::open(&path).expect("free again");
        assert_eq!((cache.clear(Which::Of(Origin::Discovered)), cache.hosts.len()), (1, 2));
        assert_eq!((cache.clear(Which::All), cache.hosts.len()), (2, 0));
        drop(cache);
        assert_eq!(Cache::look(&path).expect("readable").hosts.len(), 3, "nothing was saved");
    }

    #[test]
    fn what_is_no_cache_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("hosts.json");
        for (text, words) in [
            ("", "EOF"),
            ("{}", "missing field `version`"),
            ("{\"version\": 2, \"hosts\": []}", "it has version 2, this program knows 1"),
            ("{\"version\": 1}", "missing field `hosts`"),
            (
                "{\"version\": 1, \"hosts\": [{\"name\": \"a\", \"address\": \"nowhere\", \"origin\": \"imported\", \"verified\": null}]}",
                "`nowhere` is no IPv4 or IPv6 address",
            ),
            (
                "{\"version\": 1, \"hosts\": [{\"name\": \"a\", \"address\": \"::1\", \"origin\": \"guessed\", \"verified\": null}]}",
                "unknown variant `guessed`",
            ),
            ("Computer 1, 192.0.2.1\n", "expected value"),
        ] {
            fs::write(&path, text).expect("written");
            let error = Cache::open(&path).expect_err(text).to_string();
            assert!(error.contains(words), "{text}: {error}");
            assert_eq!(fs::read_to_string(&path).expect("there"), text);
        }
        let folder_in_the_way = folder.path().join("folder");
        fs::create_dir(&folder_in_the_way).expect("made");
        assert!(matches!(Cache::look(&folder_in_the_way), Err(CacheError::Io { .. })));
    }
}
