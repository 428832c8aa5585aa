//! What the configuration says of each mistake: where, what, and how to mend it.

mod check_ins;
mod heartbeats;
mod inbound;
mod muting;

use super::*;

const RECEIVERS: &str = "receivers: [{name: log, actions: [{event_log: {to: file, path: e.log}}]}]\n";

fn mistakes(text: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    match load_text("f", text, folder.path(), &Overrides::default()) {
        Ok(loaded) => lines(&loaded.warnings),
        Err(wrong) => lines(&wrong.found),
    }
}

#[test]
fn each_mistake_has_its_place_and_its_mend() {
    let with = |more: &str| format!("{RECEIVERS}route: {{receiver: log}}\n{more}");
    let route = |inner: &str| format!("{RECEIVERS}route: {inner}\n");
    let action = |inner: &str| {
        format!("route: {{receiver: log}}\nreceivers:\n  - name: log\n    actions:\n      - {inner}\n")
    };
    let rows: Vec<(String, &str)> = vec![
        (String::new(), "f:1:1: the file holds no configuration"),
        ("# nothing\n\n".into(), "f:1:1: the file holds no configuration"),
        ("- a\n".into(), "f:1:1: expected a map of settings, found a list"),
        ("route:\n\treceiver: log\n".into(), "a tab is used for indentation"),
        ("a: \"x\n".into(), "not valid YAML"),
        (
            format!("{RECEIVERS}route: {{receiver: log}}\n---\na: b\n"),
            "f:4:1: the file holds more than one document",
        ),
        (with("recievers: []\n"), "f:3:1: unknown key `recievers`: did you mean `receivers`?"),
        (with("colour: red\n"), "f:3:1: unknown key `colour`: known here:"),
        (
            with("route: {receiver: log}\n"),
            "f:3:1: `route` is given twice in the same map, first in line 2: remove one of the two",
        ),
        (RECEIVERS.into(), "`route` is missing: add `route:`"),
        ("route: {receiver: log}\n".into(), "`receivers` is missing"),
        (route("{receiver: lgo}"), "f:2:19: no receiver is called `lgo`: did you mean `log`?"),
        (route("{}"), "the first route has no receiver"),
        (route("{receiver: log, matchers: ['a=b']}"), "the first route may not have `matchers`"),
        (route("{receiver: log, continue: true}"), "the first route may not have `continue`"),
        (route("{receiver: log, group_wait: 5}"), "f:2:36: "),
        (route("{receiver: log, group_wait: -1s}"), "f:2:36: "),
        (route("{receiver: log, group_wait: 1.5h}"), "f:2:36: "),
        (route("{receiver: log, group_wait: 5 m}"), "f:2:36: "),
        (route("{receiver: log, group_interval: 0s}"), "the duration `0s` is too short"),
        (route("{receiver: log, group_by: [a, a]}"), "`a` is given twice"),
        (route("{receiver: log, group_by: ['...', a]}"), "`...` means every label"),
        (route("{receiver: log, group_by: a}"), "expected a list, found `a`"),
        (route("{receiver: log, group_by: [1]}"), "expected text, found the number 1: put it in quotes"),
        (route("{receiver: log, notify: all}"), "notify is `all`: use `group` or `each`"),
        (route("{receiver: log, continue: no}"), "f:2:"),
        (route("{receiver: log, routes: [{matchers: ['a=~\"(\"']}]}"), "the matcher `a=~\"(\"` is wrong"),
        (
            route("{receiver: log, routes: [{matchers: ['severity >= purple']}]}"),
            "neither a severity nor a number",
        ),
        (route("{receiver: log, routes: [{matchers: ['a']}]}"), "expected one of = != =~ !~"),
        (
            route("{receiver: log, routes: [{matchers: ['a=${env:HOME}']}]}"),
            "environment variables are not allowed here",
        ),
        (
            route("{receiver: log, routes: [{receiver: log}, {receiver: log, matchers: ['a=b']}]}"),
            "warning: no alert comes here",
        ),
        (
            route("{receiver: log, group_interval: 5m, repeat_interval: 1m}"),
            "warning: repeat_interval is shorter",
        ),
        (with("severities: {purple: huge}\n"), "`huge` is no rank"),
        (with("give_up: {after: soon}\n"), "f:3:18: "),
        (with("external_url: example.com\n"), "`example.com` is no URL"),
        (with("removed: [{action: a, drop: true}]\n"), "`a` is no action: write receiver/kind/name"),
        (with("removed: [{action: a/b/c}]\n"), "what becomes of them is not clear"),
        (with("removed: [{action: a/b/c, move_to: nobody}]\n"), "no receiver is called `nobody`"),
        (
            with("originator: {http: {listen: 'localhost:70000'}}\n"),
            "`localhost:70000` is no address and port",
        ),
        (with("originator: {http: {listen: '0.0.0.0:9093'}}\n"), "without TLS"),
        (with("originator: {http: {listen: '0.0.0.0:9093'}}\n"), "by anybody"),
        (with("originator: {http: {limits: {connections: 0}}}\n"), "a whole number from 1 to 1000000"),
        (with("originator: {http: {limits: {body_bytes: lots}}}\n"), "f:3:42: "),
        (with("originator: {http: {tls: {cert_file: c.pem}}}\n"), "`key_file` is missing"),
        (with("originator: {socket: {mode: \"999\"}}\n"), "`999` is no mode"),
        (with("originator: {clients: [{name: local, uid: 0}]}\n"), "a client may not be called `local`"),
        (with("originator: {clients: [{name: a}]}\n"), "nothing says how to know the client `a`"),
        (with("originator: {clients: [{name: a, token_file: missing}]}\n"), "cannot be read"),
        (with("originator: {clients: [{name: a, token_sha256: abc}]}\n"), "this is no SHA-256"),
        (
            with("originator: {clients: [{name: a, uid: 0}, {name: a, uid: 1}]}\n"),
            "the client `a` is defined twice",
        ),
        (with("journal: {segment_bytes: 1KiB}\n"), "use 1MiB to 1GiB"),
        (
            with("journal: {dir: '${env:AMS2_NOT_SET}'}\n"),
            "the environment variable `AMS2_NOT_SET` is not set",
        ),
        (
            action("emial: {}"),
            "f:5:9: unknown action `emial`: did you mean `email`? `ams2 action list` shows them all",
        ),
        (action("event_lgo: {to: file}"), "did you mean `event_log`?"),
        (action("event_log: {to: file, path: e.log, colour: red}"), "f:5:44: unknown key `colour`"),
        (action("event_log: {to: file, pth: e.log}"), "did you mean `path`?"),
        (action("event_log: {to: flie, path: e.log}"), "f:5:25: "),
        (action("event_log: {to: file, path: e.log, max_in_flight: many}"), "f:5:"),
        (action("event_log"), "expected an action such as"),
        (
            "receivers: [{name: a}, {name: a}]\nroute: {receiver: a}\n".into(),
            "the receiver `a` is defined twice, first in line 1",
        ),
        (
            "receivers: [{name: a}, {name: b}]\nroute: {receiver: a}\n".into(),
            "warning: no route names the receiver `b`",
        ),
        (
            "receivers: [{name: a}]\nroute: {receiver: a}\n".into(),
            "warning: the default receiver `a` has no action",
        ),
        (
            "receivers: [{nmae: a}]\nroute: {receiver: a}\n".into(),
            "f:1:14: unknown key `nmae`: did you mean `name`?",
        ),
    ];
    let mut wrong = Vec::new();
    for (text, expected) in rows {
        let found = mistakes(&text);
        if !found.contains(expected) {
            wrong.push(format!("for\n{text}\nexpected {expected:?}, found\n{found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_mistake_is_found_at_once_in_the_order_of_the_file() {
    let found = mistakes(
        "colour: red\nroute: {receiver: nobody, group_wait: 5 m}\nreceivers: [{name: a, actions: [{emial: {}}, {event_log: {to: x}}]}]\n",
    );
    let places: Vec<&str> = found.lines().map(|line| line.split(": ").next().unwrap_or("")).collect();
    assert!(places.len() >= 5, "{found}");
    assert!(places[0].starts_with("f:1:") && places[1].starts_with("f:2:"), "{found}");
}

#[test]
fn an_anchor_bomb_is_refused_quickly() {
    let mut bomb = String::from("a: &a [x,x,x,x,x,x,x,x,x]\n");
    for (name, before) in ["b", "c", "d", "e", "f", "g", "h"].iter().zip(["a", "b", "c", "d", "e", "f", "g"])
    {
        bomb.push_str(&format!("{name}: &{name} [{}]\n", vec![format!("*{before}"); 9].join(",")));
    }
    let found = mistakes(&bomb);
    assert!(found.contains("aliases"), "{found}");
}

#[test]
fn what_is_no_plain_yaml_is_refused_where_it_stands() {
    let rest = format!("{RECEIVERS}route: ");
    for (value, words) in [
        ("!!python/object:os.system {receiver: log}", "this is not plain YAML: unsupported tag"),
        ("{receiver: !log log}", "this is not plain YAML: unsupported tag"),
        ("{receiver: log, group_wait: .inf}", "expected a duration like 30s"),
        (
            "{receiver: log, group_wait: .nan, group_interval: 5 m}",
            "expected a duration like 30s, 5m or 1h30m, found \"5 m\"",
        ),
        ("{receiver: log, group_wait: 99999999y}", "expected a duration of at most 290y"),
        ("{receiver: log, group_wait: 12:30:45}", "expected a duration"),
        ("{receiver: log, group_wait: 1e3}", "expected a duration"),
    ] {
        let found = mistakes(&format!("{rest}{value}\n"));
        assert!(found.contains(words), "{value}: {found}");
    }
    let many: String = (0..130_000).map(|number| format!("- [{number}]\n")).collect();
    assert!(mistakes(&many).contains("the file holds more than 250000 values"));
}

#[test]
fn what_a_regex_does_that_few_expect_is_noted() {
    let noted = |matcher: &str| {
        let child = format!("{{matchers: ['{matcher}'], receiver: log}}");
        mistakes(&format!("{RECEIVERS}route: {{receiver: log, routes: [{child}]}}\n"))
    };
    let anchored = "f:2:45: note: the regex `^web` is about the whole value as it is: `^` and `$` change nothing: leave them out";
    assert!(noted("host=~\"^web\"").contains(anchored), "{}", noted("host=~\"^web\""));
    assert!(noted("host!~\"web$\"").contains("change nothing"));
    assert!(
        noted("host=~\".*\"")
            .contains("note: the regex `.*` matches alerts without a label `host`, too: use `.+`")
    );
    assert!(noted("host=~\"a|\"").contains("without a label `host`"));
    for plain in [
        "host=~\"web.+\"",
        "host=~\"costs .+\\\\$\"",
        "host!~\".*x\"",
        "host=\"^a$\"",
        "host=~\"^(?:a|b)$\"",
        "host!~\"\"",
    ] {
        assert_eq!(noted(plain), "", "{plain}");
    }
}

#[test]
fn what_looks_like_a_variable_of_a_shell_is_noted() {
    let noted = |path: &str| {
        let actions =
            format!("receivers: [{{name: log, actions: [{{event_log: {{to: file, path: '{path}'}}}}]}}]\n");
        mistakes(&format!("{actions}route: {{receiver: log}}\n"))
    };
    let found = noted("${HOME}/e.log");
    assert!(
        found.contains(
            "note: what is written as `${NAME}` is not replaced: it stands there as it is: write ${env:NAME}"
        ),
        "{found}"
    );
    assert!(noted("${LOG_9:-e.log}").contains("write ${env:NAME}"));
    for plain in
        ["$HOME/e.log", "${}/e.log", "${a b}.log", "${x", "$$.log", "${AMS2_EVENT}.log", "echo ${HOME}"]
    {
        assert_eq!(noted(plain), "", "{plain}");
    }
}

#[test]
fn a_certificate_out_of_date_is_warned_about() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let text = format!(
        "{RECEIVERS}route: {{receiver: log}}\noriginator: {{http: {{listen: '127.0.0.1:0', tls: {{cert_file: c.pem, key_file: k.pem}}}}}}\n"
    );
    let found_with = |from: i32, to: i32| {
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).expect("a name");
        (params.not_before, params.not_after) =
            (rcgen::date_time_ymd(from, 1, 1), rcgen::date_time_ymd(to, 1, 1));
        let key = rcgen::KeyPair::generate().expect("a key");
        let made = params.self_signed(&key).expect("a certificate");
        let secret = std::fs::Permissions::from_mode(0o600);
        std::fs::write(folder.path().join("c.pem"), made.pem()).expect("written");
        std::fs::write(folder.path().join("k.pem"), key.serialize_pem()).expect("written");
        std::fs::set_permissions(folder.path().join("k.pem"), secret).expect("set");
        let loaded = load_text("f", &text, folder.path(), &Overrides::default());
        lines(&loaded.unwrap_or_else(|wrong| panic!("{}", lines(&wrong.found))).warnings)
    };
    assert!(found_with(2001, 2002).contains("warning: no client will trust it: the certificate has expired"));
    assert!(
        found_with(3001, 3002).contains("warning: no client will trust it: the certificate is not valid yet")
    );
    assert_eq!(found_with(2001, 3002), "");
}

#[test]
fn strange_files_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let load_at = |name: &str| match load(&folder.path().join(name), &Overrides::default()) {
        Ok(_) => panic!("{name} was accepted"),
        Err(wrong) => lines(&wrong.found),
    };
    assert!(load_at("missing").contains("cannot be read"));
    assert!(load_at("").contains("the file is a folder"));
    let fifo = folder.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a FIFO");
    assert!(load_at("fifo").contains("the file is a FIFO"));
    // Where a secret or a certificate should be, too, nobody waits for a writer.
    for key in ["clients: [{name: a, token_file: fifo}]", "http: {tls: {cert_file: fifo, key_file: fifo}}"] {
        let text = format!("{RECEIVERS}route: {{receiver: log}}\noriginator: {{{key}}}\n");
        let wrong = load_text("f", &text, folder.path(), &Overrides::default()).err().expect("refused");
        assert!(lines(&wrong.found).contains("is a FIFO"), "{}", lines(&wrong.found));
    }
    std::fs::write(folder.path().join("latin1"), b"route: {receiver: l\xf6g}\n").expect("written");
    assert!(load_at("latin1").contains("latin1:1:20: the file is not UTF-8 here"));
    std::fs::write(folder.path().join("large"), vec![b'#'; 5 << 20]).expect("written");
    assert!(load_at("large").contains("at most 4194304 are read"));
}

#[test]
fn secrets_that_others_can_read_are_refused_and_never_shown() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let token = folder.path().join("token");
    std::fs::write(&token, "canary-secret\n").expect("written");
    let text = format!(
        "{RECEIVERS}route: {{receiver: log}}\noriginator: {{clients: [{{name: a, token_file: token}}]}}\n"
    );
    let load = || load_text("f", &text, folder.path(), &Overrides::default());
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).expect("set");
    let found = lines(&load().err().expect("refused").found);
    assert!(found.contains("chmod 600") && !found.contains("canary"), "{found}");
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).expect("set");
    let loaded = load().unwrap_or_else(|wrong| panic!("{}", lines(&wrong.found)));
    assert!(loaded.clients.need_names());
    assert!(!format!("{:?}", loaded.clients).contains("canary"));
}

