//! What `ams2 check` finds that would else be found at night: settings that are right each for itself, and mistakes that
//! follow from others and would mislead.

use std::{fs, os::unix::fs::symlink};

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
        let limits = "originator: {limits: {name_bytes: 512}}\n";
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
