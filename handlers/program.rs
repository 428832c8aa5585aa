//! Runs a program for each notification: exactly the configured argv, never a shell.
//!
//! The program gets
//! - **arguments** as configured. One argument stays one argument, whatever a template puts into it. A template
//!   that yields a leading `-` where the configured text has none, or a NUL, fails for good: no alert can turn a
//!   value into an option.
//! - **standard input**: the notification as JSON, see [`crate::notification`]. It need not read it.
//! - **environment**: `PATH=/usr/bin:/bin` and nothing else but `AMS2_DELIVERY_ID`, `AMS2_ATTEMPT`,
//!   `AMS2_MAYBE_DUPLICATE` and `AMS2_TEST` (`0` or `1`), `AMS2_RECEIVER`, `AMS2_STATE`, `AMS2_REASON`,
//!   `AMS2_EVENT`, `AMS2_SEVERITY` (the rank), `AMS2_FIRING`, `AMS2_RESOLVED`, `AMS2_GROUP_KEY`,
//!   `AMS2_DECIDED_AT`, `AMS2_TITLE` and `AMS2_EXTERNAL_URL`. Values are cut at 8 KiB, a NUL becomes U+FFFD.
//! - **a folder** of its own, empty, removed afterwards; `/` when it runs as another user, who cannot enter ours.
//!
//! Its exit code says how it went: 0 is done, 75 (`EX_TEMPFAIL` of sysexits.h) is tried again, any other has
//! failed for good. Death by a signal is tried again: what killed it (the memory killer, an operator, a limit)
//! may be gone. What it prints is kept, the last 64 KiB of both streams in the order they came; the last 4 KiB
//! go into the receipt.
//!
//! At the timeout its process group gets SIGTERM, five seconds later SIGKILL. Processes that left the group are
//! found by their parentage and by `AMS2_DELIVERY_ID` and `AMS2_ATTEMPT` in their environment, and get the same;
//! one that left its group, its parent *and* its environment behind is not found. The same is done to what is left
//! over when the program ends by itself, unless `background: keep`.
//!
//! Our own descriptors are closed in it. One that ams2 itself inherited from whoever started it stays open: a
//! service manager gives none.
//!
//! Limits are set by `ams2 launch`, which limits itself and then becomes the program; see [`crate::launch`].

mod owner;
mod path;
mod processes;
mod running;

use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{process::Command, time::Instant};

use crate::{
    Action, BuildContext, Defaults, Delivery, Failure, Kind, Receipt, SettingsError,
    delivery::written,
    lane::Lane,
    launch, notification,
    render::{Scope, Template},
    settings::{Warnings, settings},
    text, units,
};
use owner::Owner;
use running::Running;

/// The entry in the table.
pub const KIND: Kind = Kind {
    key: "program",
    summary: "runs a program with the notification as JSON on its standard input",
    examples: &[
        "program: { command: [/bin/true] }",
        "program: { command: [/bin/echo, '--computer={{ common_labels.computer | default(\"?\") }}', '--', '{{ title }}'], timeout: 10s, send_resolved: true }",
        "program: { command: [/bin/true], limits: { cpu: 5s, memory: 256MiB, files: 64, processes: 50, file_size: 1MiB } }",
    ],
    files: &[],
    defaults: Defaults {
        // A program that does not look at AMS2_STATE would do its work twice.
        send_resolved: false,
        // No fork storm: the rest waits.
        max_in_flight: 4,
        batch_max: 1,
        timeout: units::Duration::from_seconds(30),
        max_alerts: 0,
        patient: false,
    },
};

settings! {
    /// Settings of a `program` action.
    pub struct Settings {
        /// The program by its absolute path, then its arguments. Arguments may be templates, the program not.
        pub command: Vec<String>,
        /// The folder that it starts in; relative paths start in the data folder. Unset: an empty one of its own.
        pub directory: Option<PathBuf>,
        /// The user that it runs as, by name in `/etc/passwd` or by number; ours unless set. No supplementary
        /// groups are kept. Needs root.
        pub user: Option<String>,
        /// The group that it runs as; the user's own unless set.
        pub group: Option<String>,
        /// What it may use up.
        pub limits: Option<Limits>,
        /// What becomes of processes that it leaves behind; `kill` unless set.
        pub background: Option<Background>,
    }
}

/// What a program may use up; see setrlimit(2). `None`: what we may ourselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Time on a processor, in whole seconds upwards.
    pub cpu: Option<units::Duration>,
    /// Address space.
    pub memory: Option<units::Bytes>,
    /// Open files.
    pub files: Option<u32>,
    /// Processes of its user, all of them counted.
    pub processes: Option<u32>,
    /// Largest file that it may write.
    pub file_size: Option<units::Bytes>,
    /// `true`: neither it nor its children can gain rights (no sudo, no setuid program).
    pub no_new_privileges: Option<bool>,
}