#[test]
fn a_mistake_is_shown_in_its_line() {
    let text = "receivers: [{name: log}]\nroute:\n  receiver: lgo\n";
    let wrong = load_text("ams2.yaml", text, Path::new("."), &Overrides::default()).err().expect("wrong");
    let shown = snippets(&wrong.sources, &wrong.found, false);
    let expected = "error: no receiver is called `lgo`\n --> ams2.yaml:3:13\n  |\n3 |   receiver: lgo\n  |             ^^^\n  |\n  = help: did you mean `log`?\n";
    assert!(shown.contains(expected), "{shown}");
}

#[test]
fn what_ships_is_right() {
    let folder = tempfile::tempdir().expect("a folder");
    for text in [DEFAULT, include_str!("../../config/ams2.yaml")] {
        let loaded = load_text("f", text, folder.path(), &Overrides::default());
        let loaded = loaded.unwrap_or_else(|wrong| panic!("{}", lines(&wrong.found)));
        let warned = loaded.warnings.iter().any(|found| found.gravity != Gravity::Note);
        assert!(!warned, "{}", lines(&loaded.warnings));
        assert!(loaded.http.is_some_and(|http| http.listen.ip().is_loopback()));
    }
}

#[test]
fn the_default_tells_each_occurrence_to_a_file() {
    let loaded = load_text("f", DEFAULT, Path::new("."), &Overrides::default())
        .unwrap_or_else(|wrong| panic!("{}", lines(&wrong.found)));
    assert_eq!(loaded.core.route.notify, Some(ams2_core::config::Notify::Each));
    assert_eq!(loaded.actions.len(), 1);
    assert_eq!(loaded.actions[0].0.to_string(), "log/event_log/0");
    assert_eq!(loaded.data_dir, Path::new("./ams2-data"));
    assert_eq!(loaded.socket.expect("a socket").path, Path::new("./ams2-data/ams2.sock"));
}

