//! The one definition of the command line; help, and later man pages and completions, come from it.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use super::hosts::{ADVANCED, SIMPLE};
use crate::hosts::CACHE_VARIABLE;

/// An alert router: nothing accepted is lost, every why has an answer.
#[derive(Debug, Parser)]
#[command(name = "ams2", version, about, max_term_width = 100)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run the router. Without a config: a built-in default that works anywhere
    Serve(Serve),
    /// Send one alert, or many as JSON lines on standard input
    Send(Send),
    /// Check a configuration: every mistake at once, with its place and mend
    Check(Check),
    /// Ask a running router what it knows
    Query(Query),
    /// Take charge of firing alerts: repeats stop until they change
    Ack(Ack),
    /// Hold alerts back for a while: whoever matches is not told
    Silence(SilenceVerb),
    /// Try deliveries again, or drop them
    Delivery(DeliveryVerb),
    /// List the actions, or test one
    Action(ActionVerb),
    /// Try out templates of messages
    Template(TemplateVerb),
    /// Make the SNMP MIB of what the action `snmp_trap` sends
    Mib(MibVerb),
    /// Load the configuration again; a wrong one is refused and the old one stays
    Reload(Reload),
    /// Bring a configuration over from another program, or a list of computers
    Import(ImportVerb),
    /// About computers by name and address
    Client(ClientVerb),
    /// Write our configuration in another program's words
    Export(ExportVerb),
    /// About configurations
    Config(ConfigVerb),
    /// Print a shell's completions of this command line
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Write the man pages of this command line
    Man {
        /// The folder to write them to
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
}

/// `ams2 import`.
#[derive(Debug, clap::Args)]
pub struct ImportVerb {
    /// From what.
    #[command(subcommand)]
    pub from: ImportFrom,
}

/// What a configuration is brought over from.
#[derive(Debug, Subcommand)]
pub enum ImportFrom {
    /// Prometheus Alertmanager. Every setting is translated, approximated or said to be impossible, with its line, on
    /// standard error; exit code 1 if one is impossible
    Alertmanager {
        /// The alertmanager.yml; template files are read from where it says
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Where our configuration goes. Default: standard output
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        /// The folder that secrets of the file are written to, one file each, readable by us alone
        #[arg(long, value_name = "DIR", default_value = "secrets")]
        secrets: PathBuf,
        /// How to print the report
        #[arg(long, value_enum, default_value_t = Format::Text)]
        report: Format,
        /// Report what is translated, too
        #[arg(long)]
        all: bool,
    },
    /// A list of computers: pairs of a name and an address, as AMS²'s Importer took them
    #[command(long_about = SIMPLE, after_long_help = ADVANCED)]
    Hosts(ImportHosts),
}

/// `ams2 import hosts`.
#[derive(Debug, clap::Args)]
pub struct ImportHosts {
    /// The list; `-` reads standard input. Without it: help
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Between name and address: one character, LF or SP. Default: `,`
    #[arg(value_name = "DELIM1")]
    pub delim1: Option<String>,
    /// Between pairs: one character, LF or SP. Default: LF
    #[arg(value_name = "DELIM2")]
    pub delim2: Option<String>,
    /// 1: name, address; 2: address, name
    #[arg(value_name = "ORDER", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    pub order: u8,
    /// The list's computers take the place of those with their name or address
    #[arg(long)]
    pub replace: bool,
    /// Empty the cache before, or only of what has this origin
    #[arg(
        long,
        value_name = "ORIGIN",
        value_enum,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "all"
    )]
    pub clear: Option<Cleared>,
    /// Take `;` and `:` for what they are, not for the beginning of a comment
    #[arg(long)]
    pub no_comments: bool,
    /// Say what would be done, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
    /// The cache. Default: ams2/hosts.json in $XDG_STATE_HOME or ~/.local/state
    #[arg(long, value_name = "FILE", env = CACHE_VARIABLE)]
    pub cache: Option<PathBuf>,
}

/// Which computers of the cache are to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Cleared {
    /// All of them
    All,
    /// Those that a list brought
    Imported,
    /// Those that discovery found
    Discovered,
}

/// `ams2 client`.
#[derive(Debug, clap::Args)]
pub struct ClientVerb {
    /// What to do.
    #[command(subcommand)]
    pub verb: ClientDo,
}

