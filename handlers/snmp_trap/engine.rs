//! Our own SNMP engine (RFC 3411 section 3.1.1), which v3 traps speak for: its id and how often it started, kept in
//! the data folder.
//!
//! A manager knows our v3 users by the engine id, and takes no packet from before our newest start for a new one. So both
//! are on disk before the first packet of a process leaves. Whoever loses the file gets a new engine id: going on with an
//! old one from 1 would make managers refuse everything as a replay (RFC 3414 section 2.2.2).

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Instant,
};

use async_snmp::v3::{AuthoritativeEngine, PersistedAuthoritativeEngine, generate_engine_id};

/// The file, in the data folder.
pub(super) const FILE: &str = "snmp-engine";
/// What stands above the values.
const HEAD: &str =
    "# The SNMP engine of this data folder. Keep it: managers know the users of v3 traps by this id.";
/// Random bytes in an engine id.
const ID_BYTES: usize = 12;

/// The engines that run in this process, by data folder, with their starts: a reload makes new actions and starts no engine
/// anew.
static RUNNING: Mutex<BTreeMap<PathBuf, (AuthoritativeEngine, Instant)>> = Mutex::new(BTreeMap::new());

/// The engine of a data folder as a receiver of informs needs it.
#[derive(Clone, Debug)]
pub struct OwnEngine {
    /// Its id.
    pub id: Vec<u8>,
    /// How often it started, with this time.
    pub boots: u32,
    /// When it started this time.
    pub started: Instant,
}

/// The engine of a data folder, which informs are sent to; started when it is asked for the first time. The error says which
/// file is wrong.
pub fn own_engine(data_dir: &Path) -> Result<OwnEngine, String> {
    let (engine, started) = running(data_dir, super::ENTERPRISE_DEFAULT)?;
    Ok(OwnEngine { id: engine.engine_id().to_vec(), boots: engine.engine_boots(), started })
}

/// The engine of this data folder; started when it is asked for the first time. The error says which file is wrong.
pub(super) fn of(data_dir: &Path, enterprise: u32) -> Result<AuthoritativeEngine, String> {
    running(data_dir, enterprise).map(|(engine, _)| engine)
}

fn running(data_dir: &Path, enterprise: u32) -> Result<(AuthoritativeEngine, Instant), String> {
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(engine) = running.get(data_dir) {
        return Ok(engine.clone());
    }
    let engine = (start(data_dir, enterprise)?, Instant::now());
    running.insert(data_dir.to_owned(), engine.clone());
    Ok(engine)
}

/// Starts it: one start more, or a new engine where there is none.
fn start(data_dir: &Path, enterprise: u32) -> Result<AuthoritativeEngine, String> {
    let path = data_dir.join(FILE);
    let keep = {
        let path = path.clone();
        move |state: &PersistedAuthoritativeEngine| write(&path, state)
    };
    let shown = path.display();
    let started = match fs::read_to_string(&path) {
        Ok(text) => {
            let state = read(&text).ok_or_else(|| {
                format!("{shown} does not hold an engine: mend it, or remove it and tell the managers the new engine id")
            })?;
            AuthoritativeEngine::restart(state, keep)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            AuthoritativeEngine::install(new_id(enterprise)?, keep)
        }
        Err(error) => return Err(format!("{shown} cannot be read: {error}")),
    };
    let engine = started.map_err(|error| format!("the SNMP engine cannot be kept in {shown}: {error}"))?;
    let (engine_id, boots) = (hex(engine.engine_id()), engine.engine_boots());
    tracing::info!(engine_id, boots, "the SNMP engine for v3 traps has started");
    Ok(engine)
}

/// RFC 3411 section 5: the enterprise with its first bit set, then 5 for octets of our own.
fn new_id(enterprise: u32) -> Result<Vec<u8>, String> {
    let random = generate_engine_id().map_err(|error| error.to_string())?;
    let mut id = (enterprise | 0x8000_0000).to_be_bytes().to_vec();
    id.push(5);
    id.extend(random.iter().take(ID_BYTES));
    Ok(id)
}

fn read(text: &str) -> Option<PersistedAuthoritativeEngine> {
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let id = from_hex(value("engine_id")?.trim())?;
    PersistedAuthoritativeEngine::new(id, value("boots")?.trim().parse().ok()?).ok()
}

/// On disk under its name when this returns.
fn write(path: &Path, state: &PersistedAuthoritativeEngine) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    let (id, boots) = (hex(state.engine_id()), state.engine_boots());
    file.write_all(format!("{HEAD}\nengine_id {id}\nboots {boots}\n").as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// As managers are told it: `0x80007ed905...`.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("0x")?;
    let is_hex = digits.len() % 2 == 0 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).ok();
    if is_hex { (0..digits.len()).step_by(2).map(byte).collect() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_folder(folder: &Path) -> (String, u32) {
        let engine = start(folder, 32_473).expect("started");
        (hex(engine.engine_id()), engine.engine_boots())
    }

    #[test]
    fn every_start_counts_and_keeps_the_engine_id() {
        let folder = tempfile::tempdir().expect("a folder");
        let (id, boots) = of_folder(folder.path());
        assert!(id.starts_with("0x80007ed905") && id.len() == 2 + 34, "{id}");
        assert_eq!(boots, 1);
        assert_eq!(of_folder(folder.path()), (id.clone(), 2));
        assert_eq!(of_folder(folder.path()), (id.clone(), 3));
        let text = fs::read_to_string(folder.path().join(FILE)).expect("readable");
        assert_eq!(text, format!("{HEAD}\nengine_id {id}\nboots 3\n"));
    }

    #[test]
    fn a_lost_file_is_a_new_engine() {
        let folder = tempfile::tempdir().expect("a folder");
        let (first, _) = of_folder(folder.path());
        fs::remove_file(folder.path().join(FILE)).expect("removed");
        let (second, boots) = of_folder(folder.path());
        assert_ne!(first, second);
        assert_eq!(boots, 1);
    }

    #[test]
    fn one_process_starts_it_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let boots = || of(folder.path(), 32_473).expect("started").engine_boots();
        assert_eq!((boots(), boots()), (1, 1));
    }

    #[test]
    fn a_file_that_says_nothing_is_named_and_kept() {
        let rows =
            ["", "engine_id 0x80\nboots 3", "engine_id 8000\nboots 1", "engine_id 0x80007ed90501\nboots -1"];
        for text in rows {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join(FILE);
            fs::write(&path, text).expect("written");
            let error = start(folder.path(), 32_473).expect_err(text);
            assert!(error.contains("snmp-engine does not hold an engine: mend it"), "{error}");
            assert_eq!(fs::read_to_string(&path).expect("readable"), text);
        }
    }

    #[test]
    fn what_cannot_be_kept_is_not_used() {
        let folder = tempfile::tempdir().expect("a folder");
        // A folder in the place of the file that becomes the engine's.
        fs::create_dir(folder.path().join("snmp-engine.new")).expect("made");
        let error = start(folder.path(), 32_473).expect_err("nowhere to write");
        assert!(error.contains("snmp-engine") && error.contains("cannot be kept"), "{error}");
    }
}
