//! One run of a program, from its start to the last process that it left behind.

use std::{
    io, mem,
    os::{fd::AsFd, unix::process::ExitStatusExt},
    process::ExitStatus,
    sync::Mutex,
    time::Duration,
};

use ams2_core::input::REPLY_BYTES_MAX;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe,
    process::{Child, Command},
    sync::oneshot,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    Background,
    processes::{Mark, Process, strays},
};
use crate::{Failure, Receipt, lane::Lane, launch, text};

/// How much of the output is kept, in bytes: its end.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// How long output may still come in after the program has ended. It is in the pipe by then; only a process that
/// was left alive on purpose can hold the other end.
const DRAIN: Duration = Duration::from_millis(250);
/// How long a killed process may take to be gone: longer ones hang in the kernel, and waiting does not help.
const KILL_WAIT: Duration = Duration::from_secs(1);
/// A process that forks while we kill needs another look; after this time it is left to the admin.
const SWEEP_TIME_MAX: Duration = Duration::from_secs(1);
/// Longest look at /proc that is waited for: reading it waits for no disk.
const LOOK_MAX: Duration = Duration::from_secs(1);
/// Between two looks: a killed process takes a moment to be gone.
const SWEEP_WAIT: Duration = Duration::from_millis(10);

/// A program that runs. Dropped, it is killed with all that belongs to it.
#[derive(Debug)]
pub(super) struct Running {
    // Dropped before the child: until the child is waited for, its number cannot be another's.
    family: Family,
    child: Child,
    ended: oneshot::Receiver<()>,
    output: pipe::Receiver,
}

/// The processes of a run.
#[derive(Debug)]
struct Family {
    leader: Pid,
    mark: Mark,
    /// What hangs in the kernel may hang whoever looks at it.
    looks: Lane,
    /// Those that had left the group when we last looked.
    strays: Vec<Process>,
    /// Whether dropping it kills.
    armed: bool,
}

/// How a run ended.
#[derive(Debug)]
pub(super) struct Done {
    /// `None` when it could not even be killed.
    status: Option<ExitStatus>,
    timed_out: bool,
    output: String,
}

impl Running {
    /// Starts the command as the leader of a process group. Blocks: for a thread that may wait.
    pub(super) fn start(command: &mut Command, mark: Mark, looks: Lane) -> io::Result<Running> {
        let (reader, writer) = io::pipe()?;
        // One pipe for both streams keeps their order.
        command.stdout(writer.try_clone()?).stderr(writer);
        let child = command.spawn();
        // The command holds copies of the pipe's writing end, without which the output would never end.
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let child = child?;
        let number = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let leader = number.expect("a child that was not waited for has its number");
        let family = Family { leader, mark, looks, strays: Vec::new(), armed: true };
        let ended = watch(leader)?;
        let output = pipe::Receiver::from_owned_fd(reader.into())?;
        Ok(Running { family, child, ended, output })
    }

    /// Feeds it, listens to it, and ends it when it overstays `end`.
    pub(super) async fn finish(
        self,
        input: Vec<u8>,
        end: Instant,
        grace: Duration,
        background: Background,
    ) -> Done {
        let Running { mut family, mut child, mut ended, mut output } = self;
        let kept = Mutex::new(Tail::default());
        let number = family.leader.as_raw_nonzero().get();
        let stdin = child.stdin.take();
        let talk = async {
            let write = async {
                if let Some(mut stdin) = stdin {
                    // A program that does not want it closes the pipe: that is its right.
                    let _ = stdin.write_all(&input).await;
                }
            };
            tokio::join!(write, listen(&mut output, &kept));
        };
        tokio::pin!(talk);
        let life = async {
            let in_time = timeout_at(end, &mut ended).await.is_ok();
            if !in_time {
                family.signal(Signal::TERM).await;
                let obeyed = timeout(grace, &mut ended).await.is_ok();
                family.kill().await;
                if !obeyed && timeout(KILL_WAIT, &mut ended).await.is_err() {
                    return (None, true);
                }
            } else if background == Background::Kill {
                // It is not waited for yet, so the number of its group is still its own.
                family.kill().await;
            }
            family.armed = false;
            (child.wait().await.ok(), !in_time)
        };
        tokio::pin!(life);
        let (status, timed_out) = tokio::select! {
            ended = &mut life => {
                let _ = timeout(DRAIN, &mut talk).await;
                ended
            }
            () = &mut talk => life.await,
        };
        let output = kept.lock().map(|tail| tail.text()).unwrap_or_default();
        tracing::debug!(pid = number, ?status, timed_out, output, "a program ended");
        Done { status, timed_out, output }
    }
}

/// Tells when the process has ended, without collecting it: until then its number, and so its group's, cannot be
/// another's. A thread of its own waits, so that programs that hang hold nothing that others need.
fn watch(leader: Pid) -> io::Result<oneshot::Receiver<()>> {
    /// It makes one call.
    const STACK_BYTES: usize = 64 * 1024;
    let handle = pidfd_open(leader, PidfdFlags::empty())?;
    let (tell, ended) = oneshot::channel::<()>();
    std::thread::Builder::new().name("ams2-program".into()).stack_size(STACK_BYTES).spawn(move || {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Err(rustix::io::Errno::INTR) = waitid(WaitId::PidFd(handle.as_fd()), options) {}
        drop(tell);
    })?;
    Ok(ended)
}

async fn listen(output: &mut pipe::Receiver, kept: &Mutex<Tail>) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = output.read(&mut buffer).await {
        if let Ok(mut tail) = kept.lock() {
            tail.push(&buffer[..count]);
        }
    }
}