#[test]
fn every_mistake_in_an_action_is_said_at_once() {
    let found = mistakes(
        "route: {receiver: log}
receivers:
  - name: log
    actions:
      - event_log: {to: file, path: e.log, colour: red, max_in_flight: many, path2: 1, line: '{{ nothing }}'}
      - event_log: {to: file, path: 0000000000000001.seg}
",
    );
    for words in [
        "unknown key `colour`",
        "unknown key `path2`: did you mean `path`?",
        "expected a whole number, found text",
        "no variable is called `nothing`",
        "has a name that ams2 keeps for its own files",
    ] {
        assert!(found.contains(words), "{words}: {found}");
    }
}

#[test]
fn values_of_the_environment_are_never_shown() {
    // One that every process here has, and that is wrong wherever it stands.
    let value = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let found = mistakes(
        "originator: {http: {listen: '${env:CARGO_MANIFEST_DIR}'}}
route: {receiver: log}
receivers:
  - name: log
    actions:
      - event_log: {to: '${env:CARGO_MANIFEST_DIR}'}
      - event_log: {to: file, path: a.log, name: '${env:CARGO_MANIFEST_DIR}'}
external_url: '${env:CARGO_MANIFEST_DIR}'
",
    );
    assert!(!found.contains(&value), "{found}");
    assert_eq!(found.matches("`${env:CARGO_MANIFEST_DIR}`").count(), 3, "{found}");
    assert!(
        found.contains("f:7:") && found.contains("environment variables are not allowed here"),
        "{found}"
    );
}

/// A folder with files, by name and text.
fn folder_of(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        std::fs::write(path, text).expect("written");
    }
    folder
}

