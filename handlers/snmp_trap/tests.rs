use std::net::UdpSocket;

use async_snmp::{Value, message::CommunityMessage};

use super::*;
use crate::{FailureKind, sample};

/// Longer than any peer here takes to answer.
const AMPLE: Duration = Duration::from_secs(60);
const USER: &str = "user: ams2, auth_password: 'example one', priv_password: 'example two'";

fn settings(yaml: &str) -> Settings {
    serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"))
}

fn build(yaml: &str) -> Box<dyn Action> {
    settings(yaml).build(&BuildContext::new("/nowhere")).unwrap_or_else(|errors| panic!("{yaml}: {errors:?}"))
}

fn mistakes(yaml: &str) -> Vec<String> {
    let built = settings(yaml).build(&BuildContext::new("/nowhere"));
    let words = |errors: Vec<SettingsError>| errors.iter().map(|e| format!("{e}; {}", e.mend)).collect();
    built.map(drop).map_err(words).expect_err(yaml)
}

/// A socket in the manager's place, and where it is.
fn manager() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
    socket.set_read_timeout(Some(AMPLE)).expect("set");
    let place = socket.local_addr().expect("bound").to_string();
    (socket, place)
}

fn received(manager: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 65_536];
    let length = manager.recv(&mut buffer).expect("a message in time");
    buffer.truncate(length);
    buffer
}

#[test]
fn each_mistake_is_named_with_its_setting() {
    let v3 = |more: &str| format!("{{to: h, version: 3, {USER}, {more}}}");
    let rows = [
        ("{to: h}".to_owned(), "community: version 2c needs a community, and there is no default one; add `community_file`"),
        ("{to: h, community: ''}".into(), "community: a community that is empty"),
        ("{to: 'h:0', community: c}".into(), "to: \"0\" is no port from 1 to 65535; write it like"),
        ("{to: 'snmp://h', community: c}".into(), "to: "),
        ("{to: h, community: c, version: 1, inform: true}".into(), "inform: version 1 has no informs; use version 2c"),
        ("{to: h, community: c, user: u}".into(), "user: version 2c has no `user`; remove it, or say `version: 3`"),
        ("{to: h, community: c, version: 1, priv: aes128}".into(), "priv: version 1 has no `priv`"),
        (v3("community: c"), "community: version 3 has no `community`; remove it"),
        (v3("auth: md5"), "auth: MD5 protects nothing any more; use sha256"),
        (v3("priv: des"), "priv: DES protects nothing any more; use aes128"),
        (
            "{to: h, version: 3, user: u, auth_password: 'example one'}".into(),
            "priv_password: version 3 needs `priv_password`: alerts do not travel in the clear; add `priv_password_file`",
        ),
        (
            "{to: h, version: 3, user: u, auth_password: short, priv_password: 'example two'}".into(),
            "auth_password: shorter than 8 characters (RFC 3414)",
        ),
        (
            "{to: h, version: 3, auth_password: 'example one', priv_password: 'example two'}".into(),
            "user: version 3 needs a user",
        ),
        ("{to: h, community: c, enterprise: 0}".into(), "enterprise: 0 is nobody's"),
        ("{to: h, community: c, message_bytes_max: 1000B}".into(), "message_bytes_max: messages of at most"),
        ("{to: h, community: c, message_bytes_max: 64KiB}".into(), "message_bytes_max: messages of at most 64KiB"),
        ("{to: h, community: c, summary: '{{ evnt }}'}".into(), "summary: no variable is called"),
        ("{to: h, community: c, url: '{% if %}'}".into(), "url: "),
        (
            "{to: h, community: c, traps: [{matchers: [], oid: 1.3.6.1.4.1.9.1}]}".into(),
            "traps[0].matchers: it does not say for which alerts",
        ),
        (
            "{to: h, community: c, traps: [{matchers: ['a=b', 'a=~\"(\"'], oid: 1.3.6.1.4.1.9.1}]}".into(),
            "traps[0].matchers[1]: ",
        ),
        (
            "{to: h, community: c, traps: [{matchers: ['a=b'], oid: 1.3.6.1.4.1.9.1, resolved_oid: 9.1.1.1}]}".into(),
            "traps[0].resolved_oid: \"9.1.1.1\" is no OID of a notification; write it like",
        ),
    ];
    for (yaml, words) in rows {
        let found = mistakes(&yaml);
        assert!(found[0].starts_with(words), "{yaml}: {found:?}");
        assert_eq!(found.len(), 1, "{yaml}: {found:?}");
    }
    let all = mistakes("{to: 'h:0', version: 3, auth: md5, community: c, enterprise: 0}");
    assert_eq!(all.len(), 7, "every mistake at once: {all:?}");
}

