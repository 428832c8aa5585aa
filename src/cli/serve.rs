//! `ams2 serve` and `ams2 check`: reading a configuration, and running it.

use std::{io::IsTerminal, time::Duration};

use tracing_subscriber::EnvFilter;

use super::{
    CliError, Exit,
    args::{Check, Format, Serve},
    say, talk,
};
use crate::{
    config::{self, Diagnostic, Gravity, Overrides},
    server::{self, Announced, ServerError, Source},
};

pub(super) fn serve(serve: &Serve) -> Result<Exit, CliError> {
    log(serve);
    let listen = serve.listen.as_deref().map(|text| {
        text.parse().map_err(|_| {
            let message = format!("--listen `{text}` is no address and port");
            CliError::new(Exit::Usage, message, "write it like 127.0.0.1:9093; port 0 takes a free one")
        })
    });
    let overrides = Overrides { data_dir: serve.data.clone(), listen: listen.transpose()? };
    let source = serve.config.clone().map_or(Source::Default, Source::File);
    let name = source.name();
    let loaded = source.load(&overrides).map_err(|wrong| {
        let shown = config::snippets(&name, &wrong.text, &wrong.found, std::io::stderr().is_terminal());
        let shown = shown.trim_end();
        let shown = shown.strip_prefix("error: ").unwrap_or(shown);
        CliError::new(Exit::Usage, shown, "")
    })?;
    for warning in config::lines(&name, &loaded.warnings).lines() {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::new(Exit::Failed, format!("cannot start: {error}"), ""))?;
    let is_default = serve.config.is_none();
    let run =
        server::run(source, overrides, loaded, serve.unsafe_no_sync, |ready| announce(ready, is_default));
    let ended = runtime.block_on(run);
    // Calls that hang in an action must not hold up the end: their deliveries are tried again at the next start.
    runtime.shutdown_timeout(Duration::from_millis(500));
    ended.map(|()| Exit::Done).map_err(|error| {
        let (exit, mend) = match &error {
            ServerError::Waiting(_) => (Exit::Usage, ""),
            ServerError::Listen { .. } => {
                (Exit::Usage, "stop what listens there, or name another with --listen")
            }
            ServerError::Socket(_) => (Exit::Usage, ""),
            ServerError::DataFolder { .. } => (Exit::Usage, "name another with --data"),
            _ => (Exit::Failed, "see the log above"),
        };
        CliError::new(exit, error.to_string(), mend)
    })
}

fn log(serve: &Serve) {
    let filter = EnvFilter::try_from_env("AMS2_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    match serve.log_format {
        Format::Json => builder.json().init(),
        Format::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
    }
}

/// Says where it listens, and what to try.
fn announce(ready: &Announced, is_default: bool) {
    if let Some((address, tls)) = ready.http {
        let scheme = if tls { "https" } else { "http" };
        say(format_args!("listening on {scheme}://{address}"));
    }
    if let Some(socket) = &ready.socket {
        say(format_args!("listening on {}", socket.display()));
    }
    say(format_args!("data in {}", ready.data_dir.display()));
    if is_default {
        let log = ready.data_dir.join("events.log");
        let to = match &ready.socket {
            Some(socket) if socket == std::path::Path::new("./ams2-data/ams2.sock") => String::new(),
            Some(socket) => format!(" --to {}", socket.display()),
            None => String::new(),
        };
        say("");
        say(
            "No configuration was named: every occurrence is one line in the event log. Try, in another terminal:",
        );
        say(format_args!("  ams2 send \"Virus Found\" -l computer=ws-042 --severity critical{to}"));
        say(format_args!("  tail {}", log.display()));
        say("Then copy config/ams2.yaml, edit it, `ams2 check` it, and run `ams2 serve --config FILE`.");
    }
}

pub(super) fn check(check: &Check) -> Result<Exit, CliError> {
    let name = check.file.display().to_string();
    let (text, found, loaded) = match config::load(&check.file, &Overrides::default()) {
        Ok(loaded) => (loaded.text.clone(), loaded.warnings.clone(), Some(loaded)),
        Err(wrong) => (wrong.text, wrong.found, None),
    };
    let errors = found.iter().filter(|diagnostic| diagnostic.gravity == Gravity::Error).count();
    match check.format {
        Format::Json => say(serde_json::to_string_pretty(&found).expect("plain data encodes")),
        Format::Text => report(&name, &text, &found, errors),
    }
    if errors > 0 {
        return Ok(Exit::Usage);
    }
    match loaded {
        Some(loaded) if check.probe => super::block_on(probe(loaded)),
        _ => Ok(Exit::Done),
    }
}

fn report(name: &str, text: &str, found: &[Diagnostic], errors: usize) {
    let shown = config::snippets(name, text, found, std::io::stderr().is_terminal());
    if !shown.is_empty() {
        talk(shown.trim_end());
    }
    let warnings = found.len() - errors;
    match (errors, warnings) {
        (0, 0) => say(format_args!("{name}: right")),
        (0, _) => say(format_args!("{name}: right, with {warnings} warnings")),
        _ => say(format_args!("{name}: wrong: {errors} errors, {warnings} warnings")),
    }
}

/// Asks every action's far end how it is.
async fn probe(loaded: config::Loaded) -> Result<Exit, CliError> {
    let context = ams2_handlers::BuildContext::new(&loaded.data_dir);
    let mut exit = Exit::Done;
    for (id, settings, limits) in &loaded.actions {
        let Ok(action) = settings.build(&context) else { continue };
        match action.probe(Duration::from_millis(limits.timeout_ms)).await {
            Ok(words) => say(format_args!("{id}: {words}")),
            Err(words) => {
                say(format_args!("{id}: FAILS: {words}"));
                exit = Exit::No;
            }
        }
    }
    Ok(exit)
}