/// What to do about computers.
#[derive(Debug, Subcommand)]
pub enum ClientDo {
    /// The cache that discovery begins with
    Cache(CacheVerb),
    /// List the clients that check in at a router: how each stands, and what it last said
    List {
        /// Only those that stand so
        #[arg(long, value_enum)]
        state: Option<ClientStanding>,
        /// Most rows
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// The server to ask.
        #[command(flatten)]
        server: Server,
    },
    /// Show all that is known of one
    Show {
        /// Its name, such as boston or boston/ws-042
        #[arg(value_name = "NAME")]
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// The server to ask.
        #[command(flatten)]
        server: Server,
    },
    /// Take one out of the list: its alert ends, and whoever comes under its name next has it
    Forget {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
        /// The server.
        #[command(flatten)]
        server: Server,
    },
}

/// How a client stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ClientStanding {
    /// It checked in within its period
    Present,
    /// Its period is over, and its grace is not
    Late,
    /// It did not check in for period and grace
    Missing,
}

/// `ams2 client cache`.
#[derive(Debug, clap::Args)]
pub struct CacheVerb {
    /// What to do.
    #[command(subcommand)]
    pub verb: CacheDo,
}

/// What to do with the cache.
#[derive(Debug, Subcommand)]
pub enum CacheDo {
    /// List the computers: name, address, where they are known from, and when they last answered
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// The cache. Default: ams2/hosts.json in $XDG_STATE_HOME or ~/.local/state
        #[arg(long, value_name = "FILE", env = CACHE_VARIABLE)]
        cache: Option<PathBuf>,
    },
    /// Empty the cache, or only of what has this origin: `clear discovered` or `clear=discovered`. Asks first
    Clear {
        /// Which computers. Default: all, those that a list brought, too
        #[arg(value_name = "ORIGIN", value_enum)]
        origin: Option<Cleared>,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
        /// The cache. Default: ams2/hosts.json in $XDG_STATE_HOME or ~/.local/state
        #[arg(long, value_name = "FILE", env = CACHE_VARIABLE)]
        cache: Option<PathBuf>,
    },
    /// The same, as `import hosts` writes it
    #[command(name = "clear=imported", hide = true)]
    ClearImported {
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
        /// The cache
        #[arg(long, value_name = "FILE", env = CACHE_VARIABLE)]
        cache: Option<PathBuf>,
    },
    /// The same, as `import hosts` writes it
    #[command(name = "clear=discovered", hide = true)]
    ClearDiscovered {
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
        /// The cache
        #[arg(long, value_name = "FILE", env = CACHE_VARIABLE)]
        cache: Option<PathBuf>,
    },
}

/// `ams2 export`.
#[derive(Debug, clap::Args)]
pub struct ExportVerb {
    /// To what.
    #[command(subcommand)]
    pub to: ExportTo,
}