/// What becomes of processes that a program leaves behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Background {
    /// They are killed when it ends.
    #[default]
    Kill,
    /// They live on when it ends in time.
    Keep,
}

/// Longest argument, in bytes (the kernel's own limit is 128 KiB). Larger values belong to standard input.
const ARGUMENT_BYTES_MAX: usize = 64 * 1024;
/// Most arguments that can be configured.
const ARGUMENTS_MAX: usize = 256;
/// Longest value in the environment, in bytes.
const ENVIRONMENT_BYTES_MAX: usize = 8 * 1024;
/// Between being asked to end and being killed.
const GRACE: Duration = Duration::from_secs(5);

/// How long the removal of its folder is waited for; it goes on behind us.
const REMOVE_WAIT: Duration = Duration::from_secs(1);

/// A program that is ready to be run.
#[derive(Debug)]
struct Program {
    path: PathBuf,
    arguments: Vec<Argument>,
    /// Where it starts; `None`: in an empty folder of its own below `runs`.
    directory: Option<PathBuf>,
    runs: PathBuf,
    owner: Owner,
    /// The launcher and its options, when there is something to limit.
    launcher: Option<(PathBuf, Vec<OsString>)>,
    background: Background,
    grace: Duration,
    /// Where its starts, the removals of its folders, and the looks for its processes wait.
    starts: Lane,
    removals: Lane,
    looks: Lane,
}

#[derive(Debug)]
enum Argument {
    Fixed(String),
    Rendered { source: String, template: Template },
}

impl Warnings for Settings {
    /// A program that cannot be run here and now: it may be another machine, or come later, so it is no mistake.
    fn warnings(&self) -> Vec<SettingsError> {
        match self.command.first().map(|path| path::check(Path::new(path))) {
            Some(Err(path::Refusal::Unusable(why))) => {
                let mend = "until it can be run here, every delivery by it fails";
                vec![SettingsError::new("command[0]", why, mend)]
            }
            _ => Vec::new(),
        }
    }
}

impl Settings {
    pub(crate) fn build(&self, context: &BuildContext) -> Result<Box<dyn Action>, Vec<SettingsError>> {
        self.program(context).map(|program| Box::new(program) as Box<dyn Action>)
    }

    /// The arguments of `older`, if they were written for the same program; the program, its user and its limits are
    /// these settings'.
    pub(crate) fn with_texts_of(&self, older: &Settings) -> Settings {
        let same_program = self.command.first() == older.command.first();
        let command = if same_program { older.command.clone() } else { self.command.clone() };
        Settings { command, ..self.clone() }
    }

    fn program(&self, context: &BuildContext) -> Result<Program, Vec<SettingsError>> {
        let mut errors = Vec::new();
        let path = self.path().map_err(|error| errors.push(error)).unwrap_or_default();
        let arguments = self.arguments(&mut errors);
        let owner = owner::find(self.user.as_deref(), self.group.as_deref());
        let owner = owner.map_err(|error| errors.push(error)).unwrap_or_default();
        let limits = self.limits.clone().unwrap_or_default();
        errors.extend(limits.check());
        if !errors.is_empty() {
            return Err(errors);
        }
        let directory = self.directory.as_ref().map(|directory| context.data_dir.join(directory));
        let launcher = self.limits.is_some().then(|| {
            let options = launch::Options {
                cpu_seconds: limits.cpu.map(|cpu| cpu.ms().div_ceil(1000)),
                memory_bytes: limits.memory.map(units::Bytes::get),
                files: limits.files.map(u64::from),
                processes: limits.processes.map(u64::from),
                file_bytes: limits.file_size.map(units::Bytes::get),
                no_new_privileges: limits.no_new_privileges.unwrap_or(false),
                uid: owner.uid,
                gid: owner.gid,
            };
            (context.launcher.clone(), options.arguments())
        });
        Ok(Program {
            path,
            arguments,
            directory: directory.or_else(|| owner.is_other().then(|| "/".into())),
            runs: context.data_dir.join("run"),
            owner,
            launcher,
            background: self.background.unwrap_or_default(),
            grace: GRACE,
            starts: Lane::new("ams2-start"),
            removals: Lane::new("ams2-remove"),
            looks: Lane::new("ams2-look"),
        })
    }

