//! Datagrams from a table, and what becomes of them.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use ams2_core::{AlertRef, Input, Severities, input::Arrival};
use ams2_handlers::{
    Secret,
    snmp_trap::{Authentication, OwnEngine, Privacy},
};

use super::{
    engines::Engines,
    making::{Memory, Piece},
    message::{ParseError, VARBINDS_MAX},
    usm::{Keyring, Own, To, pdu},
    value::Kind,
    *,
};
use crate::journal::{Accepted, Refused};

/// A journal that is not asked.
#[derive(Clone)]
struct Nowhere;

impl crate::originator::Intake for Nowhere {
    async fn accept(&self, _: Arrival) -> Result<Accepted, Refused> {
        Err(Refused::Stopping)
    }

    async fn accept_other(&self, _: Input) -> Result<Accepted, Refused> {
        Err(Refused::Stopping)
    }
}

const COMMUNITY: &[u8] = b"example";
const PEER: &str = "192.0.2.7:40000";

fn settings(mapping: &str) -> SnmpSettings {
    let users = [
        User::new(b"auth".to_vec(), Some((Authentication::Sha256, Secret::new("example one"))), None),
        User::new(
            b"priv".to_vec(),
            Some((Authentication::Sha1, Secret::new("example one"))),
            Some((Privacy::Aes256, Secret::new("example two"))),
        ),
        User::new(b"none".to_vec(), None, None),
    ];
    let client =
        |name: &str, access| Client { name: name.into(), access, addresses: Vec::new(), allow: Vec::new() };
    let mut clients = vec![client("switches", Access::Community(Hidden(COMMUNITY.to_vec())))];
    clients.extend(users.into_iter().map(|user| {
        let name = String::from_utf8(user.name.clone()).expect("UTF-8");
        client(&name, Access::User(user))
    }));
    let mapping = match mapping {
        "" => Mapping::default(),
        text => crate::config::rules(text).expect("rules").indexed_by(&trap_path()),
    };
    SnmpSettings {
        clients: Arc::new(Clients::new(clients, Severities::default())),
        names: Arc::default(),
        limits: SnmpLimits::default(),
        alert_limits: Limits::default(),
        mapping,
    }
}

/// A receiver whose datagrams a test gives.
struct Receiver {
    snmp: Snmp<Nowhere>,
    memory: Memory,
    denied: Arc<Mutex<Vec<String>>>,
    now: Instant,
    folder: tempfile::TempDir,
}

fn own() -> Own {
    let engine = OwnEngine { id: vec![0x80, 0, 0x7e, 0xd9, 5, 1, 2], boots: 7, started: Instant::now() };
    Own::new(engine).expect("random")
}

impl Receiver {
    fn new(mapping: &str) -> Receiver {
        let (folder, denied) = (tempfile::tempdir().expect("a folder"), Arc::new(Mutex::new(Vec::new())));
        let said = denied.clone();
        let on_denied = Box::new(move |_, what| said.lock().expect("no panic").push(what));
        let path = folder.path().to_owned();
        let snmp = Snmp::new(Nowhere, settings(mapping), Arc::default(), on_denied, 1, path, false);
        let now = Instant::now();
        let memory = Memory::new(Some(own()), Engines::open(folder.path(), now), snmp.settings(), now);
        Receiver { snmp, memory, denied, now, folder }
    }

    fn take(&mut self, datagram: &[u8]) -> Piece {
        self.take_from(datagram, PEER)
    }

    fn take_from(&mut self, datagram: &[u8], from: &str) -> Piece {
        let mut piece = Piece::default();
        self.memory.take(datagram, from.parse().expect("one"), &self.snmp, &mut piece, self.now);
        piece
    }

    /// What the only alert of a datagram says: labels, and annotations.
    fn alert(&mut self, datagram: &[u8]) -> String {
        let piece = self.take(datagram);
        let shown = shown(piece);
        assert_eq!(shown.len(), 1, "{shown:?} {:?}", self.dropped());
        shown.into_iter().next().expect("one")
    }

    fn dropped(&self) -> Vec<(&'static str, u64)> {
        self.snmp.metrics.dropped().filter(|(_, count)| *count > 0).collect()
    }
}

fn shown(piece: Piece) -> Vec<String> {
    let mut all = Vec::new();
    for making in piece.traps.into_iter().chain(piece.informs) {
        let (arrival, _) = making.finish();
        let batch = arrival.expect("something").batch;
        all.extend(batch.iter().map(shown_alert));
    }
    all
}

