//! `ams2 serve` and `ams2 check`: reading a configuration, and running it.

use std::{io::IsTerminal, sync::Arc, time::Duration};

use ams2_handlers::{Action, BuildContext};
use serde::Serialize;
use smol_str::SmolStr;
use tokio::sync::Semaphore;
use tracing_subscriber::EnvFilter;

use super::{
    CliError, Exit,
    args::{Check, Format, Serve},
    say, talk,
};
use crate::{
    config::{self, Diagnostic, Gravity, Overrides, Sources},
    journal::OpenError,
    server::{self, Announced, ServerError, Source},
};

pub(super) fn serve(serve: &Serve) -> Result<Exit, CliError> {
    log(serve);
    let external_url = serve.external_url.as_deref().map(external_url).transpose()?;
    let overrides = Overrides {
        data_dir: serve.data.clone(),
        listen: listen(serve.listen.as_deref())?,
        prefix: prefix(serve, external_url.as_deref())?,
        external_url,
        ..Overrides::default()
    };
    let source = match (&serve.config, &serve.alertmanager_config) {
        (Some(path), _) => Source::File(path.clone()),
        (None, Some(path)) => Source::Alertmanager(path.clone()),
        (None, None) => Source::Default,
    };
    let loaded = source.load(&overrides).map_err(|wrong| {
        let shown = config::snippets(&wrong.sources, &wrong.found, std::io::stderr().is_terminal());
        let shown = shown.trim_end();
        let shown = shown.strip_prefix("error: ").unwrap_or(shown);
        CliError::new(Exit::Usage, shown, "")
    })?;
    for warning in config::lines(&loaded.warnings).lines() {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::new(Exit::Failed, format!("cannot start: {error}"), ""))?;
    let is_default = matches!(source, Source::Default);
    let run =
        server::run(source, overrides, loaded, serve.unsafe_no_sync, |ready| announce(ready, is_default));
    let ended = runtime.block_on(run);
    // Calls that hang in an action must not hold up the end: their deliveries are tried again at the next start.
    runtime.shutdown_timeout(Duration::from_millis(500));
    ended.map(|()| Exit::Done).map_err(|error| {
        let (exit, mend) = match &error {
            ServerError::Waiting(_) => (Exit::Usage, ""),
            ServerError::Listen { error, address }
                if error.kind() == std::io::ErrorKind::PermissionDenied && address.port() < 1024 =>
            {
                (
                    Exit::Usage,
                    "ports below 1024 take a right: `setcap cap_net_bind_service+ep` on ams2, \
                    AmbientCapabilities=CAP_NET_BIND_SERVICE in its unit, or a port from 1024 on",
                )
            }
            ServerError::Listen { .. } => {
                (Exit::Usage, "stop what listens there, or name another with --listen")
            }
            ServerError::Socket(_) => (Exit::Usage, ""),
            ServerError::DataFolder { .. } => (Exit::Usage, "name another with --data"),
            ServerError::Journal(OpenError::Newer { .. } | OpenError::NoRoom { .. }) => (Exit::Failed, ""),
            ServerError::Journal(OpenError::Io(_)) => (Exit::Failed, "mend that, then start again"),
            _ => (Exit::Failed, "see the log above"),
        };
        CliError::new(exit, error.to_string(), mend)
    })
}

fn listen(text: Option<&str>) -> Result<Option<std::net::SocketAddr>, CliError> {
    let address = text.map(|text| {
        text.parse().map_err(|_| {
            let message = format!("--listen `{text}` is no address and port");
            CliError::new(Exit::Usage, message, "write it like 127.0.0.1:9093; port 0 takes a free one")
        })
    });
    address.transpose()
}

fn external_url(text: &str) -> Result<SmolStr, CliError> {
    config::external_url(text).ok_or_else(|| {
        let message = format!("--external-url `{text}` is no URL");
        CliError::new(Exit::Usage, message, config::EXTERNAL_URL_MEND)
    })
}

