//! What is said of web hooks, and of rules on syslog.

use super::mistakes;

const REST: &str =
    "receivers: [{name: log, actions: [{event_log: {to: file, path: e.log}}]}]\nroute: {receiver: log}\n";

fn of_hook(requests: &str) -> String {
    mistakes(&format!("originator: {{inbound: {{own: {{requests: {requests}}}}}}}\n{REST}"))
}

fn of_syslog(rules: &str) -> String {
    mistakes(&format!("originator: {{syslog: {{udp: '127.0.0.1:0', mapping: {rules}}}}}\n{REST}"))
}

#[test]
fn hooks_that_do_not_do_what_is_meant_are_named() {
    let rule = "mapping: [{does: drop}]";
    let rows = [
        ("[]".to_owned(), "there is no request in it"),
        (format!("[{{path: /in/a, methods: [], {rule}}}]"), "there is no method in it"),
        ("[{path: /in/a, mapping: []}]".into(), "there is no rule in it"),
        (format!("[{{path: '/{{a}}', {rule}}}]"), "takes paths that are ams2's own"),
        (format!("[{{path: '/{{a}}/ready', {rule}}}]"), "takes paths that are ams2's own"),
        (format!("[{{path: '/in/{{a}}/{{a}}', {rule}}}]"), "`{a}` stands twice in the path"),
        (
            format!("[{{path: '/in/{{a}}', {rule}}}, {{path: '/in/{{b}}', {rule}}}]"),
            "request 2 is the same as one before it",
        ),
        (format!("[{{path: /in/a, {rule}, answer: {{status: 500}}}}]"), "a whole number from 200 to 299"),
        (
            format!("[{{path: /in/a, {rule}}}], answers: {{busy: {{status: 200}}}}"),
            "a whole number from 400 to 599",
        ),
        (
            "[{path: /in/a, mapping: [{labels: {event: e}}, {does: drop}]}]".into(),
            "warning: nothing comes to this rule: the one in line 1 takes all",
        ),
        (
            "[{path: /in/a, mapping: [{labels: {event: e}, id: always}]}]".into(),
            "warning: this `id` is always the same",
        ),
        (
            "[{path: /in/a, mapping: [{capture: {a: '(?P<x>.)', b: '(?P<x>.)'}, labels: {event: e}}]}]"
                .into(),
            "`x` is caught twice",
        ),
        ("[{path: /in/a, mapping: [{capture: {a: '('}, labels: {event: e}}]}]".into(), "write it like `user"),
    ];
    for (requests, words) in rows {
        let found = of_hook(&requests);
        assert!(found.contains(words), "{requests}: {found}");
    }
    // One mistake is one.
    let found = of_hook("[{path: /in/a, mapping: [{labels: {event: '{{ a '}}]}]");
    assert!(found.contains("is wrong") && !found.contains("a rule without labels"), "{found}");
    assert_eq!(of_hook(&format!("[{{path: '/in/{{a}}', {rule}}}, {{path: /in/b, {rule}}}]")), "");
}

#[test]
fn rules_on_syslog_that_cannot_be_meant_are_named() {
    let rows = [
        ("[{each: items, labels: {event: e}}]", "a message of syslog has no list"),
        (
            "[{when: ['hostname = h'], labels: {event: e}}]",
            "warning: a message of syslog has no field `hostname`",
        ),
        ("[{labels: {event: '{{ ap }}'}}]", "no field `ap`: did you mean `app`?"),
        ("[{labels: {event: '{{ ap | upper }}'}}]", "no field `ap`: did you mean `app`?"),
        (
            "[{labels: {event: '{{ a }}'}, capture: {txt: '(?P<a>.)'}}]",
            "no field `txt`: did you mean `text`?",
        ),
        ("[{when: ['severity >= major'], labels: {event: e}}]", "compare `rank`"),
        ("[]", "there is no rule in it"),
    ];
    for (rules, words) in rows {
        let found = of_syslog(rules);
        assert!(found.contains(words), "{rules}: {found}");
    }
    let right = "[{when: ['rank >= major', 'sd.a.b = c'], capture: {text: '(?P<a>.)'}, labels: {event: '{{ a | upper }}{{ root.app }}{{ sd[\"x\"].y | default(\"\") }}'}}]";
    assert_eq!(of_syslog(right), "");
}

#[test]
fn a_rule_whose_alerts_nobody_may_send_is_named() {
    let with = |rule: &str, allow: &str| {
        mistakes(&format!(
            "originator: {{syslog: {{udp: '127.0.0.1:0', clients: [{{name: a, addresses: [127.0.0.1], allow: ['{allow}']}}], mapping: [{rule}]}}}}\n{REST}"
        ))
    };
    let rows = [
        ("{labels: {event: E}}", "site = \"boston\"", true),
        ("{labels: {event: E, site: austin}}", "site = \"boston\"", true),
        ("{labels: {event: E, site: \"{{ app }}\"}}", "site = \"boston\"", false),
        ("{labels: {event: E}, labels_from: sd.labels}", "site = \"boston\"", false),
        // What the message has by itself.
        ("{labels: {event: E}}", "facility = \"local7\"", false),
        ("{labels: {event: E}, severity: low, severity_words: {low: warning}}", "severity >= major", true),
        ("{does: drop}", "site = \"boston\"", false),
        ("{labels: {event: E}}", "site != \"boston\"", false),
    ];
    for (rule, allow, is_named) in rows {
        let found = with(rule, allow);
        assert_eq!(
            found.contains("no client may send the alerts of this rule"),
            is_named,
            "{rule} {allow}: {found}"
        );
        assert!(is_named || found.is_empty(), "{found}");
    }
    let found = mistakes(&format!(
        "originator: {{clients: [{{name: a, token_sha256: {}, allow: ['site = \"boston\"']}}], inbound: {{pagerduty: {{}}, alertmanager: {{}}}}}}\n{REST}",
        "0".repeat(64)
    ));
    assert!(found.contains("of this rule (rule 8 of `pagerduty`)"), "{found}");
    assert!(!found.contains("alertmanager"), "{found}");
}