fn shown_alert(alert: AlertRef<'_>) -> String {
    let pairs = |pairs: &mut dyn Iterator<Item = (&str, &str)>| {
        pairs.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    };
    let over = if alert.times().ends_at.is_some_and(|end| end.0 < 4_000_000_000_000) { " over" } else { "" };
    format!("{} | {}{over}", pairs(&mut alert.labels()), pairs(&mut alert.annotations()))
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut to = Vec::new();
    ber::write(&mut to, tag, content);
    to
}

fn number(tag: u8, number: i64) -> Vec<u8> {
    let mut to = Vec::new();
    ber::write_number(&mut to, tag, number);
    to
}

fn varbind(oid: &str, value: &[u8]) -> Vec<u8> {
    tlv(ber::SEQUENCE, &[tlv(ber::OID, &parse_oid(oid).expect("an OID")), value.to_vec()].concat())
}

fn oid_value(oid: &str) -> Vec<u8> {
    tlv(ber::OID, &parse_oid(oid).expect("an OID"))
}

/// sysUpTime.0 and snmpTrapOID.0.
fn prefix(trap: &str) -> Vec<u8> {
    [
        varbind("1.3.6.1.2.1.1.3.0", &number(Kind::TIME_TICKS, 100)),
        varbind("1.3.6.1.6.3.1.1.4.1.0", &oid_value(trap)),
    ]
    .concat()
}

fn community_message(version: i64, community: &[u8], pdu: &[u8]) -> Vec<u8> {
    tlv(ber::SEQUENCE, &[number(ber::INTEGER, version), tlv(ber::OCTETS, community), pdu.to_vec()].concat())
}

fn v2(tag: u8, request: i32, list: &[u8]) -> Vec<u8> {
    community_message(1, COMMUNITY, &pdu(tag, request, list))
}

fn trap(oid: &str, varbinds: &[Vec<u8>]) -> Vec<u8> {
    v2(0xa7, 1, &[prefix(oid), varbinds.concat()].concat())
}

fn v1_pdu(enterprise: &str, agent: &[u8], generic: i64, specific: i64, varbinds: &[u8]) -> Vec<u8> {
    let content = [
        oid_value(enterprise),
        tlv(Kind::IP_ADDRESS, agent),
        number(ber::INTEGER, generic),
        number(ber::INTEGER, specific),
        number(Kind::TIME_TICKS, 100),
        tlv(ber::SEQUENCE, varbinds),
    ];
    tlv(0xa4, &content.concat())
}

#[test]
fn the_rules_that_come_with_ams2_are_right() {
    assert!(builtin().rules.len() >= 8);
}

