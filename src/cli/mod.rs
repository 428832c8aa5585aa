//! The command line: one definition ([`args`]), one file a verb, and the table of exit codes.

pub mod args;
mod bring;
mod client;
mod clients;
mod hosts;
mod operate;
mod pages;
mod send;
mod serve;
mod silence;
mod spool;
mod template;

use std::{fmt, process::ExitCode};

use clap::Parser;

use args::{Args, ClientDo, ConfigDo, ImportFrom, MibDo, TemplateDo, Verb};

/// What the exit code says. Documented in `docs/cli.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// The answer is no: the server refused, or nothing matched.
    No = 1,
    /// The command line or a configuration is wrong.
    Usage = 2,
    /// No server answers, or it cannot take anything now: try again.
    Unavailable = 3,
    /// The server does not know us, or does not let us.
    Denied = 4,
    /// The server's certificate does not fit.
    Untrusted = 5,
    /// The router could not go on: the journal cannot be written. See the log.
    Failed = 6,
}

/// An error for people, with what the exit code should be.
#[derive(Debug)]
pub struct CliError {
    /// What the exit code says.
    pub exit: Exit,
    /// What went wrong, where.
    pub message: String,
    /// How to mend it; may be empty.
    pub mend: String,
}

impl CliError {
    fn new(exit: Exit, message: impl Into<String>, mend: impl Into<String>) -> CliError {
        CliError { exit, message: message.into(), mend: mend.into() }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        if self.mend.is_empty() { Ok(()) } else { write!(f, "\n  help: {}", self.mend) }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Prints a line of data. A reader that went away (`| head`) is not an error of ours.
fn say(line: impl fmt::Display) {
    write_out(format_args!("{line}\n"));
}

/// Prints data that may hold its own line ends.
fn write_out(text: fmt::Arguments<'_>) {
    use std::io::Write;
    if let Err(error) = std::io::stdout().write_fmt(text) {
        let gone = error.kind() == std::io::ErrorKind::BrokenPipe;
        if !gone {
            talk(format_args!("error: cannot write the answer: {error}"));
        }
        std::process::exit(if gone { Exit::Done } else { Exit::Failed } as i32);
    }
}

/// Prints a line of talk.
fn talk(line: impl fmt::Display) {
    use std::io::Write;
    // Nobody may be listening any more.
    drop(writeln!(std::io::stderr(), "{line}"));
}

/// Runs the command line to its end.
pub fn main() -> ExitCode {
    // The launcher's arguments are the child's own, not ours to parse.
    if std::env::args_os().nth(1).is_some_and(|verb| verb == ams2_handlers::launch::SUBCOMMAND) {
        return ams2_handlers::launch::launch(std::env::args_os().skip(2));
    }
    // Both ends of TLS use one provider; a second installation would only say that it is there.
    drop(rustls::crypto::ring::default_provider().install_default());
    match run(Args::parse()) {
        Ok(exit) => exit.into(),
        Err(error) => {
            talk(&error);
            error.exit.into()
        }
    }
}

fn run(args: Args) -> Result<Exit, CliError> {
    match args.verb {
        Verb::Serve(serve) => serve::serve(&serve),
        Verb::Check(check) => serve::check(&check),
        Verb::Send(send) => block_on(send::send(send)),
        Verb::Query(query) => block_on(operate::query(query)),
        Verb::Ack(ack) => block_on(operate::acknowledge(ack)),
        Verb::Silence(silence) => block_on(silence::silence(silence)),
        Verb::Delivery(delivery) => block_on(operate::delivery(delivery)),
        Verb::Action(action) => block_on(operate::action(action)),
        Verb::Template(template) => match template.verb {
            TemplateDo::Render(render) => block_on(template::render(render)),
        },
        Verb::Mib(mib) => match mib.verb {
            MibDo::Generate { enterprise } => {
                // `say` ends the last line.
                say(ams2_handlers::snmp_trap::mib::text(enterprise).trim_end());
                Ok(Exit::Done)
            }
        },
        Verb::Reload(reload) => block_on(operate::reload(reload)),
        Verb::Import(import) => match import.from {
            ImportFrom::Alertmanager { file, output, secrets, report, all } => {
                bring::import(&file, output.as_deref(), &secrets, report, all)
            }
            ImportFrom::Hosts(import) => hosts::import(import),
        },
        Verb::Client(client) => match client.verb {
            ClientDo::Cache(cache) => hosts::cache(cache.verb),
            ClientDo::List { state, limit, json, server } => {
                block_on(clients::list(state, limit, json, &server))
            }
            ClientDo::Show { name, json, server } => block_on(clients::show(&name, json, &server)),
            ClientDo::Forget { name, server } => block_on(clients::forget(&name, &server)),
        },
        Verb::Export(export) => bring::export(export),
        Verb::Config(config) => match config.verb {
            ConfigDo::Schema => pages::schema(),
        },
        Verb::Completions { shell } => pages::completions(shell),
        Verb::Man { dir } => pages::man(&dir),
    }
}

/// Runs a client's verb: one thread is enough.
fn block_on<T>(future: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::new(Exit::Failed, format!("cannot start: {error}"), ""))?
        .block_on(future)
}