    fn path(&self) -> Result<PathBuf, SettingsError> {
        let Some(path) = self.command.first() else {
            let mend = "write for instance `command: [/usr/local/bin/isolate-host]`";
            return Err(SettingsError::new("command", "there is no program to run", mend));
        };
        let wrong =
            |what: &str, mend: &str| Err(SettingsError::new("command[0]", format!("{path:?} {what}"), mend));
        if Template::is_template(path) {
            return wrong("is a template", "name the program itself: no alert may choose what is run");
        }
        if !path.starts_with('/') || path.contains('\0') {
            return wrong("is no absolute path", "write the whole path: the search path is not used");
        }
        // A program that is not there (yet) is the probe's business: a start must not fail for it.
        match path::check(Path::new(path)) {
            Err(path::Refusal::Unsafe(why)) => Err(SettingsError::new(
                "command[0]",
                why,
                "correct owner and mode, so that nobody else can replace it",
            )),
            Ok(()) | Err(path::Refusal::Unusable(_)) => Ok(path.into()),
        }
    }

    fn arguments(&self, errors: &mut Vec<SettingsError>) -> Vec<Argument> {
        if self.command.len() > ARGUMENTS_MAX {
            let message = format!("{} arguments", self.command.len());
            errors.push(SettingsError::new("command", message, format!("use at most {ARGUMENTS_MAX}")));
        }
        let mut arguments = Vec::new();
        for (index, source) in self.command.iter().enumerate().skip(1) {
            let mut wrong = |message: String, mend: &str| {
                errors.push(SettingsError::new(format!("command[{index}]"), message, mend));
            };
            if source.contains('\0') {
                wrong("an argument cannot hold a NUL".into(), "remove it");
            } else if !Template::is_template(source) {
                arguments.push(Argument::Fixed(source.clone()));
            } else {
                match Template::compile_with(source, Scope::Delivery, &self.templates) {
                    Ok(template) => arguments.push(Argument::Rendered { source: source.clone(), template }),
                    Err(error) => wrong(error.to_string(), "correct the template"),
                }
            }
        }
        arguments
    }
}

impl Limits {
    fn check(&self) -> Vec<SettingsError> {
        let zero = [
            ("cpu", self.cpu.is_some_and(|cpu| cpu.ms() == 0)),
            ("memory", self.memory.is_some_and(units::Bytes::is_empty)),
            ("files", self.files.is_some_and(|files| files < 3)),
            ("processes", self.processes == Some(0)),
        ];
        let wrong = zero.into_iter().filter(|(_, wrong)| *wrong);
        wrong
            .map(|(field, _)| {
                let message = "no program can start with so little";
                SettingsError::new(format!("limits.{field}"), message, "use more, or leave it out")
            })
            .collect()
    }
}

#[async_trait::async_trait]
impl Action for Program {
    async fn deliver(&self, batch: &[Delivery], deadline: Duration) -> Vec<Result<Receipt, Failure>> {
        let end = Instant::now() + deadline;
        let mut results = Vec::with_capacity(batch.len());
        for delivery in batch {
            results.push(self.run(delivery, end, deadline).await);
        }
        results
    }

    /// Whether the program is there, may be run, and cannot be replaced by others. Starts nothing.
    async fn probe(&self, deadline: Duration) -> Result<String, String> {
        let path = self.path.clone();
        let checked = self.starts.run(Instant::now() + deadline, move || path::check(&path)).await;
        let checked = checked.map_err(|stuck| format!("{}: {stuck}", self.path.display()))?;
        checked.map(|()| format!("{} can be run", self.path.display())).map_err(|refusal| refusal.to_string())
    }
}

impl Program {
    async fn run(&self, delivery: &Delivery, end: Instant, deadline: Duration) -> Result<Receipt, Failure> {
        let arguments = written(delivery, || self.arguments(delivery))?;
        let mark = processes::Mark::of(delivery);
        let folder = match &self.directory {
            Some(_) => None,
            None => Some(self.runs.join(format!("{}-{}", delivery.id, delivery.attempt))),
        };
        let start = Start {
            path: self.path.clone(),
            command: self.command(delivery, &arguments, folder.as_deref()),
            folder: folder.clone(),
            mark,
            looks: self.looks.clone(),
        };
        // Checks and fork wait for the disk, which may be a file server that is gone.
        let result = match self.starts.run(end, move || start.run()).await {
            Ok(Ok(running)) => {
                let input = written(delivery, || notification(delivery));
                let done = running.finish(input, end, self.grace, self.background).await;
                running::judge(&done, deadline)
            }
            Ok(Err(failure)) => Err(failure),
            Err(stuck) => Err(Failure::transient(format!("{} did not start: {stuck}", self.path.display()))),
        };
        if let Some(folder) = folder {
            // Whatever it left there was its own; what cannot be removed now is emptied before the next use.
            let _ = self.removals.run(Instant::now() + REMOVE_WAIT, move || fs::remove_dir_all(folder)).await;
        }
        result
    }

