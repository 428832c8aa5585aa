//! Templates: those of the file, those that it names, and Alertmanager's own that files count on.

use std::{fs, path::Path};

use super::walk::Import;
use crate::{
    alertmanager::go_template::{Library, NoteKind, Target, is_template},
    config::{Place, tree::Node},
};

/// Templates of the names that Alertmanager defines itself, in our words.
const OWN: &str = include_str!("default.tmpl");
/// Largest template file, in bytes, and most of them.
const FILE_BYTES_MAX: u64 = 256 << 10;
const FILES_MAX: usize = 200;

/// All definitions.
pub(super) struct Templates {
    library: Library,
}

impl Templates {
    /// Reads the files that the globs name, relative to the folder of the configuration.
    pub fn read(import: &mut Import, node: Option<&Node>, folder: &Path) -> Templates {
        let mut library = Library::new();
        library.add("default.tmpl", OWN).expect("a test reads it");
        let Some(node) = node else { return Templates { library } };
        for item in import.list(node) {
            let glob = import.text(item);
            import.below("templates", |import| {
                let files = match files(folder, &glob) {
                    Ok(files) => files,
                    Err(why) => return import.impossible(item.place, why),
                };
                let mut well = true;
                for (name, text) in files {
                    if let Err(mistake) = library.add(&name, &text) {
                        well = false;
                        import.impossible(item.place, format!("{mistake}"));
                    }
                }
                if well {
                    import.translated(item.place);
                }
            });
        }
        Templates { library }
    }

    /// A setting that may be a template, in ours. What cannot be translated is reported at the setting.
    pub fn translate(
        &mut self,
        import: &mut Import,
        text: &str,
        place: Place,
        target: Target,
    ) -> Option<String> {
        if !is_template(text) {
            // What looks like one of ours is meant as it stands.
            let is_ours = ams2_handlers::render::Template::is_template(text);
            import.translated(place);
            return Some(if is_ours { format!("{{% raw %}}{text}{{% endraw %}}") } else { text.to_owned() });
        }
        match self.library.translate(text, target) {
            Ok(translated) => {
                let worst = translated
                    .notes
                    .iter()
                    .map(|note| note.kind)
                    .max_by_key(|kind| *kind == NoteKind::Impossible);
                for note in &translated.notes {
                    let words = format!(
                        "template {}:{}:{}: {}: {}",
                        note.file, note.line, note.column, note.what, note.mend
                    );
                    match note.kind {
                        NoteKind::Impossible => import.impossible(place, words),
                        NoteKind::Approximated => import.approximated(place, words),
                    }
                }
                if worst.is_none() {
                    import.translated(place);
                }
                Some(translated.source)
            }
            Err(mistake) => {
                import.impossible(place, format!("the template cannot be read: {mistake}"));
                None
            }
        }
    }
}

/// The files that a glob names: `*` and `?` in its last part. None is no mistake.
fn files(folder: &Path, glob: &str) -> Result<Vec<(String, String)>, String> {
    let path = folder.join(glob);
    let (parent, pattern) = match (path.parent(), path.file_name().and_then(|name| name.to_str())) {
        (Some(parent), Some(pattern)) => (parent.to_owned(), pattern.to_owned()),
        _ => return Err(format!("`{glob}` names no file")),
    };
    if parent.to_string_lossy().contains(['*', '?', '[']) || pattern.contains('[') {
        return Err(format!(
            "`{glob}`: only `*` and `?` in the last part of the path are understood: name the files"
        ));
    }
    let Ok(entries) = fs::read_dir(&parent) else { return Ok(Vec::new()) };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| matches(&pattern, name))
        .collect();
    names.sort();
    if names.len() > FILES_MAX {
        return Err(format!("`{glob}` names {} files; at most {FILES_MAX} are read", names.len()));
    }
    let read = |name: String| {
        let path = parent.join(&name);
        let metadata = fs::metadata(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
            return Err(format!("{} is no file of at most {FILE_BYTES_MAX} bytes", path.display()));
        }
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok((name, text))
    };
    names.into_iter().map(read).collect()
}

/// `*` stands for any characters, `?` for one.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => (p, n) = (p + 1, n + 1),
            _ => match star {
                // The last star takes one more.
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    (p, n) = (at + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_name_files_as_in_a_shell() {
        let rows = [
            ("*.tmpl", "a.tmpl", true),
            ("*.tmpl", "a.txt", false),
            ("?.tmpl", "ab.tmpl", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("*", "", true),
            ("", "", true),
            ("", "x", false),
        ];
        for (pattern, name, expected) in rows {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn our_own_definitions_are_read() {
        Library::new().add("default.tmpl", OWN).expect("it is right");
    }
}
