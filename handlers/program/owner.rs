//! The user and group that a program runs as, from `/etc/passwd` and `/etc/group`. Other directories (LDAP) are
//! not asked: their users are named by number.

use std::{fs, path::Path};

use crate::SettingsError;

/// Who a program runs as; `None` is ourselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
}

impl Owner {
    /// Whether it is another user than ourselves.
    pub(super) fn is_other(self) -> bool {
        self.uid.is_some_and(|uid| uid != rustix::process::geteuid().as_raw())
    }
}

pub(super) fn find(user: Option<&str>, group: Option<&str>) -> Result<Owner, SettingsError> {
    let owner = look_up(user, group, Path::new("/etc/passwd"), Path::new("/etc/group"))?;
    let ours = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let is_same = owner.uid.is_none_or(|uid| uid == ours.0) && owner.gid.is_none_or(|gid| gid == ours.1);
    if ours.0 != 0 && !is_same {
        let field = if user.is_some() { "user" } else { "group" };
        let mend = "start ams2 as root, or remove it";
        return Err(SettingsError::new(field, "only root can run a program as somebody else", mend));
    }
    Ok(owner)
}

fn look_up(
    user: Option<&str>,
    group: Option<&str>,
    passwd: &Path,
    groups: &Path,
) -> Result<Owner, SettingsError> {
    let unknown = |field: &str, name: &str, file: &Path| {
        let mend = format!("name one from {}, or give a number", file.display());
        SettingsError::new(field, format!("nobody is called `{name}`"), mend)
    };
    let mut owner = Owner::default();
    if let Some(name) = user {
        // name:password:uid:gid:...
        let row = row(passwd, name);
        owner.uid = row.as_ref().and_then(|row| row.get(2)?.parse().ok()).or_else(|| name.parse().ok());
        owner.gid = row.as_ref().and_then(|row| row.get(3)?.parse().ok());
        if owner.uid.is_none() {
            return Err(unknown("user", name, passwd));
        }
    }
    if let Some(name) = group {
        // name:password:gid:members
        let found = row(groups, name).and_then(|row| row.get(2)?.parse().ok());
        owner.gid = found.or_else(|| name.parse().ok());
        if owner.gid.is_none() {
            return Err(unknown("group", name, groups));
        }
    }
    if owner.uid.is_some() && owner.gid.is_none() {
        let message = format!(
            "user {} is not in {}, so its group is not known",
            owner.uid.unwrap_or(0),
            passwd.display()
        );
        return Err(SettingsError::new("group", message, "add `group`"));
    }
    Ok(owner)
}

/// The row whose first column is `name`, or whose third (the number) is.
fn row(file: &Path, name: &str) -> Option<Vec<String>> {
    let text = fs::read_to_string(file).ok()?;
    let rows = text.lines().map(|line| line.split(':').map(str::to_owned).collect::<Vec<_>>());
    let rows: Vec<_> = rows.filter(|row| row.len() > 2).collect();
    rows.iter().find(|row| row[0] == name).or_else(|| rows.iter().find(|row| row[2] == name)).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let (passwd, groups) = (folder.path().join("passwd"), folder.path().join("group"));
        fs::write(&passwd, "root:x:0:0::/:/bin/sh\nrunner:x:1001:1002::/:/bin/false\n").expect("written");
        fs::write(&groups, "root:x:0:\nrunners:x:1003:\n").expect("written");
        let rows = [
            (None, None, Some((None, None))),
            (Some("runner"), None, Some((Some(1001), Some(1002)))),
            (Some("1001"), None, Some((Some(1001), Some(1002)))),
            (Some("runner"), Some("runners"), Some((Some(1001), Some(1003)))),
            (Some("4242"), Some("4243"), Some((Some(4242), Some(4243)))),
            (None, Some("runners"), Some((None, Some(1003)))),
            (Some("4242"), None, None),
            (Some("nobody-here"), None, None),
            (None, Some("nobody-here"), None),
        ];
        for (user, group, expected) in rows {
            let found = look_up(user, group, &passwd, &groups).ok().map(|owner| (owner.uid, owner.gid));
            assert_eq!(found, expected, "{user:?} {group:?}");
        }
    }
}
