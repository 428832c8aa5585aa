//! Every service against a mock of its documented answers, and strangers' alerts through every service.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ams2_core::{Wall, input::FailureKind};
use serde_json::{Value as Json, json};

use super::{
    file::{Example, Format, Means, Type},
    *,
};
use crate::{
    Action, ActionSettings, BuildContext, Failure, Receipt, sample,
    webhook::mock::{Asked, Server, answer},
};

mod jira;
mod sns;
mod wechat;

const AMPLE: Duration = Duration::from_secs(30);

fn build(text: &str) -> Box<dyn Action> {
    let settings: ActionSettings =
        serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let context = BuildContext {
        clock: Arc::new(|| Wall(1_795_515_302_000)),
        ..BuildContext::new("/nowhere", Default::default())
    };
    settings.build(&context).unwrap_or_else(|errors| panic!("{text}: {errors:?}"))
}

/// The n-th example of a service's settings, sent to `server`.
fn action(target: &Target, config: usize, server: &Server) -> Box<dyn Action> {
    build(&target.file.config[config].replace("127.0.0.1:9", &server.address.to_string()))
}

async fn tell(action: &dyn Action, delivery: &Delivery) -> Result<Receipt, Failure> {
    action.deliver(std::slice::from_ref(delivery), AMPLE).await.remove(0)
}

fn resolved(delivery: &Delivery) -> Delivery {
    let mut delivery = delivery.clone();
    for group in &mut delivery.groups {
        (group.firing, group.resolved) = (0, group.alerts.len() as u32);
        for alert in &mut group.alerts {
            (alert.firing, alert.ends_at) = (false, Some(Wall(alert.starts_at.0 + 60_000)));
        }
    }
    delivery
}

#[test]
fn every_file_is_whole() {
    for (text, target) in FILES.iter().zip(TARGETS.iter()) {
        let file = &target.file;
        Parts::compile(file).unwrap_or_else(|error| panic!("{}: {error}", file.name));
        assert!(text.starts_with("# "), "{}: the file says first what it is", file.name);
        assert!(
            !file.docs.is_empty() && file.docs.iter().all(|url| url.starts_with("https://")),
            "{}",
            file.name
        );
        assert!(!file.config.is_empty() && !file.resolve.is_empty(), "{}", file.name);
        for setting in &file.settings {
            assert!(
                setting.description.len() > 5 && setting.description.ends_with('.'),
                "{}.{}",
                file.name,
                setting.name
            );
            assert!(!settings::COMMON.contains(&setting.name.as_str()), "{}.{}", file.name, setting.name);
            assert!(!(setting.required && setting.default.is_some()), "{}.{}", file.name, setting.name);
        }
        assert!(file.url.is_some() == file.requests.is_empty(), "{}: one request, or several", file.name);
        let mistaken = file.mistakes.iter().map(|mistake| &mistake.setting);
        for way in file.one_of.iter().flatten().chain(file.escape_with.keys()).chain(mistaken) {
            assert!(file.settings.iter().any(|setting| setting.name == *way), "{}: {way}", file.name);
        }
        let means = |wanted| file.examples.iter().any(|example: &Example| example.means == wanted);
        assert!(means(Means::Done) && means(Means::Retry) && means(Means::Refused), "{}", file.name);
        assert!(file.examples.iter().any(|example| example.status == 429), "{}", file.name);
    }
}

/// Whether a request is one that an answer is for: its method, and a part of its path.
fn is_to(to: &str, asked: &Asked) -> bool {
    to.split_once(' ').is_some_and(|(method, part)| asked.method == method && asked.path.contains(part))
}

/// A service that gives the answer of an example, and those that its file has for the requests before it.
async fn serve(target: &'static Target, example: &'static Example) -> Server {
    Server::start(move |_, asked| {
        let mock = target.file.mock.iter().find(|mock| is_to(&mock.to, asked));
        if example.to.as_ref().map_or(mock.is_none(), |to| is_to(to, asked)) {
            let headers: Vec<(&str, &str)> =
                example.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            return answer(example.status, &headers, &example.body);
        }
        let mock = mock.unwrap_or_else(|| panic!("{}: {} {}", target.file.name, asked.method, asked.path));
        answer(mock.status, &[], &mock.body)
    })
    .await
}

