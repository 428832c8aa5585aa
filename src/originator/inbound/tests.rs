//! The files of `config/inbound`: each example gives the alerts and the answer that it says.

use ams2_core::{AlertRef, Wall};
use serde::Deserialize;
use serde_json::Value as Node;

use super::{
    work::{Done, More, Work},
    *,
};
use crate::originator::{Clients, HttpLimits, KnownClient, Limits, Right, http::Settings};

/// One request of a file, and what comes of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    name: String,
    #[serde(default = "post")]
    method: String,
    /// The path of the only request unless set.
    path: Option<String>,
    #[serde(default)]
    query: String,
    #[serde(default)]
    body: Node,
    status: u16,
    answer: Option<Node>,
    alerts: Option<Vec<String>>,
    acknowledges: Option<String>,
}

#[derive(Deserialize)]
struct File {
    summary: String,
    requests: Vec<Node>,
    examples: Vec<Example>,
}

/// Settings of a listener for which nobody needs a name.
fn settings() -> Settings {
    Settings {
        clients: Arc::default(),
        limits: HttpLimits::default(),
        alert_limits: Limits::default(),
        hosts: Vec::new(),
        prefix: SmolStr::default(),
        tls: None,
        inbound: Arc::default(),
        heartbeats: Arc::default(),
        server: Default::default(),
    }
}

/// A request that comes at `now`.
fn work(meant: &Meant<'_>, query: &str, body: Node, now: Wall) -> Work {
    Work {
        name: meant.hook.name.clone(),
        request: meant.request.clone(),
        beside: request::beside(&meant.path, query, "generated", "me"),
        text: None,
        body,
        generated: "generated".into(),
        now,
    }
}

/// What a hook of one request with these rules makes of a body.
fn done(rules: &str, body: Node, settings: &Settings, client: Option<&str>) -> Result<Done, (u16, String)> {
    let hook =
        crate::config::hook("own", &format!("requests: [{{path: /in/own, mapping: {rules}}}]")).expect(rules);
    let hooks = Hooks(vec![hook]);
    let meant = hooks.find(&Method::POST, "/in/own").expect("it is taken");
    let done = work(&meant, "", body, Wall(1_795_600_000_000)).done(settings, client);
    done.map_err(|problem| (problem.status.as_u16(), problem.detail))
}

fn post() -> String {
    "POST".into()
}

fn read(text: &str) -> File {
    serde_saphyr::from_str(text).expect("a file")
}

/// An alert in one line, as the examples write it.
fn shown(alert: AlertRef<'_>, now: Wall) -> String {
    let pairs = |pairs: Vec<(&str, &str)>| {
        pairs.iter().map(|(name, value)| format!("{name}={value} ")).collect::<String>()
    };
    let time = |Wall(ms): Wall| match Wall(ms) == now {
        true => "now".to_owned(),
        false => jiff::Timestamp::from_millisecond(ms).expect("a time").to_string(),
    };
    let mut text = format!("{}/ {}", pairs(alert.labels().collect()), pairs(alert.annotations().collect()));
    let times = alert.times();
    for (word, what) in [
        ("from", times.starts_at.map(time)),
        ("until", times.ends_at.map(time)),
        ("url", alert.generator_url().map(str::to_owned)),
        ("key", alert.key().map(str::to_owned)),
    ] {
        text.extend(what.map(|what| format!("{word} {what} ")));
    }
    text.push_str(alert.id().map_or("", |_| "id"));
    text.trim_end().to_owned()
}

