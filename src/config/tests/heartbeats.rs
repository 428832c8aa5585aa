//! Mistakes in heartbeats, and what reaches the router of those that are right.

use super::*;

const BEFORE: &str =
    "receivers: [{name: log, actions: [{event_log: {to: file, path: e.log}}]}]\nroute: {receiver: log}\n";

#[test]
fn each_mistake_in_a_heartbeat_has_its_place_and_its_mend() {
    let of = |inner: &str| format!("heartbeats: [{{{inner}}}]\n");
    let whole = |inner: &str| of(&format!("name: a, period: 1h, grace: 5m, {inner}"));
    let rows = [
        ("heartbeats: a\n".to_owned(), "f:3:13: expected a list, found `a`"),
        ("heartbeats: [a]\n".into(), "f:3:14: expected a map of settings, found `a`"),
        (of("period: 1h, grace: 5m"), "f:3:14: `name` is missing"),
        (of("name: a, grace: 5m"), "f:3:14: `period` is missing: add `period:`"),
        (of("name: a, period: 1h"), "f:3:14: `grace` is missing"),
        (of("name: 'a b', period: 1h, grace: 5m"), "f:3:21: a heartbeat cannot be called `a b`"),
        (of("name: a/b, period: 1h, grace: 5m"), "use letters, digits, `.`, `_` and `-`"),
        (of("name: '..', period: 1h, grace: 5m"), "cannot be called `..`"),
        (of("name: '', period: 1h, grace: 5m"), "cannot be called ``"),
        (of("name: 7, period: 1h, grace: 5m"), "expected text, found the number 7: put it in quotes"),
        (of("name: '${env:HOME}', period: 1h, grace: 5m"), "environment variables are not allowed here"),
        (of(&format!("name: {}, period: 1h, grace: 5m", "x".repeat(129))), "the name has 129 bytes"),
        (of("name: a, period: daily, grace: 5m"), "f:3:32: "),
        (of("name: a, period: 500ms, grace: 5m"), "the duration `500ms` is too short: use 1s or more"),
        (whole("max_duration: 0s"), "the duration `0s` is too short"),
        (whole("perriod: 1h"), "unknown key `perriod`: did you mean `period`?"),
        (whole("client: boston"), "no client is called `boston`: add it under `originator.clients:`"),
        (whole("labels: {source: x}"), "`source` is ams2's to set"),
        (whole("labels: {heartbeat: x}"), "`heartbeat` is ams2's to set"),
        (whole("labels: {event: Delivery Failed}"), "`Delivery Failed` is what ams2 says of itself"),
        (whole("labels: {severity: huge}"), "warning: the severity `huge` has no rank"),
        (whole("labels: {n: 7}"), "expected text, found the number 7"),
        (
            "heartbeats:\n- {name: a, period: 1h, grace: 5m}\n- {name: a, period: 2h, grace: 5m}\n".into(),
            "f:5:10: the heartbeat `a` is defined twice, first in line 4: rename one of the two",
        ),
        (
            format!("originator: {{clients: [{{name: boston, uid: 7}}]}}\n{}", whole("client: bostn")),
            "no client is called `bostn`: did you mean `boston`?",
        ),
        (
            format!("heartbeats: [{}]\n", "{name: a, period: 1h, grace: 5m},".repeat(30_001)),
            "f:3:13: 30001 heartbeats; a router may have 30000: share them among several routers",
        ),
    ];
    for (text, expected) in rows {
        let found = mistakes(&format!("{BEFORE}{text}"));
        let shown: String = text.chars().take(200).collect();
        assert!(found.contains(expected), "{shown}\nwanted {expected}\ngot {found}");
    }
}

#[test]
fn heartbeats_reach_the_router_as_they_are_written() {
    let text = format!(
        "{BEFORE}originator: {{clients: [{{name: boston, uid: 7}}]}}\nheartbeats:\n\
         - {{name: nightly-backup, period: 24h, grace: 30m, max_duration: 2h, client: boston, labels: {{severity: minor, event: Heartbeat Missing}}}}\n\
         - {{name: a.b_c, period: 1m, grace: 0s}}\n"
    );
    assert_eq!(mistakes(&text), "");
    let folder = tempfile::tempdir().expect("a folder");
    let loaded = load_text("f", &text, folder.path(), &Overrides::default());
    let heartbeats = loaded.map_err(|e| lines(&e.found)).expect("right").core.heartbeats;
    let [backup, plain] = heartbeats.as_slice() else { panic!("{heartbeats:?}") };
    assert_eq!((backup.period_ms, backup.grace_ms), (86_400_000, 1_800_000));
    assert_eq!((backup.max_duration_ms, backup.client.as_deref()), (Some(7_200_000), Some("boston")));
    assert_eq!(backup.labels["severity"], "minor");
    assert_eq!((plain.name.as_str(), plain.grace_ms, plain.labels.len()), ("a.b_c", 0, 0));
}

#[test]
fn an_included_file_may_hold_heartbeats() {
    let folder = tempfile::tempdir().expect("a folder");
    let included = folder.path().join("conf.d");
    std::fs::create_dir(&included).expect("made");
    let one = |name: &str| format!("heartbeats: [{{name: {name}, period: 1h, grace: 5m}}]\n");
    for name in ["b", "a"] {
        std::fs::write(included.join(format!("{name}.yaml")), one(name)).expect("written");
    }
    let text = format!("{BEFORE}include: conf.d\n{}", one("root"));
    let loaded = load_text("f", &text, folder.path(), &Overrides::default());
    let core = loaded.map_err(|e| lines(&e.found)).expect("right").core;
    let names: Vec<_> = core.heartbeats.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["root", "a", "b"]);
}
