//! Where a log's file may lie: in the data folder or where the admin says, and never where ams2 keeps files of its own.

use std::path::{Component, Path, PathBuf};

use crate::SettingsError;

/// `path` in the data folder. An absolute path is the admin's word; a relative one must not leave the folder.
pub(super) fn inside(data_dir: &Path, path: &Path) -> Result<PathBuf, SettingsError> {
    let wrong = |what: &str, mend: &str| Err(SettingsError::new("path", format!("{path:?} {what}"), mend));
    let mut parts = path.components();
    if path.is_relative() && parts.any(|part| part == Component::ParentDir) {
        return wrong("leaves the data folder", "write an absolute path if that is meant");
    }
    let is_folder = path.as_os_str().as_encoded_bytes().ends_with(b"/");
    if is_folder || path.file_name().is_none() {
        return wrong("names no file", "write for instance `events.log`");
    }
    let whole = data_dir.join(path);
    let name = whole.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    // Both ways to say it: the name as it is written, and the file that a link there leads to.
    let folder = real(whole.parent().unwrap_or(data_dir)).join(name);
    if [folder, real(&whole)].iter().any(|file| is_ours(&real(data_dir), file)) {
        return wrong("has a name that ams2 keeps for its own files", "write for instance `events.log`");
    }
    Ok(whole)
}

/// What the journal's files, and what else ams2 keeps in the data folder, are called.
const OUR_NAMES: [&str; 5] = ["lock", "panics", "run", "snmp-engine", "snmp-engine.new"];
/// How they end.
const OUR_ENDINGS: [&str; 7] = [".seg", ".snap", ".free", ".damaged", ".poison", ".tmp", ".sock"];

fn is_ours(data_dir: &Path, file: &Path) -> bool {
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let ours = OUR_NAMES.contains(&name.as_str()) || OUR_ENDINGS.iter().any(|ending| name.ends_with(ending));
    ours && file.parent() == Some(data_dir)
}

/// A path without links and dots, as far as it exists: one file has one such path, however it is written.
pub(super) fn real(path: &Path) -> PathBuf {
    let exists = path.ancestors().find_map(|start| {
        let start_here = if start.as_os_str().is_empty() { Path::new(".") } else { start };
        Some((start, start_here.canonicalize().ok()?))
    });
    let Some((start, mut real)) = exists else { return path.to_owned() };
    for part in path.strip_prefix(start).unwrap_or(Path::new("")).components() {
        match part {
            Component::ParentDir => drop(real.pop()),
            part => real.push(part),
        }
    }
    real
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journals_own_files_are_not_written_to_however_they_are_called() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("d");
        std::os::unix::fs::symlink("d", folder.path().join("link")).expect("linked");
        let absolute = |name: &str| data.join(name).display().to_string();
        // Before the data folder is there, and then.
        for exists in [false, true] {
            if exists {
                std::fs::create_dir(&data).expect("made");
                std::os::unix::fs::symlink("0000000000000001.seg", data.join("innocent.log"))
                    .expect("linked");
                std::fs::write(data.join("0000000000000001.seg"), "").expect("written");
                assert!(inside(&data, Path::new("innocent.log")).is_err());
            }
            let through_link = folder.path().join("link");
            let relative = pathdiff(&data);
            for data in [&data, &through_link, &relative] {
                for name in [
                    "0000000000000001.seg",
                    "x.snap",
                    "1.free",
                    "x.damaged",
                    "x.poison",
                    "panics",
                    "lock",
                    "run",
                    "snmp-engine",
                ] {
                    let refused = |path: &str| {
                        // Where a link leads to nothing, nobody can say what it will lead to.
                        inside(data, Path::new(path)).is_err() || (data == &through_link && !exists)
                    };
                    assert!(refused(name), "{name} in {data:?}, {exists}");
                    assert!(refused(&absolute(name)), "{name} in {data:?} by its absolute path, {exists}");
                    let dots = absolute(&format!("../d/{name}"));
                    assert!(!exists || refused(&dots), "{dots} in {data:?}");
                    assert!(
                        inside(data, Path::new(&format!("logs/{name}"))).is_ok(),
                        "{name} below {data:?}"
                    );
                }
                assert!(inside(data, Path::new("panics.log")).is_ok());
            }
        }
    }

    /// An absolute path as a relative one.
    fn pathdiff(path: &Path) -> PathBuf {
        let here = std::env::current_dir().expect("a folder").canonicalize().expect("it exists");
        let up: PathBuf = here.components().skip(1).map(|_| Component::ParentDir).collect();
        up.join(path.strip_prefix("/").expect("absolute"))
    }

    #[test]
    fn absolute_paths_are_the_admins_word() {
        let data = Path::new("/var/lib/ams2");
        let rows = [
            ("events.log", Some("/var/lib/ams2/events.log")),
            ("logs/events.log", Some("/var/lib/ams2/logs/events.log")),
            ("/var/log/ams2.log", Some("/var/log/ams2.log")),
            ("logs/../../x", None),
            ("..", None),
            (".", None),
            ("", None),
        ];
        for (path, whole) in rows {
            assert_eq!(inside(data, Path::new(path)).ok().as_deref(), whole.map(Path::new), "{path}");
        }
    }
}