    /// The configured arguments with this delivery's values. What cannot be one is refused for good.
    fn arguments(&self, delivery: &Delivery) -> Result<Vec<String>, Failure> {
        let mut values = Vec::with_capacity(self.arguments.len());
        for (index, argument) in self.arguments.iter().enumerate() {
            let refuse = |why: String| Err(Failure::permanent(format!("argument {}: {why}", index + 1)));
            let (source, template) = match argument {
                Argument::Fixed(value) => {
                    values.push(value.clone());
                    continue;
                }
                Argument::Rendered { source, template } => (source, template),
            };
            match template.render(delivery) {
                Err(error) => return refuse(format!("the template fails: {error}")),
                Ok(value) if value.contains('\0') => return refuse("the value holds a NUL".into()),
                Ok(value) if value.starts_with('-') && !source.starts_with('-') => {
                    let shown = text::cut(&text::one_line(&value), 100).into_owned();
                    return refuse(format!("the value {shown:?} would be an option"));
                }
                Ok(value) if value.len() > ARGUMENT_BYTES_MAX => {
                    return refuse(format!(
                        "the value has {} bytes: read it from standard input",
                        value.len()
                    ));
                }
                Ok(value) => values.push(value),
            }
        }
        Ok(values)
    }

    fn command(&self, delivery: &Delivery, arguments: &[String], folder: Option<&Path>) -> Command {
        let mut command = match &self.launcher {
            None => {
                let mut command = Command::new(&self.path);
                if let Some(uid) = self.owner.uid {
                    command.uid(uid);
                }
                if let Some(gid) = self.owner.gid {
                    command.gid(gid);
                }
                command
            }
            Some((launcher, options)) => {
                let mut command = Command::new(launcher);
                command.args(options).arg("--").arg(&self.path);
                command
            }
        };
        command.args(arguments).env_clear().envs(environment(delivery)).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped());
        if let Some(folder) = folder.or(self.directory.as_deref()) {
            command.current_dir(folder);
        }
        command
    }
}

fn environment(delivery: &Delivery) -> Vec<(&'static str, String)> {
    let first = delivery.groups.first();
    let flag = |is_so: bool| if is_so { "1" } else { "0" }.to_owned();
    let mut variables = vec![
        ("PATH", "/usr/bin:/bin".to_owned()),
        ("AMS2_DELIVERY_ID", delivery.id.to_string()),
        ("AMS2_ATTEMPT", delivery.attempt.to_string()),
        ("AMS2_MAYBE_DUPLICATE", flag(delivery.maybe_duplicate)),
        ("AMS2_TEST", flag(delivery.test)),
        ("AMS2_RECEIVER", delivery.receiver.to_string()),
        ("AMS2_STATE", delivery.state().to_owned()),
        ("AMS2_REASON", first.map_or("", |group| group.reason.word()).to_owned()),
        ("AMS2_EVENT", delivery.event().to_owned()),
        ("AMS2_SEVERITY", delivery.severity().map_or("", |severity| severity.word()).to_owned()),
        ("AMS2_FIRING", delivery.firing().to_string()),
        ("AMS2_RESOLVED", delivery.resolved().to_string()),
        ("AMS2_GROUP_KEY", first.map_or(String::new(), |group| group.key.to_string())),
        ("AMS2_DECIDED_AT", text::rfc3339(delivery.decided())),
        ("AMS2_TITLE", text::title(delivery)),
        ("AMS2_EXTERNAL_URL", delivery.external_url.to_string()),
    ];
    for (_, value) in &mut variables {
        *value = text::cut(&value.replace('\0', "\u{fffd}"), ENVIRONMENT_BYTES_MAX).into_owned();
    }
    variables
}

/// All that starting a program takes, in one place for a thread that may wait.
struct Start {
    path: PathBuf,
    command: Command,
    folder: Option<PathBuf>,
    mark: processes::Mark,
    looks: Lane,
}

impl Start {
    fn run(mut self) -> Result<Running, Failure> {
        // Again, because much may have happened since the config was read.
        path::check(&self.path).map_err(|refusal| Failure::permanent(refusal.to_string()))?;
        if let Some(folder) = &self.folder {
            let made = empty_folder(folder);
            made.map_err(|error| Failure::transient(format!("{}: {error}", folder.display())))?;
        }
        Running::start(&mut self.command, self.mark, self.looks).map_err(|error| refused(&self.path, &error))
    }
}

/// A folder in `run`, which is made if need be; never the data folder around that, whose loss must not be hidden.
fn empty_folder(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut builder = fs::DirBuilder::new();
    builder.mode(0o700);
    if let Some(runs) = folder.parent() {
        match builder.create(runs) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    builder.create(folder)
}

/// A machine that is short of something has it again later; anything else is wrong with the program.
fn refused(path: &Path, error: &io::Error) -> Failure {
    let reason = format!("{}: {error}", path.display());
    if launch::is_passing(error) { Failure::transient(reason) } else { Failure::permanent(reason) }
}

#[cfg(test)]
mod tests;