#[test]
fn every_file_reads_and_its_examples_give_what_they_say() {
    let now = Wall(1_795_600_000_000);
    for (name, text) in builtin::files() {
        let hook = builtin(name).expect(name);
        let file = read(text);
        assert!(!file.summary.is_empty() && file.examples.len() >= 2, "{name}");
        let hooks = Hooks(vec![hook]);
        for example in file.examples {
            let only = || file.requests[0]["path"].as_str().expect("a path").to_owned();
            let (at, path) = (format!("{name}: {}", example.name), example.path.clone().unwrap_or_else(only));
            let method: Method = example.method.parse().expect("a method");
            let meant = hooks.find(&method, &path).unwrap_or_else(|| panic!("{at}: nobody takes it"));
            let work = work(&meant, &example.query, example.body.clone(), now);
            let request = work.beside.clone();
            let (status, answer, alerts, acknowledged) = match work.done(&settings(), None) {
                Ok(Done { batch, more, .. }) => {
                    let answer = &meant.request.answer;
                    let fields = request::RequestFields { body: &example.body, request: &request };
                    // What is over ended a moment ago.
                    let over = Wall(now.0 - 1000);
                    let alerts = batch.iter().map(|alert| shown(alert, over)).collect();
                    let key = more.map(|more| match more {
                        More::Acknowledged(acknowledged) => acknowledged.key,
                        More::Ping(name) => format!("ping {name}"),
                    });
                    (
                        answer.status.as_u16(),
                        answer.body.as_ref().map(|body| body.filled(&fields)),
                        alerts,
                        key,
                    )
                }
                Err(problem) => {
                    let answer = meant.hook.answers.invalid.as_ref();
                    let words = serde_json::json!({"problem": problem.detail, "request": request});
                    let body = answer.and_then(|answer| answer.body.as_ref());
                    let body = body.map(|body| body.filled(&crate::originator::mapping::Json(&words)));
                    (answer.map_or(problem.status, |answer| answer.status).as_u16(), body, vec![], None)
                }
            };
            assert_eq!(status, example.status, "{at}");
            assert_eq!(acknowledged, example.acknowledges, "{at}");
            if let Some(expected) = example.answer {
                assert_eq!(answer, Some(expected), "{at}");
            }
            if let Some(expected) = example.alerts {
                assert_eq!(alerts, expected, "{at}");
            }
        }
    }
}

#[test]
fn patterns_take_the_paths_that_they_say() {
    let pattern = |text: &str| Pattern::parse(text);
    for wrong in ["", "in", "/", "/in//a", "/in/{}", "/in/a b", "/in/{a", "/in/a?b"] {
        assert_eq!(pattern(wrong), None, "{wrong}");
    }
    let rows = [
        ("/in/a", "/in/a", Some(vec![])),
        ("/in/a", "/in/a/", Some(vec![])),
        ("/in/a", "/in/a//", None),
        ("/in/a", "/in", None),
        ("/in/a", "/in/a/b", None),
        ("/v2/{id}/close", "/v2/x%20y%2Fz/close", Some(vec![("id".into(), "x y/z".to_owned())])),
        ("/v2/{id}/close", "/v2/%zz%f/close", Some(vec![("id".into(), "%zz%f".to_owned())])),
        ("/v2/{id}/close", "/v2/%ff/close", Some(vec![("id".into(), "\u{fffd}".to_owned())])),
        ("/v2/{id}/close", "/v2//close", None),
    ];
    for (text, path, expected) in rows {
        assert_eq!(pattern(text).expect(text).of(path), expected, "{text} {path}");
    }
    for (a, b, meets) in
        [("/a/b", "/a/b", true), ("/a/{x}", "/a/b", true), ("/a/{x}", "/b/{x}", false), ("/a", "/a/b", false)]
    {
        assert_eq!(pattern(a).expect(a).meets(&pattern(b).expect(b)), meets, "{a} {b}");
    }
}

