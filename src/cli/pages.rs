//! Man pages, completions and the schema: what is generated from definitions that stand elsewhere.

use std::path::Path;

use clap::CommandFactory;

use super::{CliError, Exit, args::Args, say};

pub(super) fn completions(shell: clap_complete::Shell) -> Result<Exit, CliError> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "ams2", &mut text);
    say(String::from_utf8_lossy(&text).trim_end());
    Ok(Exit::Done)
}

/// `ams2.1`, and one page for each verb.
pub(super) fn man(dir: &Path) -> Result<Exit, CliError> {
    let pages = std::fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(Args::command(), dir));
    pages.map_err(|error| {
        let message = format!("the man pages cannot be written to {}: {error}", dir.display());
        CliError::new(Exit::Usage, message, "name a folder that you may write to")
    })?;
    Ok(Exit::Done)
}

pub(super) fn schema() -> Result<Exit, CliError> {
    say(crate::config::schema().trim_end());
    Ok(Exit::Done)
}