/// RFC 3584 section 3.1, and the notifications that everybody has.
#[test]
fn a_trap_of_each_version_is_an_alert() {
    let mut receiver = Receiver::new("");
    let interface = varbind("1.3.6.1.2.1.2.2.1.1.3", &number(ber::INTEGER, 3));
    let name = varbind("1.3.6.1.2.1.2.2.1.2.3", &tlv(ber::OCTETS, b"eth0\0"));
    let down = "1.3.6.1.6.3.1.1.5.3";
    let rows: [(Vec<u8>, &str); 8] = [
        (
            trap(down, &[interface.clone(), name.clone()]),
            "computer=192.0.2.7 event=Link Down interface=eth0 severity=major | summary=the interface eth0 is down varbinds=ifIndex.3 = 3; ifDescr.3 = eth0",
        ),
        (
            trap("1.3.6.1.6.3.1.1.5.4", std::slice::from_ref(&interface)),
            "computer=192.0.2.7 event=Link Down interface=3 severity=major | summary=the interface 3 is up varbinds=ifIndex.3 = 3 over",
        ),
        // The same as v1, from an agent behind a relay (row 85).
        (
            community_message(0, COMMUNITY, &v1_pdu("1.3.6.1.4.1.9", &[10, 0, 0, 1], 2, 0, &interface)),
            "agent=10.0.0.1 computer=192.0.2.7 event=Link Down interface=3 severity=major | summary=the interface 3 is down varbinds=ifIndex.3 = 3",
        ),
        (
            community_message(0, COMMUNITY, &v1_pdu("1.3.6.1.4.1.9", &[0; 4], 0, 0, &[])),
            "computer=192.0.2.7 event=Cold Start severity=warning | summary=it has started",
        ),
        (
            community_message(
                0,
                COMMUNITY,
                &v1_pdu("1.3.6.1.4.1.32473.7", &[192, 0, 2, 7], 6, 1_000_000, &interface),
            ),
            "computer=192.0.2.7 event=SNMP Trap severity=warning trap=1.3.6.1.4.1.32473.7.0.1000000 | summary=1.3.6.1.4.1.32473.7.0.1000000: 3 varbinds=ifIndex.3 = 3",
        ),
        (
            trap("1.3.6.1.6.3.1.1.5.5", &[]),
            "computer=192.0.2.7 event=Authentication Failure severity=warning | summary=somebody asked it with a wrong community or user",
        ),
        // snmpTrapAddress.0 and snmpTrapEnterprise.0 of a relay; a community in it is nobody's to see.
        (
            trap(
                "1.3.6.1.4.1.32473.7.0.1",
                &[
                    varbind("1.3.6.1.6.3.18.1.3.0", &tlv(Kind::IP_ADDRESS, &[10, 0, 0, 2])),
                    varbind("1.3.6.1.6.3.18.1.4.0", &tlv(ber::OCTETS, b"secret")),
                    varbind("1.3.6.1.6.3.1.1.4.3.0", &oid_value("1.3.6.1.4.1.32473.7")),
                ],
            ),
            "agent=10.0.0.2 computer=192.0.2.7 event=SNMP Trap severity=warning trap=1.3.6.1.4.1.32473.7.0.1 | summary=1.3.6.1.4.1.32473.7.0.1",
        ),
        // Row 76: nothing leaves its line, and markup is text.
        (
            trap(
                "1.3.6.1.4.1.32473.7.0.1",
                &[varbind("1.3.6.1.4.1.32473.8.0", &tlv(ber::OCTETS, "<b>$(id)\nx\u{202e}".as_bytes()))],
            ),
            r"computer=192.0.2.7 event=SNMP Trap severity=warning trap=1.3.6.1.4.1.32473.7.0.1 | summary=1.3.6.1.4.1.32473.7.0.1: <b>$(id)\nx\u{202e} varbinds=1.3.6.1.4.1.32473.8.0 = <b>$(id)\nx\u{202e}",
        ),
    ];
    for (datagram, expected) in rows {
        assert_eq!(receiver.alert(&datagram), expected);
    }
    assert_eq!(receiver.dropped(), []);
}

/// Rows 70, 71, 72 and 75: nobody's, and nothing comes of it.
#[test]
fn what_is_nobodys_is_counted_and_not_answered() {
    let right = trap("1.3.6.1.4.1.32473.7.0.1", &[]);
    let nested = (0..1000).fold(Vec::new(), |within, _| tlv(ber::SEQUENCE, &within));
    let rows: [(Vec<u8>, &str); 17] = [
        (vec![], "empty"),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "malformed"),
        (vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff], "malformed"),
        ([&[0x30, 0x80][..], &right[2..], &[0, 0]].concat(), "malformed"),
        (vec![0x30, 0x89, 1, 1, 1, 1, 1, 1, 1, 1, 1], "malformed"),
        (nested, "malformed"),
        (right[..right.len() - 1].to_vec(), "malformed"),
        (community_message(2, COMMUNITY, &pdu(0xa7, 1, &[])), "version"),
        (community_message(-1, COMMUNITY, &pdu(0xa7, 1, &[])), "version"),
        // Asking, answering, and one version's PDU in another's message.
        (v2(0xa0, 1, &[]), "pdu"),
        (v2(0xa2, 1, &[]), "pdu"),
        (v2(0xa8, 1, &[]), "pdu"),
        (community_message(1, COMMUNITY, &v1_pdu("1.3.6.1.4.1.9", &[0; 4], 0, 0, &[])), "pdu"),
        (community_message(0, COMMUNITY, &pdu(0xa7, 1, &[])), "pdu"),
        (community_message(0, COMMUNITY, &pdu(0xa6, 1, &[])), "pdu"),
        (community_message(1, b"", &pdu(0xa7, 1, &[])), "community"),
        (community_message(1, &[b'x'; 60_000], &pdu(0xa6, 1, &[])), "community"),
    ];
    for (datagram, reason) in rows {
        let mut receiver = Receiver::new("");
        let piece = receiver.take(&datagram);
        assert!(
            piece.traps.is_empty() && piece.informs.is_empty() && piece.at_once.is_empty(),
            "{datagram:x?}"
        );
        assert_eq!(receiver.dropped(), [(reason, 1)], "{datagram:x?}");
        let denied = receiver.denied.lock().expect("no panic").clone();
        // The community is not shown.
        assert_eq!(denied.len(), usize::from(reason == "community"), "{denied:?}");
        assert!(denied.iter().all(|what| !what.contains('x')), "{denied:?}");
    }
}