/// What a configuration is written for.
#[derive(Debug, Subcommand)]
pub enum ExportTo {
    /// Prometheus Alertmanager and its amtool: routes, rules, times, and receivers by name
    Alertmanager {
        /// Our configuration file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// `ams2 config`.
#[derive(Debug, clap::Args)]
pub struct ConfigVerb {
    /// What to do.
    #[command(subcommand)]
    pub verb: ConfigDo,
}

/// What to do about configurations.
#[derive(Debug, Subcommand)]
pub enum ConfigDo {
    /// Print the JSON Schema of the configuration, by which editors complete and explain
    Schema,
}

/// `ams2 serve`.
#[derive(Debug, clap::Args)]
pub struct Serve {
    /// The configuration file
    #[arg(long, short, value_name = "FILE", env = "AMS2_CONFIG")]
    pub config: Option<PathBuf>,
    /// An alertmanager.yml to run as it is: brought over at the start and at each reload, with a report in the log
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    pub alertmanager_config: Option<PathBuf>,
    /// The data folder: journal, socket, logs. Overrides the config
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Listen for HTTP here; port 0 takes a free one and prints it. Overrides the config
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<String>,
    /// Where this server is seen from outside, for links in messages. Overrides the config
    #[arg(long, value_name = "URL")]
    pub external_url: Option<String>,
    /// What stands before every path, such as /alerts. Overrides the config. With --alertmanager-config it is the path of
    /// --external-url unless given
    #[arg(long, value_name = "PATH")]
    pub route_prefix: Option<String>,
    /// How to write the log. AMS2_LOG=debug (or info, warn, error) says how much
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub log_format: Format,
    /// Do not wait for the disk: alerts are lost when the machine stops. For benchmarks only
    #[arg(long, hide = true)]
    pub unsafe_no_sync: bool,
}

/// `ams2 check`.
#[derive(Debug, clap::Args)]
pub struct Check {
    /// The configuration file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// How to print what was found
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Ask each action's far end how it is; nobody is told anything
    #[arg(long)]
    pub probe: bool,
    /// The data folder that `serve` will be given
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The address that `serve` will be given
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<String>,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Which server, and who we are.
#[derive(Clone, Debug, clap::Args)]
pub struct Server {
    /// The server: http://host:port[/path], https://host:port[/path], or the path of its socket. Default: the socket in
    /// ./ams2-data if there is one, else http://127.0.0.1:9093
    #[arg(long, value_name = "URL|SOCKET", env = "AMS2_SERVER")]
    pub to: Option<String>,
    /// A file with this client's token
    #[arg(long, value_name = "FILE", env = "AMS2_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// A file with the certificates (PEM) that may sign the server's. Default: those that this system trusts
    #[arg(long, value_name = "FILE", env = "AMS2_CA_FILE")]
    pub ca_file: Option<PathBuf>,
    /// Longest wait for an answer, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub timeout: u64,
}

/// `ams2 send`.
#[derive(Debug, clap::Args)]
pub struct Send {
    /// What happened, by name: the label `event`. Without it, JSON lines are read from standard input
    #[arg(value_name = "EVENT")]
    pub event: Option<String>,
    /// A label: name=value
    #[arg(long = "label", short, value_name = "NAME=VALUE")]
    pub labels: Vec<String>,
    /// An annotation: name=value
    #[arg(long = "annotation", short, value_name = "NAME=VALUE")]
    pub annotations: Vec<String>,
    /// The label `severity`: info, warning, minor, major or critical
    #[arg(long, short, value_name = "SEVERITY")]
    pub severity: Option<String>,
    /// Say that it has ended
    #[arg(long)]
    pub resolve: bool,
    /// The name of this occurrence; the same name twice is one occurrence. Default: a random one
    #[arg(long, value_name = "ID", conflicts_with = "resolve")]
    pub id: Option<String>,
    /// Its name for you, whatever its labels: `--resolve --key K` ends it, another alert with it takes its place
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Keep it in this folder if no server answers, and send what is kept there first
    #[arg(long, value_name = "DIR", env = "AMS2_SPOOL")]
    pub spool: Option<PathBuf>,
    /// Only send what the spool keeps
    #[arg(long, requires = "spool", conflicts_with = "event")]
    pub flush: bool,
    /// The server to send to.
    #[command(flatten)]
    pub server: Server,
}

/// `ams2 query`.
#[derive(Debug, clap::Args)]
pub struct Query {
    /// What to show
    #[arg(value_enum)]
    pub what: What,
    /// Only alerts that match, such as `severity>=major`; may be given more than once
    #[arg(value_name = "MATCHER")]
    pub matchers: Vec<String>,
    /// Which deliveries: unless given, those that wait or are under way
    #[arg(long, value_enum)]
    pub state: Option<DeliveryState>,
    /// Most rows
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// The server to ask.
    #[command(flatten)]
    pub server: Server,
}

/// What to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Alerts that fire, or that ended and are not told everywhere
    Alerts,
    /// Groups, and what each action was told of them
    Groups,
    /// Deliveries that wait or are under way
    Deliveries,
    /// Deliveries that were given up
    DeadLetters,
    /// The newest decisions with their reasons; of an alert, delivery, group, heartbeat or client if its fingerprint, id, key or
    /// name is given
    Decisions,
    /// Heartbeats: which were heard, and which are missing
    Heartbeats,
}

/// Which deliveries to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DeliveryState {
    /// They wait or are under way
    Pending,
    /// They were given up
    Dead,
    /// They ended well, as far back as the newest decisions reach
    Done,
    /// Any
    All,
}

/// `ams2 reload`.
#[derive(Debug, clap::Args)]
pub struct Reload {
    /// The receiver that takes what waits for actions which the file has no more
    #[arg(long, value_name = "RECEIVER", conflicts_with = "drop")]
    pub move_to: Option<String>,
    /// What waits for actions which the file has no more becomes dead letters
    #[arg(long)]
    pub drop: bool,
    /// The server to ask.
    #[command(flatten)]
    pub server: Server,
}

/// `ams2 ack`.
#[derive(Debug, clap::Args)]
pub struct Ack {
    /// Which alerts: all of these must match, such as `event="Virus Found"` `computer=ws-042`
    #[arg(value_name = "MATCHER", required = true)]
    pub matchers: Vec<String>,
    /// Who takes charge. Default: the client that the server knows us as
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
    /// For how long, such as 2h. Default: until the alert changes
    #[arg(long = "for", value_name = "DURATION")]
    pub duration: Option<String>,
    /// Why
    #[arg(long, short, value_name = "TEXT", default_value = "")]
    pub comment: String,
    /// Give it back
    #[arg(long)]
    pub withdraw: bool,
    /// The server.
    #[command(flatten)]
    pub server: Server,
}

/// `ams2 silence`.
#[derive(Debug, clap::Args)]
pub struct SilenceVerb {
    /// What to do.
    #[command(subcommand)]
    pub verb: SilenceDo,
}

/// What to do with silences.
#[derive(Debug, Subcommand)]
pub enum SilenceDo {
    /// Make a silence, and print its id
    Add(SilenceAdd),
    /// List silences
    Query {
        /// Only those that have these matchers, as they are written
        #[arg(value_name = "MATCHER")]
        matchers: Vec<String>,
        /// active, pending, expired or all. Default: those that are not over
        #[arg(long, value_name = "STATE")]
        state: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// The server.
        #[command(flatten)]
        server: Server,
    },
    /// Change a silence in place; one with other matchers takes its place, and has another id
    Update(SilenceUpdate),
    /// End silences now; they stay on record
    Expire {
        /// Which
        #[arg(value_name = "ID", required = true)]
        ids: Vec<String>,
        /// The server.
        #[command(flatten)]
        server: Server,
    },
    /// Make silences that `ams2 silence query --json` or `amtool silence query -o json` printed
    Import {
        /// The file; standard input without one
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        /// The server.
        #[command(flatten)]
        server: Server,
    },
    /// Show which current and recent alerts a silence would hold back; exit code 1 if none
    Preview {
        /// All of these must match
        #[arg(value_name = "MATCHER", required = true)]
        matchers: Vec<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// The server.
        #[command(flatten)]
        server: Server,
    },
}

/// `ams2 silence add`.
#[derive(Debug, clap::Args)]
pub struct SilenceAdd {
    /// Which alerts: all of these must match, such as `event="Virus Found"` `severity<major`
    #[arg(value_name = "MATCHER", required = true)]
    pub matchers: Vec<String>,
    /// When, why and who.
    #[command(flatten)]
    pub terms: SilenceTerms,
    /// The server.
    #[command(flatten)]
    pub server: Server,
}

/// `ams2 silence update`.
#[derive(Debug, clap::Args)]
pub struct SilenceUpdate {
    /// Which
    #[arg(value_name = "ID")]
    pub id: String,
    /// Other matchers, in place of those that it has
    #[arg(long = "matcher", short, value_name = "MATCHER")]
    pub matchers: Vec<String>,
    /// When, why and who.
    #[command(flatten)]
    pub terms: SilenceTerms,
    /// The server.
    #[command(flatten)]
    pub server: Server,
}

/// When a silence holds, why, and who says so.
#[derive(Debug, clap::Args)]
pub struct SilenceTerms {
    /// For how long, such as 2h, from its beginning or from now. A new one without an end: 1h
    #[arg(long = "for", value_name = "DURATION", conflicts_with = "end")]
    pub duration: Option<String>,
    /// When it begins, such as 2026-11-24T02:10:00Z. A new one: now
    #[arg(long, value_name = "TIME")]
    pub start: Option<String>,
    /// When it ends
    #[arg(long, value_name = "TIME")]
    pub end: Option<String>,
    /// Why
    #[arg(long, short, value_name = "TEXT")]
    pub comment: Option<String>,
    /// Who says so. Default: the client that the server knows us as
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
}

/// `ams2 delivery`.
#[derive(Debug, clap::Args)]
pub struct DeliveryVerb {
    /// What to do with them
    #[arg(value_enum)]
    pub verb: RetryOrDrop,
    /// One delivery, by id
    #[arg(value_name = "ID", required_unless_present_any = ["action", "all_dead"])]
    pub id: Option<String>,
    /// Every dead letter of this action: receiver/kind/name
    #[arg(long, value_name = "ACTION", conflicts_with = "id")]
    pub action: Option<String>,
    /// Every dead letter
    #[arg(long, conflicts_with_all = ["id", "action"])]
    pub all_dead: bool,
    /// The server.
    #[command(flatten)]
    pub server: Server,
}

/// What to do with deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RetryOrDrop {
    /// Try a dead letter again, from the first attempt; a waiting delivery at once
    Retry,
    /// Give it up, on record
    Drop,
}