/// As Alertmanager's flags say it: without one of its own, the path of the URL that it is seen at.
fn prefix(serve: &Serve, external_url: Option<&str>) -> Result<Option<SmolStr>, CliError> {
    let of_url = || -> Option<String> {
        let url: hyper::Uri = external_url.filter(|_| serve.alertmanager_config.is_some())?.parse().ok()?;
        Some(url.path().to_owned())
    };
    if let Some(text) = &serve.route_prefix {
        // Alertmanager puts a missing `/` in.
        let text = if text.starts_with('/') { text.clone() } else { format!("/{text}") };
        let wrong = || {
            let message = format!("--route-prefix `{text}` is no beginning of a path");
            CliError::new(Exit::Usage, message, config::PREFIX_MEND)
        };
        return config::prefix(&text).ok_or_else(wrong).map(Some);
    }
    let Some(path) = of_url() else { return Ok(None) };
    let wrong = || {
        let message = format!("the path `{path}` of --external-url is no beginning of a path");
        CliError::new(
            Exit::Usage,
            message,
            format!("{}; or say with --route-prefix what is", config::PREFIX_MEND),
        )
    };
    config::prefix(&path).ok_or_else(wrong).map(Some)
}

fn log(serve: &Serve) {
    let filter = match std::env::var("AMS2_LOG").map(|words| EnvFilter::try_new(&words).map(|_| words)) {
        Ok(Ok(words)) => words,
        Ok(Err(error)) => {
            talk(format_args!(
                "AMS2_LOG is no filter of logs ({error}): `info` is used; write info, debug or ams2::journal=debug"
            ));
            "info".into()
        }
        Err(_) => "info".into(),
    };
    // It logs each failed attempt as an error of its own; ours says what became of the delivery.
    let filter = if filter.contains("async_snmp") { filter } else { format!("{filter},async_snmp=off") };
    let filter = EnvFilter::new(filter);
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
        say(format_args!("listening on {scheme}://{address}{}", ready.prefix));
    }
    if let Some(socket) = &ready.socket {
        say(format_args!("listening on {}", socket.display()));
    }
    for (transport, address) in &ready.syslog {
        say(format_args!("listening on syslog+{}://{address}", transport.word()));
    }
    if let Some(address) = &ready.snmp {
        say(format_args!("listening on snmp+udp://{address}"));
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
    let overrides = Overrides {
        data_dir: check.data.clone(),
        listen: listen(check.listen.as_deref())?,
        ..Overrides::default()
    };
    let (sources, found, loaded) = match config::load(&check.file, &overrides) {
        Ok(loaded) => (loaded.sources.clone(), loaded.warnings.clone(), Some(loaded)),
        Err(wrong) => (wrong.sources, wrong.found, None),
    };
    let probes = match &loaded {
        Some(loaded) if check.probe => super::block_on(async { Ok(probe(loaded).await) })?,
        _ => Vec::new(),
    };
    let checked = Checked {
        errors: count(&found, Gravity::Error),
        warnings: count(&found, Gravity::Warning),
        found,
        probes,
        probe_asked: check.probe,
    };
    match check.format {
        Format::Json => say(serde_json::to_string_pretty(&checked).expect("plain data encodes")),
        Format::Text => report(&check.file.display().to_string(), &sources, &checked),
    }
    Ok(match () {
        () if checked.errors > 0 => Exit::Usage,
        () if checked.probes.iter().any(|probe| !probe.ok) => Exit::No,
        () => Exit::Done,
    })
}

/// What a check found, for programs.
#[derive(Serialize)]
struct Checked {
    errors: usize,
    warnings: usize,
    found: Vec<Diagnostic>,
    /// With `--probe`.
    probes: Vec<Probe>,
    #[serde(skip)]
    probe_asked: bool,
}

/// What one action's far end said of itself.
#[derive(Serialize)]
struct Probe {
    action: String,
    ok: bool,
    words: String,
}

fn count(found: &[Diagnostic], gravity: Gravity) -> usize {
    found.iter().filter(|diagnostic| diagnostic.gravity == gravity).count()
}

fn report(name: &str, sources: &Sources, checked: &Checked) {
    let shown = config::snippets(sources, &checked.found, std::io::stderr().is_terminal());
    if !shown.is_empty() {
        talk(shown.trim_end());
    }
    for Probe { action, ok, words } in &checked.probes {
        say(format_args!("{action}: {}{words}", if *ok { "" } else { "FAILS: " }));
    }
    if checked.errors > 0 && checked.probe_asked {
        talk("nobody was asked how it is: correct the mistakes first");
    }
    match (checked.errors, checked.warnings) {
        (0, 0) => say(format_args!("{name}: right")),
        (0, warnings) => say(format_args!("{name}: right, with {warnings} warnings")),
        (errors, warnings) => say(format_args!("{name}: wrong: {errors} errors, {warnings} warnings")),
    }
}

/// Longest wait for the answer of a far end that is asked how it is.
const PROBE_TIME: Duration = Duration::from_secs(15);
/// Most far ends that are asked at once: each has a connection, and some a helper.
const PROBES_AT_ONCE: usize = 16;