/// Rows 72 to 74: somebody's, and kept whatever is wrong with it.
#[test]
fn what_is_somebodys_is_kept_and_says_what_could_not_be_read() {
    const TRAP: &str = "1.3.6.1.4.1.32473.7.0.1";
    let value = |value: Vec<u8>| trap(TRAP, &[varbind("1.3.6.1.4.1.32473.8.0", &value)]);
    let of_oid = |octets: &[u8]| {
        let varbind = tlv(ber::SEQUENCE, &[tlv(ber::OID, octets), tlv(ber::NULL, &[])].concat());
        trap(TRAP, &[varbind])
    };
    let many = vec![varbind("1.3.6.1.4.1.32473.8.0", &tlv(ber::NULL, &[])); 10_000];
    let behind = [trap(TRAP, &[]), b"more".to_vec()].concat();
    let uptime = varbind("1.3.6.1.2.1.1.3.0", &number(Kind::TIME_TICKS, 1));
    let rows: [(Vec<u8>, ParseError); 26] = [
        (v2(0xa7, 1, &[]), ParseError::Prefix),
        (v2(0xa7, 1, &uptime), ParseError::Prefix),
        (v2(0xa7, 1, &[prefix(TRAP), prefix(TRAP)].concat()), ParseError::Prefix),
        (
            v2(0xa7, 1, &[varbind("1.3.6.1.4.1.32473.8.0", &tlv(ber::NULL, &[])), prefix(TRAP)].concat()),
            ParseError::Prefix,
        ),
        (
            v2(0xa7, 1, &[uptime, varbind("1.3.6.1.6.3.1.1.4.1.0", &number(ber::INTEGER, 1))].concat()),
            ParseError::Value,
        ),
        (trap(TRAP, &many[..VARBINDS_MAX + 1]), ParseError::Many),
        // All that fits into a datagram.
        (trap(TRAP, &many[..2500]), ParseError::Many),
        (value(tlv(ber::INTEGER, &[])), ParseError::Value),
        (value(tlv(ber::INTEGER, &[1; 9])), ParseError::Value),
        (value(tlv(Kind::TIME_TICKS, &[0xff; 4])), ParseError::Value),
        (value(tlv(Kind::IP_ADDRESS, &[1, 2, 3])), ParseError::Value),
        (value(tlv(0x47, &[1])), ParseError::Value),
        (value(tlv(ber::OID, &[0xff])), ParseError::Value),
        (value(tlv(ber::SEQUENCE, &[2, 1, 1])), ParseError::Value),
        (of_oid(&[]), ParseError::Varbinds),
        (of_oid(&[0x2b, 0x90, 0x80, 0x80, 0x80, 0]), ParseError::Varbinds),
        (of_oid(&[1; 129]), ParseError::Varbinds),
        (of_oid(&[0xff]), ParseError::Varbinds),
        (trap(TRAP, &[tlv(ber::INTEGER, &[1])]), ParseError::Varbinds),
        (trap(TRAP, &[vec![0x30, 0x80, 0, 0]]), ParseError::Varbinds),
        (
            community_message(
                0,
                COMMUNITY,
                &v1_pdu(
                    "1.3.6.1.4.1.9",
                    &[0; 4],
                    0,
                    0,
                    &varbind("1.3.6.1.4.1.32473.8.0", &number(Kind::COUNTER64, 5)),
                ),
            ),
            ParseError::Value,
        ),
        (community_message(0, COMMUNITY, &v1_pdu("1.3.6.1.4.1.9", &[0; 3], 0, 0, &[])), ParseError::Pdu),
        (community_message(0, COMMUNITY, &v1_pdu("1.3.6.1.4.1.9", &[0; 4], 7, 0, &[])), ParseError::Pdu),
        (community_message(1, COMMUNITY, &tlv(0xa7, &[2, 1])), ParseError::Pdu),
        (community_message(1, COMMUNITY, &[0xa7, 0x84, 0xff, 0xff, 0xff, 0xff]), ParseError::Pdu),
        (behind, ParseError::Behind),
    ];
    for (datagram, error) in rows {
        let mut receiver = Receiver::new("");
        let alert = receiver.alert(&datagram);
        let said = format!("parse_error={}", error.word());
        assert!(alert.contains(&said) && alert.contains("raw=0x"), "{said}: {alert:.300}");
        assert!(alert.len() <= receiver.snmp.settings().alert_limits.alert_bytes);
        let counted: Vec<_> = receiver.snmp.metrics.parse_errors().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [(error.word(), 1)]);
    }
}

