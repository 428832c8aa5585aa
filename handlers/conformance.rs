//! What every action must keep, proved for each entry of the table.

use std::{path::Path, sync::Arc, time::Duration};

use super::*;

/// Longer than any peer here takes to answer.
const AMPLE: Duration = Duration::from_secs(60);

/// An action from its example, in a data folder of its own.
fn build(example: &str, data_dir: &Path) -> (ActionSettings, Box<dyn Action>) {
    let settings: ActionSettings =
        serde_saphyr::from_str(example).unwrap_or_else(|e| panic!("{example}: {e}"));
    let context = BuildContext {
        clock: Arc::new(|| ams2_core::Wall(0)),
        ..BuildContext::new(data_dir, Default::default())
    };
    let action = settings.build(&context).unwrap_or_else(|e| panic!("{example}: {e:?}"));
    (settings, action)
}

fn examples() -> impl Iterator<Item = (&'static Kind, &'static str)> {
    TABLE.iter().flat_map(|kind| kind.examples.iter().map(move |example| (*kind, *example)))
}

#[test]
fn every_kind_has_a_key_a_summary_and_examples_that_build() {
    let folder = tempfile::tempdir().expect("a folder");
    for kind in TABLE.iter() {
        assert!(kind.key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", kind.key);
        assert!(
            kind.summary.len() > 20 && kind.summary.len() < 100 && !kind.summary.ends_with('.'),
            "{}",
            kind.key
        );
        assert!(!kind.examples.is_empty(), "{}", kind.key);
        assert_eq!(TABLE.iter().filter(|other| other.key == kind.key).count(), 1, "{}", kind.key);
        assert_eq!(super::kind(kind.key).map(|found| found.summary), Some(kind.summary));
    }
    for (kind, example) in examples() {
        let (settings, action) = build(example, folder.path());
        assert_eq!(settings.kind().key, kind.key, "{example}");
        assert_eq!(action.batch_max(), kind.defaults.batch_max as usize, "{example}");
        let limits = settings.limits();
        assert!(limits.timeout_ms > 0 && limits.max_in_flight > 0 && limits.batch_max > 0, "{example}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 0, "building writes nothing");
}

#[test]
fn every_kind_takes_the_common_settings_and_no_unknown_one() {
    for (_, example) in examples() {
        let with = |more: &str| {
            let whole = example.replacen("{ ", &format!("{{ {more}, "), 1);
            serde_saphyr::from_str::<ActionSettings>(&whole).map_err(|error| error.to_string())
        };
        let common = "name: n, send_resolved: false, max_in_flight: 3, max_per_minute: 60";
        // `timeout` and `send_resolved` stand in some examples already.
        let common = if example.contains("send_resolved") {
            "name: n, max_in_flight: 3, max_per_minute: 60"
        } else {
            common
        };
        let limits = with(common).unwrap_or_else(|e| panic!("{example}: {e}")).limits();
        assert_eq!((limits.name.as_deref(), limits.max_in_flight), (Some("n"), 3), "{example}");
        assert_eq!(limits.max_per_minute, Some(60), "{example}");
        let error = with("nmae: n").expect_err(example);
        assert!(error.contains("nmae"), "{example}: {error}");
    }
}

/// An incident is one group's: a digest of several would open or close the first one's alone.
#[test]
fn services_that_know_each_group_by_its_key_take_no_digest() {
    let mut refusing = Vec::new();
    for target in target::TARGETS.iter() {
        let file = &target.file;
        let key = "{{ key | sha256 }}";
        let body = file.body.as_ref().map(ToString::to_string).unwrap_or_default();
        let url = file.url.as_deref().unwrap_or_default();
        let knows = body.contains(&format!("\"{key}\"")) || url.contains(key);
        assert!(!knows || file.one_group, "{}", file.name);
        let example = target.kind.examples[0].replacen("{ ", "{ max_per_minute: 5, ", 1);
        let settings: ActionSettings = serde_saphyr::from_str(&example).expect("an example");
        match settings.build(&BuildContext::new("/nowhere", Default::default())) {
            Ok(_) => assert!(!file.one_group, "{}", file.name),
            Err(errors) => {
                assert_eq!(errors.len(), 1, "{errors:?}");
                assert_eq!(errors[0].field, "max_per_minute");
                refusing.push(file.name.as_str());
            }
        }
    }
    refusing.sort_unstable();
    assert_eq!(refusing, ["incidentio", "jira", "opsgenie", "pagerduty", "victorops"]);
}

#[test]
fn common_settings_out_of_range_are_named() {
    let rows = [
        ("max_in_flight: 0", "max_in_flight"),
        ("max_in_flight: 100000", "max_in_flight"),
        ("max_per_minute: 0", "max_per_minute"),
        ("timeout: 0s", "timeout"),
        ("timeout: 2h", "timeout"),
        ("name: ''", "name"),
        ("name: a/b", "name"),
    ];
    for (setting, field) in rows {
        let text = format!("program: {{ command: [/bin/true], {setting} }}");
        let settings: ActionSettings = serde_saphyr::from_str(&text).expect("the right types");
        let errors =
            settings.build(&BuildContext::new("/nowhere", Default::default())).map(drop).expect_err(setting);
        assert_eq!(errors.iter().map(|e| e.field.as_str()).collect::<Vec<_>>(), [field], "{setting}");
        assert!(!errors[0].mend.is_empty());
    }
}

#[tokio::test]
async fn every_delivery_gets_one_answer_whatever_is_in_it() {
    for (kind, example) in examples() {
        let folder = tempfile::tempdir().expect("a folder");
        let (_, action) = build(example, folder.path());
        let corpus = sample::hostile();
        for batch in corpus.chunks(action.batch_max().min(5)) {
            let results = action.deliver(batch, AMPLE).await;
            assert_eq!(results.len(), batch.len(), "{example}");
            for result in results {
                if let Err(failure) = result {
                    assert!(failure.reason.len() <= ams2_core::input::REPLY_BYTES_MAX, "{}", kind.key);
                    assert!(!failure.reason.is_empty(), "{}", kind.key);
                }
            }
        }
        assert_eq!(action.deliver(&[], AMPLE).await, [], "{example}: nothing to tell is no mistake");
    }
}

#[tokio::test]
async fn a_probe_tells_nobody_anything() {
    for (_, example) in examples() {
        let folder = tempfile::tempdir().expect("a folder");
        let (_, action) = build(example, folder.path());
        let words = match action.probe(AMPLE).await {
            Ok(words) | Err(words) => words,
        };
        assert!(!words.is_empty(), "{example}");
        assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 0, "{example}");
    }
}

/// One far end an example that takes the connection, or starts, and never answers.
#[tokio::test]
async fn a_far_end_that_never_answers_is_given_up_at_the_deadline() {
    let folder = tempfile::tempdir().expect("a folder");
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = tcp.local_addr().expect("bound").port();
    let socket = folder.path().join("socket");
    let _silent = std::os::unix::net::UnixDatagram::bind(&socket).expect("bound");
    let socket = socket.display();
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").expect("bound");
    let manager = udp.local_addr().expect("bound");
    let silent = [
        format!("email: {{ to: [a@example.com], from: b@example.com, smtp: 'smtp://127.0.0.1:{port}' }}"),
        format!("event_log: {{ to: syslog, address: 'tcp://127.0.0.1:{port}' }}"),
        format!("event_log: {{ to: syslog, address: 'unix:{socket}' }}"),
        format!("event_log: {{ to: journald, socket: '{socket}' }}"),
        format!("forward: {{ to: ['http://127.0.0.1:{port}', 'https://127.0.0.1:{port}'] }}"),
        "program: { command: [/bin/sleep, '90'] }".to_owned(),
        format!("webhook: {{ url: 'http://127.0.0.1:{port}/' }}"),
        format!("webhook: {{ url: 'https://127.0.0.1:{port}/' }}"),
        format!("slack: {{ webhook_url: 'http://127.0.0.1:{port}/' }}"),
        format!("snmp_trap: {{ to: '{manager}', inform: true, community: example }}"),
        format!(
            "snmp_trap: {{ to: '{manager}', version: 3, inform: true, user: u, auth_password: 'example one', priv_password: 'example two' }}"
        ),
    ];
    // Services that a file describes are sent to by the same code, which is asked once.
    for kind in TABLE.iter().filter(|kind| target::find(kind.key).is_none()) {
        assert!(
            silent.iter().any(|example| example.starts_with(kind.key)),
            "{} has no silent far end",
            kind.key
        );
    }
    let deadline = Duration::from_millis(200);
    // Enough to fill every buffer on the way.
    let wide = sample::alert_of(&[("event", "E"), ("text", &"x".repeat(60 * 1024))], &[]);
    for example in silent {
        let (_, action) = build(&example, folder.path());
        let batch = vec![sample::delivery_of(1, vec![wide.clone(); 8]); action.batch_max().min(64)];
        let results = tokio::time::timeout(AMPLE, action.deliver(&batch, deadline)).await;
        let results = results.unwrap_or_else(|_| panic!("{example}: it still waits"));
        assert_eq!(results.len(), batch.len());
        // What a web hook was told it may have, though it says nothing.
        let is_transient = |f: &Failure| matches!(f.kind, FailureKind::Transient | FailureKind::Uncertain);
        // What the kernel took off our hands is sent, for protocols without an answer; the rest is tried again.
        let (failed, sent): (Vec<_>, Vec<_>) = results.iter().partition(|r| r.is_err());
        assert!(
            !failed.is_empty() && failed.iter().all(|r| r.as_ref().is_err_and(is_transient)),
            "{example}"
        );
        assert!(sent.iter().all(|r| **r == Ok(Receipt::Sent)), "{example}: {:?}", sent[0]);
    }
}