/// Asks every action's far end how it is. The answers are in the order of the file.
async fn probe(loaded: &config::Loaded) -> Vec<Probe> {
    let context = BuildContext::new(&loaded.data_dir, loaded.core.severities.clone());
    let ready = loaded.actions.iter().filter_map(|(id, settings, limits)| {
        // It was built once already, when the config was read.
        let action = settings.build(&context).ok()?;
        Some((id.to_string(), action, Duration::from_millis(limits.timeout_ms).min(PROBE_TIME)))
    });
    ask(ready.collect()).await
}

/// Asks these, each with its name and its deadline.
async fn ask(actions: Vec<(String, Box<dyn Action>, Duration)>) -> Vec<Probe> {
    let turns = Arc::new(Semaphore::new(PROBES_AT_ONCE));
    let mut asked = Vec::with_capacity(actions.len());
    for (id, action, deadline) in actions {
        let turns = turns.clone();
        let answer = tokio::spawn(async move {
            let _turn = turns.acquire().await.expect("it is never closed");
            action.probe(deadline).await
        });
        asked.push((id, answer));
    }
    let mut probes = Vec::with_capacity(asked.len());
    for (action, answer) in asked {
        let answer = answer.await.unwrap_or_else(|error| Err(format!("the question failed: {error}")));
        let ok = answer.is_ok();
        probes.push(Probe { action, ok, words: answer.unwrap_or_else(|words| words) });
    }
    probes
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use ams2_handlers::{Delivery, Failure, Receipt};
    use clap::Parser;

    use super::*;

    /// One of many that are asked: those that are, and the most that were.
    #[derive(Debug)]
    struct Asked {
        number: usize,
        now: Arc<AtomicUsize>,
        most: Arc<AtomicUsize>,
    }

    #[async_trait::async_trait]
    impl Action for Asked {
        async fn deliver(&self, _: &[Delivery], _: Duration) -> Vec<Result<Receipt, Failure>> {
            unreachable!("nobody is told anything")
        }

        async fn probe(&self, _: Duration) -> Result<String, String> {
            self.most.fetch_max(self.now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            // Whoever may be asked at the same time is asked meanwhile.
            tokio::task::yield_now().await;
            self.now.fetch_sub(1, Ordering::Relaxed);
            assert_ne!(self.number, 7, "it fails in the middle of it");
            Ok(format!("number {}", self.number))
        }
    }

    #[tokio::test]
    async fn so_many_far_ends_are_asked_at_once_and_each_has_its_answer() {
        let (now, most) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let actions = (0..100).map(|number| {
            let action = Asked { number, now: now.clone(), most: most.clone() };
            (format!("a/b/{number}"), Box::new(action) as Box<dyn Action>, PROBE_TIME)
        });
        let probes = ask(actions.collect()).await;
        assert_eq!(most.load(Ordering::Relaxed), PROBES_AT_ONCE);
        assert_eq!(probes.len(), 100);
        for (number, Probe { action, ok, words }) in probes.iter().enumerate() {
            assert_eq!(*action, format!("a/b/{number}"));
            match number {
                7 => assert!(!ok && words.starts_with("the question failed: "), "{words}"),
                _ => assert!(*ok && *words == format!("number {number}"), "{words}"),
            }
        }
    }

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        serve: Serve,
    }

    #[test]
    fn a_prefix_is_blamed_on_the_flag_that_it_came_from() {
        let found = |flags: &[&str]| {
            let always = ["ams2", "--alertmanager-config", "alertmanager.yml"];
            let serve = Line::try_parse_from(always.iter().chain(flags)).expect("flags").serve;
            let url = serve.external_url.as_deref().map(external_url).transpose();
            url.and_then(|url| prefix(&serve, url.as_deref())).map_err(|error| error.message)
        };
        let of_url = ["--external-url", "https://h/a%20b"];
        assert_eq!(
            found(&of_url),
            Err("the path `/a%20b` of --external-url is no beginning of a path".into())
        );
        assert_eq!(
            found(&["--route-prefix", "a b"]),
            Err("--route-prefix `/a b` is no beginning of a path".into())
        );
        assert_eq!(found(&[&of_url[..], &["--route-prefix", "x"]].concat()), Ok(Some("/x".into())));
        assert_eq!(found(&["--external-url", "https://h/am/"]), Ok(Some("/am".into())));
        assert_eq!(
            found(&["--external-url", "https://h/a?b"]),
            Err("--external-url `https://h/a?b` is no URL".into())
        );
    }
}