/// Row 85, 83: the same inform again is one occurrence; it is answered once it is kept, and then again each time.
#[test]
fn an_inform_that_comes_again_is_one_and_is_answered_when_it_is_kept() {
    let mut receiver = Receiver::new("");
    let inform = |request| v2(0xa6, request, &prefix("1.3.6.1.6.3.1.1.5.1"));
    let mut piece = receiver.take(&inform(17));
    assert!(piece.traps.is_empty() && piece.at_once.is_empty());
    let (arrival, answers) = piece.informs.remove(0).finish();
    let id =
        arrival.expect("one").batch.alert(0).and_then(|alert| alert.id().map(str::to_owned)).expect("an id");
    // Not kept yet: neither a second alert nor an answer.
    let again = receiver.take(&inform(17));
    assert!(again.informs.is_empty() && again.at_once.is_empty());
    let [answer] = &answers[..] else { panic!("{answers:?}") };
    let expected = v2(0xa2, 17, &prefix("1.3.6.1.6.3.1.1.5.1"));
    assert_eq!(answer.message(None, receiver.now), Some(expected.clone()));
    receiver.memory.repeats.kept(answer.what);
    let again = receiver.take(&inform(17));
    assert!(again.informs.is_empty());
    assert_eq!(again.at_once, [(PEER.parse().expect("one"), expected)]);
    // Another port of the same address, as a network on the way may make it.
    assert_eq!(receiver.take_from(&inform(17), "192.0.2.7:50000").at_once.len(), 1);
    // Another request, and another address, are others.
    assert_eq!(receiver.take(&inform(18)).informs.len(), 1);
    assert_eq!(receiver.take_from(&inform(17), "192.0.2.8:40000").informs.len(), 1);
    assert_eq!(receiver.dropped(), [("repeated", 3)]);
    // Not kept: it is new when it comes again, by the same name.
    let mut receiver = Receiver::new("");
    let answers = receiver.take(&inform(17)).informs.remove(0).finish().1;
    receiver.memory.repeats.refused(answers[0].what);
    let (arrival, _) = receiver.take(&inform(17)).informs.remove(0).finish();
    assert_eq!(arrival.expect("one").batch.alert(0).expect("one").id(), Some(&*id));
}

/// A sender of v3 with an engine of its own.
struct Sender(Own);

impl Sender {
    fn new(id: u8, boots: u32, seconds: u64) -> Sender {
        let started = Instant::now().checked_sub(Duration::from_secs(seconds)).expect("long enough ago");
        Sender(Own::new(OwnEngine { id: vec![0x80, 0, 0, 9, 5, id], boots, started }).expect("random"))
    }

    fn trap(&self, settings: &SnmpSettings, user: &str, trap: &str) -> Vec<u8> {
        self.message(settings, user, &pdu(0xa7, 1, &prefix(trap)))
    }

    fn message(&self, settings: &SnmpSettings, user: &str, pdu: &[u8]) -> Vec<u8> {
        let known = settings.clients.of_user(user.as_bytes(), "192.0.2.7".parse().expect("one"));
        let keys = known.ok().and_then(|(.., user)| user.keys(self.0.id()));
        let is_private = user == "priv";
        let to = To { id: 5, user: user.as_bytes(), keys: keys.as_ref(), is_private };
        self.0.message(&to, self.0.id(), b"", pdu, Instant::now()).expect("made")
    }
}

