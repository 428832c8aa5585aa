//! AMS2-MIB: each object and notification once, for what is sent and for the text that managers load.
//!
//! The numbers are for ever: an object keeps its place, a new one is added at the end with a `REVISION` of its own.

use std::fmt::Write as _;

/// The enterprise number for documentation (RFC 5612): what holds until a site has its own.
pub const ENTERPRISE_DEFAULT: u32 = 32_473;
/// Our arc below the site's number: the year of AMS² keeps away from the low numbers that sites give out.
const ARC: u32 = 2004;
/// When the definitions last changed.
const UPDATED: &str = "202611250000Z";

/// One object: what one varbind holds.
pub(super) struct Object {
    pub(super) name: &'static str,
    pub(super) syntax: &'static str,
    description: &'static str,
}

/// One notification.
struct Notification {
    name: &'static str,
    description: &'static str,
}

/// How many varbinds each notification has.
pub(super) const OBJECT_COUNT: usize = OBJECTS.len();

/// The objects in the order in which every notification has them; the first is number 1.
pub(super) const OBJECTS: [Object; 17] = [
    Object {
        name: "ams2DeliveryId",
        syntax: "OCTET STRING (SIZE (32))",
        description: "Names the delivery with 32 hexadecimal digits. It is the same when a delivery is sent again, so that a
manager can tell a repetition.",
    },
    Object {
        name: "ams2Fingerprint",
        syntax: "OCTET STRING (SIZE (16))",
        description: "Names the alert with 16 hexadecimal digits. It is the same when the alert fires and when it has ended:
what a manager correlates by.",
    },
    Object {
        name: "ams2Severity",
        syntax: "ItuPerceivedSeverity",
        description: "The severity as in X.733. It is cleared(1) once the alert has ended, and indeterminate(2) where the
severity is `info` or has no rank.",
    },
    Object {
        name: "ams2SeverityWord",
        syntax: "Ams2Text",
        description: "The severity in the sender's own word; empty if it gave none.",
    },
    Object {
        name: "ams2State",
        syntax: "INTEGER { firing(1), resolved(2) }",
        description: "Whether the alert fires or has ended.",
    },
    Object { name: "ams2Event", syntax: "Ams2Text", description: "What happened, by name: `Virus Found`." },
    Object {
        name: "ams2EventId",
        syntax: "Ams2Text",
        description: "The event's number in its catalogue; empty if it has none.",
    },
    Object {
        name: "ams2Source",
        syntax: "Ams2Text",
        description: "Who sent the alert: the client's name, `local`, or `ams2` for what the router says of itself.",
    },
    Object { name: "ams2Summary", syntax: "Ams2Text", description: "What happened, in a sentence." },
    Object {
        name: "ams2Labels",
        syntax: "Ams2Text",
        description: "All labels, sorted by name: name=value with a space between them, and double quotes around what is not
a plain word.",
    },
    Object { name: "ams2Starts", syntax: "DateAndTime", description: "When the alert began, in UTC." },
    Object {
        name: "ams2Ends",
        syntax: "DateAndTime",
        description: "When the alert ended, in UTC; '0000000000000000'H while it fires.",
    },
    Object {
        name: "ams2Count",
        syntax: "Unsigned32",
        description: "How many alerts the decision was about that this notification is part of; each has a notification of
its own.",
    },
    Object { name: "ams2Group", syntax: "Ams2Text", description: "The key of the group that the alert is told in." },
    Object {
        name: "ams2Url",
        syntax: "Ams2Text",
        description: "Where to read more; empty if there is nothing to read.",
    },
    Object {
        name: "ams2AlertCut",
        syntax: "TruthValue",
        description: "Whether a text was too long for the message and is cut.",
    },
    Object {
        name: "ams2TestAlert",
        syntax: "TruthValue",
        description: "Whether this is a test, whatever else is said.",
    },
];

const NOTIFICATIONS: [Notification; 4] = [
    Notification { name: "ams2AlertFiring", description: "An alert fires, or still fires." },
    Notification { name: "ams2AlertCleared", description: "An alert has ended." },
    Notification {
        name: "ams2Heartbeat",
        description: "A sign of life: an alert whose event is `Heartbeat`. That it stays away is the alarm.",
    },
    Notification {
        name: "ams2Test",
        description: "A test of the way to this manager. Nothing has happened.",
    },
];

/// Which notification it is; its number in the MIB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Which {
    Firing = 1,
    Cleared = 2,
    Heartbeat = 3,
    Test = 4,
}

/// The OID of a notification. The 0 before its number is RFC 2578's, section 8.5: so a v1 trap has the same name.
pub(super) fn notification_oid(enterprise: u32, which: Which) -> Vec<u32> {
    below(enterprise, &[0, which as u32])
}

/// The OIDs of the varbinds, in their order.
pub(super) fn object_oids(enterprise: u32) -> Vec<Vec<u32>> {
    (1..).take(OBJECT_COUNT).map(|number| below(enterprise, &[1, number, 0])).collect()
}

fn below(enterprise: u32, arcs: &[u32]) -> Vec<u32> {
    [&[1, 3, 6, 1, 4, 1, enterprise, ARC], arcs].concat()
}

