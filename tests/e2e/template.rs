//! `ams2 template render`, and that docs/templates.md says what is so.

use super::harness::*;

const PAGE: &str = include_str!("../../docs/templates.md");

fn render(arguments: &[&str]) -> Ran {
    run(ams2().args(["template", "render"]).args(arguments))
}

#[test]
fn every_filter_gives_what_its_page_says() {
    let rows: Vec<(String, String)> = PAGE
        .lines()
        .filter_map(|line| line.strip_prefix("| `{"))
        .map(|row| {
            // In a table a bar has a backslash before it.
            let row = row.replace("\\|", "\u{1}");
            let (example, gives) = row.split_once("` | `").expect("two cells");
            let gives = gives.strip_suffix("` |").expect("two cells");
            (format!("{{{}", example.replace('\u{1}', "|")), gives.to_owned())
        })
        .collect();
    assert!(rows.len() > 25, "{rows:?}");
    for (example, gives) in rows {
        assert_eq!(render(&[&example]).ends(0).stdout.trim_end_matches('\n'), gives, "{example}");
    }
}

#[test]
fn every_variable_is_on_the_page() {
    let list = |words: &str| -> Vec<String> {
        let (_, names) = words.split_once("there are ").expect("the names");
        names.lines().next().expect("a line").split(", ").map(str::to_owned).collect()
    };
    let ran = render(&["{{ nosuch }}"]).ends(2);
    let mut names = list(&ran.stderr);
    names.extend(list(&render(&["--for", "line", "{{ alert.nosuch }}"]).ends(2).stderr));
    assert!(names.len() > 30, "{names:?}");
    for name in names {
        assert!(PAGE.contains(&format!("`{name}`")), "{name}");
    }
}

#[test]
fn a_template_is_rendered_with_a_sample_and_with_real_alerts() {
    let shown = render(&["{{ event }} on {{ common_labels.computer }}"]).ends(0);
    assert_eq!(shown.stdout, "Virus Found on ws-042\n");
    let line = "{{ alert.event }}/{{ alert.labels.computer | default('?') }}/{{ alert.status }}";
    let changed = ["--for", "line", "-l", "computer=", "-l", "event=Fan", "--resolved", line];
    assert_eq!(render(&changed).ends(0).stdout, "Fan/?/resolved\n");
    let html = render(&["--for", "html", "-a", "summary=<b>&", "{{ common_annotations.summary }}"]).ends(0);
    assert_eq!(html.stdout, "&lt;b&gt;&amp;\n");

    let site = Site::new(
        "receivers: [{name: log, actions: [{event_log: {to: file, path: events.log}}]}]
route: {receiver: log, notify: each}
severities: {bad: major}
external_url: https://ams2.example.com
templates: texts
",
    );
    std::fs::create_dir(site.path().join("texts")).expect("made");
    std::fs::write(site.path().join("texts/row"), "{{ alert.labels.n }} is {{ alert.rank }};")
        .expect("written");
    let server = site.start();
    for n in ["1", "2"] {
        let alert = serde_json::json!({ "labels": { "event": "Real", "n": n, "severity": "bad" } });
        server.post(&alert.to_string()).is(200);
    }
    let config = site.config();
    let config = config.to_str().expect("text");
    let each =
        "{% for alert in alerts %}{% include 'row' %}{% endfor %}{{ external_url }} {{ group_labels.event }}";
    let client = |arguments: &[&str]| {
        let mut all = vec!["template", "render"];
        all.extend(arguments);
        site.client(&all)
    };
    let shown = client(&["--config", config, "--alerts", "event=Real", each]).ends(0);
    let mut parts: Vec<&str> = shown.stdout.trim_end().split(';').collect();
    parts.sort_unstable();
    assert_eq!(parts, ["1 is major", "2 is major", "https://ams2.example.com Real"]);
    client(&["--alerts", "event=Other", "x"]).ends(1).says("no alert matches");
    let ran = run_with_input(ams2().args(["template", "render", "--file", "-"]), b"{{ firing }}\n");
    assert_eq!(ran.ends(0).stdout, "1\n");
}

#[test]
fn what_is_wrong_with_a_template_is_said_with_its_line() {
    let site = Site::new("receivers: []\nroute: {}\n");
    let file = site.path().join("text.j2");
    let path = file.to_str().expect("text").to_owned();
    let from_file = |text: &[u8]| {
        std::fs::write(&file, text).expect("written");
        render(&["--file", &path])
    };
    from_file(b"a\n{% if %}").ends(2).says("text.j2:2: syntax error");
    from_file(b"a\n\n{{ common_labels.nosuch }}").ends(2).says("text.j2:3: undefined value");
    from_file(b"{{ evnt }}").ends(2).says("no variable is called `evnt`");
    from_file(b"{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}")
        .ends(2)
        .says("too many steps");
    from_file(&[b'x'; 65 * 1024]).ends(2).says("at most 65536 are allowed");
    from_file(b"\xff\xfe").ends(2).says("UTF-8");
    render(&["{% include 'site.j2' %}"]).ends(2).says("no shared template is called `site.j2`");
    render(&["--file", "/nosuch"]).ends(2).says("/nosuch cannot be read");
    render(&["-l", "nonsense", "x"]).ends(2).says("has no `=`");
    render(&["--config", site.config().to_str().expect("text"), "x"])
        .ends(2)
        .says("the first route has no receiver");
    render(&[]).ends(2);
}