/// Rows 77 to 82.
#[test]
fn a_trap_of_v3_is_proved_and_of_now() {
    const COLD: &str = "1.3.6.1.6.3.1.1.5.1";
    let mut receiver = Receiver::new("");
    let settings = receiver.snmp.settings();
    let sender = Sender::new(1, 3, 1000);
    let first = sender.trap(&settings, "auth", COLD);
    assert_eq!(
        receiver.alert(&first),
        "authenticated=true computer=192.0.2.7 event=Cold Start severity=warning | replay_risk=true summary=it has started"
    );
    // The same again, from anywhere, and with something behind it.
    for again in [first.clone(), [&first[..], b"x"].concat()] {
        assert!(receiver.take_from(&again, "192.0.2.9:1").traps.is_empty());
    }
    let private = sender.trap(&settings, "priv", COLD);
    assert!(receiver.alert(&private).contains("replay_risk"), "another user's clock");
    let second = sender.message(&settings, "auth", &pdu(0xa7, 2, &prefix(COLD)));
    assert!(!receiver.alert(&second).contains("replay_risk"));
    assert_eq!(receiver.dropped(), [("repeated", 2)]);
    // Of a start before, and of long ago.
    for old in [Sender::new(1, 2, 5000), Sender::new(1, 3, 800), Sender::new(1, 2_147_483_647, 0)] {
        assert!(receiver.take(&old.trap(&settings, "auth", COLD)).traps.is_empty());
    }
    assert_eq!(receiver.dropped().last(), Some(&("repeated", 2)));
    assert!(receiver.dropped().contains(&("time", 3)), "{:?}", receiver.dropped());
    // Over our own restart, too: the file is on the disk.
    receiver.memory.engines.keep(receiver.now, true);
    let mut engines = Engines::open(receiver.folder.path(), receiver.now);
    let old = Sender::new(1, 2, 5000).trap(&settings, "auth", COLD);
    let message::Claim::User(header) = message::Envelope::read(&old).expect("one").from else { panic!("v3") };
    assert_eq!(
        engines.check(header.engine, header.user, header.boots, header.time, receiver.now),
        engines::Timely::No
    );
    // Wrong in each way. Nobody is answered.
    let wrong_key = {
        let mut other = first.clone();
        let at = other.len() - 1;
        other[at] ^= 1;
        other
    };
    let wrong: [(Vec<u8>, &str); 4] = [
        (wrong_key, "digest"),
        (sender.trap(&settings, "nobody", COLD), "user"),
        // A user with passwords who does not use them.
        (
            Sender::new(1, 3, 1000)
                .0
                .message(
                    &To { id: 1, user: b"auth", keys: None, is_private: false },
                    &[],
                    &[],
                    &pdu(0xa7, 1, &prefix(COLD)),
                    receiver.now,
                )
                .expect("made"),
            "level",
        ),
        (
            {
                let keys = settings
                    .clients
                    .of_user(b"auth", "192.0.2.7".parse().expect("one"))
                    .expect("known")
                    .2
                    .keys(sender.0.id());
                sender
                    .0
                    .message(
                        &To { id: 1, user: b"priv", keys: keys.as_ref(), is_private: false },
                        &[],
                        &[],
                        &pdu(0xa7, 1, &prefix(COLD)),
                        receiver.now,
                    )
                    .expect("made")
            },
            "level",
        ),
    ];
    for (datagram, reason) in wrong {
        let mut receiver = Receiver::new("");
        let piece = receiver.take(&datagram);
        assert!(piece.traps.is_empty() && piece.at_once.is_empty(), "{reason}");
        assert_eq!(receiver.dropped(), [(reason, 1)]);
        assert_eq!(receiver.denied.lock().expect("no panic").len(), 1, "{reason}");
    }
    // Who has no password proves nothing, and says so.
    let none = receiver.alert(&sender.trap(&settings, "none", COLD));
    assert!(!none.contains("authenticated=true"), "{none}");
}

