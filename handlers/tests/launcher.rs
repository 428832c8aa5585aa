//! The launcher with real programs. This test has a main of its own, because it is both the test and the launcher
//! that the action starts.

use std::{ffi::OsString, os::unix::fs::MetadataExt, process::ExitCode, sync::Arc, time::Duration};

use ams2_core::{At, Position, Severity, Wall, effect::NotifyReason, input::DeliveryId};
use ams2_handlers::{
    ActionSettings, Alert, BuildContext, Delivery, Failure, FailureKind, Group, Receipt, Server, launch,
};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        Some(first) if first == launch::SUBCOMMAND => launch::launch(arguments),
        // What `cargo test -- --list` and its likes ask.
        Some(first) if first == "--list" => ExitCode::SUCCESS,
        _ => {
            limits_hold();
            a_program_that_is_missing_fails_for_good();
            the_owner_is_changed();
            wrong_options_are_refused();
            ExitCode::SUCCESS
        }
    }
}

fn run(yaml: &str) -> Result<String, Failure> {
    let data = tempfile::tempdir().expect("a folder");
    let settings: ActionSettings = serde_saphyr::from_str(yaml).expect("settings");
    // The running program is its own launcher: here, this test.
    let action = settings.build(&BuildContext::new(data.path(), Default::default())).expect("builds");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let mut results = runtime.block_on(action.deliver(&[delivery()], Duration::from_secs(60)));
    results.remove(0).map(|receipt| match receipt {
        Receipt::Delivered { reply, .. } => reply,
        Receipt::Sent | Receipt::Partial { .. } => unreachable!("a program answers"),
    })
}

fn limits_hold() {
    let text = run(
        "program: { command: [/bin/sh, -c, 'ulimit -t; ulimit -v; ulimit -n; ulimit -f; ulimit -c; grep NoNewPrivs /proc/self/status; echo $AMS2_EVENT'], \
         limits: { cpu: 1500ms, memory: 256MiB, files: 32, file_size: 1MiB, no_new_privileges: true } }",
    );
    let text = text.expect("exit 0");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..3], ["2", "262144", "32"], "cpu, memory, files: {text}");
    assert!(["2048", "1024"].contains(&lines[3]), "file size, in the shell's own blocks: {text}");
    assert_eq!(lines[4..], ["0", "NoNewPrivs:\t1", "Virus Found"], "{text}");

    let spins = run("program: { command: [/bin/sh, -c, 'while :; do :; done'], limits: { cpu: 1s } }");
    let failure = spins.expect_err("the limit kills it");
    assert_eq!(failure.kind, FailureKind::Transient, "{}", failure.reason);
    assert!(failure.reason.contains("killed by signal"), "{}", failure.reason);
}

fn a_program_that_is_missing_fails_for_good() {
    let failure = run("program: { command: [/nowhere/x], limits: { cpu: 1s } }").expect_err("missing");
    assert_eq!(failure.kind, FailureKind::Permanent, "{}", failure.reason);
    assert!(failure.reason.contains("/nowhere/x"), "{}", failure.reason);
}

fn the_owner_is_changed() {
    // Only root can; elsewhere the config is refused, which the unit tests show.
    if std::fs::metadata("/proc/self").expect("proc is mounted").uid() != 0 {
        return;
    }
    for limits in ["", ", limits: { files: 64 }"] {
        let yaml = format!(
            "program: {{ command: [/bin/sh, -c, 'id -u; id -g; id -G; pwd'], user: '4242', group: '4243'{limits} }}"
        );
        assert_eq!(run(&yaml).expect("exit 0"), "4242\n4243\n4243\n/", "{yaml}");
    }
}

fn wrong_options_are_refused() {
    for arguments in [&["--colour=1", "--", "/bin/true"][..], &["--cpu=1"], &["--"]] {
        let code = launch::launch(arguments.iter().map(OsString::from));
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(126)), "{arguments:?}");
    }
}

fn delivery() -> Delivery {
    let label = |name: &str, value: &str| (name.into(), value.into());
    let alert = Alert {
        fingerprint: ams2_core::Fingerprint::of([("event", "Virus Found")].into_iter()),
        sequence: 1,
        position: Position::arrived(1),
        occurrence: None,
        firing: true,
        new: true,
        labels: vec![label("event", "Virus Found")],
        annotations: Vec::new(),
        starts_at: Wall(0),
        ends_at: None,
        generator_url: "".into(),
        severity: Some(Severity::Critical),
        client: "local".into(),
    };
    let group = Group {
        key: "{}:{}".into(),
        labels: Arc::new([]),
        reason: NotifyReason::FirstTime,
        number: 1,
        decided: Wall(0),
        decided_at: At(0),
        alerts: vec![alert],
        overview: None,
        firing: 1,
        resolved: 0,
    };
    Delivery {
        id: DeliveryId(1),
        attempt: 1,
        maybe_duplicate: false,
        test: false,
        receiver: "ops".into(),
        external_url: "".into(),
        groups: vec![group],
        digest: None,
        unfinished: None,
        memo: None,
        server: Server::default(),
    }
}
