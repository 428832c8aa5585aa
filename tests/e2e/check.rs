//! What `ams2 check` finds that would else be found at night: settings that are right each for itself, and mistakes that
//! follow from others and would mislead.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
};

use super::harness::*;

const ROUTE: &str = "route: {receiver: log, notify: each}\n";
const LOG: &str = "receivers: [{name: log, actions: [{event_log: {to: file, path: events.log}}]}]\n";
/// Longer than what could be guessed.
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn check(site: &Site) -> Ran {
    let mut command = ams2();
    command.current_dir(site.path()).arg("check").arg(site.config());
    run(&mut command)
}

/// A site with token files, and more after the usual receiver and route.
fn with(more: &str) -> Site {
    let site = Site::new(&format!("{LOG}{ROUTE}{more}"));
    site.secret("one.token", TOKEN);
    site.secret("same.token", &format!("{TOKEN}\n"));
    site.secret("short.token", "hunter2");
    site.secret("lines.token", "0123456789abcdef\n0123456789abcdefg\n");
    site
}

#[test]
fn labels_that_no_own_alert_could_carry_are_mistakes() {
    let long = "x".repeat(600);
    let much = "x".repeat(60 << 10);
    let many: String = (0..60).map(|n| format!("n{n}: x, ")).collect();
    for (labels, words) in [
        ("'': x".to_owned(), "a label without a name"),
        (format!("{long}: x"), "the name has 600 bytes"),
        (format!("server: {much}"), "of labels; an alert may have 65536"),
        (many, "60 labels; an alert may have 64"),
    ] {
        let limits = "originator: {limits: {name_bytes: 512B}}\n";
        check(&with(&format!("own_labels: {{{labels}}}\n{limits}"))).ends(2).says(words);
    }
    for name in ["source", "event", "event_id", "severity"] {
        let site = with(&format!("own_labels: {{server: boston-1, {name}: x}}\n"));
        check(&site).ends(0).says(&format!("`{name}` is ignored here"));
    }
    let plain = check(&with("own_labels: {server: boston-1}\n")).ends(0);
    assert!(!plain.stderr.contains("ignored"), "{}", plain.stderr);
}

#[test]
fn an_included_file_without_settings_counts_as_nothing() {
    let site = with("include: conf.d\n");
    let folder = site.path().join("conf.d");
    fs::create_dir(&folder).expect("made");
    for (name, text) in [
        ("0-empty.yaml", ""),
        ("1-comments.yaml", "# receivers:\n#   - name: later\n\n"),
        ("2-bom.yml", "\u{feff}"),
        ("3-document.yaml", "---\n# nothing\n"),
        ("4-receiver.yaml", "receivers: [{name: more}]\nroutes: [{receiver: more, matchers: ['a=b']}]\n"),
        ("5-empty.yaml", "\n"),
    ] {
        fs::write(folder.join(name), text).expect("written");
    }
    check(&site).ends(0);
    // Kept as one text in the journal, it is read again at the next start.
    site.start().kill();
    let server = site.start();
    server.post(&alert("Told", "told")).is(200);
    site.until_told(&["told"]);
    fs::write(folder.join("6-list.yaml"), "- a\n").expect("written");
    check(&site).ends(2).says("6-list.yaml:1:1").says("expected a map of settings");
}

#[test]
fn clients_that_nobody_could_tell_apart_and_weak_tokens_are_said() {
    let clients = |list: &str| check(&with(&format!("originator: {{clients: [{list}]}}\n")));
    clients("{name: a, token_file: one.token}, {name: b, token_file: same.token}")
        .ends(2)
        .says("the clients `a` and `b` have the same token");
    clients("{name: a, uid: 7}, {name: b, uid: 7}").ends(2).says("the clients `a` and `b` have the same uid");
    clients("{name: a, uid: 7}, {name: b, token_file: one.token}, {name: c, uid: 8}").ends(0);
    clients("{name: a, token_file: short.token}").ends(0).says("the token has 7 bytes, and could be guessed");
    clients("{name: a, token_file: lines.token}").ends(2).says("the file holds several lines");
    let fine = clients("{name: a, token_file: one.token}").ends(0);
    assert!(!fine.stderr.contains("guessed"), "{}", fine.stderr);
}

#[test]
fn what_follows_from_a_mistake_is_not_said_as_another() {
    let site = with(
        "originator: {http: {listen: '0.0.0.0:1', tls: {cert_file: c.pem, key_file: k.pem}}, clients: [{name: a, token_file: no.token}]}\n",
    );
    let found = check(&site).ends(2);
    for words in ["c.pem cannot be read", "no.token cannot be read"] {
        assert!(found.stderr.contains(words), "{words}: {}", found.stderr);
    }
    for words in ["by anybody", "without TLS"] {
        assert!(!found.stderr.contains(words), "{words}: {}", found.stderr);
    }
    // Where nothing is given, it is said as ever.
    let open = check(&with("originator: {http: {listen: '0.0.0.0:1'}}\n")).ends(2);
    open.says("by anybody").says("without TLS");
    let site = Site::new(&format!("receivers: [{{name: log, actions: [{{emial: {{}}}}]}}]\n{ROUTE}"));
    let found = check(&site).ends(2).says("unknown action `emial`");
    assert!(!found.stderr.contains("has no action"), "{}", found.stderr);
}

#[test]
fn an_event_log_may_not_be_one_of_the_journals_files_however_it_is_called() {
    let site = Site::new("");
    fs::create_dir(site.path().join("d")).expect("made");
    symlink("d", site.path().join("link")).expect("linked");
    let ways = |name: &str| {
        ["d", "link", "x/../d"].map(|way| site.path().join(way).join(name).display().to_string())
    };
    fs::create_dir(site.path().join("x")).expect("made");
    for name in ["0000000000000001.seg", "panics", "0000000000000007.poison", "lock"] {
        for path in ways(name).into_iter().chain([name.to_owned()]) {
            site.configure(&format!("receivers: [{{name: log, actions: [{{event_log: {{to: file, path: {path}}}}}]}}]\n{ROUTE}journal: {{dir: d}}\n"));
            check(&site).ends(2).says("has a name that ams2 keeps for its own files");
        }
    }
}

#[test]
fn a_program_that_cannot_be_run_here_and_a_log_that_two_write_are_warnings() {
    let site = Site::new("");
    let plain = site.path().join("plain");
    fs::write(&plain, "#!/bin/sh\n").expect("written");
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o644)).expect("set");
    let plain = plain.display().to_string();
    for (command, words) in
        [("/no/such/program", "No such file"), ("/usr", "is not a file"), (&plain, "is not executable")]
    {
        site.configure(&format!(
            "receivers: [{{name: log, actions: [{{program: {{command: [{command}]}}}}]}}]\n{ROUTE}"
        ));
        check(&site).ends(0).says("warning: ").says(words);
    }
    fs::create_dir(site.path().join("ams2-data")).expect("made");
    symlink("ams2-data", site.path().join("link")).expect("linked");
    let linked = site.path().join("link/events.log").display().to_string();
    let two = |second: &str| {
        site.configure(&format!(
            "receivers: [{{name: log, actions: [{{event_log: {{to: file, path: events.log}}}}, {{event_log: {{to: file, path: {second}}}}}]}}]\n{ROUTE}"
        ));
        check(&site).ends(0)
    };
    for same in ["events.log", &linked] {
        two(same).says("`log/event_log/0` and `log/event_log/1` write to one file");
    }
    let fine = two("others.log");
    assert!(!fine.stderr.contains("one file"), "{}", fine.stderr);
}