/// Rows 77 and 80: what a sender of v3 informs asks first is answered within bounds; what is for another start of ours is not taken.
#[test]
fn an_inform_of_v3_is_for_our_engine_and_of_now() {
    let mut receiver = Receiver::new("");
    let settings = receiver.snmp.settings();
    let us = own();
    let inform = pdu(0xa6, 9, &prefix("1.3.6.1.6.3.1.1.5.1"));
    let ask = |engine: &[u8], id: u8| {
        let asked =
            Own::new(OwnEngine { id: engine.to_vec(), boots: 0, started: Instant::now() }).expect("random");
        let whole = asked.message(
            &To { id: i32::from(id), user: b"", keys: None, is_private: false },
            b"",
            b"",
            &inform,
            Instant::now(),
        );
        reportable(&whole.expect("made"))
    };
    for engine in [&[][..], &[0x80, 0, 0, 9, 5, 9]] {
        let piece = receiver.take(&ask(engine, 44));
        let [(to, report)] = &piece.at_once[..] else { panic!("{:?}", piece.at_once) };
        assert_eq!(*to, PEER.parse().expect("one"));
        let message::Claim::User(header) = message::Envelope::read(report).expect("a message").from else {
            panic!("v3")
        };
        assert_eq!((header.id, header.engine, header.boots), (44, us.id(), 7));
    }
    let asked = (0..100).filter(|n| !receiver.take(&ask(&[], *n)).at_once.is_empty()).count();
    assert!(asked < 30, "{asked} Reports for one address");
    // The level of each user, encrypted or not: taken, and answered with it.
    for user in ["auth", "priv", "none"] {
        let mut receiver = Receiver::new("");
        let mut piece = receiver.take(&Sender(own()).message(&settings, user, &inform));
        let answers = piece.informs.remove(0).finish().1;
        let answer = answers[0].message(receiver.memory.own.as_ref(), receiver.now).expect("made");
        let message::Envelope { from: message::Claim::User(header), whole, .. } =
            message::Envelope::read(&answer).expect("a message")
        else {
            panic!("v3")
        };
        let (number, _, known) =
            settings.clients.of_user(user.as_bytes(), "192.0.2.7".parse().expect("one")).expect("known");
        let keys = Keyring::default().proves(number, known, &header, whole).expect("proved");
        let plain = match keys {
            Some(keys) if header.is_private => keys.decrypted(&header).expect("plain"),
            _ => header.data.to_vec(),
        };
        assert_eq!(
            message::Scoped::read(&plain).expect("scoped").pdu,
            pdu(0xa2, 9, &prefix("1.3.6.1.6.3.1.1.5.1")),
            "{user}"
        );
    }
    // A start of ours before, and a clock that is far off: they are told the time, proved.
    let mut receiver = Receiver::new("");
    for (boots, ago) in [(6, 0), (7, 200), (2_147_483_647, 0)] {
        let started = Instant::now().checked_sub(Duration::from_secs(ago)).expect("long enough ago");
        let then = Sender(Own::new(OwnEngine { id: us.id().to_vec(), boots, started }).expect("random"));
        let piece = receiver.take(&then.message(&settings, "auth", &inform));
        assert!(piece.informs.is_empty(), "{boots} {ago}");
        // Without being asked nothing is told.
        assert!(piece.at_once.is_empty());
    }
    assert_eq!(receiver.dropped(), [("time", 3)]);
    // A trap that speaks for our engine is nobody's.
    let mut receiver = Receiver::new("");
    assert!(receiver.take(&Sender(own()).trap(&settings, "auth", "1.3.6.1.6.3.1.1.5.1")).traps.is_empty());
    assert_eq!(receiver.dropped(), [("pdu", 1)]);
}

/// A message with the flag that its sender wants to hear what is wrong.
fn reportable(whole: &[u8]) -> Vec<u8> {
    let mut whole = whole.to_vec();
    let at = whole.windows(3).position(|window| window[..2] == [4, 1] && window[2] & !3 == 0).expect("flags");
    whole[at + 2] |= 4;
    whole
}