impl Family {
    /// Signals the group and all that left it. The look comes first: who has lost its parent can no longer be
    /// found by it.
    async fn signal(&mut self, signal: Signal) {
        self.look().await;
        // The group may be gone already.
        let _ = kill_process_group(self.leader, signal);
        self.strays.iter().for_each(|stray| stray.send(signal));
    }

    /// Kills until a look finds nobody, or [`SWEEP_TIME_MAX`] is over.
    async fn kill(&mut self) {
        let stop = Instant::now() + SWEEP_TIME_MAX;
        while Instant::now() < stop {
            self.signal(Signal::KILL).await;
            if self.strays.is_empty() {
                return;
            }
            sleep(SWEEP_WAIT).await;
        }
        tracing::warn!(strays = ?self.strays, "a program left processes behind that do not end");
    }

    async fn look(&mut self) {
        let (leader, mark, known) = (self.leader, self.mark.clone(), mem::take(&mut self.strays));
        let look = self.looks.run(Instant::now() + LOOK_MAX, move || strays(leader, &mark, &known));
        self.strays = look.await.unwrap_or_default();
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        if self.armed {
            let found = strays(self.leader, &self.mark, &self.strays);
            let _ = kill_process_group(self.leader, Signal::KILL);
            found.iter().for_each(|stray| stray.send(Signal::KILL));
            // Who left the group between the look and the kill.
            strays(self.leader, &self.mark, &found).iter().for_each(|stray| stray.send(Signal::KILL));
        }
    }
}

/// The end of what was printed.
#[derive(Debug, Default)]
struct Tail {
    bytes: Vec<u8>,
    total: u64,
}

impl Tail {
    fn push(&mut self, more: &[u8]) {
        self.total += more.len() as u64;
        self.bytes.extend_from_slice(more);
        if self.bytes.len() > 2 * OUTPUT_BYTES_MAX {
            self.bytes.drain(..self.bytes.len() - OUTPUT_BYTES_MAX);
        }
    }

    /// The end as text; says how much came before it.
    fn text(&self) -> String {
        let text = text::tail(&self.bytes, OUTPUT_BYTES_MAX);
        if self.total > OUTPUT_BYTES_MAX as u64 {
            return format!("[the last part of {} bytes]\n{text}", self.total);
        }
        text
    }
}

/// What the run means for the delivery.
pub(super) fn judge(done: &Done, deadline: Duration) -> Result<Receipt, Failure> {
    let with_output = |what: String| {
        let output = done.output.trim_end();
        if output.is_empty() {
            return what;
        }
        let room = REPLY_BYTES_MAX.saturating_sub(what.len() + 2);
        format!("{what}: {}", text::tail(output.as_bytes(), room))
    };
    let Some(status) = done.status else {
        return Err(Failure::transient(with_output(format!(
            "still not gone after {deadline:?} and SIGKILL"
        ))));
    };
    if done.timed_out {
        return Err(Failure::transient(with_output(format!("stopped after {deadline:?}"))));
    }
    match (status.code(), status.signal()) {
        (Some(0), _) => {
            Ok(Receipt::delivered(text::tail(done.output.trim_end().as_bytes(), REPLY_BYTES_MAX)))
        }
        (Some(launch::TRY_AGAIN), _) => Err(Failure::transient(with_output("exit code 75".into()))),
        (Some(code), _) => Err(Failure::permanent(with_output(format!("exit code {code}")))),
        (None, signal) => {
            Err(Failure::transient(with_output(format!("killed by signal {}", signal.unwrap_or_default()))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FailureKind::{self, Permanent, Transient};

    #[test]
    fn exit_codes_and_signals_are_classified() {
        type Row = (i32, bool, Result<&'static str, (FailureKind, &'static str)>);
        let rows: [Row; 6] = [
            (0, false, Ok("said")),
            (75 << 8, false, Err((Transient, "exit code 75: said"))),
            (1 << 8, false, Err((Permanent, "exit code 1: said"))),
            (126 << 8, false, Err((Permanent, "exit code 126: said"))),
            (9, false, Err((Transient, "killed by signal 9: said"))),
            (0, true, Err((Transient, "stopped after 2s: said"))),
        ];
        for (raw, timed_out, expected) in rows {
            let done = Done { status: Some(ExitStatus::from_raw(raw)), timed_out, output: "said\n".into() };
            let judged = judge(&done, Duration::from_secs(2));
            let expected = expected.map(Receipt::delivered).map_err(|(kind, reason)| Failure {
                kind,
                reason: reason.into(),
                retry_after_ms: None,
            });
            assert_eq!(judged, expected, "{raw}");
        }
    }

    #[test]
    fn the_end_of_the_output_is_kept() {
        let mut tail = Tail::default();
        for i in 0..10_000 {
            tail.push(format!("line {i:06} of many\n").as_bytes());
        }
        let text = tail.text();
        assert!(text.starts_with("[the last part of 200000 bytes]\n"), "{}", &text[..60]);
        assert!(text.ends_with("line 009999 of many\n") && text.len() <= OUTPUT_BYTES_MAX + 40);
        let done = Done { status: Some(ExitStatus::from_raw(1 << 8)), timed_out: false, output: text };
        let failure = judge(&done, Duration::ZERO).expect_err("exit code 1");
        assert!(failure.reason.len() <= REPLY_BYTES_MAX && failure.reason.ends_with("009999 of many"));
    }
}