fn load_in(folder: &tempfile::TempDir) -> Result<Loaded, String> {
    let loaded = load(&folder.path().join("ams2.yaml"), &Overrides::default());
    loaded.map_err(|wrong| lines(&wrong.found).replace(&folder.path().display().to_string(), "."))
}

const INCLUDING: &str = "include: conf.d
receivers: [{name: log, actions: [{event_log: {to: file, path: e.log}}]}]
route: {receiver: log, routes: [{matchers: ['a = 1']}]}
";

#[test]
fn a_folder_is_included_file_by_file_in_the_order_of_names() {
    let folder = folder_of(&[
        ("ams2.yaml", INCLUDING),
        (
            "conf.d/20-desk.yml",
            "receivers: [{name: desk}]\nroutes: [{matchers: ['b = 1'], receiver: desk}]\n",
        ),
        (
            "conf.d/10-site.yaml",
            "---\nroutes: [{matchers: ['c = 1']}]\nseverities: {odd: minor}\nclients: [{name: me, uid: 7}]\nremoved: [{action: x/event_log/0, drop: true}]",
        ),
        ("conf.d/.20-desk.yml.swp", "nonsense"),
        ("conf.d/README", "nonsense"),
        ("conf.d/deeper/x.yaml", "nonsense"),
        ("conf.d/30-empty.yaml", "receivers:\n"),
    ]);
    let loaded = load_in(&folder).unwrap_or_else(|found| panic!("{found}"));
    let order: Vec<&str> = loaded.core.route.routes.iter().map(|route| &*route.matchers[0].name).collect();
    assert_eq!(order, ["a", "c", "b"]);
    assert_eq!(loaded.core.receivers.len(), 2);
    assert!(loaded.core.severities.rank("odd").is_some());
    assert_eq!((loaded.clients.known.len(), loaded.removed.len()), (1, 1));
    // Kept as one text, it reads back as what it was.
    assert_eq!(Sources::from_text(&loaded.text).0.len(), 4);
    let again: Vec<String> = Sources::from_text(&loaded.text).0.into_iter().map(|file| file.text).collect();
    let before: Vec<String> = loaded.sources.0.into_iter().map(|file| file.text).collect();
    assert_eq!(again, before);
    assert_eq!(former(&loaded.text, folder.path()).actions.len(), 1);
}

