//! Whether a program may be run: it is there, and nobody but root and ourselves can have put it there.
//!
//! Each part of the path, as written and as links resolve it, must belong to root or to us, and folders that all
//! may write to must be sticky. The program itself must not be setuid, setgid or writable by all, nor lie in a
//! folder that all may write to. Folders that a *group* may write to are left to the admin: Debian's
//! `/usr/local/bin` is one. As no stranger can change any part, none can change it between this check and the start.

use std::{
    fmt, fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Why a program is not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Somebody else could replace it, or it would bring rights with it.
    Unsafe(String),
    /// It is missing, or no program.
    Unusable(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Refusal::Unsafe(why) | Refusal::Unusable(why)) = self;
        f.write_str(why)
    }
}

const SET_ID: u32 = 0o6000;
const STICKY: u32 = 0o1000;
const WRITABLE_BY_ALL: u32 = 0o002;
const EXECUTABLE: u32 = 0o111;

pub(super) fn check(path: &Path) -> Result<(), Refusal> {
    let unusable = |error: io::Error| Refusal::Unusable(format!("{}: {error}", path.display()));
    let resolved = fs::canonicalize(path).map_err(unusable)?;
    check_parts(path)?;
    check_parts(&resolved)?;
    let shown = resolved.display();
    let found = fs::metadata(&resolved).map_err(unusable)?;
    let refuse = |why: &str| Err(Refusal::Unsafe(format!("{shown} {why}")));
    if !found.is_file() {
        return Err(Refusal::Unusable(format!("{shown} is not a file")));
    }
    if found.mode() & EXECUTABLE == 0 {
        return Err(Refusal::Unusable(format!("{shown} is not executable")));
    }
    if found.mode() & SET_ID != 0 {
        return refuse("is setuid or setgid");
    }
    if found.mode() & WRITABLE_BY_ALL != 0 {
        return refuse("can be written by all");
    }
    let folder = resolved.parent().unwrap_or(&resolved);
    if fs::metadata(folder).map_err(unusable)?.mode() & WRITABLE_BY_ALL != 0 {
        return refuse("lies in a folder that all can write to");
    }
    Ok(())
}

fn check_parts(path: &Path) -> Result<(), Refusal> {
    let mut part = PathBuf::new();
    for component in path.components() {
        part.push(component);
        let found = fs::symlink_metadata(&part)
            .map_err(|error| Refusal::Unusable(format!("{}: {error}", part.display())))?;
        if !is_trusted(found.uid()) {
            let why =
                format!("{} belongs to user {}, neither to root nor to us", part.display(), found.uid());
            return Err(Refusal::Unsafe(why));
        }
        if found.is_dir() && found.mode() & WRITABLE_BY_ALL != 0 && found.mode() & STICKY == 0 {
            return Err(Refusal::Unsafe(format!("{} is a folder that all can write to", part.display())));
        }
    }
    Ok(())
}

/// Root, ourselves, and whoever owns `/`: in some containers root has another number.
fn is_trusted(uid: u32) -> bool {
    let owns_all = fs::metadata("/").map(|root| root.uid());
    uid == 0 || uid == rustix::process::geteuid().as_raw() || owns_all.is_ok_and(|owner| owner == uid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn what_others_could_replace_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let make = |name: &str, mode: u32| {
            fs::create_dir_all(at(name).parent().expect("a folder")).expect("made");
            fs::write(at(name), "#!/bin/sh\n").expect("written");
            fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).expect("set");
        };
        make("good", 0o755);
        make("plain", 0o644);
        make("setuid", 0o4755);
        make("setgid", 0o2755);
        make("open", 0o757);
        make("shared/inside", 0o755);
        make("shared/below/inside", 0o755);
        make("sticky/inside", 0o755);
        fs::set_permissions(at("shared"), fs::Permissions::from_mode(0o777)).expect("set");
        fs::set_permissions(at("sticky"), fs::Permissions::from_mode(0o1777)).expect("set");
        symlink(at("setuid"), at("link")).expect("linked");
        symlink(at("nowhere"), at("dangling")).expect("linked");
        let rows = [
            ("good", None),
            ("plain", Some("is not executable")),
            ("setuid", Some("is setuid or setgid")),
            ("setgid", Some("is setuid or setgid")),
            ("open", Some("can be written by all")),
            ("shared/inside", Some("is a folder that all can write to")),
            ("shared/below/inside", Some("is a folder that all can write to")),
            ("sticky/inside", Some("lies in a folder that all can write to")),
            ("link", Some("is setuid or setgid")),
            ("dangling", Some("No such file")),
            ("missing", Some("No such file")),
            ("", Some("is not a file")),
        ];
        for (name, refusal) in rows {
            let found = check(&at(name)).map_err(|refusal| refusal.to_string());
            match refusal {
                None => assert_eq!(found, Ok(()), "{name}"),
                Some(words) => {
                    assert!(found.as_ref().is_err_and(|why| why.contains(words)), "{name}: {found:?}")
                }
            }
        }
        assert_eq!(check(Path::new("/bin/true")), Ok(()));
    }
}