/// The service's documented answers, each as the only one that it gives.
#[tokio::test]
async fn every_documented_answer_means_what_its_file_says() {
    for target in TARGETS.iter() {
        for example in &target.file.examples {
            let row = format!("{}: {} {}", target.file.name, example.status, example.body);
            let server = serve(target, example).await;
            let action = action(target, example.config, &server);
            let told = tell(&*action, &sample::delivery()).await;
            if target.file.mock.is_empty() {
                assert_eq!(server.asked().len(), 1, "{row}");
            }
            match (example.means, told) {
                (Means::Done, Ok(Receipt::Delivered { memo, .. })) => {
                    let memo: Option<BTreeMap<String, Json>> =
                        memo.map(|memo| serde_json::from_slice(&memo).expect("JSON"));
                    assert_eq!(memo, example.memo, "{row}");
                }
                (Means::Retry, Err(failure)) => {
                    assert_ne!(failure.kind, FailureKind::Permanent, "{row}: {}", failure.reason);
                    assert_eq!(failure.retry_after_ms.map(|ms| ms / 1000), example.after, "{row}");
                }
                (Means::Refused, Err(failure)) => {
                    assert_eq!(failure.kind, FailureKind::Permanent, "{row}: {}", failure.reason);
                }
                (means, told) => panic!("{row}: {means:?} became {told:?}"),
            }
        }
    }
}

