use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::{FailureKind, sample};

/// Longer than any of these programs takes: only those that never end reach a deadline, and have a short one.
const AMPLE: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(300);

/// A delivery with an id of its own: what belongs to a run is known by it, and other tests run beside this one.
fn delivery_with(alerts: Vec<crate::Alert>) -> Delivery {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let id = u128::from(std::process::id()) << 32 | u128::from(number);
    sample::delivery_of(id, alerts)
}

fn delivery() -> Delivery {
    delivery_with(vec![sample::alert()])
}

struct Bench {
    data: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        Bench { data: tempfile::tempdir().expect("a folder") }
    }

    fn script(&self, body: &str) -> String {
        let path = self.data.path().join("script");
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
        path.to_str().expect("text").to_owned()
    }

    fn program(&self, command: &[&str]) -> Program {
        let command: Vec<_> = command.iter().map(|word| word.to_string()).collect();
        self.settings(serde_json::json!({ "command": command })).expect("builds")
    }

    fn settings(&self, settings: serde_json::Value) -> Result<Program, Vec<SettingsError>> {
        let settings: Settings = serde_json::from_value(settings).expect("settings");
        let program = settings.program(&BuildContext::new(self.data.path(), Default::default()));
        program.map(|program| Program { grace: SHORT, ..program })
    }

    async fn sh(&self, body: &str, deadline: Duration) -> Result<Receipt, Failure> {
        let program = self.program(&[&self.script(body)]);
        one(&program, &delivery(), deadline).await
    }
}

async fn one(program: &Program, delivery: &Delivery, deadline: Duration) -> Result<Receipt, Failure> {
    let mut results = program.deliver(std::slice::from_ref(delivery), deadline).await;
    assert_eq!(results.len(), 1);
    results.remove(0)
}

fn reply(result: Result<Receipt, Failure>) -> String {
    match result {
        Ok(Receipt::Delivered { reply, .. }) => reply,
        other => panic!("not delivered: {other:?}"),
    }
}

#[tokio::test]
async fn the_program_gets_arguments_input_and_environment() {
    let bench = Bench::new();
    let script = bench.script(r#"printf '%s|' "$@"; echo; cat; echo; env | sort; ls -A; echo problem >&2"#);
    let computer = "c={{ common_labels.computer }}";
    let program = bench.program(&[&script, "a b", "$HOME;`id`", computer, "", "-x"]);
    let mut delivery = delivery();
    delivery.groups[0].alerts[0].labels[0].1 = "ws-042; rm -rf / $(id)".into();
    let text = reply(one(&program, &delivery, AMPLE).await);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "a b|$HOME;`id`|c=ws-042; rm -rf / $(id)||-x|");
    assert_eq!(lines[1].as_bytes(), notification(&delivery));
    let environment: Vec<&&str> = lines[2..].iter().filter(|l| l.contains('=')).collect();
    for expected in [
        "AMS2_ATTEMPT=1",
        &format!("AMS2_DELIVERY_ID={}", delivery.id),
        "AMS2_EVENT=Virus Found",
        "AMS2_GROUP_KEY={}:{site=\"boston\"}",
        "AMS2_MAYBE_DUPLICATE=0",
        "AMS2_SEVERITY=critical",
        "AMS2_STATE=firing",
        "AMS2_TITLE=[FIRING] Virus Found, critical: site=boston",
        "PATH=/usr/bin:/bin",
    ] {
        assert!(environment.iter().any(|line| **line == expected), "{expected}: {environment:?}");
    }
    // What the shell itself sets.
    let own = |line: &str| ["PWD=", "SHLVL=", "_=", "OLDPWD="].iter().any(|name| line.starts_with(name));
    let foreign =
        environment.iter().filter(|l| !l.starts_with("AMS2_") && !l.starts_with("PATH=") && !own(l));
    assert_eq!(foreign.count(), 0, "{environment:?}");
    assert_eq!(lines.last(), Some(&"problem"), "standard error is kept too");
    assert_eq!(
        fs::read_dir(bench.data.path().join("run")).expect("made").count(),
        0,
        "the folder is removed"
    );
}