/// The MIB module as text (SMIv2, RFC 2578) for a site with this enterprise number.
pub fn text(enterprise: u32) -> String {
    let mut text = HEAD
        .replace("{enterprise}", &enterprise.to_string())
        .replace("{arc}", &ARC.to_string())
        .replace("{updated}", UPDATED);
    let objects: Vec<&str> = OBJECTS.iter().map(|object| object.name).collect();
    for (Object { name, syntax, description }, number) in OBJECTS.iter().zip(1..) {
        // Writing to a string cannot fail, here and below.
        _ = write!(
            text,
            "\n{name} OBJECT-TYPE\n    SYNTAX      {syntax}\n    MAX-ACCESS  accessible-for-notify\n    STATUS      current\n    \
             DESCRIPTION\n{}\n    ::= {{ ams2Objects {number} }}\n",
            quoted(description)
        );
    }
    for (Notification { name, description }, number) in NOTIFICATIONS.iter().zip(1..) {
        _ = write!(
            text,
            "\n{name} NOTIFICATION-TYPE\n    OBJECTS {{\n{}\n    }}\n    STATUS      current\n    DESCRIPTION\n{}\n    \
             ::= {{ ams2Notifications {number} }}\n",
            listed(&objects),
            quoted(description)
        );
    }
    let notifications: Vec<&str> = NOTIFICATIONS.iter().map(|notification| notification.name).collect();
    text + &TAIL.replace("{objects}", &listed(&objects)).replace("{notifications}", &listed(&notifications))
}

fn quoted(description: &str) -> String {
    format!("        \"{}\"", description.replace('\n', "\n        "))
}

fn listed(names: &[&str]) -> String {
    format!("        {}", names.join(",\n        "))
}

const HEAD: &str = r#"AMS2-MIB DEFINITIONS ::= BEGIN

-- Made by `ams2 mib generate` for enterprise {enterprise}.

IMPORTS
    MODULE-IDENTITY, OBJECT-TYPE, NOTIFICATION-TYPE, Unsigned32, enterprises
        FROM SNMPv2-SMI
    TEXTUAL-CONVENTION, DateAndTime, TruthValue
        FROM SNMPv2-TC
    MODULE-COMPLIANCE, OBJECT-GROUP, NOTIFICATION-GROUP
        FROM SNMPv2-CONF
    ItuPerceivedSeverity
        FROM ITU-ALARM-TC-MIB;

ams2MIB MODULE-IDENTITY
    LAST-UPDATED "{updated}"
    ORGANIZATION "ams2"
    CONTACT-INFO
        "Whoever runs the ams2 server that the notification comes from."
    DESCRIPTION
        "What the action snmp_trap of ams2, an alert router, says: one
        notification an alert. Every notification has the same objects in
        the same order."
    REVISION "{updated}"
    DESCRIPTION
        "First version."
    ::= { ams2Enterprise {arc} }

ams2Enterprise    OBJECT IDENTIFIER ::= { enterprises {enterprise} }
ams2Notifications OBJECT IDENTIFIER ::= { ams2MIB 0 }
ams2Objects       OBJECT IDENTIFIER ::= { ams2MIB 1 }
ams2Conformance   OBJECT IDENTIFIER ::= { ams2MIB 2 }

Ams2Text ::= TEXTUAL-CONVENTION
    DISPLAY-HINT "65535t"
    STATUS      current
    DESCRIPTION
        "Text in UTF-8 on one line: line breaks and other control
        characters are written as escapes."
    SYNTAX      OCTET STRING (SIZE (0..65535))
"#;

const TAIL: &str = r#"
ams2Compliance MODULE-COMPLIANCE
    STATUS      current
    DESCRIPTION
        "What a server has to say."
    MODULE
    MANDATORY-GROUPS { ams2ObjectGroup, ams2NotificationGroup }
    ::= { ams2Conformance 1 }

ams2ObjectGroup OBJECT-GROUP
    OBJECTS {
{objects}
    }
    STATUS      current
    DESCRIPTION
        "What each notification holds."
    ::= { ams2Conformance 2 }

ams2NotificationGroup NOTIFICATION-GROUP
    NOTIFICATIONS {
{notifications}
    }
    STATUS      current
    DESCRIPTION
        "What is told."
    ::= { ams2Conformance 3 }

END
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mib_in_the_repository_is_made_from_these_definitions() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/mibs/AMS2-MIB.txt");
        let committed = std::fs::read_to_string(path).expect("readable");
        let mend = "cargo run -- mib generate --enterprise 32473 > config/mibs/AMS2-MIB.txt";
        assert!(committed == text(ENTERPRISE_DEFAULT), "it differs: {mend}");
    }

    #[test]
    fn numbers_stay_what_they_are() {
        let oid = |arcs: Vec<u32>| arcs.iter().map(u32::to_string).collect::<Vec<_>>().join(".");
        assert_eq!(oid(notification_oid(99_999, Which::Test)), "1.3.6.1.4.1.99999.2004.0.4");
        let numbered: Vec<String> = object_oids(32_473)
            .into_iter()
            .zip(&OBJECTS)
            .map(|(arcs, o)| format!("{} {}", oid(arcs), o.name))
            .collect();
        assert_eq!(numbered[0], "1.3.6.1.4.1.32473.2004.1.1.0 ams2DeliveryId");
        assert_eq!(numbered[9], "1.3.6.1.4.1.32473.2004.1.10.0 ams2Labels");
        assert_eq!(numbered[16], "1.3.6.1.4.1.32473.2004.1.17.0 ams2TestAlert");
        for (which, name) in [
            (Which::Firing, "ams2AlertFiring"),
            (Which::Cleared, "ams2AlertCleared"),
            (Which::Heartbeat, "ams2Heartbeat"),
            (Which::Test, "ams2Test"),
        ] {
            assert_eq!(NOTIFICATIONS[which as usize - 1].name, name);
        }
    }
}