/// The documented answer that is done, with this example of settings.
fn done(target: &'static Target, config: usize) -> &'static Example {
    let is_done = |example: &&Example| example.means == Means::Done;
    let own = target.file.examples.iter().find(|example| is_done(example) && example.config == config);
    own.or_else(|| target.file.examples.iter().find(is_done)).expect("checked above")
}

/// What a service is asked for when a group begins, goes on and ends, each message with what the one before gave back.
async fn story(target: &'static Target, config: usize) -> Vec<Asked> {
    let server = serve(target, done(target, config)).await;
    let action = action(target, config, &server);
    let mut delivery = sample::delivery();
    let mut other = sample::alert_of(
        &[("computer", "ws-043"), ("event", "Virus Found"), ("severity", "major"), ("site", "boston")],
        &[("summary", "5 > 3 & 2 < 4, *really*: see [here](http://x.example) @everyone")],
    );
    other.severity = Some(ams2_core::Severity::Major);
    for step in 0..3 {
        if step == 1 {
            delivery.groups[0].alerts.push(other.clone());
            (delivery.groups[0].firing, delivery.groups[0].resolved) = (3, 0);
        }
        if step == 2 {
            delivery = resolved(&delivery);
        }
        match tell(&*action, &delivery).await {
            Ok(Receipt::Delivered { memo, .. }) => delivery.memo = memo.or(delivery.memo),
            told => panic!("{}: {told:?}", target.file.name),
        }
    }
    if !target.file.memo.is_empty() {
        assert_eq!(delivery.memo, Some(Vec::new()), "{}: an end is an end", target.file.name);
    }
    server.asked()
}

/// What people are shown, and what services are asked for.
#[tokio::test]
async fn default_messages_read_well() {
    for target in TARGETS.iter() {
        let mut shown = String::new();
        for (config, text) in target.file.config.iter().enumerate() {
            shown.push_str(&format!("=== {text}\n"));
            for asked in story(target, config).await {
                shown.push_str(&format!("\n{} {}\n", asked.method, asked.path));
                // A signature has the port in it.
                let login = asked.header("authorization").and_then(|login| login.split("Signature=").next());
                if let Some(login) = login {
                    shown.push_str(&format!("Authorization: {login}\n"));
                }
                match serde_json::from_slice::<Json>(&asked.body) {
                    Ok(body) => shown.push_str(&serde_json::to_string_pretty(&body).expect("JSON")),
                    Err(_) => shown.push_str(&asked.text().replace('&', "\n&")),
                }
                shown.push('\n');
            }
        }
        insta::assert_snapshot!(format!("message_{}", target.file.name), shown);
    }
}

/// The texts of a body with where each stands, and the characters that stand for themselves.
fn texts(value: &Json, path: &str, found: &mut Vec<(String, String)>) {
    match value {
        Json::String(text) => found.push((path.to_owned(), text.clone())),
        Json::Array(items) => {
            items.iter().enumerate().for_each(|(n, item)| texts(item, &format!("{path}/{n}"), found))
        }
        Json::Object(map) => {
            map.iter().for_each(|(name, item)| texts(item, &format!("{path}/{name}"), found))
        }
        _ => {}
    }
}

/// The places of a body, without those whose names come from labels.
fn shape(asked: &Asked) -> Vec<String> {
    let Ok(body) = serde_json::from_slice::<Json>(&asked.body) else {
        return asked
            .text()
            .split('&')
            .map(|field| field.split('=').next().unwrap_or_default().to_owned())
            .collect();
    };
    let mut found = Vec::new();
    texts(&body, "", &mut found);
    let is_fixed = |path: &String| {
        !["/labels/", "/annotations/", "/details/", "/more/"].iter().any(|part| path.contains(part))
    };
    found.into_iter().map(|(path, _)| path).filter(is_fixed).collect()
}

/// reliability: strangers' text stays inside its strings, mentions nobody, and fits.
#[tokio::test]
async fn a_hostile_alert_stays_inside_its_strings_and_within_the_limits() {
    let nasty = "\"}],\"x\":[{\"y\":\"\\\"\n\r\t\u{0}\u{202e}\u{2028}{{ event }}{% raw %}<!channel><@U1>@everyone @here <b>&lt;*_`~[a](http://x)";
    let huge = "\u{202e}é\"\\{}<".repeat(100_000);
    let mut deliveries = sample::hostile();
    for (text, count) in [(nasty, 20), (&huge, 2)] {
        let alert = sample::alert_of(
            &[("event", text), ("severity", text), ("computer", text), (text, "name")],
            &[("summary", text), ("description", text)],
        );
        let mut delivery = sample::delivery_of(7, vec![alert; count]);
        delivery.groups[0].labels = [("site".into(), text.into())].into();
        delivery.groups[0].key = text.into();
        deliveries.push(delivery);
    }
    for target in TARGETS.iter() {
        let server = serve(target, done(target, 0)).await;
        let action = action(target, 0, &server);
        let plain = sample::alert_of(
            &[("event", "e"), ("severity", "s"), ("computer", "c"), ("n", "name")],
            &[("summary", "s"), ("description", "d")],
        );
        tell(&*action, &sample::delivery_of(7, vec![plain; 20])).await.expect("told");
        let shape_of_plain = shape(&server.asked().pop().expect("asked"));
        for (number, delivery) in deliveries.iter().enumerate() {
            let name = format!("{} {number}", target.file.name);
            for delivery in [delivery.clone(), resolved(delivery)] {
                let told = tell(&*action, &delivery).await;
                assert!(told.is_ok(), "{name}: {told:?}");
                let asked = server.asked().pop().expect("asked");
                assert!(asked.body.len() <= target.file.bytes_max, "{name}: {} bytes", asked.body.len());
                if target.file.format == Format::Json && !asked.body.is_empty() {
                    asked.json();
                }
                assert!(!asked.path.contains(['"', '{', '\n']), "{name}: {}", asked.path);
            }
            if number >= deliveries.len() - 2 {
                let told = tell(&*action, delivery).await;
                assert!(told.is_ok(), "{name}: {told:?}");
                let asked = server.asked().pop().expect("asked");
                assert_eq!(shape(&asked), shape_of_plain, "{name}: a place that nobody made");
                // Metadata is not shown as markup.
                let mut found = Vec::new();
                if target.file.format == Format::Json {
                    texts(&asked.json(), "", &mut found);
                }
                found.retain(|(path, _)| !path.starts_with("/metadata/"));
                let text: String = found.into_iter().map(|(_, text)| text + "\n").collect();
                let escape = target.file.escape;
                if matches!(escape, escape::Escape::Angle | escape::Escape::Lookalike) {
                    assert!(!text.contains("<!") && !text.contains("<@"), "{name}");
                }
                if escape == escape::Escape::Markdown {
                    assert!(!text.contains("@everyone") && !text.contains("@here"), "{name}");
                }
            }
        }
    }
}

#[tokio::test]
async fn an_admins_template_that_fails_or_is_too_long_costs_no_alert() {
    let server = Server::always(202, &[], "").await;
    let told = async |more: &str| {
        let text = format!("pagerduty: {{ routing_key: k, api_url: 'http://{}/', {more} }}", server.address);
        tell(&*build(&text), &sample::delivery()).await.expect(more);
        server.asked().pop().expect("asked").json()
    };
    let body = told("summary: '{{ common_labels.nosuch }}'").await;
    let summary = body["payload"]["summary"].as_str().expect("text");
    assert!(
        summary.starts_with("[FIRING] Virus Found, critical: site=boston (a template failed: undefined"),
        "{summary}"
    );
    let body = told(
        "details: { a: '{{ common_labels.nosuch }}', b: '{{ event }}', c: { d: [1, '{{ severity }}'] } }",
    )
    .await;
    assert_eq!(body["payload"]["custom_details"]["more"]["c"], json!({ "d": [1, "critical"] }));
    assert_eq!(body["payload"]["custom_details"]["more"]["b"], "Virus Found");
    assert!(
        body["payload"]["custom_details"]["more"]["a"].as_str().expect("text").contains("a template failed")
    );
}

#[tokio::test]
async fn html_that_is_too_long_for_telegram_is_sent_as_plain_words() {
    let done = r#"{"ok":true,"result":{"message_id":1}}"#;
    let server = Server::always(200, &[], done).await;
    let told = async |html: &str| {
        let text = format!(
            "telegram: {{ token: '1:x', chat: '-1', html: \"{html}\", api_url: 'http://{}' }}",
            server.address
        );
        let mut delivery = sample::delivery();
        delivery.groups[0].alerts[0].labels[1].1 = "<i>&".into();
        tell(&*build(&text), &delivery).await.expect("told");
        let body = server.asked().pop().expect("asked").json();
        (body["text"].as_str().expect("text").to_owned(), body["parse_mode"].clone())
    };
    assert_eq!(told("<b>{{ event }}</b>").await, ("<b>&lt;i&gt;&amp;</b>".into(), json!("HTML")));
    let (text, mode) = told("<b>{% for i in range(5000) %}x{% endfor %}</b>").await;
    assert!(text.starts_with("[FIRING] <i>&, critical") && mode.is_null(), "{text}");
}

#[tokio::test]
async fn slack_threads_or_changes_its_first_message() {
    let done = r#"{"ok":true,"channel":"C1","ts":"17.1"}"#;
    let server = Server::always(200, &[], done).await;
    let asked = async |more: &str| {
        let text =
            format!("slack: {{ token: x, channel: '#a', api_url: 'http://{}', {more} }}", server.address);
        let delivery =
            Delivery { memo: Some(br#"{"ts":"9.9","channel":"C1"}"#.to_vec()), ..sample::delivery() };
        let told = tell(&*build(&text), &delivery).await;
        let Ok(Receipt::Delivered { memo: Some(memo), .. }) = told else { panic!("{told:?}") };
        assert_eq!(
            serde_json::from_slice::<Json>(&memo).expect("JSON"),
            json!({ "ts": "9.9", "channel": "C1" })
        );
        let asked = server.asked().pop().expect("asked");
        let body = asked.json();
        (asked.path.clone(), body["ts"].clone(), body["thread_ts"].clone(), body["channel"].clone())
    };
    assert_eq!(
        asked("thread: true").await,
        ("/chat.postMessage".into(), json!(null), json!("9.9"), json!("C1"))
    );
    assert_eq!(
        asked("thread: false").await,
        ("/chat.postMessage".into(), json!(null), json!(null), json!("C1"))
    );
    assert_eq!(asked("update: true").await, ("/chat.update".into(), json!("9.9"), json!(null), json!("C1")));
}

#[test]
fn settings_that_are_missing_unknown_or_of_the_wrong_kind_are_named() {
    let read = |text: &str| serde_saphyr::from_str::<ActionSettings>(text).map_err(|error| error.to_string());
    for (text, words) in [
        ("slack: { webhook_ulr: x }", "unknown field `webhook_ulr`, expected one of webhook_url"),
        ("slack: { thread: maybe }", "bool"),
        ("pushover: { retry: 30 }", "expected a duration like 30s"),
        ("ntfy: { tags: x }", "sequence"),
        ("pagerduty: { details: [x] }", "map"),
        ("nosuch: { a: b }", "unknown variant `nosuch`"),
    ] {
        let error = read(text).expect_err(text);
        assert!(error.contains(words), "{text}: {error}");
    }
    for (text, words) in [
        ("slack: {}", "webhook_url: nothing says where to: give `webhook_url`, or `token` with `channel`"),
        ("slack: { token: x }", "channel: `channel` is missing"),
        ("slack: { webhook_url: 'http://h/', token: x, channel: y }", "token: two ways to the same place"),
        ("telegram: { chat: '1' }", "token: `token` is missing"),
        ("discord: { webhook_url: nowhere }", "webhook_url: it is no URL"),
        (
            "discord: { webhook_url: 'http://h/', title: '{{ nosuch }}' }",
            "title: no variable is called `nosuch`",
        ),
        (
            "pagerduty: { routing_key: k, details: { a: { b: '{{ nosuch }}' } } }",
            "details.a: b: no variable is called `nosuch`",
        ),
        (
            "mattermost: { webhook_url: 'http://h/', priority: high }",
            "priority: \"high\" is not one of its values",
        ),
        ("webex: { token: \"a\\nb\", room: r }", "token: control characters"),
        ("slack: { webhook_url: 'http://h/', tls: { ca: x } }", "tls.ca_file"),
    ] {
        let built =
            read(text).expect(text).build(&BuildContext::new("/nowhere", Default::default())).map(drop);
        let found: Vec<String> = built.expect_err(text).iter().map(ToString::to_string).collect();
        assert!(found.iter().any(|mistake| mistake.starts_with(words)), "{text}: {found:?}");
    }
    let shown = format!("{:?}", read("telegram: { token: '12:secret', chat: '1' }"));
    assert!(!shown.contains("secret"), "{shown}");
}

/// The host of a service's own file is never inside, whatever its name leads to; one that the config names may be.
#[tokio::test]
async fn a_services_own_host_is_outside() {
    let mut file: File = serde_saphyr::from_str(FILES[9]).expect("ntfy's");
    file.settings[0].default = Some("http://localhost:9/".into());
    let target: &'static Target = Box::leak(Box::new(Target::new(file)));
    use serde::de::DeserializeSeed as _;
    let settings = Seed(target).deserialize(json!({ "topic": "t" })).expect("settings");
    let action = settings.build(&BuildContext::new("/nowhere", Default::default())).expect("built");
    let failure = tell(&*action, &sample::delivery()).await.expect_err("inside");
    assert!(failure.reason.contains("private, loopback or link-local"), "{}", failure.reason);
    assert!(action.probe(AMPLE).await.expect_err("inside").contains("private"));
}

#[test]
fn a_former_configs_words_go_where_the_newest_says() {
    let read = |text: &str| serde_saphyr::from_str::<ActionSettings>(text).expect(text);
    let old = read("ntfy: { topic: old, title: old, max_alerts: 3 }");
    let new = read("ntfy: { topic: new, title: new, text: new }");
    assert_eq!(new.with_texts_of(&old), read("ntfy: { topic: new, title: old, max_alerts: 3 }"));
    let old = read("victorops: { api_key: old, routing_key: old, title: old }");
    let new = read("victorops: { api_key: new, routing_key: new, title: new }");
    assert_eq!(new.with_texts_of(&old), read("victorops: { api_key: new, routing_key: new, title: old }"));
    assert_eq!(new.with_texts_of(&read("discord: { webhook_url: 'http://h/' }")), new);
}

/// A team that cannot be told from the alert is no reason to tell another.
#[tokio::test]
async fn a_routing_key_that_fails_pages_nobody() {
    let server = Server::always(200, &[], r#"{"result":"success"}"#).await;
    let action = |routing_key: &str| {
        let url = format!("http://{}", server.address);
        build(&format!("victorops: {{ api_key: k, routing_key: \"{routing_key}\", api_url: '{url}' }}"))
    };
    let told = tell(&*action("{{ common_labels.nosuch }}"), &sample::delivery()).await;
    let failure = told.expect_err("nobody to tell");
    assert_eq!(failure.kind, FailureKind::Permanent);
    assert!(failure.reason.starts_with("the template `routing_key` failed"), "{}", failure.reason);
    assert!(server.asked().is_empty());
    tell(&*action("team {{ common_labels.site }}/a"), &sample::delivery()).await.expect("told");
    assert_eq!(server.asked().pop().expect("asked").path, "/k/team%20boston%2Fa");
}

/// Where the documentation lists the services.
const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/webhook.md");
const BEGIN: &str = "<!-- Made from handlers/targets by a test. -->\n";
const END: &str = "<!-- The end of what is made. -->\n";

#[test]
fn the_documentation_lists_every_service_with_its_settings() {
    let mut made = String::new();
    for target in TARGETS.iter() {
        let file = &target.file;
        made.push_str(&format!("\n### `{}`\n\nIt {}. {}\n", file.name, file.summary, file.resolve));
        made.push_str(&format!("The service's own words: {}.\n\n", file.docs.join(", ")));
        made.push_str("| setting | default | what |\n|---|---|---|\n");
        for setting in &file.settings {
            let name = match setting.secret {
                true => format!("`{0}_file`, or `{0}: ${{env:NAME}}`", setting.name),
                false => format!("`{}`", setting.name),
            };
            let is_one_of = file.one_of.iter().flatten().any(|way| *way == setting.name);
            let default = match &setting.default {
                _ if setting.required => "required".into(),
                None if is_one_of => "one way is required".into(),
                None => "none".into(),
                Some(Json::String(text)) if text.contains("severity") => "by severity".to_owned(),
                Some(Json::String(text)) => format!("`{}`", text.replace('\n', "\\n").replace('|', "\\|")),
                Some(Json::Number(seconds)) if setting.kind == Type::Duration => format!("`{seconds}s`"),
                Some(other) => format!("`{other}`"),
            };
            let is_template = setting.kind.is_text() || setting.kind == Type::Address;
            let kind = if is_template { " A template." } else { "" };
            made.push_str(&format!(
                "| {name} | {default} | {}{kind} |\n",
                setting.description.replace('|', "\\|")
            ));
        }
    }
    made.push('\n');
    let text = std::fs::read_to_string(DOCS).expect("readable");
    let (before, rest) = text.split_once(BEGIN).expect("there is a mark");
    let (now, after) = rest.split_once(END).expect("there is a mark");
    if std::env::var_os("AMS2_UPDATE").is_some() {
        std::fs::write(DOCS, format!("{before}{BEGIN}{made}{END}{after}")).expect("written");
    } else {
        assert_eq!(
            now, made,
            "make it again: AMS2_UPDATE=1 cargo nextest run -p ams2-handlers documentation_lists"
        );
    }
}