/// `ams2 action`.
#[derive(Debug, clap::Args)]
pub struct ActionVerb {
    /// What to do.
    #[command(subcommand)]
    pub verb: ActionDo,
}

/// What to do with actions.
#[derive(Debug, Subcommand)]
pub enum ActionDo {
    /// List the kinds of actions that a config can use, and those that a running router has
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// The server.
        #[command(flatten)]
        server: Server,
    },
    /// Send a test through one action of a running router and show what its far end said
    Test {
        /// receiver/kind/name
        #[arg(value_name = "ACTION")]
        action: String,
        /// The server.
        #[command(flatten)]
        server: Server,
    },
}

/// `ams2 template`.
#[derive(Debug, clap::Args)]
pub struct TemplateVerb {
    /// What to do.
    #[command(subcommand)]
    pub verb: TemplateDo,
}

/// What to do with templates.
#[derive(Debug, Subcommand)]
pub enum TemplateDo {
    /// Print what a template makes of a sample alert, or of real ones
    Render(TemplateRender),
}

/// `ams2 template render`.
#[derive(Debug, clap::Args)]
pub struct TemplateRender {
    /// The template, such as '{{ event }} on {{ common_labels.computer }}'
    #[arg(value_name = "TEMPLATE", required_unless_present = "file", conflicts_with = "file")]
    pub template: Option<String>,
    /// A file with the template; `-` reads standard input
    #[arg(long, short, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// What it is for: which decides what it sees, and how that is escaped
    #[arg(long = "for", value_enum, default_value_t = TemplateUse::Message)]
    pub used_for: TemplateUse,
    /// A configuration whose shared templates, severity words and external URL are used
    #[arg(long, short, value_name = "FILE", env = "AMS2_CONFIG")]
    pub config: Option<PathBuf>,
    /// A label of the sample: name=value
    #[arg(long = "label", short, value_name = "NAME=VALUE", conflicts_with = "alerts")]
    pub labels: Vec<String>,
    /// An annotation of the sample: name=value
    #[arg(long = "annotation", short, value_name = "NAME=VALUE", conflicts_with = "alerts")]
    pub annotations: Vec<String>,
    /// The sample has ended
    #[arg(long, conflicts_with = "alerts")]
    pub resolved: bool,
    /// Instead of a sample: the alerts of a running router that match, such as 'event = "Virus Found"'; all of these must
    #[arg(long = "alerts", value_name = "MATCHER")]
    pub alerts: Vec<String>,
    /// Labels that make the group: what all of its alerts share of these is in `group_labels`
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', default_value = "event")]
    pub group_by: Vec<String>,
    /// The server to ask for alerts.
    #[command(flatten)]
    pub server: Server,
}

/// What a template is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TemplateUse {
    /// One text for all alerts: a mail, a body, an argument
    Message,
    /// The same as HTML: what is put in is escaped
    Html,
    /// One line for each alert: an event log, a trap
    Line,
}

/// `ams2 mib`.
#[derive(Debug, clap::Args)]
pub struct MibVerb {
    /// What to do.
    #[command(subcommand)]
    pub verb: MibDo,
}

/// What to do with the MIB.
#[derive(Debug, Subcommand)]
pub enum MibDo {
    /// Print AMS2-MIB for a site: what a network manager loads to name what it receives
    Generate {
        /// The site's enterprise number, as in the config; 32473 is the number for documentation
        #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
        enterprise: u32,
    },
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        super::Args::command().debug_assert();
    }
}