const SHARING: &str = "templates: texts
receivers: [{name: log, actions: [{event_log: {to: file, path: e.log, line: \"{% include 'line.j2' %}\"}}]}]
route: {receiver: log}
";

#[test]
fn templates_of_a_folder_are_shared_by_the_texts_of_actions() {
    let folder = folder_of(&[
        ("ams2.yaml", SHARING),
        ("texts/line.j2", "{% import 'site.j2' as site %}{{ site.on(alert) }}\n"),
        ("texts/site.j2", "{% macro on(a) %}{{ a.event }} on {{ a.labels.computer }}{% endmacro %}"),
        ("texts/.site.j2.swp", "{% nonsense"),
        ("texts/site.j2~", "{% nonsense"),
        ("texts/deeper/x.j2", "{% nonsense"),
    ]);
    let loaded = load_in(&folder).unwrap_or_else(|found| panic!("{found}"));
    // Kept as one text, it reads back as what it was, and so do the actions of that time.
    let kept = Sources::from_text(&loaded.text);
    assert_eq!(kept.0.iter().map(|file| &file.text).collect::<Vec<_>>(), {
        loaded.sources.0.iter().map(|file| &file.text).collect::<Vec<_>>()
    });
    assert_eq!(former(&loaded.text, &loaded.data_dir).actions[0].1, loaded.actions[0].1);
    // What they say is part of what an action is: when it changes, the action does.
    std::fs::write(folder.path().join("texts/site.j2"), "{% macro on(a) %}changed{% endmacro %}")
        .expect("written");
    let again = load_in(&folder).unwrap_or_else(|found| panic!("{found}"));
    assert_ne!(again.actions[0].1, loaded.actions[0].1);
    assert_eq!(again.actions[0].1.with_texts_of(&loaded.actions[0].1), loaded.actions[0].1);
}

#[test]
fn mistakes_in_shared_templates_name_their_file_and_line() {
    let rows = [
        ("{{ alert.event }}\n{% if %}", "./texts/line.j2:2:1: syntax error"),
        ("ok\n--- # included: x\n", "./ams2.yaml:1:12: ./texts/line.j2: a line begins like those"),
        ("--- # template: x", "./ams2.yaml:1:12: ./texts/line.j2: a line begins like those"),
        ("{% include 'nosuch' %}{{ broken.", "./texts/line.j2:1:1: syntax error"),
        (
            "{% include 'nosuch' %}",
            "no shared template is called `nosuch`; there are line.j2 (line 1 of line.j2)",
        ),
        ("\n{{ event | uper }}", "no filter is called `uper`"),
    ];
    for (text, words) in rows {
        let folder = folder_of(&[("ams2.yaml", SHARING), ("texts/line.j2", text)]);
        let found = load_in(&folder).err().unwrap_or_default();
        assert!(found.contains(words), "{text}: {found}");
    }
    for (line, words) in [
        ("templates: nosuch", "1:12: the folder ./nosuch cannot be read"),
        ("templates: [a]", "1:12: `templates` names one folder"),
    ] {
        let folder = folder_of(&[("ams2.yaml", &SHARING.replace("templates: texts", line))]);
        let found = load_in(&folder).err().unwrap_or_default();
        assert!(found.contains(words), "{line}: {found}");
    }
}

#[test]
fn mistakes_in_included_files_name_their_file_and_both_places() {
    let rows = [
        (
            "receivers: [{name: log}]\n",
            "./conf.d/a.yaml:1:20: the receiver `log` is defined twice, first at ./ams2.yaml:2:20",
        ),
        ("routes: [{receiver: lgo}]\n", "./conf.d/a.yaml:1:21: no receiver is called `lgo`"),
        ("\nroute: {receiver: log}\n", "./conf.d/a.yaml:2:1: unknown key `route`: did you mean `routes`?"),
        ("journal: {}\n", "./conf.d/a.yaml:1:1: unknown key `journal`: known here: receivers, routes"),
        ("- a\n", "./conf.d/a.yaml:1:1: expected a map of settings"),
        ("routes: {a: 1}\n", "./conf.d/a.yaml:1:9: expected the same kind of value"),
        ("receivers: [}\n", "./conf.d/a.yaml:1:12: this is not valid YAML"),
        (
            "routes: []\nroutes: []\n",
            "./conf.d/a.yaml:2:1: `routes` is given twice in the same map, first in line 1",
        ),
        ("severities: {a: minor}\n---\nb: c\n", "./conf.d/a.yaml:3:1: the file holds more than one document"),
    ];
    for (text, words) in rows {
        let folder = folder_of(&[("ams2.yaml", INCLUDING), ("conf.d/a.yaml", text)]);
        let found = load_in(&folder).err().unwrap_or_default();
        assert!(found.lines().any(|line| line.starts_with(words)), "{text}: {found}");
    }
    let folder = folder_of(&[("ams2.yaml", INCLUDING)]);
    assert!(
        load_in(&folder)
            .err()
            .expect("none")
            .starts_with("./ams2.yaml:1:10: the folder ./conf.d cannot be read")
    );
    let twice = "severities: {odd: minor}\n";
    let folder = folder_of(&[("ams2.yaml", INCLUDING), ("conf.d/a.yaml", twice), ("conf.d/b.yaml", twice)]);
    let found = load_in(&folder).err().expect("twice");
    let words = "./conf.d/b.yaml:1:14: `odd` is given twice in the same map, first at ./conf.d/a.yaml:1:14";
    assert!(found.starts_with(words), "{found}");
}

#[test]
fn a_route_that_an_earlier_one_hides_is_warned_about() {
    let with = |routes: &str| mistakes(&format!("{RECEIVERS}route: {{receiver: log, routes: [{routes}]}}\n"));
    let rows = [
        ("{matchers: ['a=1']}, {matchers: ['a=1']}", "the same matchers"),
        ("{matchers: ['a=1', 'b=2']}, {matchers: ['b=2', 'a=1']}", "the same matchers"),
        ("{matchers: ['a=1']}, {matchers: ['b=2', 'a=1']}", "takes them all"),
        ("{}, {matchers: ['b=2']}", "takes them all"),
        ("{matchers: ['a=1'], continue: true}, {matchers: ['b=2', 'a=1']}", ""),
        ("{matchers: ['a=1', 'b=2']}, {matchers: ['a=1']}", ""),
        ("{matchers: ['a=1']}, {matchers: ['a=2']}", ""),
        // The same in other words.
        ("{matchers: ['severity>=info']}, {matchers: ['severity=critical']}", "takes them all"),
        ("{matchers: ['severity>=minor']}, {matchers: ['severity>=major', 'a=1']}", "takes them all"),
        ("{matchers: ['severity>minor']}, {matchers: ['severity>=major']}", "takes them all"),
        ("{matchers: ['severity>=major']}, {matchers: ['severity>=minor']}", ""),
        ("{matchers: ['a=~\".*\"']}, {matchers: ['b=1']}", "takes them all"),
        ("{matchers: ['a=~\"x|y\"']}, {matchers: ['a=x']}", "takes them all"),
        ("{matchers: ['a=~\"x|y\"', 'b=1']}, {matchers: ['a=x']}", ""),
        ("{matchers: ['a!=x']}, {matchers: ['a=y', 'c=1']}", "takes them all"),
        ("{matchers: ['load>3']}, {matchers: ['load>=3.5']}", "takes them all"),
        ("{matchers: ['load>3.5']}, {matchers: ['load>=3']}", ""),
        ("{matchers: ['load>3']}, {matchers: ['load<2']}", ""),
        ("{matchers: ['severity>=info']}, {matchers: ['severity=purple']}", ""),
        ("{matchers: ['severity>=info'], continue: true}, {matchers: ['severity=critical']}", ""),
        // What no alert can be.
        (
            "{matchers: ['severity>=info', 'severity=critical'], routes: [{matchers: ['severity=minor']}]}",
            "no alert comes here: the route in line 2 takes only `severity=\"critical\"`, not `severity=\"minor\"`",
        ),
        ("{matchers: ['severity>major'], routes: [{matchers: ['severity<=major']}]}", "takes only"),
        ("{matchers: ['a=1', 'a=2']}", "exclude each other"),
        ("{matchers: ['a=1'], routes: [{matchers: ['a=~\"1|2\"']}]}", ""),
    ];
    for (routes, words) in rows {
        let found = with(routes);
        let warned = found.lines().filter(|line| line.contains("warning: no alert comes here")).count();
        assert_eq!(warned, usize::from(!words.is_empty()), "{routes}: {found}");
        assert!(found.contains(words), "{routes}: {found}");
    }
}

#[test]
fn a_default_receiver_that_reaches_nobody_is_warned_about() {
    let found = mistakes("receivers: [{name: nobody}]\nroute: {receiver: nobody}\n");
    assert!(found.contains("2:8: warning: the default receiver `nobody` has no action"), "{found}");
    assert_eq!(mistakes(&format!("{RECEIVERS}route: {{receiver: log}}\n")), "");
}

#[test]
fn own_events_that_no_route_is_about_are_noted() {
    let with = |routes: &str| {
        mistakes(&format!(
            "{RECEIVERS}own_labels: {{site: boston}}\nroute: {{receiver: log, routes: [{routes}]}}\n"
        ))
    };
    let found = with("{matchers: ['event=~\"Startup|Shutdown\"']}, {matchers: ['event_id=33', 'client=x']}");
    let left = "Action Failing, Clock Jumped, Configuration Changed, Configuration Refused, Delivery Failed, Disk Nearly Full, Journal Damaged";
    assert!(found.contains(&format!("note: no route is about ams2's own {left}: `log` is told")), "{found}");
    let found = with(
        "{matchers: ['site=boston', 'event=Startup']}, {matchers: ['severity>=info', 'event!=Shutdown']}",
    );
    assert!(found.contains("note: no route is about ams2's own Shutdown: `log`"), "{found}");
    let rows = [
        // They are not told apart by their kind.
        "{matchers: ['severity>=info']}",
        "{matchers: ['event=\"Virus Found\"']}",
        "{matchers: ['site=chicago', 'event=Startup']}",
        // All of them have one.
        "{matchers: ['source=ams2']}",
        "{matchers: ['source=ams2'], routes: [{matchers: ['event=Startup']}]}",
    ];
    for routes in rows {
        assert_eq!(with(routes), "", "{routes}");
    }
}

#[test]
fn a_setting_of_the_wrong_type_hides_nothing_else() {
    let with = |actions: &str| {
        mistakes(&format!("receivers: [{{name: ops, actions: [{actions}]}}]\nroute: {{receiver: ops}}\n"))
    };
    let found = with("{email: {to: ops@example.com, from: nobody, smtp: 'ftp://x', tsl: 1}}");
    for words in [
        "f:1:48: expected a list, found text: write it as a list: [a, b]",
        "from: ",
        "smtp: ",
        "f:1:96: unknown key `tsl`: did you mean `tls`?",
    ] {
        assert!(found.contains(words), "{words}: {found}");
    }
    let rows = [
        ("{event_log: {to: sylog}}", "`sylog` is none of its values: did you mean `syslog`?"),
        ("{event_log: {to: printer}}", "`printer` is none of its values: use file, syslog, journald"),
        (
            "{program: {command: [/bin/true], user: 1000}}",
            "expected text, found the number 1000: put it in quotes",
        ),
        ("{program: {command: [/bin/true], max_in_flight: many}}", "expected a whole number, found text"),
        ("{program: {command: {a: 1}}}", "expected a list, found a map"),
        ("{event_log: {to: file, path: e.log, send_resolved: 'yes'}}", "expected true or false, found text"),
        (
            "{email: {to: [a@example.com], from: b@example.com, smtp: 'smtp://127.0.0.1', recipients: 1}}",
            "password_file",
        ),
    ];
    for (action, words) in rows {
        let found = with(action);
        assert!(found.contains(words), "{action}: {found}");
    }
    // The receiver's name is wrong, and so is its action; and one of another file.
    let found = mistakes(
        "receivers: [{name: '', actions: [{event_log: {to: tape}}]}, {actions: [{event_lgo: {}}]}]\nroute: {receiver: x}\n",
    );
    for words in ["`` is no name", "`tape` is none of", "unknown action `event_lgo`", "`name` is missing"] {
        assert!(found.contains(words), "{words}: {found}");
    }
    let folder = folder_of(&[
        ("ams2.yaml", &INCLUDING.replace("receiver: log", "receiver: lgo")),
        ("conf.d/a.yaml", "receivrs: []\n"),
    ]);
    let found = load_in(&folder).err().expect("two mistakes");
    assert!(
        found.contains("unknown key `receivrs`") && found.contains("no receiver is called `lgo`"),
        "{found}"
    );
}

#[test]
fn what_serve_would_refuse_is_a_mistake() {
    let rows = [
        (format!("originator: {{socket: {{path: /tmp/{}}}}}", "x".repeat(110)), "a socket's may have 107"),
        ("originator: {limits: {alert_bytes: 0}}".into(), "alert_bytes: 0 bytes: use 1024 to"),
        ("originator: {limits: {id_bytes: 8B}}".into(), "id_bytes: 8 bytes: use 32 to"),
        ("journal: {free_bytes_min: 999999TiB}".into(), "clients would be refused for ever"),
        ("external_url: 'http://'".into(), "`http://` is no URL"),
        ("external_url: 'https://a b?x'".into(), "`https://a b?x` is no URL"),
        ("external_url: 'https://a.example.com/#x'".into(), "`https://a.example.com/#x` is no URL"),
        (
            "severities: {critical: info}".into(),
            "warning: `critical` is a rank of its own, and counts as info now",
        ),
    ];
    for (line, words) in rows {
        let found = mistakes(&format!("{RECEIVERS}route: {{receiver: log}}\n{line}\n"));
        assert!(found.contains(words), "{line}: {found}");
    }
}

#[test]
fn severities_that_no_route_is_about_are_noted() {
    let with = |routes: &str| mistakes(&format!("{RECEIVERS}route: {{receiver: log, routes: [{routes}]}}\n"));
    let found = with(
        "{matchers: ['severity >= major']}, {matchers: ['a=1'], routes: [{matchers: ['severity=info']}]}",
    );
    assert!(
        found.contains("note: no route is about severity warning, minor: unless other routes"),
        "{found}"
    );
    for routes in ["{matchers: ['a=1']}", "{matchers: ['severity>=info']}", "{matchers: ['severity!=\"x\"']}"]
    {
        assert_eq!(with(routes), "", "{routes}");
    }
}

#[test]
fn a_password_stands_in_a_file_or_the_environment_and_never_in_the_config() {
    use std::os::unix::fs::PermissionsExt;
    let config = |more: &str| {
        format!(
            "receivers: [{{name: log, actions: [{{email: {{to: [a@example.com], from: b@example.com, smtp: 'smtps://mail.example.com', user: me{more}}}}}]}}]\nroute: {{receiver: log}}\n"
        )
    };
    let folder = folder_of(&[("password", "canary-secret\n"), ("ca.pem", "no certificate")]);
    let secret = folder.path().join("password");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("set");
    let load = |more: &str| load_text("f", &config(more), folder.path(), &Overrides::default());
    let loaded = load(", password_file: password").unwrap_or_else(|wrong| panic!("{}", lines(&wrong.found)));
    assert!(!format!("{:?} {}", loaded.actions, loaded.text).contains("canary"));
    assert!(load(", password: '${env:CARGO_PKG_NAME}'").is_ok());
    let rows = [
        (", password: canary-secret", "`password` may not stand in the config itself"),
        (", password: 'x${env:CARGO_PKG_NAME}'", "`password` may not stand in the config itself"),
        (
            ", password: '${env:CARGO_PKG_NAME}', password_file: password",
            "both `password` and `password_file`",
        ),
        (", password_file: nowhere", "nowhere cannot be read"),
        (", pasword_file: password", "did you mean `password_file`?"),
        (", password_file: password, ca_file: ca.pem", "ca_file: it holds no certificate"),
        (", password_file: password, ca_file: nowhere", "nowhere cannot be read"),
    ];
    for (more, words) in rows {
        let found = lines(&load(more).err().unwrap_or_else(|| panic!("{more} was accepted")).found);
        assert!(found.contains(words), "{more}: {found}");
        assert!(!found.contains("canary"), "{found}");
        // A misspelt key leaves a user without a password, too.
        let most = if more.contains("pasword") { 2 } else { 1 };
        assert!(found.lines().filter(|line| !line.contains("warning")).count() <= most, "{more}: {found}");
    }
}

#[test]
fn a_trap_under_the_documentation_number_works_and_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder_of(&[("community", "canary-secret\n"), ("short", "canary\n")]);
    for name in ["community", "short"] {
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(folder.path().join(name), mode).expect("set");
    }
    let load = |more: &str| {
        let config = format!(
            "route: {{receiver: noc}}\nreceivers:\n  - name: noc\n    actions:\n      - snmp_trap: {{to: manager.example.com, {more}}}\n"
        );
        let loaded = load_text("f", &config, folder.path(), &Overrides::default());
        loaded.map(|loaded| lines(&loaded.warnings)).map_err(|wrong| lines(&wrong.found))
    };
    let warned = load("community_file: community").expect("it works");
    assert!(
        warned
            .starts_with("f:5:9: warning: traps go out under 32473, the enterprise number for documentation"),
        "{warned}"
    );
    assert!(
        warned.contains(": set `enterprise` to your site's number and load the MIB of `ams2 mib generate"),
        "{warned}"
    );
    let warned = load("community_file: community, enterprise: 32473").expect("it works");
    assert!(warned.starts_with("f:5:73: warning: traps go out under 32473"), "{warned}");
    assert_eq!(load("community_file: community, enterprise: 99999").as_deref(), Ok(""));
    let rows = [
        (
            "community: public",
            "f:5:57: `community` may not stand in the config itself: write it into a file and name that",
        ),
        ("community_file: nowhere", "nowhere cannot be read"),
        ("version: 2, community_file: community", "f:5:55: expected 1, 2c or 3, found text"),
        (
            "version: 3, user: u, auth_password_file: nowhere, priv_password_file: community",
            "nowhere cannot be read",
        ),
        (
            "version: 3, user: u, auth_password_file: short, priv_password_file: community",
            "auth_password: shorter than 8 characters",
        ),
        (
            "community_file: community, traps: [{matchers: ['a=b'], oid: 1.3.6.1.4.1.9.0.x}]",
            "traps[0].oid: \"1.3.6.1.4.1.9.0.x\" is no OID of a notification",
        ),
    ];
    for (more, words) in rows {
        let found = load(more).expect_err(more);
        assert!(found.contains(words), "{more}: {found}");
        let errors = found.lines().filter(|line| !line.contains("warning")).count();
        assert!(!found.contains("canary") && errors == 1, "{more}: {found}");
    }
}

#[test]
fn a_line_with_a_secret_in_it_is_never_shown() {
    let action = |inner: &str| {
        format!(
            "# A mistake\n# in the action\nroute: {{receiver: a}}\nreceivers:\n- name: a\n  actions:\n  - {inner}\n"
        )
    };
    let client = |inner: &str| {
        format!("{RECEIVERS}route: {{receiver: log}}\noriginator:\n  clients:\n  - {{name: a, {inner}}}\n")
    };
    let email = "to: [a@example.com], from: b@example.com, smtp: 'smtps://mail.example.com', user: me";
    let rows = [
        (
            action(&format!("email: {{{email}, password: canary-secret}}")),
            "may not stand in the config itself",
        ),
        // Another mistake in the same line would show it as well.
        (
            action(&format!("email: {{{email}, colour: red, password: canary-secret}}")),
            "unknown key `colour`",
        ),
        (action(&format!("email: {{{email}, pasword: canary-secret}}")), "unknown key `pasword`"),
        (action(&format!("email: {{{email}, password: a, password: canary-secret}}")), "is given twice"),
        (action("snmp_trap: {to: '127.0.0.1:162', version: 2c, community: canary-secret}"), "may not stand"),
        (client("token_sha256: canary-secret"), "this is no SHA-256"),
        (client("token_sha256: 'canary-secret', uid: x"), "a whole number"),
        (client("token: canary-secret"), "unknown key `token`"),
        // Keys of other programs, and logins in addresses.
        (action(&format!("email: {{{email}, smtp_password: canary-secret}}")), "unknown key `smtp_password`"),
        (action("telegram: {bot_token: canary-secret, colour: red}"), ""),
        (action("slack: {url: 'https://hooks.example.com/canary', colour: red}"), ""),
        (
            action("email: {to: [a@example.com], from: b@example.com, smtp: 'smtp://me:canary@h:25'}"),
            "\"…@h:25\" is no host",
        ),
        (
            action("email: {to: [a@example.com], from: b@example.com, smtp: 'smtp://me:canary three@h:25'}"),
            "\"…@h:25\" is no host",
        ),
        (action("pagerduty: {service_key: canary-secret, colour: red}"), "unknown key `service_key`"),
        (action("pushover: {user_key: canary-secret}"), "unknown key `user_key`"),
        (action("event_log: {to: syslog, address: 'tcp://me:canary@h:25'}"), "\"…@h:25\" is no host"),
        (action("event_log: {to: syslog, address: 'smtp://me:canary@h:25'}"), "is no syslog address"),
    ];
    for (text, words) in rows {
        let wrong = load_text("f", &text, Path::new("."), &Overrides::default()).err().expect("wrong");
        let shown = snippets(&wrong.sources, &wrong.found, false);
        assert!(shown.contains(words), "{text}: {shown}");
        assert!(!shown.contains("canary"), "{shown}");
        // The place is said all the same.
        assert!(shown.contains("f:7:") || shown.contains("f:5:"), "{shown}");
        assert!(!serde_json::to_string(&wrong.found).expect("plain data").contains("canary"), "{text}");
    }
}

#[test]
fn a_mistake_in_details_has_the_place_of_its_entry() {
    let actions = "- pagerduty:\n      routing_key: '${env:CARGO_PKG_NAME}'\n      details:\n        right: '{{ event }}'\n        wrong: [1, '{{ nosuch }}']\n";
    let found = mistakes(&format!("route: {{receiver: a}}\nreceivers:\n- name: a\n  actions:\n  {actions}"));
    assert!(found.contains("f:9:16: details.wrong: [1]: no variable is called `nosuch`"), "{found}");
}

#[test]
fn a_login_in_a_header_or_a_url_does_not_stand_in_the_config() {
    let load = |inner: &str| {
        let text = format!("receivers: [{{name: a, actions: [{{{inner}}}]}}]\nroute: {{receiver: a}}\n");
        match load_text("f", &text, Path::new("."), &Overrides::default()) {
            Ok(loaded) => lines(&loaded.warnings),
            Err(wrong) => lines(&wrong.found),
        }
    };
    let hook = |more: &str| format!("webhook: {{url: 'https://hooks.example.com/'{more}}}");
    let secret = "canaryA1b2C3d4E5f6G7h8";
    for name in ["Authorization", "authorization", "Cookie", "X-Api-Key", "X-Auth-Token", "PRIVATE-TOKEN"] {
        let found = load(&hook(&format!(", headers: {{{name}: 'Bearer {secret}'}}")));
        assert!(found.contains(&format!("`{name}` may not stand in the config itself")), "{name}: {found}");
        assert!(found.contains("${env:NAME}") && !found.contains("canary"), "{found}");
        let right = load(&hook(&format!(", headers: {{{name}: 'Bearer ${{env:CARGO_PKG_NAME}}'}}")));
        assert!(!right.contains("may not stand"), "{name}: {right}");
    }
    assert!(!load(&hook(", headers: {X-Team: noc}")).contains("may not stand"));
    for login in ["http://pu:canary@proxy:3128", "http://canary@proxy:3128", "pu:canary@proxy:3128"] {
        let slack = format!("slack: {{webhook_url: '${{env:CARGO_PKG_NAME}}', proxy: '{login}'}}");
        for action in [hook(&format!(", proxy: '{login}'")), slack] {
            let found = load(&action);
            let words = "the login of `proxy` may not stand in the config itself";
            assert!(found.contains(words) && !found.contains("canary"), "{action}: {found}");
        }
    }
    for right in ["http://proxy:3128", "http://pu:${env:CARGO_PKG_NAME}@proxy:3128"] {
        let found = load(&hook(&format!(", proxy: '{right}'")));
        assert!(!found.contains("proxy"), "{right}: {found}");
    }
    let url = |url: &str| load(&format!("webhook: {{url: '{url}'}}"));
    for secret in [
        format!("https://hooks.example.com/services/T0/{secret}"),
        format!("https://hooks.example.com/?token={secret}"),
        "https://hooks.example.com/hook/3f0c51aa-9d1b-4c57-8f4e-0d6f5f0a7b11".into(),
    ] {
        let found = url(&secret);
        assert!(found.contains("`url` looks like a secret") && found.contains("`url_file`"), "{found}");
        assert!(!found.contains("canary"), "{found}");
    }
    for plain in [
        "https://hooks.example.com/",
        "https://hooks.example.com/alerts-of-the-night-desk/v2",
        "https://a1b2c3d4e5f6a7b8c9d0e1.example.com/x",
    ] {
        assert!(!url(plain).contains("looks like a secret"), "{plain}");
    }
}

#[test]
fn a_former_config_keeps_its_words_when_a_variable_is_gone() {
    let text = "receivers: [{name: a, actions: [{email: {to: ['${env:AMS2_NOT_SET}'], from: b@example.com, smtp: 'smtp://${env:AMS2_NOT_SET}:25', subject: 'old words'}}]}]\nroute: {receiver: a}\n";
    let former = former(text, Path::new("."));
    let [(_, settings, _)] = former.actions.as_slice() else { panic!("{former:?}") };
    assert!(format!("{settings:?}").contains("old words"), "{settings:?}");
}

#[test]
fn one_mistake_is_said_once_and_as_it_is() {
    let with = |more: &str| format!("{RECEIVERS}route: {{receiver: log}}\n{more}");
    let limits = |inner: &str| with(&format!("originator: {{http: {{limits: {{{inner}}}}}}}\n"));
    let email = "{email: {to: 5, from: b@example.com, smtp: 'smtp://127.0.0.1:25'}}";
    let hash = "0".repeat(64);
    // A mistake, what is said of it, and what is not.
    let rows = [
        (
            format!("receivers: [{{name: log, actions: [{email}]}}]\nroute: {{receiver: log}}\n"),
            "f:1:",
            "is missing",
        ),
        (with("journal: {retention: 30s}\n"), "`30s` is too short: use 1m or more", "more than 0"),
        (with("journal: {retention: {age: 0s}}\n"), "f:3:", "more than 0"),
        (limits("head_bytes: 1KiB"), "head_bytes: 1024 bytes: use 8192 to", "1024 to"),
        (
            limits("body_bytes: 8MiB, bytes_in_flight: 9MiB"),
            "bytes_in_flight has no room for one body: use 16MiB or more, or a smaller body_bytes",
            "body_bytes: 9",
        ),
        (limits("bytes_in_flight: 15MiB"), "bytes_in_flight has no room for one body", "use 15"),
        (
            with(&format!("originator: {{clients: [{{name: a, token_file: t, token_sha256: '{hash}'}}]}}\n")),
            "both `token_file` and `token_sha256` are given: remove one",
            "nothing says how",
        ),
    ];
    let folder = folder_of(&[("t", "0123456789abcdef")]);
    {
        use std::os::unix::fs::PermissionsExt;
        let secret = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(folder.path().join("t"), secret).expect("set");
    }
    for (text, said, unsaid) in rows {
        let wrong = load_text("f", &text, folder.path(), &Overrides::default());
        let found = lines(&wrong.err().unwrap_or_else(|| panic!("accepted: {text}")).found);
        assert!(found.contains(said) && !found.contains(unsaid), "{text}{found}");
    }
}

#[test]
fn receivers_are_told_where_a_mistake_is_and_no_word_of_the_file() {
    let action =
        |inner: &str| format!("receivers:\n- name: a\n  actions:\n  - {inner}\nroute: {{receiver: a}}\n");
    let email = "to: [a@example.com], from: b@example.com";
    for (text, told) in [
        (
            action(&format!("email: {{{email}, smtp: 'smtp://me:canary@h:25'}}")),
            "a mistake in f:4:61: `receivers[0].actions[0].email.smtp`; `ams2 check` and the log say what",
        ),
        (
            action(&format!("email: {{{email}, smtp: 'smtp://h:25', canary: 5}}\n  - emial: {{}}")),
            "a mistake in f:4:76: `receivers[0].actions[0].email.canary`, and 1 more; `ams2 check` and the log say what",
        ),
    ] {
        let wrong = load_text("f", &text, Path::new("."), &Overrides::default()).err().expect("wrong");
        assert_eq!(whereabouts(&wrong.found), told, "{text}");
    }
    // What is no YAML has no settings.
    let wrong = load_text("f", "canary: [", Path::new("."), &Overrides::default()).err().expect("wrong");
    let told = whereabouts(&wrong.found);
    assert!(told.starts_with("a mistake in f:") && !told.contains("canary"), "{told}");
}