#[test]
fn oids_of_notifications_are_read() {
    let long = format!("1.3.6{}", ".1".repeat(37));
    let rows = [
        ("1.3.6.1.4.1.9.0.1", true),
        (".1.3.6.1.6.3.1.1.5.3", true),
        (long.as_str(), true),
        ("1.3.6.2147483647", true),
        ("1.3.6.2147483648", false),
        ("1.3.4294967296.1", false),
        ("1.40.6.1", false),
        ("3.1.1.1", false),
        ("1.3.6", false),
        ("1.3.6..1", false),
        ("1.3.6.+1", false),
        ("ams2AlertFiring", false),
        ("", false),
    ];
    for (text, is_one) in rows {
        assert_eq!(read_oid(text).is_some(), is_one, "{text}");
    }
    assert_eq!(read_oid(&format!("{long}.1")), None);
}

#[test]
fn a_version_is_a_number_or_a_text() {
    let rows =
        [("1", SnmpVersion::V1), ("'1'", SnmpVersion::V1), ("2c", SnmpVersion::V2c), ("3", SnmpVersion::V3)];
    for (text, version) in rows {
        assert_eq!(settings(&format!("{{to: h, version: {text}}}")).version, Some(version), "{text}");
    }
    for text in ["2", "v3", "true", "2.0"] {
        let error =
            serde_saphyr::from_str::<Settings>(&format!("{{to: h, version: {text}}}")).expect_err(text);
        assert!(error.to_string().contains("1, 2c or 3"), "{text}: {error}");
    }
}

#[test]
fn secrets_do_not_show() {
    for yaml in ["{to: h, community: hidden}", &format!("{{to: h, version: 3, {USER}}}")] {
        let shown = format!("{:?} {:?}", settings(yaml), build(yaml));
        assert!(
            shown.contains("Secret(..)") && !shown.contains("hidden") && !shown.contains("example"),
            "{shown}"
        );
    }
}

#[test]
fn the_documentation_number_is_warned_of_and_a_sites_own_is_not() {
    let of = |yaml: &str| settings(yaml).warnings().iter().map(|w| w.field.clone()).collect::<Vec<_>>();
    assert_eq!(of("{to: h, community: c}"), ["enterprise"]);
    assert_eq!(of("{to: h, community: c, enterprise: 32473}"), ["enterprise"]);
    assert_eq!(of("{to: h, community: c, enterprise: 99999}"), [""; 0]);
}

#[test]
fn what_waits_keeps_its_texts_and_goes_where_the_config_says_now() {
    let old = settings(
        "{to: old, community: c, summary: s, url: u, traps: [{matchers: ['a=b'], oid: 1.3.6.1.4.1.9.1}]}",
    );
    let new = settings("{to: new, community: d, summary: t, enterprise: 7}");
    let merged = new.with_texts_of(&old);
    assert_eq!((&merged.summary, &merged.url, &merged.traps), (&old.summary, &old.url, &old.traps));
    assert_eq!((merged.to.as_str(), &merged.community, merged.enterprise), ("new", &new.community, Some(7)));
}

#[tokio::test]
async fn a_trap_has_the_mibs_varbinds_in_their_order() {
    let (manager, place) = manager();
    let action = build(&format!("{{to: '{place}', community: example}}"));
    assert_eq!(action.deliver(&[sample::delivery()], AMPLE).await, [Ok(Receipt::Sent)]);
    let decoded =
        CommunityMessage::decode(received(&manager).into(), Default::default()).expect("SNMP").value;
    let pdu = decoded.into_pdu().expect("a v2 trap");
    let varbinds = pdu.varbinds();
    let names: Vec<String> = varbinds.iter().map(|varbind| varbind.oid.to_string()).collect();
    let mut expected = vec!["1.3.6.1.2.1.1.3.0".to_owned(), "1.3.6.1.6.3.1.1.4.1.0".to_owned()];
    expected.extend((1..=17).map(|number| format!("1.3.6.1.4.1.32473.2004.1.{number}.0")));
    assert_eq!(names, expected);
    assert_eq!(
        varbinds[1].value.as_oid().map(ToString::to_string).as_deref(),
        Some("1.3.6.1.4.1.32473.2004.0.1")
    );
    assert_eq!(varbinds[4].value, Value::Integer(3));
    assert_eq!(varbinds[14].value, Value::Gauge32(1));
}

