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
    settings(yaml)
        .build(&BuildContext::new("/nowhere", Default::default()))
        .unwrap_or_else(|errors| panic!("{yaml}: {errors:?}"))
}

fn mistakes(yaml: &str) -> Vec<String> {
    let built = settings(yaml).build(&BuildContext::new("/nowhere", Default::default()));
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
fn matchers_of_traps_know_the_words_that_the_config_adds() {
    let text = "{to: h, community: c, traps: [{matchers: ['severity >= purple'], oid: 1.3.6.1.4.1.9.1}]}";
    let mut severities = Severities::default();
    let matches = |severities: &Severities, word: &str| {
        let traps = settings(text).traps(severities).expect("right");
        traps[0].matchers[0].matches(word, &Severities::default())
    };
    assert!(settings(text).traps(&severities).is_err(), "nobody knows the word");
    severities.extra.insert("purple".into(), ams2_core::Severity::Critical);
    assert!(matches(&severities, "critical") && !matches(&severities, "major"));
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
            let action =
                settings(&yaml).build(&BuildContext::new(folder.path(), Default::default())).expect("builds");
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

/// An inform as a manager reads it.
struct Heard {
    request: i32,
    delivery: String,
    alert: String,
    bytes: Vec<u8>,
    from: std::net::SocketAddr,
}

/// A manager that reads informs of the community `example`, and answers those that it is told to.
struct Reader(tokio::net::UdpSocket);

impl Reader {
    fn new() -> (Reader, String) {
        let (manager, place) = manager();
        manager.set_nonblocking(true).expect("set");
        (Reader(tokio::net::UdpSocket::from_std(manager).expect("a socket")), place)
    }

    async fn hear(&self) -> Heard {
        let mut bytes = vec![0; 65_536];
        let received = tokio::time::timeout(AMPLE, self.0.recv_from(&mut bytes)).await;
        let (length, from) = received.expect("an inform in time").expect("received");
        bytes.truncate(length);
        let decoded = CommunityMessage::decode(bytes.clone().into(), Default::default()).expect("SNMP").value;
        let pdu = decoded.into_pdu().expect("an inform");
        let text = |at: usize| {
            let bytes = pdu.varbinds()[at].value.as_bytes().expect("octets");
            String::from_utf8(bytes.to_vec()).expect("UTF-8")
        };
        let (delivery, alert) = (text(2), text(3));
        Heard { request: pdu.request_id(), delivery, alert, bytes, from }
    }

    /// The answer to an inform is the inform itself under another tag (RFC 3416 section 4.2.7).
    async fn answer(&self, heard: &Heard) {
        let mut bytes = heard.bytes.clone();
        let community = bytes.windows(7).position(|window| window == b"example").expect("the community");
        assert_eq!(bytes[community + 7], 0xa6, "an inform");
        bytes[community + 7] = 0xa2;
        self.0.send_to(&bytes, heard.from).await.expect("sent");
    }
}

fn numbered(number: usize) -> crate::Alert {
    sample::alert_of(&[("event", "Down"), ("n", &number.to_string())], &[])
}

#[tokio::test]
async fn what_happens_to_one_alert_is_told_in_order_and_different_alerts_at_once() {
    let (manager, place) = Reader::new();
    let action = build(&format!("{{to: '{place}', inform: true, community: example, timeout: 1s}}"));
    let each = |id: u128, number: usize| sample::delivery_of(id, vec![numbered(number)]);
    // Three times the first alert; between them others.
    let batch = [each(1, 1), each(2, 1), each(3, 2), each(4, 1), each(5, 3)];
    let telling = tokio::spawn(async move { action.deliver(&batch, AMPLE).await });
    let (mut open, mut told) = (Vec::<Heard>::new(), Vec::new());
    while told.len() < 5 {
        let heard = manager.hear().await;
        if let Some(at) = open.iter().position(|known| known.request == heard.request) {
            // It asks again: whatever else could have been sent has been.
            let first = open.remove(at);
            manager.answer(&first).await;
            told.push(u128::from_str_radix(&first.delivery, 16).expect("an id"));
        } else {
            assert!(open.iter().all(|known| known.alert != heard.alert), "two informs of one alert at once");
            open.push(heard);
            assert!(open.len() <= 3);
        }
    }
    let of_the_first: Vec<u128> = told.iter().copied().filter(|id| [1, 2, 4].contains(id)).collect();
    assert_eq!(of_the_first, [1, 2, 4]);
    assert!(telling.await.expect("no panic").iter().all(Result::is_ok));
}

#[tokio::test]
async fn the_alerts_of_one_delivery_are_told_at_once_and_what_was_told_is_not_told_again() {
    let (manager, place) = Reader::new();
    let action = build(&format!("{{to: '{place}', inform: true, community: example, timeout: 2s}}"));
    let action: Arc<dyn Action> = action.into();
    let mut delivery = sample::delivery_of(7, (0..500).map(numbered).collect());
    let mut told = Vec::new();
    // It takes a hundred in each attempt, then falls silent. None is answered before as many wait as may.
    for attempt in 1..=5 {
        let (action, of_attempt) = (action.clone(), delivery.clone());
        let mut telling = tokio::spawn(async move { action.deliver(&[of_attempt], AMPLE).await });
        let (mut open, mut answered) = (std::collections::BTreeMap::new(), BTreeSet::new());
        let results = loop {
            tokio::select! {
                results = &mut telling => break results.expect("no panic"),
                heard = manager.hear() => match answered.contains(&heard.request) {
                    // The answer came late.
                    true => manager.answer(&heard).await,
                    false => _ = open.insert(heard.request, heard),
                },
            }
            let (count, waiting) = (answered.len(), open.len());
            if count < 100 && (waiting == INFORMS_AT_ONCE || count + waiting == 100) {
                for (request, heard) in std::mem::take(&mut open) {
                    manager.answer(&heard).await;
                    told.push(heard.alert);
                    answered.insert(request);
                }
            }
        };
        let Ok(Receipt::Delivered { reply, unfinished, refused, .. }) = &results[0] else {
            panic!("attempt {attempt}: {results:?}");
        };
        assert_eq!(refused, &[]);
        assert!(unfinished.len() <= INFORMS_AT_ONCE + 1, "{} recipients", unfinished.len());
        match attempt {
            5 => assert_eq!(
                (reply.as_str(), unfinished.len()),
                (format!("{place} answered 100 informs").as_str(), 0)
            ),
            _ => assert!(
                reply.starts_with(&format!("{place} answered 100 of {} informs; ", 600 - 100 * attempt)),
                "{reply}"
            ),
        }
        (delivery.unfinished, delivery.attempt) = (Some(unfinished.clone()), attempt as u32 + 1);
    }
    let distinct: BTreeSet<&String> = told.iter().collect();
    assert_eq!((told.len(), distinct.len()), (500, 500), "each once");
}

#[tokio::test]
async fn a_manager_that_answers_slowly_is_told_all_in_several_attempts() {
    let (manager, place) = Reader::new();
    let action = build(&format!("{{to: '{place}', inform: true, community: example, timeout: 10s}}"));
    let answers = tokio::spawn(async move {
        loop {
            let heard = manager.hear().await;
            tokio::time::sleep(Duration::from_millis(5)).await;
            manager.answer(&heard).await;
        }
    });
    let mut delivery = sample::delivery_of(7, (0..200).map(numbered).collect());
    let mut attempts = 0;
    let last = loop {
        attempts += 1;
        assert!(attempts < 100, "it does not end");
        let mut results = action.deliver(std::slice::from_ref(&delivery), Duration::from_millis(400)).await;
        match results.remove(0) {
            Ok(Receipt::Delivered { reply, unfinished, .. }) if !unfinished.is_empty() => {
                assert!(reply.contains("no time was left") && !reply.contains("no answer"), "{reply}");
                delivery.unfinished = Some(unfinished);
            }
            Ok(Receipt::Delivered { reply, .. }) => break reply,
            // A machine that is very busy.
            other => assert!(other.is_err(), "{other:?}"),
        }
    };
    assert!(attempts > 1 && last.contains("answered"), "{attempts}: {last}");
    answers.abort();
}

#[tokio::test]
async fn an_alert_that_the_manager_does_not_take_keeps_back_no_other() {
    let (manager, place) = Reader::new();
    let action = build(&format!("{{to: '{place}', inform: true, community: example, timeout: 300ms}}"));
    // More than may be under way at once, and before the others.
    let odd: Vec<String> =
        (0..2 * INFORMS_AT_ONCE).map(|number| numbered(number).fingerprint.to_string()).collect();
    let answers = tokio::spawn(async move {
        loop {
            let mut heard = manager.hear().await;
            if odd.contains(&heard.alert) {
                // error-status is the integer behind the request's number.
                let community =
                    heard.bytes.windows(7).position(|window| window == b"example").expect("it is there");
                let pdu = community + 7;
                let head = if heard.bytes[pdu + 1] & 0x80 == 0 {
                    2
                } else {
                    2 + usize::from(heard.bytes[pdu + 1] & 0x7f)
                };
                let status = pdu + head + 2 + usize::from(heard.bytes[pdu + head + 1]);
                assert_eq!(heard.bytes[status..status + 2], [2, 1]);
                heard.bytes[status + 2] = 5;
            }
            manager.answer(&heard).await;
        }
    });
    let count = 2 * INFORMS_AT_ONCE + 10;
    let delivery = sample::delivery_of(7, (0..count).map(numbered).collect());
    let results = action.deliver(std::slice::from_ref(&delivery), AMPLE).await;
    let Ok(Receipt::Delivered { reply, unfinished, .. }) = &results[0] else { panic!("{results:?}") };
    assert!(reply.starts_with(&format!("{place} answered 10 of {count} informs; ")), "{reply}");
    assert!(reply.contains("genErr"), "{reply}");
    let rest = Delivery { unfinished: Some(unfinished.clone()), ..delivery };
    let results = action.deliver(&[rest], AMPLE).await;
    let failure = results[0].as_ref().expect_err("the others are told");
    assert!(failure.reason.contains("genErr"), "{failure:?}");
    answers.abort();
}

#[test]
fn what_is_left_of_a_delivery_is_found_again_and_what_is_unknown_is_told_whole() {
    let delivery = sample::delivery_of(7, (0..9).map(numbered).collect());
    let rows: [&[usize]; 5] =
        [&[3, 4, 5, 6, 7, 8], &[0, 3, 7, 8], &[8], &[2, 5], &[0, 1, 2, 3, 4, 5, 6, 7, 8]];
    for left in rows {
        let is_told: Vec<bool> = (0..9).map(|at| !left.contains(&at)).collect();
        let kept = progress::left(&delivery, &is_told);
        let again = Delivery { unfinished: Some(kept), ..delivery.clone() };
        let found: Vec<usize> =
            (0..9).zip(progress::wanted(&again)).filter(|(_, is)| *is).map(|(at, _)| at).collect();
        assert_eq!(found, left);
    }
    let known = progress::left(&delivery, &[true; 4].into_iter().chain([false; 5]).collect::<Vec<_>>());
    assert_eq!(known.len(), 1, "that it goes on from there is all that is kept");
    let mut other = Delivery { unfinished: Some(known), ..delivery.clone() };
    other.groups[0].alerts.remove(4);
    assert_eq!(progress::wanted(&other), [true; 8]);
    assert_eq!(progress::wanted(&delivery), [true; 9]);
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
    let action =
        settings(&yaml).build(&BuildContext::new(folder.path(), Default::default())).expect("builds");
    let results = action.deliver(&[sample::delivery()], AMPLE).await;
    let failure = results[0].as_ref().expect_err("no engine");
    assert_eq!(failure.kind, FailureKind::Transient);
    assert!(failure.reason.contains("does not hold an engine"), "{}", failure.reason);
    manager.set_nonblocking(true).expect("set");
    assert!(manager.recv(&mut [0]).is_err(), "nothing was sent");
}
