//! `ams2 import` and `ams2 export`: configurations of other programs.

use std::{
    io::{IsTerminal, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

use super::{
    CliError, Exit,
    args::{ExportTo, ExportVerb, Format},
    operate::shown,
    say, talk,
};
use crate::{
    alertmanager::{self, Fate, Imported, SecretsTo},
    config::{self, Overrides},
};

/// A configuration that cannot be used, with every mistake in it.
pub(super) fn wrong(wrong: &config::Wrong) -> CliError {
    let shown = config::snippets(&wrong.sources, &wrong.found, std::io::stderr().is_terminal());
    let shown = shown.trim_end();
    CliError::new(Exit::Usage, shown.strip_prefix("error: ").unwrap_or(shown), "")
}

/// `ams2 import alertmanager`.
pub(super) fn import(
    file: &Path,
    output: Option<&Path>,
    secrets: &Path,
    report: Format,
    all: bool,
) -> Result<Exit, CliError> {
    let folder = secrets.display().to_string();
    let imported = alertmanager::read(file, SecretsTo::Folder(folder)).map_err(|found| wrong(&found))?;
    if !imported.secrets.is_empty() {
        // As the configuration names it: beside the configuration.
        let beside = output.and_then(Path::parent).unwrap_or(Path::new(""));
        write_secrets(&beside.join(secrets), &imported)?;
    }
    match output {
        None => say(imported.text.trim_end()),
        Some(path) => std::fs::write(path, &imported.text).map_err(|error| {
            CliError::new(Exit::Failed, format!("{} cannot be written: {error}", path.display()), "")
        })?,
    }
    let entries = imported.report.iter().filter(|entry| all || entry.fate != Fate::Translated);
    match report {
        Format::Json => {
            let entries: Vec<_> = entries.collect();
            talk(serde_json::to_string_pretty(&entries).expect("plain data encodes"));
        }
        Format::Text => {
            for entry in entries {
                let fate = match entry.fate {
                    Fate::Translated => "translated",
                    Fate::Approximated => "approximated",
                    Fate::Impossible => "IMPOSSIBLE",
                };
                let words =
                    if entry.words.is_empty() { String::new() } else { format!(": {}", shown(&entry.words)) };
                let place = format!("{}:{}:{}", file.display(), entry.line, entry.column);
                talk(format_args!("{place}: {fate}: {}{words}", shown(&entry.setting)));
            }
            let count = |fate| imported.report.iter().filter(|entry| entry.fate == fate).count();
            let (same, near, none) =
                (count(Fate::Translated), count(Fate::Approximated), count(Fate::Impossible));
            talk(format_args!("{same} settings translated, {near} approximated, {none} impossible"));
        }
    }
    let any_impossible = imported.report.iter().any(|entry| entry.fate == Fate::Impossible);
    Ok(if any_impossible { Exit::No } else { Exit::Done })
}

/// One file each, which nobody else reads. A file that is there and says something else is not overwritten.
fn write_secrets(folder: &Path, imported: &Imported) -> Result<(), CliError> {
    let failed = |path: &Path, error: std::io::Error| {
        CliError::new(
            Exit::Failed,
            format!("{} cannot be written: {error}", path.display()),
            "name another folder with --secrets",
        )
    };
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| failed(folder, error))?;
    for (name, value) in &imported.secrets {
        let path = folder.join(name);
        if std::fs::read(&path).is_ok_and(|known| known == value.as_bytes()) {
            continue;
        }
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(value.as_bytes())).map_err(|error| failed(&path, error))?;
        talk(format_args!("wrote {}", path.display()));
    }
    Ok(())
}

pub(super) fn export(export: ExportVerb) -> Result<Exit, CliError> {
    let ExportTo::Alertmanager { file } = export.to;
    let loaded = config::load(&file, &Overrides::default()).map_err(|found| wrong(&found))?;
    let exported = alertmanager::export(&loaded.core);
    say(exported.text.trim_end());
    for what in &exported.approximated {
        talk(format_args!("in the nearest form, or left out: {}", shown(what)));
    }
    talk(format_args!("{} settings in the nearest form, or left out", exported.approximated.len()));
    Ok(Exit::Done)
}
