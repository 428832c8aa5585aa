//! `ams2 launch`: limits itself, then becomes the program that it is to start. Hidden: only the `program` action
//! calls it.
//!
//! A limit can only be set for oneself, between fork and exec, where Rust allows no safe code of ours. So we
//! start ourselves, set the limits in a program of our own, and let exec(2) replace it; process number, process
//! group, environment and standard streams stay the same.

use std::{
    ffi::OsString,
    io::{self, Write},
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use rustix::{
    io::Errno,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

/// The name of the subcommand.
pub const SUBCOMMAND: &str = "launch";
/// `EX_TEMPFAIL` of sysexits.h: try again later.
pub const TRY_AGAIN: i32 = 75;
/// As shells say it: found, but it cannot be run.
const CANNOT_RUN: u8 = 126;
/// As shells say it: not found.
const NOT_FOUND: u8 = 127;

/// What is limited. `None`: as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Processor time.
    pub cpu_seconds: Option<u64>,
    /// Address space.
    pub memory_bytes: Option<u64>,
    /// Open files.
    pub files: Option<u64>,
    /// Processes of the user.
    pub processes: Option<u64>,
    /// Largest file that can be written.
    pub file_bytes: Option<u64>,
    /// Whether exec can no longer give rights.
    pub no_new_privileges: bool,
    /// The user to become.
    pub uid: Option<u32>,
    /// The group to become. Supplementary groups go with a change of the user, not of the group alone.
    pub gid: Option<u32>,
}

const NO_NEW_PRIVILEGES: &str = "--no-new-privileges";

impl Options {
    /// As arguments of the subcommand, its name included, without the `--` that ends them.
    pub fn arguments(&self) -> Vec<OsString> {
        let numbers = [
            ("--cpu", self.cpu_seconds),
            ("--memory", self.memory_bytes),
            ("--files", self.files),
            ("--processes", self.processes),
            ("--file-size", self.file_bytes),
            ("--uid", self.uid.map(u64::from)),
            ("--gid", self.gid.map(u64::from)),
        ];
        let numbers = numbers.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value?)));
        let flag = self.no_new_privileges.then(|| NO_NEW_PRIVILEGES.to_owned());
        std::iter::once(SUBCOMMAND.to_owned()).chain(numbers).chain(flag).map(OsString::from).collect()
    }

    fn take(&mut self, argument: &str) -> Option<()> {
        if argument == NO_NEW_PRIVILEGES {
            self.no_new_privileges = true;
            return Some(());
        }
        let (name, value) = argument.split_once('=')?;
        let value: u64 = value.parse().ok()?;
        match name {
            "--cpu" => self.cpu_seconds = Some(value),
            "--memory" => self.memory_bytes = Some(value),
            "--files" => self.files = Some(value),
            "--processes" => self.processes = Some(value),
            "--file-size" => self.file_bytes = Some(value),
            "--uid" => self.uid = Some(u32::try_from(value).ok()?),
            "--gid" => self.gid = Some(u32::try_from(value).ok()?),
            _ => return None,
        }
        Some(())
    }

    fn apply(&self) -> io::Result<()> {
        let limits = [
            (Resource::Cpu, self.cpu_seconds),
            (Resource::As, self.memory_bytes),
            (Resource::Nofile, self.files),
            (Resource::Nproc, self.processes),
            (Resource::Fsize, self.file_bytes),
            // A core file would hold alerts, in a folder that nobody watches.
            (Resource::Core, Some(0)),
        ];
        for (resource, limit) in limits {
            if let Some(limit) = limit {
                // What is less already stays so.
                let most = getrlimit(resource).maximum.map_or(limit, |most| most.min(limit));
                setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
            }
        }
        if self.no_new_privileges {
            rustix::thread::set_no_new_privs(true)?;
        }
        Ok(())
    }
}

/// The subcommand: `arguments` are those after its name. Returns only when the program could not be started; the
/// reason is on standard error, and the exit code is one that the action understands.
pub fn launch(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let (code, words) = match start(arguments) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    // Where nobody listens there is nobody to tell.
    let _ = writeln!(io::stderr(), "ams2 {SUBCOMMAND}: {words}");
    ExitCode::from(code)
}

fn start(arguments: impl IntoIterator<Item = OsString>) -> Result<std::convert::Infallible, (u8, String)> {
    let mut arguments = arguments.into_iter();
    let mut options = Options::default();
    for argument in arguments.by_ref().take_while(|argument| argument != "--") {
        let taken = argument.to_str().and_then(|text| options.take(text));
        taken.ok_or_else(|| (CANNOT_RUN, format!("what is {argument:?}?")))?;
    }
    let program = arguments.next().ok_or_else(|| (CANNOT_RUN, "no program is named".to_owned()))?;
    options.apply().map_err(|error| (CANNOT_RUN, format!("the limits cannot be set: {error}")))?;
    let mut command = Command::new(&program);
    command.args(arguments);
    if let Some(uid) = options.uid {
        command.uid(uid);
    }
    if let Some(gid) = options.gid {
        command.gid(gid);
    }
    let error = command.exec();
    let code = match error.kind() {
        _ if is_passing(&error) => TRY_AGAIN as u8,
        io::ErrorKind::NotFound => NOT_FOUND,
        _ => CANNOT_RUN,
    };
    Err((code, format!("{}: {error}", program.display())))
}

/// Whether a start failed for want of something that may be there later.
pub(crate) fn is_passing(error: &io::Error) -> bool {
    const PASSING: [Errno; 6] =
        [Errno::AGAIN, Errno::NOMEM, Errno::MFILE, Errno::NFILE, Errno::TXTBSY, Errno::IO];
    error.raw_os_error().is_some_and(|code| PASSING.iter().any(|errno| errno.raw_os_error() == code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_survive_the_command_line() {
        let all = Options {
            cpu_seconds: Some(1),
            memory_bytes: Some(2),
            files: Some(3),
            processes: Some(4),
            file_bytes: Some(5),
            no_new_privileges: true,
            uid: Some(6),
            gid: Some(7),
        };
        for options in [all, Options::default()] {
            let mut read = Options::default();
            let arguments = options.arguments();
            assert_eq!(arguments[0], SUBCOMMAND);
            for argument in &arguments[1..] {
                read.take(argument.to_str().expect("text")).expect("known");
            }
            assert_eq!(read, options);
        }
        for wrong in ["--cpu", "--cpu=x", "--cpu=-1", "--uid=4294967296", "--colour=1", "x"] {
            assert_eq!(Options::default().take(wrong), None, "{wrong}");
        }
    }
}