#[tokio::test]
async fn a_value_cannot_become_an_option_or_end_an_argument() {
    let bench = Bench::new();
    let rows = [
        ("{{ common_labels.x }}", "--output=/etc/x", Some("would be an option")),
        ("{{ common_labels.x }}", "-oProxyCommand=id", Some("would be an option")),
        ("{{ common_labels.x }}", "a\0b", Some("holds a NUL")),
        ("{{ common_labels.nosuch }}", "a", Some("the template fails")),
        ("{{ common_labels.x / 2 }}", "a", Some("argument 1: the template fails")),
        ("x={{ common_labels.x }}", "--output=/etc/x", None),
        ("--x={{ common_labels.x }}", "-y", None),
        ("{{ common_labels.x }}", "two\nlines", None),
        ("{{ common_labels.x }}", "$(id)", None),
    ];
    for (argument, value, refusal) in rows {
        let program = bench.program(&["/bin/true", argument]);
        let alert = sample::alert_of(&[("x", value)], &[]);
        let result = one(&program, &delivery_with(vec![alert]), AMPLE).await;
        match refusal {
            None => assert!(result.is_ok(), "{argument} {value:?}: {result:?}"),
            Some(words) => {
                let failure = result.expect_err(argument);
                assert_eq!(failure.kind, FailureKind::Permanent, "{argument} {value:?}");
                assert!(failure.reason.contains(words), "{argument} {value:?}: {}", failure.reason);
            }
        }
    }
    let program = bench.program(&["/bin/true", "{{ common_labels.x }}{{ common_labels.x }}"]);
    let alert = sample::alert_of(&[("x", &"x".repeat(40 * 1024))], &[]);
    let failure = one(&program, &delivery_with(vec![alert]), AMPLE).await.expect_err("too long");
    assert!(failure.reason.contains("81920 bytes"), "{}", failure.reason);
}

#[tokio::test]
async fn exit_codes_say_what_comes_next() {
    let bench = Bench::new();
    let rows = [
        ("exit 0", None),
        ("echo busy; exit 75", Some((FailureKind::Transient, "exit code 75: busy"))),
        ("echo no >&2; exit 1", Some((FailureKind::Permanent, "exit code 1: no"))),
        ("kill -9 $$", Some((FailureKind::Transient, "killed by signal 9"))),
    ];
    for (body, expected) in rows {
        let result = bench.sh(body, AMPLE).await;
        let failure = result.err().map(|failure| (failure.kind, failure.reason));
        assert_eq!(failure, expected.map(|(kind, reason)| (kind, reason.to_owned())), "{body}");
    }
}

#[tokio::test]
async fn a_program_that_cannot_be_run_fails_for_good_and_is_named() {
    let bench = Bench::new();
    let script = bench.script("exit 0");
    let folder = bench.data.path().to_str().expect("text").to_owned();
    let rows = [
        ("/nowhere/x".to_owned(), "No such file"),
        (folder, "is not a file"),
        (script.clone(), "is not executable"),
    ];
    fs::set_permissions(&script, fs::Permissions::from_mode(0o644)).expect("set");
    for (path, words) in rows {
        let program = bench.program(&[&path]);
        let failure = one(&program, &delivery(), AMPLE).await.expect_err(&path);
        assert_eq!(failure.kind, FailureKind::Permanent);
        assert!(failure.reason.contains(&path) && failure.reason.contains(words), "{}", failure.reason);
        assert_eq!(program.probe(AMPLE).await, Err(failure.reason));
    }
    fs::write(&script, "#!/nowhere/interpreter\n").expect("written");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("set");
    let failure = one(&bench.program(&[&script]), &delivery(), AMPLE).await.expect_err("no interpreter");
    assert_eq!(failure.kind, FailureKind::Permanent, "{}", failure.reason);
    fs::write(&script, "#!/bin/sh\n").expect("written");
    let program = bench.program(&[&script]);
    fs::set_permissions(&script, fs::Permissions::from_mode(0o777)).expect("set");
    let failure = one(&program, &delivery(), AMPLE).await.expect_err("changed after the start");
    assert!(failure.reason.contains("can be written by all"), "{}", failure.reason);
}

#[tokio::test]
async fn at_the_timeout_the_whole_family_is_killed() {
    let rows = [
        "sleep 90",
        "trap '' TERM; while :; do sleep 90; done",
        "sleep 90 & sleep 90 & wait",
        "setsid sleep 90 & sleep 90",
        "setsid sh -c 'trap \"\" TERM; sleep 90; sleep 90' & sleep 90",
        "(setsid sleep 90 &) ; sleep 90",
        "exec >/dev/null 2>&1; exec sleep 90",
    ];
    let bench = Bench::new();
    for (index, body) in rows.into_iter().enumerate() {
        let delivery = sample::delivery_of(9000 + index as u128, vec![sample::alert()]);
        let program = bench.program(&[&bench.script(body)]);
        let failure = one(&program, &delivery, SHORT).await.expect_err(body);
        assert_eq!(failure.kind, FailureKind::Transient);
        assert!(failure.reason.starts_with("stopped after 300ms"), "{body}: {}", failure.reason);
        assert_eq!(survivors(&delivery), [], "{body}");
    }
}

/// The processes of a run that are left.
fn survivors(delivery: &Delivery) -> Vec<processes::Process> {
    let nobody = rustix::process::Pid::from_raw(i32::MAX).expect("not 0");
    processes::strays(nobody, &processes::Mark::of(delivery), &[])
}

/// It shows its number, so that it can be looked for without the mark that it threw away.
#[tokio::test]
async fn who_threw_the_environment_away_is_found_by_its_parent() {
    let bench = Bench::new();
    for body in
        ["env -i setsid sleep 90 & echo $!; sleep 90", "trap '' TERM; env -i setsid sleep 90 & echo $!; wait"]
    {
        let failure = bench.sh(body, SHORT).await.expect_err(body);
        let pid: u32 =
            failure.reason.rsplit(' ').next().and_then(|word| word.parse().ok()).expect("its number");
        let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(state.is_empty() || state.contains(") Z "), "{body}: {state}");
    }
}