#[tokio::test]
async fn no_message_is_longer_than_the_limit_whatever_is_in_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let (manager, place) = manager();
    let oid = format!("1.3.6{}", ".2147483647".repeat(37));
    for access in [
        "version: 1, community: example",
        "community: example",
        &format!("version: 3, auth: sha512, priv: aes256, {USER}"),
    ] {
        for bytes_max in [1024, 1400, 8192] {
            // The longest OID that can be set does not count among the shortest messages.
            let oid = if bytes_max == 1024 { "1.3.6.1.4.1.9.0.1" } else { &oid };
            let yaml = format!(
                "{{to: '{place}', {access}, enterprise: 4294967295, message_bytes_max: {bytes_max}B, \
                 traps: [{{matchers: ['alertname=~\".*\"'], oid: {oid}}}]}}"
            );
            let action = settings(&yaml).build(&BuildContext::new(folder.path())).expect("builds");
            let mut longest = 0;
            for delivery in sample::hostile() {
                assert_eq!(action.deliver(std::slice::from_ref(&delivery), AMPLE).await, [Ok(Receipt::Sent)]);
                for _ in delivery.alerts() {
                    longest = longest.max(received(&manager).len());
                }
            }
            assert!(longest <= bytes_max, "{longest} of {bytes_max}: {access}");
            // Nor is room wasted: what v3 reserves for others' engine ids is the most.
            assert!(longest > bytes_max - 260, "{longest} of {bytes_max}: {access}");
        }
    }
}

#[tokio::test]
async fn what_is_no_answer_to_an_inform_waits_within_bounds() {
    let (manager, place) = manager();
    manager.set_nonblocking(true).expect("set");
    let manager = tokio::net::UdpSocket::from_std(manager).expect("a socket");
    let garbage = tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        loop {
            let (length, from) = manager.recv_from(&mut buffer).await.expect("received");
            for answer in [&b""[..], b"\x30\x84\xff\xff\xff\xff", &vec![0x30; 60_000], &buffer[..length / 2]]
            {
                manager.send_to(answer, from).await.expect("sent");
            }
        }
    });
    for access in ["community: example".to_owned(), format!("version: 3, {USER}")] {
        let action = build(&format!("{{to: '{place}', inform: true, timeout: 300ms, {access}}}"));
        let batch = [sample::delivery()];
        let results = action.deliver(&batch, AMPLE).await;
        let failure = results[0].as_ref().expect_err("nothing was acknowledged");
        assert_eq!(failure.kind, FailureKind::Transient);
        assert!(failure.reason.starts_with(&format!("{place}: ")), "{}", failure.reason);
    }
    garbage.abort();
}

#[tokio::test]
async fn a_silent_manager_costs_one_wait_for_the_whole_batch() {
    let (manager, place) = manager();
    let action = build(&format!("{{to: '{place}', inform: true, community: example, timeout: 300ms}}"));
    let batch = vec![sample::delivery(); 100];
    let results =
        tokio::time::timeout(AMPLE, action.deliver(&batch, AMPLE)).await.expect("not for each of them");
    assert_eq!(results.len(), 100);
    for result in results {
        let failure = result.expect_err("nobody answered");
        assert_eq!((failure.kind, failure.reason), (FailureKind::Transient, format!("{place}: no answer")));
    }
    manager.set_nonblocking(true).expect("set");
    let sent = std::iter::from_fn(|| manager.recv(&mut [0; 2048]).ok()).count();
    assert!((1..=3 * INFORMS_AT_ONCE).contains(&sent), "{sent} messages: the rest is not tried");
}

#[tokio::test]
async fn a_name_without_an_address_waits() {
    let action = build("{to: 'no-such-host.invalid', community: example}");
    let results = action.deliver(&[sample::delivery()], AMPLE).await;
    let failure = results[0].as_ref().expect_err("nowhere to send");
    assert_eq!(failure.kind, FailureKind::Transient);
    assert!(failure.reason.starts_with("no-such-host.invalid:162: "), "{}", failure.reason);
}

#[tokio::test]
async fn an_engine_that_cannot_be_kept_sends_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("snmp-engine"), "nonsense").expect("written");
    let (manager, place) = manager();
    let yaml = format!("{{to: '{place}', version: 3, {USER}}}");
    let action = settings(&yaml).build(&BuildContext::new(folder.path())).expect("builds");
    let results = action.deliver(&[sample::delivery()], AMPLE).await;
    let failure = results[0].as_ref().expect_err("no engine");
    assert_eq!(failure.kind, FailureKind::Transient);
    assert!(failure.reason.contains("does not hold an engine"), "{}", failure.reason);
    manager.set_nonblocking(true).expect("set");
    assert!(manager.recv(&mut [0]).is_err(), "nothing was sent");
}
