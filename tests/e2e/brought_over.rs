//! Files of Alertmanager, of different shapes: `amtool` takes each, it is imported with a report and checked, and
//! `serve --alertmanager-config` tells what it promises. The far ends are ours and Debian's postfix.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use serde_json::{Value, json};

use super::{
    harness::*,
    postfix::Postfix,
    webhook::{Asked, Sink},
};

/// One of the files, run with its far ends here.
struct Brought {
    /// Of the alerts of the test: every message of them has one.
    names: &'static [&'static str],
    sink: Sink,
    site: Site,
    server: Server,
}

/// What the services answer.
fn answer(_: usize, asked: &Asked) -> (u16, String) {
    match asked.path.split('/').nth(1) {
        Some("slack") => (200, "ok".into()),
        Some("pagerduty" | "opsgenie") => {
            (202, r#"{"status":"success","result":"Request will be processed"}"#.into())
        }
        Some("telegram") => (200, r#"{"ok":true,"result":{"message_id":7}}"#.into()),
        Some("victorops") => (200, r#"{"result":"success"}"#.into()),
        Some("discord") => (200, r#"{"id":"1","type":0}"#.into()),
        Some("webex") => (200, r#"{"id":"m","roomType":"group"}"#.into()),
        _ => (200, String::new()),
    }
}

impl Brought {
    /// Imports and checks the file, and serves it. `report` is what is other than there: line, fate and setting.
    #[track_caller]
    fn new(
        name: &str,
        names: &'static [&'static str],
        mail: Option<&Postfix>,
        report: &[(u64, &str, &str)],
    ) -> Brought {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/alertmanager");
        let mut amtool = Command::new("amtool");
        clean(&mut amtool);
        run(amtool.arg("check-config").arg(folder.join(name))).ends(0);
        let (sink, site) = (Sink::start(answer), Site::new(""));
        let text = fs::read_to_string(folder.join(name)).expect("readable");
        let text = text.replace("far.example.com:8080", &sink.address.to_string());
        let port = mail.map_or(25, |mail| mail.port);
        let config = site.path().join("alertmanager.yml");
        fs::write(&config, text.replace("mail.example.com:2525", &format!("127.0.0.1:{port}")))
            .expect("written");
        fs::create_dir(site.path().join("templates")).expect("made");
        for file in fs::read_dir(folder.join("templates")).expect("readable") {
            let file = file.expect("readable");
            fs::copy(file.path(), site.path().join("templates").join(file.file_name())).expect("copied");
        }
        let mut import = ams2();
        import.current_dir(site.path()).args([
            "import",
            "alertmanager",
            "--report",
            "json",
            "--output",
            "ams2.yaml",
        ]);
        let any_impossible = report.iter().any(|(_, fate, _)| *fate == "impossible");
        let ran = run(import.arg(&config)).ends(i32::from(any_impossible));
        // Files that it wrote are named before the report.
        let json = ran.stderr.find('[').map_or("", |start| &ran.stderr[start..]);
        let entries: Value =
            serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {}", ran.stderr));
        let entries = entries.as_array().into_iter().flatten();
        let found: Vec<(u64, &str, &str)> = entries
            .map(|entry| {
                let text = |key: &str| entry[key].as_str().unwrap_or_default();
                (entry["line"].as_u64().unwrap_or(0), text("fate"), text("setting"))
            })
            .collect();
        assert_eq!(found, report, "{}", ran.stderr);
        run(ams2().current_dir(site.path()).args(["check", "ams2.yaml"])).ends(0);
        let mut command = ams2();
        command.args(["serve", "--listen", "127.0.0.1:0", "--alertmanager-config"]);
        let server = site.start_as({
            command.arg(&config).arg("--data").arg(site.data());
            command
        });
        // The same report is in the log, a warning for each of its lines.
        let log = site.log();
        let warned: Vec<&str> =
            log.lines().filter(|line| line.contains("WARN") && line.contains(" setting=")).collect();
        assert_eq!(warned.len(), report.len(), "{warned:#?}");
        for ((line, fate, setting), warned) in report.iter().zip(warned) {
            for part in [format!("line={line}"), format!("setting={setting}"), format!("fate={fate}")] {
                let is_there = warned.split_whitespace().any(|word| word.eq_ignore_ascii_case(&part));
                assert!(is_there, "{part}: {warned}");
            }
        }
        Brought { names, sink, site, server }
    }

    /// Posts alerts by Alertmanager's API: labels, and annotations.
    #[track_caller]
    fn post(&self, alerts: &[(Value, Value)], ended: bool) {
        let alert = |(labels, annotations): &(Value, Value)| {
            let mut alert = json!({ "labels": labels, "annotations": annotations });
            if ended {
                alert["endsAt"] = json!(jiff::Timestamp::now().to_string());
            }
            alert
        };
        let body: Value = alerts.iter().map(alert).collect();
        self.server.call("POST", "/api/v2/alerts", &body.to_string()).is(200);
    }

    /// What came to this path about alerts of the test: what ams2 says of itself goes by the same routes.
    fn at(&self, path: &str) -> Vec<Value> {
        let is_ours = |asked: &Asked| self.names.iter().any(|name| asked.body.contains(name));
        self.sink.at(path).iter().filter(|asked| is_ours(asked)).map(Asked::json).collect()
    }

    /// The n-th request to the path, counted from 1.
    #[track_caller]
    fn nth(&self, path: &str, number: usize) -> Value {
        let deadline = std::time::Instant::now() + DEADLINE;
        loop {
            if let Some(found) = self.at(path).into_iter().nth(number - 1) {
                return found;
            }
            let came = || -> Vec<_> {
                self.sink.since(0).into_iter().map(|asked| format!("{} {}", asked.path, asked.body)).collect()
            };
            assert!(
                std::time::Instant::now() < deadline,
                "no request {number} to {path}\n{}\n{:#?}",
                self.site.log(),
                came()
            );
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until nothing waits to be told, and counts what was told to each path.
    #[track_caller]
    fn counts(&self, expected: &[(&str, usize)]) {
        self.server.until_quiet();
        let found: Vec<(&str, usize)> =
            expected.iter().map(|(path, _)| (*path, self.at(path).len())).collect();
        assert_eq!(found, expected);
    }
}

/// The dedup key that Alertmanager makes of a group key.
fn hashed(key: &str) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect()
}

const SLACK: &str = "/slack/services/T00000000/B00000000/notsecret";

#[test]
fn a_small_team_reads_in_slack_and_is_called_by_pagerduty() {
    let brought = Brought::new("small-team.yml", &["DiskFull"], None, &[]);
    let alert = |severity: &str, instance: &str| {
        let labels =
            json!({ "alertname": "DiskFull", "job": "node", "severity": severity, "instance": instance });
        (
            labels,
            json!({ "summary": format!("{instance} has no room"), "runbook_url": "http://wiki.example.com/disk" }),
        )
    };
    let alerts = [alert("page", "db-1"), alert("page", "db-2"), alert("ticket", "web-1")];
    brought.post(&alerts, false);
    // The ticket is held back by the page for the same.
    let slack = brought.nth(SLACK, 1);
    let shown = &slack["attachments"][0];
    assert_eq!((&slack["username"], &slack["icon_emoji"]), (&json!("lookout"), &json!(":owl:")));
    assert_eq!(shown["title"], "FIRING (2) DiskFull");
    assert_eq!(shown["title_link"], "http://wiki.example.com/alerts/DiskFull");
    assert_eq!(shown["color"], "danger");
    assert_eq!(shown["text"], "• db-1: db-1 has no room\n• db-2: db-2 has no room\n");
    let page = brought.nth("/pagerduty/v2/enqueue", 1);
    assert_eq!((&page["event_action"], &page["routing_key"]), (&json!("trigger"), &json!("0".repeat(32))));
    assert_eq!(page["dedup_key"], hashed(r#"{}/{severity="page"}:{alertname="DiskFull", job="node"}"#));
    assert_eq!(page["payload"]["summary"], "DiskFull on db-1, db-2");
    assert_eq!(
        (&page["payload"]["severity"], &page["payload"]["class"]),
        (&json!("critical"), &json!("node"))
    );
    let more = &page["payload"]["custom_details"]["more"];
    assert_eq!(*more, json!({ "runbook": "http://wiki.example.com/disk", "firing": "2" }));
    brought.post(&alerts[..2], true);
    assert_eq!(brought.nth("/pagerduty/v2/enqueue", 2)["event_action"], "resolve");
    // When the page is over, the ticket is left.
    let left = brought.nth(SLACK, 2)["attachments"][0].clone();
    assert_eq!((&left["color"], &left["title"]), (&json!("warning"), &json!("FIRING (1) DiskFull")));
    brought.post(&alerts[2..], true);
    assert_eq!(brought.nth(SLACK, 3)["attachments"][0]["color"], "good");
    brought.counts(&[(SLACK, 3), ("/pagerduty/v2/enqueue", 2)]);
}

#[test]
fn a_cluster_is_watched_as_its_monitoring_stack_means_it() {
    let brought = Brought::new("kubernetes.yml", &["PodDown", "Watchdog", "EtcdDown", "NodeSlow"], None, &[]);
    let alert = |name: &str, namespace: &str, severity: &str| {
        let labels =
            json!({ "alertname": name, "namespace": namespace, "severity": severity, "prometheus": "k8s" });
        (labels, json!({ "summary": format!("{name} in {namespace}") }))
    };
    brought.post(
        &[
            alert("Watchdog", "monitoring", "none"),
            alert("PodDown", "shop", "critical"),
            alert("PodDown", "shop", "warning"),
            alert("PodSlow", "shop", "warning"),
            alert("LowTraffic", "quiet", "info"),
            alert("InfoInhibitor", "quiet", "none"),
            alert("EtcdDown", "kube-system", "critical"),
            alert("NodeSlow", "kube-system", "warning"),
            alert("CPUThrottlingHigh", "kube-system", "info"),
        ],
        false,
    );
    let names = |body: &Value| -> Vec<String> {
        let alerts = body["alerts"].as_array().into_iter().flatten();
        let shown =
            |alert: &Value| format!("{}/{}", alert["labels"]["alertname"], alert["labels"]["severity"]);
        alerts.map(|alert| shown(alert).replace('"', "")).collect()
    };
    let shop = brought.nth("/bridge/default", 1);
    assert_eq!(shop["groupKey"], r#"{}:{namespace="shop"}"#);
    assert_eq!(names(&shop), ["PodDown/critical", "PodSlow/warning"]);
    assert_eq!(shop["commonLabels"], json!({ "namespace": "shop", "prometheus": "k8s" }));
    assert_eq!(names(&brought.nth("/bridge/cluster", 1)), ["NodeSlow/warning"]);
    let basic = brought.sink.nth("/bridge/cluster", 1);
    assert_eq!(basic.header("authorization"), Some("Basic YWxlcnRzOm5vdC1hLXNlY3JldA=="));
    assert_eq!(names(&brought.nth("/bridge/cluster-critical", 1)), ["EtcdDown/critical"]);
    let page = brought.nth("/pagerduty/v2/enqueue", 1);
    assert_eq!(
        (&page["payload"]["component"], &page["event_action"]),
        (&json!("kube-system"), &json!("trigger"))
    );
    // The watchdog is told again and again.
    brought.nth("/deadman/ping", 3);
    assert_eq!(brought.sink.nth("/deadman/ping", 1).header("authorization"), Some("Bearer not-a-secret"));
    brought.post(&[alert("EtcdDown", "kube-system", "critical")], true);
    let page_over = brought.nth("/pagerduty/v2/enqueue", 2);
    assert_eq!(
        (&page_over["event_action"], &page_over["dedup_key"]),
        (&json!("resolve"), &page["dedup_key"])
    );
    assert_eq!(brought.nth("/bridge/cluster-critical", 2)["status"], "resolved");
    brought.counts(&[("/bridge/default", 1), ("/bridge/cluster", 1), ("/bridge/cluster-critical", 2)]);
}

#[test]
fn every_team_of_a_large_organisation_is_told_what_is_its_own() {
    let brought = Brought::new(
        "organisation.yml",
        &["Declined", "DiskDead", "JobLate", "Stray", "ClusterUnreachable", "cards"],
        None,
        &[],
    );
    let alert = |labels: Value| (labels, json!({ "summary": "it is bad" }));
    let declined = |region: &str, severity: &str| {
        alert(
            json!({ "alertname": "Declined", "team": "payments", "service": "cards", "region": region, "severity": severity }),
        )
    };
    let storage = |environment: &str, severity: &str| {
        alert(
            json!({ "alertname": "DiskDead", "team": "storage", "cluster": "c2", "environment": environment, "severity": severity }),
        )
    };
    let batch = |job: &str| alert(json!({ "alertname": "JobLate", "team": "batch", "job": job }));
    brought.post(
        &[
            declined("eu-west", "critical"),
            declined("eu-west", "major"),
            declined("us-east", "warning"),
            declined("us-east", "info"),
            storage("prod", "critical"),
            storage("prod", "warning"),
            storage("dev", "critical"),
            batch("nightly-copy"),
            batch("hourly-copy"),
            alert(json!({ "alertname": "Stray" })),
        ],
        false,
    );
    let eu = brought.nth("/eu", 1);
    let key = r#"{}/{team="payments"}/{region=~"^(?:eu-.*)$",severity=~"^(?:critical|major)$"}:{region="eu-west", service="cards"}"#;
    assert_eq!((&eu["groupKey"], &eu["receiver"]), (&json!(key), &json!("payments-eu")));
    let pages = [brought.nth("/opsgenie/v2/alerts", 1), brought.nth("/opsgenie/v2/alerts", 2)];
    let find = |message: &str| pages.iter().position(|page| page["message"] == message).expect(message);
    let (cards, disk) = (find("cards in eu-west"), find("storage: DiskDead"));
    assert_eq!(pages[cards]["priority"], "P1");
    let key =
        r#"{}/{team="payments"}/{severity=~"^(?:critical|major)$"}:{region="eu-west", service="cards"}"#;
    assert_eq!(pages[cards]["alias"], hashed(key));
    let authorization = |number: usize| {
        brought.sink.nth("/opsgenie/v2/alerts", number + 1).header("authorization").map(str::to_owned)
    };
    assert_eq!(authorization(cards).as_deref(), Some("GenieKey 11111111-2222-3333-4444-555555555555"));
    assert_eq!(authorization(disk).as_deref(), Some("GenieKey 22222222-2222-3333-4444-555555555555"));
    const SLACK: &str = "/slack/services/T1/B1/notsecret";
    brought.nth(SLACK, 4);
    let mut chats: Vec<(Value, Value)> = brought
        .at(SLACK)
        .into_iter()
        .map(|chat| (chat["channel"].clone(), chat["attachments"][0]["title"].clone()))
        .collect();
    chats.sort_by_key(|(channel, title)| format!("{channel}{title}"));
    let unowned = |name: &str| (json!("#unowned"), json!(format!("nobody owns {name}")));
    assert_eq!(chats[2..], [unowned("DiskDead"), unowned("Stray")]);
    assert_eq!([&chats[0].0, &chats[1].0], ["#payments", "#storage"]);
    assert_eq!(brought.nth("/batch", 1)["commonLabels"]["job"], "hourly-copy");
    // All that is not held back is on record, each by itself.
    let audit = [1, 2, 3, 4, 5, 6, 7, 8, 9].map(|number| brought.nth("/audit", number));
    assert!(
        audit.iter().all(|body| body["alerts"].as_array().is_some_and(|alerts| alerts.len() == 1)),
        "{audit:#?}"
    );
    // A cluster that is away explains all that is owned in it.
    let away = alert(json!({ "alertname": "ClusterUnreachable", "cluster": "c2" }));
    brought.post(&[away, storage("staging", "critical")], false);
    brought.nth("/audit", 10);
    brought.nth(SLACK, 5);
    brought.counts(&[
        ("/audit", 10),
        (SLACK, 5),
        ("/opsgenie/v2/alerts", 2),
        ("/eu", 1),
        ("/batch", 1),
        ("/batch-night", 0),
    ]);
}

#[test]
fn a_house_that_lives_by_mail_gets_its_own_words() {
    let postfix = Postfix::start();
    let brought = Brought::new(
        "mail.yml",
        &["DiskFull"],
        Some(&postfix),
        // An attribute of a tag, where Go would also look for scripts.
        &[(31, "approximated", "receivers[0].email_configs[0].html")],
    );
    let alert = |severity: &str, instance: &str| {
        let labels =
            json!({ "alertname": "DiskFull", "site": "boston", "severity": severity, "instance": instance });
        (labels, json!({ "summary": "3 % <left>" }))
    };
    let alerts = [
        alert("warning", "a:9100"),
        alert("warning", "b:9100"),
        alert("critical", "c:9100"),
        alert("info", "d:9100"),
    ];
    brought.post(&alerts, false);
    let ticket = brought.nth("/tickets", 1);
    assert_eq!((&ticket["version"], &ticket["receiver"]), (&json!("4"), &json!("duty")));
    assert_eq!(brought.sink.nth("/tickets", 1).header("authorization"), Some("Bearer not-a-secret"));
    let about = |subject: &str, count: usize| {
        until(&format!("{count} mails {subject:?}; {}", brought.site.log()), || {
            let mails = postfix.mails().into_iter();
            let found: Vec<_> = mails.filter(|mail| mail.header("subject") == subject).collect();
            (found.len() == count).then_some(found)
        })
    };
    let mail = about("[2] DiskFull at Boston", 1).remove(0);
    assert_eq!((mail.recipient(), mail.header("x-site")), ("operators@example.com", "boston"));
    assert_eq!(mail.header("from"), "Monitoring <monitoring@example.com>");
    let text = "These fire:\n  a:9100: 3 % <left>\n  b:9100: 3 % <left>\n";
    assert!(mail.text.replace("\r\n", "\n").starts_with(text), "{:?}", mail.text);
    assert!(mail.text.contains("alertname=DiskFull severity=warning site=boston"), "{:?}", mail.text);
    for words in [
        "<h1>[2] DiskFull at Boston</h1>",
        "<li class=\"firing\">a:9100: 3 % &lt;left&gt;</li>",
        "common: alertname, severity, site, of a site with b",
    ] {
        assert!(mail.html.contains(words), "{words}: {}", mail.html);
    }
    let duty = about("DUTY: [1] DiskFull at Boston", 2);
    let mut to: Vec<&str> = duty.iter().map(|mail| mail.recipient()).collect();
    to.sort_unstable();
    assert_eq!(to, ["chief@example.com", "duty@example.com"]);
    assert!(
        duty.iter().all(|mail| mail.html.is_empty() && mail.header("from") == "duty@example.com"),
        "{duty:?}"
    );
    assert_eq!(duty[0].header("reply-to"), "operators@example.com");
    let digests = || {
        let mails = postfix.mails().into_iter();
        mails
            .filter(|mail| mail.recipient() == "digest@example.com" && mail.text.contains("DiskFull"))
            .count()
    };
    until_true("the digest has its mail", || digests() == 1);
    brought.post(&alerts, true);
    let over = about("[over] DiskFull at Boston", 1).remove(0);
    assert!(over.text.contains("These are over:"), "{:?}", over.text);
    assert_eq!(brought.nth("/tickets", 2)["status"], "resolved");
    brought.counts(&[("/tickets", 2)]);
    // Ends are told to those who asked for them.
    assert_eq!((digests(), about("DUTY: [1] DiskFull at Boston", 2).len()), (1, 2));
}

#[test]
fn every_service_gets_what_it_takes() {
    let brought = Brought::new("services.yml", &["DiskFull", "db-1", "no room"], None, &[]);
    let alert = |customer: &str| {
        let labels = json!({ "alertname": "DiskFull", "customer": customer, "instance": "db-1" });
        (labels, json!({ "summary": format!("{customer} has no room"), "description": "at all" }))
    };
    let customers = ["acorn", "birch", "cedar", "dogwood", "elm", "fir", "oak"];
    let alerts = customers.map(alert);
    brought.post(&alerts, false);
    let opsgenie = brought.nth("/opsgenie/v2/alerts", 1);
    assert_eq!((&opsgenie["priority"], &opsgenie["description"]), (&json!("P2"), &json!("at all")));
    assert_eq!(opsgenie["message"], "[FIRING:1] DiskFull acorn (db-1)");
    assert_eq!(opsgenie["tags"], json!(["provider", "acorn"]));
    assert_eq!(opsgenie["details"], json!({ "instance": "db-1" }));
    let alias = hashed(r#"{}/{customer="acorn"}:{alertname="DiskFull", customer="acorn"}"#);
    assert_eq!(opsgenie["alias"], json!(alias));
    let victorops = brought.nth("/victorops/alert/not-a-secret/birch", 1);
    assert_eq!(victorops["message_type"], "WARNING");
    assert_eq!(victorops["entity_display_name"], "birch has no room");
    let now = jiff::Timestamp::now();
    let dates = [now, now - jiff::SignedDuration::from_mins(10)]
        .map(|time| json!(format!("db-1 since {}", &time.to_string()[..10])));
    assert!(dates.contains(&victorops["state_message"]), "{victorops}");
    let telegram = brought.nth("/telegram/bot123456:not-a-secret/sendMessage", 1);
    assert_eq!(
        (&telegram["chat_id"], &telegram["disable_notification"]),
        (&json!("-1001234567890"), &json!(true))
    );
    assert_eq!(telegram["text"], "🔥 DiskFull\ncedar has no room\n");
    let discord = brought.nth("/discord/api/webhooks/1/not-a-secret?wait=true", 1);
    let embed = &discord["embeds"][0];
    assert_eq!(
        (&embed["title"], &embed["description"]),
        (&json!("DiskFull is firing"), &json!("1 of dogwood"))
    );
    let webex = brought.nth("/webex/v1/messages", 1);
    assert_eq!(
        (&webex["roomId"], &webex["markdown"]),
        (&json!("Y2lzY29zcGFyazovL3VzL1JPT00"), &json!("**DiskFull** firing"))
    );
    assert_eq!(brought.nth("/hook", 1)["commonLabels"]["customer"], "oak");
    assert_eq!(brought.nth("/several", 1)["commonLabels"]["customer"], "fir");
    assert_eq!(brought.nth("/pagerduty", 1)["event_action"], "trigger");
    assert_eq!(brought.nth("/victorops/alert/not-a-secret/several", 1)["message_type"], "CRITICAL");
    brought.post(&alerts, true);
    brought.nth(&format!("/opsgenie/v2/alerts/{alias}/close?identifierType=alias"), 1);
    assert_eq!(brought.nth("/victorops/alert/not-a-secret/birch", 2)["message_type"], "RECOVERY");
    assert_eq!(
        brought.nth("/telegram/bot123456:not-a-secret/sendMessage", 2)["text"],
        "✅ DiskFull\ncedar has no room\n"
    );
    assert_eq!(brought.nth("/pagerduty", 2)["event_action"], "resolve");
    assert_eq!(brought.nth("/hook", 2)["status"], "resolved");
    assert_eq!(brought.nth("/webex/v1/messages", 2)["markdown"], "**DiskFull** resolved");
    let discord = brought.nth("/discord/api/webhooks/1/not-a-secret?wait=true", 2);
    assert_eq!(discord["embeds"][0]["title"], "DiskFull is resolved");
    brought.counts(&[("/several", 1), ("/hook", 2), ("/pagerduty", 2)]);
}

/// A file of a secret that is away for a moment costs no action that runs.
#[test]
fn a_reload_without_the_file_of_a_secret_leaves_no_action_out() {
    let (sink, site) = (Sink::start(answer), Site::new(""));
    let (config, secret) = (site.path().join("alertmanager.yml"), site.path().join("url"));
    let text = "route: {receiver: hook, group_by: [alertname], group_wait: 0s}\nreceivers: [{name: hook, webhook_configs: [{url_file: url}]}]\n";
    fs::write(&config, text).expect("written");
    fs::write(&secret, format!("http://{}/hook", sink.address)).expect("written");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("set");
    let mut command = ams2();
    command.args(["serve", "--listen", "127.0.0.1:0", "--alertmanager-config"]);
    command.arg(&config).arg("--data").arg(site.data());
    let server = site.start_as(command);
    fs::rename(&secret, site.path().join("away")).expect("moved");
    let refused = server.call("POST", "/-/reload", "");
    assert!(refused.status >= 400 && refused.text().contains("cannot be read"), "{}", refused.text());
    let alert = json!([{ "labels": { "alertname": "DiskFull" } }]);
    server.call("POST", "/api/v2/alerts", &alert.to_string()).is(200);
    until_true("it is told", || sink.at("/hook").iter().any(|asked| asked.body.contains("DiskFull")));
    fs::rename(site.path().join("away"), &secret).expect("moved back");
    server.call("POST", "/-/reload", "").is(200);
}

/// Whatever Alertmanager starts with starts here: a receiver with something that we cannot do is reported, and all others are told.
#[test]
fn a_receiver_that_cannot_run_stops_nobody() {
    // Whether Debian's amtool knows the kind, what `global` says, the receiver, and what is reported: where, and what became of it.
    let rows = [
        (
            true,
            "",
            "pagerduty_configs: [{service_key: k}]",
            "pagerduty_configs[0].service_key",
            "Approximated",
        ),
        (
            true,
            "smtp_smarthost: 'mail.example.com:25', smtp_from: a@example.com",
            "email_configs: [{to: '{{ .CommonLabels.owner }}'}]",
            "email_configs[0]",
            "Impossible",
        ),
        (false, "", "incidentio_configs: [{url: 'http://h/i'}]", "incidentio_configs[0]", "Impossible"),
        (
            false,
            "rocketchat_token: t, rocketchat_token_id: i",
            "rocketchat_configs: [{channel: '#c', color: '{{ .None }}'}, {}]",
            "rocketchat_configs[1]",
            "Impossible",
        ),
        (
            false,
            "mattermost_webhook_url_file: missing",
            "mattermost_configs: [{}]",
            "mattermost_configs[0]",
            "Impossible",
        ),
        (
            true,
            "slack_api_url_file: missing",
            "slack_configs: [{channel: '#c'}]",
            "slack_configs[0]",
            "Impossible",
        ),
    ];
    for (is_known, global, receiver, setting, fate) in rows {
        let (sink, site) = (Sink::start(answer), Site::new(""));
        let config = site.path().join("alertmanager.yml");
        let text = format!(
            "global: {{{global}}}\nroute: {{receiver: team/hook, group_by: [alertname], group_wait: 0s, routes: [{{matchers: [team=other], receiver: other}}]}}\nreceivers:\n- name: team/hook\n  webhook_configs: [{{url: 'http://{}/hook'}}]\n  {receiver}\n- name: other\n  {receiver}\n",
            sink.address
        );
        fs::write(&config, text).expect("written");
        if is_known {
            let mut amtool = Command::new("amtool");
            clean(&mut amtool);
            run(amtool.arg("check-config").arg(&config)).ends(0);
        }
        let mut command = ams2();
        command.args(["serve", "--listen", "127.0.0.1:0", "--alertmanager-config"]);
        command.arg(&config).arg("--data").arg(site.data());
        let server = site.start_as(command);
        let log = site.log();
        // Who is told nothing needs somebody to act.
        let level = if fate == "Impossible" { "ERROR" } else { "WARN" };
        for receiver in ["receivers[0]", "receivers[1]"] {
            let words = [format!("setting={receiver}.{setting} "), format!("fate={fate}")];
            let is_it = |line: &&str| words.iter().all(|word| line.contains(word.as_str()));
            assert!(
                log.lines().filter(|line| line.contains(level)).any(|line| is_it(&line)),
                "{words:?}\n{log}"
            );
        }
        let alert = json!([{ "labels": { "alertname": "DiskFull" } }]);
        server.call("POST", "/api/v2/alerts", &alert.to_string()).is(200);
        let told = || sink.at("/hook").iter().any(|asked| asked.body.contains("DiskFull"));
        until_true(&format!("{receiver}: the others are told"), told);
    }
}

/// Ours in Alertmanager's words: Debian's `amtool` finds it right and takes the same ways, and the status shows the same.
#[test]
fn what_is_exported_is_what_amtool_reads_and_what_the_status_shows() {
    const OURS: &str = r#"
originator: { http: { listen: 127.0.0.1:0 }, socket: false }
receivers:
  - name: ops
    actions: [{ event_log: { to: file, path: ops.log } }]
  - { name: db/night }
  - { name: each }
route:
  receiver: ops
  group_by: [alertname]
  routes:
    - { receiver: db/night, matchers: ['team=~"db.*"', 'severity >= major'], group_by: [], active_time_intervals: [nights] }
    - { receiver: each, matchers: [kind=single], notify: each, continue: true }
    - { receiver: db/night, matchers: ['foo >= 1', team!=web] }
time_intervals:
  - name: nights
    time_intervals: [{ times: [{ start_time: "20:00", end_time: "06:00" }], location: America/New_York }]
inhibit_rules:
  - { source_matchers: ['event = "Branch Offline"'], target_matchers: ['severity <= major'], equal: [site] }
"#;
    let site = Site::new(OURS);
    let server = site.start();
    let exported = run(ams2().args(["export", "alertmanager"]).arg(site.config())).ends(0);
    let status = server.get("/api/v2/status").json();
    let original = status["config"]["original"].as_str().expect("text");
    assert_eq!(original.trim_end(), exported.stdout.trim_end());
    // The count stands in both, and each of them is named.
    let named = exported.stderr.lines().filter(|line| line.starts_with("in the nearest form, or left out: "));
    let count = named.count();
    assert!(count >= 4, "{}", exported.stderr);
    assert!(
        exported.stderr.contains(&format!("{count} settings in the nearest form, or left out\n")),
        "{}",
        exported.stderr
    );
    assert!(original.starts_with(&format!("# {count} settings in the nearest form")), "{original}");
    assert!(original.contains("group_by: []"), "{original}");
    let file = site.path().join("exported.yml");
    fs::write(&file, &exported.stdout).expect("written");
    let amtool = |arguments: &[&str]| {
        let mut amtool = Command::new("amtool");
        clean(&mut amtool);
        run(amtool.args(arguments))
    };
    let path = file.to_str().expect("UTF-8");
    let checked = amtool(&["check-config", path]).ends(0);
    assert!(
        checked.stdout.contains("3 receivers") && checked.stdout.contains("1 inhibit rules"),
        "{}",
        checked.stdout
    );
    let rows: [(&[&str], &str); 6] = [
        (&["team=db1", "severity=critical"], "db/night"),
        (&["team=db1", "severity=fatal"], "db/night"),
        (&["team=db1", "severity=minor"], "ops"),
        (&["kind=single"], "each"),
        (&["kind=single", "foo=2"], "each,db/night"),
        (&["team=web"], "ops"),
    ];
    for (labels, receivers) in rows {
        let options = ["config", "routes", "test", "--config.file", path];
        let ran = amtool(&[&options[..], labels].concat()).ends(0);
        assert_eq!(ran.stdout.trim(), receivers, "{labels:?}");
    }
}