#[tokio::test]
async fn what_a_program_leaves_behind_is_killed_unless_it_may_stay() {
    let bench = Bench::new();
    let script = bench.script("setsid sleep 90 >/dev/null 2>&1 & sleep 90 & echo started");
    for (background, left) in [("kill", 0), ("keep", 2)] {
        let settings = serde_json::json!({ "command": [script], "background": background });
        let program = bench.settings(settings).expect("builds");
        let delivery = sample::delivery_of(9100 + left as u128, vec![sample::alert()]);
        assert_eq!(reply(one(&program, &delivery, AMPLE).await), "started");
        let survivors = survivors(&delivery);
        survivors.iter().for_each(|process| process.send(rustix::process::Signal::KILL));
        assert_eq!(survivors.len(), left, "{background}");
    }
}

#[tokio::test]
async fn a_run_that_is_given_up_leaves_nobody() {
    let bench = Bench::new();
    let program = bench.program(&[&bench.script("touch started; setsid sleep 90 & sleep 90")]);
    let delivery = sample::delivery_of(9200, vec![sample::alert()]);
    let started = bench.data.path().join(format!("run/{}-1/started", delivery.id));
    let batch = std::slice::from_ref(&delivery);
    let waits = async {
        while !started.exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        results = program.deliver(batch, AMPLE) => panic!("{results:?}"),
        () = waits => {}
    }
    // They were killed without being waited for: they take a moment to go.
    let gone = async {
        while !survivors(&delivery).is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.expect("they are gone before they would end");
}

#[tokio::test]
async fn programs_that_do_not_read_or_print_too_much_do_not_hang_us() {
    let bench = Bench::new();
    let mut delivery = delivery();
    delivery.groups[0].alerts = vec![sample::alert(); 5000];
    for body in
        ["exit 0", "exec <&-; exit 0", "exec >&- 2>&-; exit 0", "head -c 300000 /dev/zero | tr '\\0' x"]
    {
        let program = bench.program(&[&bench.script(body)]);
        let text = reply(one(&program, &delivery, AMPLE).await);
        assert!(text.len() <= 4096, "{body}: {}", text.len());
    }
}

#[test]
fn each_mistake_is_named_with_its_setting() {
    let bench = Bench::new();
    let script = bench.script("exit 0");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o4755)).expect("set");
    let rows = [
        (serde_json::json!({ "command": [] }), "command", "no program"),
        (serde_json::json!({ "command": ["true"] }), "command[0]", "no absolute path"),
        (serde_json::json!({ "command": ["/bin/{{ event }}"] }), "command[0]", "is a template"),
        (serde_json::json!({ "command": ["/bin/true", "{{ evnt }}"] }), "command[1]", "evnt"),
        (serde_json::json!({ "command": ["/bin/true", "a", "{{"] }), "command[2]", "syntax error"),
        (serde_json::json!({ "command": ["/bin/true", "a\0"] }), "command[1]", "NUL"),
        (serde_json::json!({ "command": [script] }), "command[0]", "setuid"),
        (serde_json::json!({ "command": ["/bin/true"], "user": "no-such-user" }), "user", "nobody is called"),
        (
            serde_json::json!({ "command": ["/bin/true"], "limits": { "cpu": "0" } }),
            "limits.cpu",
            "so little",
        ),
    ];
    for (settings, field, words) in rows {
        let errors = bench.settings(settings.clone()).map(drop).expect_err("a mistake");
        assert_eq!(errors[0].field, field, "{settings}");
        assert!(errors[0].message.contains(words), "{settings}: {}", errors[0].message);
    }
    let both = serde_json::json!({ "command": ["true", "{{ evnt }}"], "limits": { "files": 1 } });
    assert_eq!(bench.settings(both).map(drop).expect_err("mistakes").len(), 3);
}

#[test]
fn values_in_the_environment_are_bounded() {
    let mut delivery = delivery();
    delivery.groups[0].key = "k\0".repeat(9000).into();
    let variables = environment(&delivery);
    assert!(variables.iter().all(|(_, value)| value.len() <= ENVIRONMENT_BYTES_MAX && !value.contains('\0')));
}

#[test]
fn a_data_folder_that_was_deleted_is_not_made_anew() {
    let outer = tempfile::tempdir().expect("a folder");
    let data = outer.path().join("data");
    let folder = data.join("run/1-1");
    assert_eq!(empty_folder(&folder).expect_err("it is gone").kind(), io::ErrorKind::NotFound);
    assert!(!data.exists());
    fs::create_dir(&data).expect("made");
    for _ in 0..2 {
        empty_folder(&folder).expect("made");
        fs::write(folder.join("left"), "").expect("written");
    }
}
