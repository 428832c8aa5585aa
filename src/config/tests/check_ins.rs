//! `check_ins:` and clients that many machines share.

use ams2_core::config::CheckIns;

use super::*;

fn check_ins(text: &str) -> Result<CheckIns, String> {
    let all = format!("receivers: [{{name: a}}]\nroute: {{receiver: a}}\n{text}");
    load_text("f", &all, Path::new("."), &Overrides::default())
        .map(|loaded| loaded.core.check_ins)
        .map_err(|wrong| lines(&wrong.found))
}

#[test]
fn what_is_not_said_of_check_ins_is_as_it_was_in_ams2() {
    assert_eq!(check_ins(""), Ok(CheckIns::default()));
    assert_eq!(check_ins("check_ins: {}"), Ok(CheckIns::default()));
    let all = "check_ins: {period: 10m, grace: 0s, remove_after: 7d, warn_above: 100, most: 200}";
    let expected = CheckIns {
        period_ms: 600_000,
        grace_ms: 0,
        remove_after_ms: 7 * 86_400_000,
        warn_above: 100,
        most: Some(200),
    };
    assert_eq!(check_ins(all), Ok(expected));
}

#[test]
fn what_cannot_be_meant_is_said_with_its_place() {
    for (text, place, words) in [
        (
            "check_ins: {period: 40d}",
            "f:3:21",
            "clients leave the list after 30d, and are not missing before",
        ),
        (
            "check_ins: {period: 1h, grace: 1h, remove_after: 2h}",
            "f:3:50",
            "longer than `period` and `grace`",
        ),
        ("check_ins: {period: 1ms}", "f:3:21", "1s"),
        ("check_ins: {warn_above: 0}", "f:3:25", "1"),
        ("check_ins: {most: 50001}", "f:3:19", "50000"),
        ("check_ins: {perod: 1h}", "f:3:13", "did you mean `period`?"),
        ("check_ins: 5", "f:3:12", "map"),
    ] {
        let said = check_ins(text).expect_err(text);
        assert!(said.contains(place) && said.contains(words), "{text}: {said}");
    }
}

#[test]
fn many_machines_share_a_client_only_where_that_is_said() {
    let hash = "0".repeat(64);
    let text = format!(
        "originator: {{clients: [{{name: one, uid: 7}}, {{name: many, token_sha256: \"{hash}\", enrol: true}}]}}\n"
    );
    let all = format!("receivers: [{{name: a}}]\nroute: {{receiver: a}}\n{text}");
    let loaded = load_text("f", &all, Path::new("."), &Overrides::default());
    let loaded = loaded.unwrap_or_else(|wrong| panic!("{}", lines(&wrong.found)));
    assert_eq!(loaded.clients.known.iter().map(|client| client.enrol).collect::<Vec<_>>(), [false, true]);
    // Nobody could tell the second from a machine of the first.
    let clash = all.replace("name: one", "name: many/one");
    let wrong = load_text("f", &clash, Path::new("."), &Overrides::default()).err().expect("a clash");
    let said = lines(&wrong.found);
    assert!(said.contains("f:3:31: `many/one` may be one of the many machines of `many`"), "{said}");
}