#[test]
fn a_list_that_is_too_long_is_refused_and_what_gives_no_alert_beside_others_is_kept_raw() {
    let rules = "[{each: items, labels: {event: '{{ name }}'}, annotations: {all: '{{ root.text }}'}}]";
    let items = |count: usize| -> Node { (0..count).map(|n| serde_json::json!({"name": n})).collect() };
    let body = |items: Node| serde_json::json!({"items": items, "text": ""});
    let made = |body: Node| done(rules, body, &settings(), None);
    assert_eq!(made(body(items(10_000))).expect("so many").batch.len(), 10_000);
    let (status, why) = made(body(items(10_001))).expect_err("one more");
    assert_eq!((status, why.as_str()), (413, "`items` has 10001 items; at most 10000 are taken at once"));
    let some = made(body(serde_json::json!([{"name": "a"}, {"nam": "b"}, 7]))).expect("some");
    let shown: Vec<String> = some.batch.iter().map(|alert| shown(alert, Wall(0))).collect();
    assert_eq!(
        shown,
        [
            "event=a /",
            "event=Unknown Message inbound=own / parse_error=there is no alert in this item of its list raw={\"nam\":\"b\"} summary=there is no alert in this item of its list id",
            "event=Unknown Message inbound=own / parse_error=there is no alert in this item of its list raw=7 summary=there is no alert in this item of its list id",
        ]
    );
    // A small body that becomes large alerts.
    let mut large = body(items(10_000));
    large["text"] = "x".repeat(60_000).into();
    let (status, why) = made(large).expect_err("600 MB");
    assert!(status == 413 && why.contains("have more than 48 MiB"), "{status} {why}");
}

#[test]
fn an_end_by_key_is_a_clients_own_and_no_other_alerts() {
    let matcher =
        ams2_core::matcher::Matcher::parse("site = boston").and_then(|m| m.compile(&Default::default()));
    let allow = vec![matcher.expect("right")];
    let client = KnownClient {
        name: "boston".into(),
        token: None,
        uid: None,
        allow,
        may: vec![Right::Send],
        enrol: false,
    };
    let clients = Clients { known: vec![client], ..Clients::default() };
    let settings = Settings { clients: Arc::new(clients), ..settings() };
    let rules =
        "[{key: '{{ key }}', state: '{{ status }}', labels: {event: '{{ event }}', site: '{{ site }}'}}]";
    let made = |body: Node| done(rules, body, &settings, Some("boston"));
    let over = made(serde_json::json!({"key": "k", "status": "ok", "event": "A", "site": "austin"}))
        .expect("its own");
    assert_eq!(
        shown(over.batch.alert(0).expect("one"), Wall(1_795_599_999_000)),
        "inbound=own key=own/k / until now key own/k"
    );
    let over = made(serde_json::json!({"key": "k", "status": "ok", "event": "A", "site": "boston"}))
        .expect("allowed");
    assert_eq!(over.batch.alert(0).expect("one").label("event"), "A");
    for wrong in [r#"{"key": "k", "event": "A"}"#, r#"{"status": "ok", "event": "A"}"#] {
        let body = serde_json::from_str(wrong).expect("JSON");
        assert_eq!(made(body).expect_err(wrong).0, 403, "{wrong}");
    }
}

#[test]
fn every_hook_has_its_own_keys() {
    let over = serde_json::json!({"key": "k", "status": "ok", "event": "A"});
    let rules = "[{key: '{{ key }}', labels: {event: '{{ event }}'}}]";
    let own = done(rules, over.clone(), &settings(), None).expect("one");
    let hooks = Hooks(vec![builtin("json").expect("ours")]);
    let meant = hooks.find(&Method::POST, "/in/json").expect("it is taken");
    let theirs = work(&meant, "", over, Wall(0)).done(&settings(), None).expect("one");
    let key = |done: &Done| done.batch.alert(0).and_then(|alert| alert.key().map(str::to_owned));
    assert_eq!((key(&own).as_deref(), key(&theirs).as_deref()), (Some("own/k"), Some("json/k")));
}

#[test]
fn a_path_beside_a_hooks_own_is_known_for_it() {
    let hooks = Hooks(vec![builtin("opsgenie").expect("ours")]);
    for (path, is_beside) in [
        ("/v2/alerts/abc/notes", true),
        ("/v2/alerts", true),
        ("/v2/heartbeats", true),
        ("/v2/schedules", false),
        ("/api/v2/alerts", false),
        ("/", false),
    ] {
        assert_eq!(hooks.beside(path).is_some(), is_beside, "{path}");
    }
}
