//! The files of `config/inbound`: each example gives the alerts and the answer that it says.

use ams2_core::{AlertRef, Wall};
use serde::Deserialize;
use serde_json::Value as Node;

use super::*;

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
            let request = request::beside(&meant.path, &example.query, "generated", "me");
            let fields = request::RequestFields { body: &example.body, request: &request };
            let settings = take::tests::settings();
            let text = serde_json::to_string(&example.body).expect("JSON");
            let mapped = take::tests::mapped_at(&meant, &fields, text.as_bytes(), &settings, now);
            let (status, answer, alerts, acknowledged) = match mapped {
                Ok((batch, more)) => {
                    let answer = &meant.request.answer;
                    // What is over ended a moment ago.
                    let over = Wall(now.0 - 1000);
                    let alerts = batch.iter().map(|alert| shown(alert, over)).collect();
                    let key = more.map(|more| match more {
                        take::More::Acknowledged(acknowledged) => acknowledged.key,
                        take::More::Ping(name) => format!("ping {name}"),
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