#[test]
fn what_an_ams2_sends_is_the_alert_that_it_was() {
    let object =
        |number: u32, value: Vec<u8>| varbind(&format!("1.3.6.1.4.1.99999.2004.1.{number}.0"), &value);
    let text = |text: &str| tlv(ber::OCTETS, text.as_bytes());
    let varbinds = |state: i64, ends: &[u8]| {
        vec![
            object(1, text("0000000000000000000000000000002a")),
            object(2, text("aaaabbbbccccdddd")),
            object(3, number(ber::INTEGER, 3)),
            object(4, text("critical")),
            object(5, number(ber::INTEGER, state)),
            object(6, text("Virus Found")),
            object(9, text("EICAR in a.exe")),
            object(10, text(r#"computer=ws-042 event="Virus Found" path="C:\\a \"b\"" severity=critical"#)),
            object(11, tlv(ber::OCTETS, &[7, 234, 11, 24, 10, 15, 0, 0, b'+', 0, 0])),
            object(12, tlv(ber::OCTETS, ends)),
            object(15, text("http://192.0.2.7/graph")),
        ]
    };
    let mut receiver = Receiver::new("");
    let expected = r#"computer=ws-042 event=Virus Found path=C:\a "b" severity=critical | sent_by=192.0.2.7 summary=EICAR in a.exe"#;
    let firing = trap("1.3.6.1.4.1.99999.2004.0.1", &varbinds(1, &[0; 8]));
    assert_eq!(receiver.alert(&firing), expected);
    // The end, also under a name that a site has chosen.
    let ends = [7, 234, 11, 24, 10, 20, 0, 0, b'+', 0, 0];
    let cleared = trap("1.3.6.1.4.1.7.0.1", &varbinds(2, &ends));
    let (arrival, _) = receiver.take(&cleared).traps.remove(0).finish();
    let batch = arrival.expect("one").batch;
    let alert = batch.alert(0).expect("one");
    assert_eq!(shown_alert(alert), format!("{expected} over"));
    assert_eq!(alert.key(), Some("ams2 aaaabbbbccccdddd"));
    assert_eq!(alert.id(), Some("0000000000000000000000000000002a aaaabbbbccccdddd"));
    assert_eq!(alert.times().starts_at.map(|at| at.0), Some(1_795_515_300_000));
    assert_eq!(alert.times().ends_at.map(|at| at.0), Some(1_795_515_600_000));
}

#[test]
fn rules_are_found_by_the_notification_and_see_its_varbinds() {
    let mut receiver = Receiver::new(
        r#"[
        {when: ['trap = 1.3.6.1.4.1.32473.7.0.1', '"vb[''1.3.6.1.4.1.32473.8'']" = 5'], labels: {event: Five, row: '{{ index["1.3.6.1.4.1.32473.8"] }}'}},
        {when: ['trap = 1.3.6.1.4.1.32473.7.0.2'], does: drop},
        {when: ['trap = 1.3.6.1.4.1.32473.7.0.1'], labels: {event: Other, value: '{{ vb["1.3.6.1.4.1.32473.8.1.2"] | upper }}'}},
        {when: ['enterprise = 1.3.6.1.4.1.32473.7.0'], labels: {event: 'Any {{ kind }} {{ version }}'}, annotations_from: vb, key: '{{ peer }}'},
        {when: ['trap_name = warmStart'], each: varbinds, labels: {event: '{{ name }} {{ value }} {{ type }} {{ root.uptime }}'}},
        ]"#,
    );
    let row = |value: i64| varbind("1.3.6.1.4.1.32473.8.1.2", &number(ber::INTEGER, value));
    let rows = [
        (trap("1.3.6.1.4.1.32473.7.0.1", &[row(5)]), "event=Five row=1.2 | "),
        (trap("1.3.6.1.4.1.32473.7.0.1", &[row(6)]), "event=Other value=6 | "),
        (trap("1.3.6.1.4.1.32473.7.0.3", &[row(6)]), "event=Any trap 2c | 1.3.6.1.4.1.32473.8.1.2=6"),
        (trap("1.3.6.1.6.3.1.1.5.2", &[row(6)]), "event=1.3.6.1.4.1.32473.8.1.2 6 Integer32 100 | "),
    ];
    for (datagram, expected) in rows {
        assert_eq!(receiver.alert(&datagram), expected);
    }
    assert!(receiver.take(&trap("1.3.6.1.4.1.32473.7.0.2", &[])).traps.is_empty());
    assert_eq!(receiver.dropped(), [("rule", 1)]);
}

/// Row 86.
#[test]
fn a_flood_of_one_takes_nothing_from_others_and_is_said_once() {
    let mut receiver = Receiver::new("");
    let most = receiver.snmp.settings().limits.messages_per_second;
    let datagram = trap("1.3.6.1.4.1.32473.7.0.1", &[]);
    let mut taken = 0;
    for _ in 0..most + 1000 {
        taken += receiver.take(&datagram).traps.len();
    }
    assert_eq!((taken, receiver.dropped()), (most, vec![("rate", 1000)]));
    assert_eq!(receiver.denied.lock().expect("no panic").len(), 1);
    assert_eq!(receiver.take_from(&datagram, "192.0.2.8:1").traps.len(), 1);
}

/// Every byte of a right message wrong in each of some ways, and cut everywhere: nothing panics, and nothing is lost of what is
/// somebody's.
#[test]
fn bytes_that_are_wrong_do_no_harm() {
    let settings = settings("");
    let interface = varbind("1.3.6.1.2.1.2.2.1.1.3", &number(ber::INTEGER, 3));
    let messages = [
        trap("1.3.6.1.6.3.1.1.5.3", std::slice::from_ref(&interface)),
        v2(0xa6, 1, &prefix("1.3.6.1.6.3.1.1.5.3")),
        community_message(0, COMMUNITY, &v1_pdu("1.3.6.1.4.1.9", &[10, 0, 0, 1], 6, 5, &interface)),
        Sender::new(1, 3, 1000).trap(&settings, "auth", "1.3.6.1.6.3.1.1.5.1"),
        Sender::new(1, 3, 1000).trap(&settings, "priv", "1.3.6.1.6.3.1.1.5.1"),
        Sender(own()).message(&settings, "priv", &pdu(0xa6, 9, &prefix("1.3.6.1.6.3.1.1.5.1"))),
    ];
    for message in messages {
        let mut receiver = Receiver::new("");
        for at in 0..message.len() {
            receiver.now += Duration::from_millis(10);
            for wrong in [0, 1, 0x7f, 0x80, 0x84, 0xff] {
                let mut other = message.clone();
                other[at] = wrong;
                receiver.take(&other);
            }
            receiver.take(&message[..at]);
        }
    }
}
