//! Files of different shapes, brought over: what becomes of each setting, and that the result is right.

use super::*;
use crate::config::{Overrides, lines, load_text};

fn brought(text: &str) -> Imported {
    let folder = tempfile::tempdir().expect("a folder");
    import(text, folder.path(), SecretsTo::Variables, true)
        .map_err(|mistakes| lines(&mistakes))
        .unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

/// Brings a file over and reads the result as our configuration.
fn runs(text: &str) -> (Imported, config::Loaded) {
    let imported = brought(text);
    let folder = tempfile::tempdir().expect("a folder");
    let overrides = Overrides { variables: imported.secrets.clone(), ..Overrides::default() };
    let loaded = load_text("f", &imported.text, folder.path(), &overrides);
    let loaded =
        loaded.map_err(|wrong| lines(&wrong.found)).unwrap_or_else(|e| panic!("{e}\n{}", imported.text));
    (imported, loaded)
}

fn fates(imported: &Imported, fate: Fate) -> Vec<(usize, &str)> {
    let entries = imported.report.iter().filter(|entry| entry.fate == fate);
    entries.map(|entry| (entry.line, entry.setting.as_str())).collect()
}

/// A tree of teams with older and newer matchers, as large sites have it.
const TEAMS: &str = r#"global:
  resolve_timeout: 10m
  smtp_smarthost: 'mail.example.org:587'
  smtp_from: 'alerts@example.org'
  smtp_auth_username: alerts
  smtp_auth_password: hunter2
route:
  receiver: default
  group_by: [alertname, cluster]
  group_wait: 45s
  routes:
    - match: { team: db }
      receiver: db
      continue: true
    - match_re: { service: 'foo1|foo2' }
      routes:
        - matchers: [severity="critical", 'env=~"prod.*"']
          receiver: db
          mute_time_intervals: [offhours]
    - matchers: ['foo>=x']
      group_by: ['...']
      labels: { a: b }
receivers:
  - name: default
  - name: db
    email_configs:
      - to: 'a@example.org, b@example.org'
        send_resolved: true
        headers: { Subject: '{{ .CommonLabels.alertname }} {{ .Status | toUpper }}', X-Team: db }
        html: ''
        text: '{{ range .Alerts }}{{ .Labels.instance }} {{ end }}'
time_intervals:
  - name: offhours
    time_intervals:
      - times: [{ start_time: '00:00', end_time: '08:00' }]
        weekdays: ['saturday', 'monday:friday']
        days_of_month: ['1:5', '-3:-1']
        location: Europe/Berlin
inhibit_rules:
  - source_match: { severity: critical }
    target_match_re: { severity: warning|info }
    equal: [alertname]
colour: red
"#;

#[test]
fn routes_rules_times_and_mail_come_over() {
    let (imported, loaded) = runs(TEAMS);
    assert_eq!(fates(&imported, Fate::Impossible), [(22, "routes[2].labels"), (43, "colour")]);
    assert_eq!(fates(&imported, Fate::Approximated), []);
    let core = &loaded.core;
    assert_eq!(core.muting, ams2_core::config::Muting::ALERTMANAGER);
    assert_eq!(core.resolve_timeout_ms, 600_000);
    let routes = &core.route.routes;
    let shown = |route: &ams2_core::config::Route| {
        route.matchers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    };
    assert_eq!(shown(&routes[0]), "team=\"db\"");
    assert!(routes[0].goes_on);
    assert_eq!(
        shown(&routes[1]),
        "service=~\"^(?:foo1|foo2)$\"",
        "anchored twice, as its group key shows it"
    );
    assert_eq!(shown(&routes[1].routes[0]), "severity=\"critical\",env=~\"prod.*\"");
    assert_eq!(shown(&routes[2]), "\"foo>\"=\"x\"", "there is no order operator there");
    assert_eq!(core.inhibit_rules[0].equal, ["alertname"]);
    assert_eq!(core.time_intervals[0].spans[0].weekdays, [(6, 6), (1, 5)]);
    // The mail has its server and login from `global`, and its secret outside of the text.
    assert!(!imported.text.contains("hunter2"), "{}", imported.text);
    assert_eq!(imported.secrets.values().collect::<Vec<_>>(), ["hunter2"]);
    for words in
        ["to: [a@example.org, b@example.org]", "smtp://mail.example.org:587", "html: false", "X-Team: db"]
    {
        assert!(imported.text.contains(words), "{words}\n{}", imported.text);
    }
}

#[test]
fn secrets_go_to_files_where_they_are_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let imported = import(TEAMS, folder.path(), SecretsTo::Folder("secrets".into()), false)
        .map_err(|m| lines(&m))
        .expect("right");
    assert!(imported.text.contains("password_file: secrets/global-password"), "{}", imported.text);
    assert_eq!(imported.secrets.get("global-password").map(String::as_str), Some("hunter2"));
}

#[test]
fn templates_of_files_and_of_the_settings_are_translated() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(
        folder.path().join("site.tmpl"),
        r#"{{ define "site.subject" }}{{ .CommonLabels.site }}: {{ template "__subject" . }}{{ end }}"#,
    )
    .expect("written");
    let text = "templates: ['*.tmpl', 'none/*.tmpl']\nroute: {receiver: r}\nreceivers:\n- name: r\n  email_configs:\n  - {to: a@example.org, from: b@example.org, smarthost: 'localhost:25', headers: {Subject: '{{ template \"site.subject\" . }}'}}\n";
    let imported =
        import(text, folder.path(), SecretsTo::Variables, true).map_err(|m| lines(&m)).expect("right");
    assert_eq!(fates(&imported, Fate::Impossible), []);
    let overrides = Overrides::default();
    load_text("f", &imported.text, folder.path(), &overrides).map_err(|e| lines(&e.found)).expect("right");
    let broken = text.replace("site.subject", "nowhere");
    let imported =
        import(&broken, folder.path(), SecretsTo::Variables, true).map_err(|m| lines(&m)).expect("right");
    assert_eq!(fates(&imported, Fate::Impossible), [(6, "receivers[0].email_configs[0].headers.Subject")]);
}

#[test]
fn what_is_no_configuration_is_said_to_be_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let deep = format!("route: {{receiver: r}}\nreceivers: {}", "[".repeat(5_000));
    let rows = [
        ("", "the file holds no configuration"),
        ("route: {receiver: r}\n", "no receivers"),
        ("receivers: []\n", "no route provided"),
        ("- a\n", "no route provided"),
        ("route: [\n", "not valid YAML"),
        ("\u{0}\u{1}\u{2}", "YAML"),
        ("route: {receiver: r, matchers: ['a']}\nreceivers: []\n", "the matcher `a` is wrong"),
        ("route: {receiver: r, continue: often}\nreceivers: []\n", "expected true or false"),
        (&deep, ""),
    ];
    for (text, words) in rows {
        let mistakes = import(text, folder.path(), SecretsTo::Variables, true).err().unwrap_or_default();
        assert!(!mistakes.is_empty() && lines(&mistakes).contains(words), "{text:.60}: {}", lines(&mistakes));
    }
}

/// Every setting of the three services, with what only files and `global` give.
const SERVICES: &str = r#"global:
  jira_api_url: https://jira.example.com/rest/api/2/
  wechat_api_secret: hunter3
  wechat_api_corp_id: ww1
  wechat_api_url: https://wecom.example.com/cgi-bin/
route: { receiver: r }
receivers:
- name: r
  jira_configs:
  - project: '{{ .CommonLabels.team }}'
    issue_type: Bug
    api_type: datacenter
    summary: '{{ .CommonLabels.alertname }}'
    description: { template: '*{{ .Status }}*', enable_update: false }
    labels: [alert, '{{ .CommonLabels.severity }}']
    priority: High
    resolve_transition: Done
    reopen_transition: Reopen
    reopen_duration: 4w
    wont_fix_resolution: Won't Do
    fields:
      customfield_1: '{"value": "{{ .CommonLabels.site }}"}'
      customfield_2: '17'
      customfield_3: { id: x, more: [1, true, '{{ .Status }}'] }
      customfield_4: '{{ .CommonLabels.site }}'
      '{{ .Status }}': x
      labels: [a]
    http_config:
      basic_auth: { username: ams2, password: hunter4 }
      follow_redirects: true
      proxy_url: http://proxy.example.com:3128
  - api_url: https://x.atlassian.net/rest/api/3/
    project: P
    issue_type: Task
    description: '{"version": 1, "type": "doc", "content": [{{ toJson .Status }}]}'
    http_config: { authorization: { credentials_file: pat } }
  - { project: P, issue_type: Task }
  sns_configs:
  - topic_arn: arn:aws:sns:eu-west-1:1:{{ .CommonLabels.team }}
    subject: '{{ .Status }}'
    message: '{{ .CommonLabels.alertname }}'
    attributes: { severity: '{{ .CommonLabels.severity }}', '{{ .Status }}': x }
    sigv4: { access_key: AKID, secret_key: hunter5, role_arn: 'arn:aws:iam::1:role/a', external_id: x, profile: p }
    use_aws_http_client: true
  - { phone_number: '+15550101', api_url: '{{ .Status }}', sigv4: { region: us-east-1, access_key: AKID, secret_key: hunter5 } }
  - { topic_arn: 'arn:aws:sns:eu-west-1:1:a', sigv4: { region: eu-west-1 } }
  - { phone_number: '+15550101', sigv4: { access_key: AKID, secret_key: hunter5 } }
  wechat_configs:
  - { agent_id: '7', to_user: '{{ .CommonLabels.owner }}', message: '{{ .Status }}' }
  - { agent_id: '7', to_party: '2', message_type: markdown, message: '**{{ .Status }}**', api_secret_file: secret, corp_id: ww2, http_config: { basic_auth: { username: u, password: p } } }
  - { agent_id: '7', to_tag: '2', message_type: markdown }
  - { agent_id: '7' }
"#;

#[test]
fn jira_sns_and_wecom_come_over_with_every_setting() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["pat", "secret"] {
        std::fs::write(folder.path().join(name), "hunter6").expect("written");
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(folder.path().join(name), private).expect("private");
    }
    let imported =
        import(SERVICES, folder.path(), SecretsTo::Variables, true).map_err(|m| lines(&m)).expect("right");
    let overrides = Overrides { variables: imported.secrets.clone(), ..Overrides::default() };
    load_text("f", &imported.text, folder.path(), &overrides)
        .map_err(|wrong| lines(&wrong.found))
        .unwrap_or_else(|e| panic!("{e}\n{}", imported.text));
    insta::assert_snapshot!(imported.text);
    let impossible: Vec<&str> =
        fates(&imported, Fate::Impossible).iter().map(|(_, setting)| *setting).collect();
    assert_eq!(
        impossible,
        [
            "receivers[0].jira_configs[0].fields.{{ .Status }}",
            "receivers[0].jira_configs[0].fields.labels",
            "receivers[0].jira_configs[2]",
            "receivers[0].sns_configs[0].attributes.{{ .Status }}",
            "receivers[0].sns_configs[0].sigv4.profile",
            "receivers[0].sns_configs[1].api_url",
            "receivers[0].sns_configs[2]",
            "receivers[0].sns_configs[3]",
            "receivers[0].wechat_configs[1].http_config.basic_auth",
            "receivers[0].wechat_configs[3]",
        ]
    );
    let approximated: Vec<&str> =
        fates(&imported, Fate::Approximated).iter().map(|(_, setting)| *setting).collect();
    assert_eq!(
        approximated,
        [
            "receivers[0].jira_configs[0].http_config.follow_redirects",
            "receivers[0].sns_configs[0].use_aws_http_client"
        ]
    );
    assert!(!imported.text.contains("hunter"), "{}", imported.text);
}

/// Two of a kind in one receiver have a secret each, wherever secrets go.
#[test]
fn secrets_of_the_same_name_are_kept_apart() {
    let text = "route: {receiver: r}\nreceivers: [{name: r, webhook_configs: [{url: 'http://h/a'}, {url: 'http://h/b'}, {url: 'http://h/a'}]}]\n";
    let folder = tempfile::tempdir().expect("a folder");
    for (to, files) in [(SecretsTo::Folder("secrets".into()), false), (SecretsTo::Variables, true)] {
        let imported = import(text, folder.path(), to, files).map_err(|m| lines(&m)).expect("right");
        let urls: Vec<&String> = imported.secrets.values().collect();
        assert_eq!(urls, ["http://h/a", "http://h/b"], "{}", imported.text);
        for (name, times) in imported.secrets.keys().zip([2, 1]) {
            let named = imported
                .text
                .lines()
                .filter(|line| line.trim_end_matches(['"', '}']).ends_with(name.as_str()));
            assert_eq!(named.count(), times, "{name}: {}", imported.text);
        }
    }
}

/// What no file can give has variables, of which each has one value, too.
#[test]
fn variables_of_the_same_name_are_kept_apart() {
    let hook = |key: &str| {
        format!("{{url: 'http://h/', http_config: {{http_headers: {{X-Api-Key: {{secrets: [{key}]}}}}}}}}")
    };
    let receiver = |name: &str, hooks: &[&str]| {
        let hooks: Vec<String> = hooks.iter().map(|key| hook(key)).collect();
        format!("- {{name: {name}, webhook_configs: [{}]}}\n", hooks.join(", "))
    };
    let text = format!(
        "route: {{receiver: a-b}}\nreceivers:\n{}{}",
        receiver("a-b", &["k1", "k2", "k1"]),
        receiver("a.b", &["k3"])
    );
    let folder = tempfile::tempdir().expect("a folder");
    for (to, files) in [(SecretsTo::Folder("secrets".into()), false), (SecretsTo::Variables, true)] {
        let imported = import(&text, folder.path(), to.clone(), files).map_err(|m| lines(&m)).expect("right");
        let ours: serde_json::Value = serde_saphyr::from_str(&imported.text).expect("YAML");
        let hooks = [(0, 0), (0, 1), (0, 2), (1, 0)]
            .map(|(receiver, action)| &ours["receivers"][receiver]["actions"][action]["webhook"]["headers"]);
        let base = "${env:AMS2_IMPORTED_A_B_X_API_KEY";
        let expected = ["}", "_2}", "}", "_3}"].map(|end| format!("{base}{end}"));
        assert_eq!(
            hooks.map(|headers| headers["X-Api-Key"].as_str().unwrap_or_default()),
            expected,
            "{to:?}"
        );
        if to != SecretsTo::Variables {
            let words = imported.report.iter().filter(|entry| entry.setting.ends_with("X-Api-Key"));
            let named: Vec<&str> = words.filter_map(|entry| entry.words.rsplit(' ').next()).collect();
            assert_eq!(named, expected.each_ref().map(|name| &name[6..name.len() - 1]));
        }
    }
}

/// A login in a URL counts before those of `http_config`, its own or that of all, but for that of OAuth 2.
#[test]
fn a_login_in_the_url_of_a_web_hook_counts() {
    let with = |url: &str, config: &str| {
        let url = format!("url: 'http://{url}/'");
        if config.is_empty() { url } else { format!("{url}, http_config: {{{config}}}") }
    };
    let oauth2 = "oauth2: {client_id: c, client_secret: s, token_url: 'http://h/t'}";
    let near = |key: &str| format!("receivers[0].webhook_configs[0].http_config.{key}");
    let global = "global.http_config.authorization".to_owned();
    // `http_config` of all, the hook, user and password that count, and what is said to be otherwise.
    let rows = [
        ("", with("u:p@h", ""), Some(("u", Some("p"))), None),
        ("", with("u%40x:p%3aq@h", ""), Some(("u@x", Some("p:q"))), None),
        ("", with("u@h", ""), Some(("u", None)), None),
        ("", with("u:@h", ""), Some(("u", None)), None),
        ("", with("h", "basic_auth: {username: u}"), Some(("u", None)), None),
        ("", with("h", "basic_auth: {username: u, password: ''}"), Some(("u", None)), None),
        (
            "",
            with("u:p@h", "basic_auth: {username: v, password: q}"),
            Some(("u", Some("p"))),
            Some(near("basic_auth")),
        ),
        (
            "",
            with("u:p@h", "authorization: {credentials: t}"),
            Some(("u", Some("p"))),
            Some(near("authorization")),
        ),
        ("", with("u:p@h", "bearer_token: t"), Some(("u", Some("p"))), Some(near("bearer_token"))),
        ("authorization: {credentials: t}", with("u:p@h", ""), Some(("u", Some("p"))), Some(global)),
        ("", with("u:p@h", oauth2), None, Some("receivers[0].webhook_configs[0].url".to_owned())),
        (oauth2, with("u:p@h", ""), None, Some("receivers[0].webhook_configs[0].url".to_owned())),
        ("", with("u:p@h/{{ .CommonLabels.team }}", ""), Some(("u", Some("p"))), None),
    ];
    for (all, hook, login, reported) in rows {
        let text = format!(
            "global: {{http_config: {{{all}}}}}\nroute: {{receiver: r}}\nreceivers: [{{name: r, webhook_configs: [{{{hook}}}]}}]\n"
        );
        let (imported, loaded) = runs(&text);
        assert_eq!(loaded.core.receivers[0].actions.len(), 1, "{hook}: {:#?}", imported.report);
        let ours: serde_json::Value = serde_saphyr::from_str(&imported.text).expect("YAML");
        let found = &ours["receivers"][0]["actions"][0]["webhook"]["basic_auth"];
        let password = found["password"].as_str().map(|reference| {
            let name = reference.trim_start_matches("${env:").trim_end_matches('}');
            imported.secrets[name].as_str()
        });
        assert_eq!(found["username"].as_str().map(|user| (user, password)), login, "{hook}");
        let near: Vec<&str> =
            fates(&imported, Fate::Approximated).into_iter().map(|(_, path)| path).collect();
        assert_eq!(near, reported.iter().map(String::as_str).collect::<Vec<_>>(), "{hook}");
    }
}

/// A proxy's login is a secret, which no file can give.
#[test]
fn the_login_of_a_proxy_stands_nowhere() {
    let text = "global: {http_config: {proxy_url: 'http://pu:hunter2@proxy:3128'}}\nroute: {receiver: r}\nreceivers:\n- name: r\n  \
                webhook_configs: [{url: 'http://h/'}, {url: 'http://h/', http_config: {proxy_url: 'http://pu:hunter3@proxy:3128'}}]\n";
    let (imported, loaded) = runs(text);
    assert_eq!(loaded.core.receivers[0].actions.len(), 2, "{:#?}", imported.report);
    assert!(!imported.text.contains("hunter"), "{}", imported.text);
    assert!(
        imported.secrets.values().any(|url| url == "http://pu:hunter3@proxy:3128"),
        "{:?}",
        imported.secrets
    );
    let folder = tempfile::tempdir().expect("a folder");
    let written = import(text, folder.path(), SecretsTo::Folder("secrets".into()), false)
        .map_err(|m| lines(&m))
        .expect("right");
    assert!(!written.text.contains("hunter"), "{}", written.text);
    for (setting, name) in [
        ("global.http_config.proxy_url", "AMS2_IMPORTED_GLOBAL_PROXY"),
        ("receivers[0].webhook_configs[1].http_config.proxy_url", "AMS2_IMPORTED_R_PROXY"),
    ] {
        assert!(written.text.contains(&format!("proxy: \"${{env:{name}}}\"")), "{}", written.text);
        let said: Vec<&Entry> = written.report.iter().filter(|entry| entry.setting == setting).collect();
        assert!(
            matches!(said[..], [entry] if entry.fate == Fate::Approximated && entry.words.ends_with(name)),
            "{said:?}"
        );
    }
}

/// Names in quotes may have commas.
#[test]
fn recipients_come_over_one_by_one() {
    let text = r#"route: {receiver: r}
receivers:
- name: r
  email_configs: [{to: '"Doe, John" <j@example.com>, b@example.com', from: a@example.com, smarthost: 'h:25'}]
"#;
    let (imported, loaded) = runs(text);
    assert_eq!(loaded.core.receivers[0].actions.len(), 1, "{:#?}", imported.report);
    let ours: serde_json::Value = serde_saphyr::from_str(&imported.text).expect("YAML");
    let to = &ours["receivers"][0]["actions"][0]["email"]["to"];
    assert_eq!(*to, serde_json::json!([r#""Doe, John" <j@example.com>"#, "b@example.com"]));
}

/// PagerDuty's details may be nested, and a text of them may be YAML of another kind.
#[test]
fn details_come_over_nested_and_names_that_are_made_do_not() {
    let text = r#"route: {receiver: r}
receivers:
- name: r
  pagerduty_configs:
  - routing_key: k
    details:
      firing: { a: b, list: [1, '{{ .Status }}'], '$if': x }
      count: '17'
      whole: '{"status": "{{ .Status }}"}'
      plain: '{{ .CommonLabels.site }}'
      '{{ .Status }}': x
      $each: x
      none:
  opsgenie_configs:
  - {api_key: k, details: {site: boston, '{{ .Status }}': x}}
  - {api_key: k, details: {'{{ .Status }}': x}}
  victorops_configs:
  - {api_key: k, routing_key: r, custom_fields: {'{{ .Status }}': x, owner: '{{ .Status }}'}}
"#;
    let (imported, _) = runs(text);
    let expected = [
        (7, "receivers[0].pagerduty_configs[0].details.firing.$if"),
        (11, "receivers[0].pagerduty_configs[0].details.{{ .Status }}"),
        (12, "receivers[0].pagerduty_configs[0].details.$each"),
        (15, "receivers[0].opsgenie_configs[0].details.{{ .Status }}"),
        (16, "receivers[0].opsgenie_configs[1].details.{{ .Status }}"),
        (18, "receivers[0].victorops_configs[0].custom_fields.{{ .Status }}"),
    ];
    assert_eq!(fates(&imported, Fate::Impossible), expected);
    let ours: serde_json::Value = serde_saphyr::from_str(&imported.text).expect("YAML");
    let details = |action: &str, number: usize| {
        let actions = ours["receivers"][0]["actions"].as_array().expect("a list").iter();
        let settings = actions.filter_map(|entry| entry.get(action)).nth(number).expect(action);
        settings.get("details").cloned()
    };
    let of_pagerduty = details("pagerduty", 0).expect("details");
    assert_eq!(of_pagerduty["firing"], serde_json::json!({ "a": "b", "list": [1, "{{ status }}"] }));
    assert_eq!(of_pagerduty["count"], 17);
    assert_eq!(of_pagerduty["whole"], serde_json::json!({ "status": "{{ status }}" }));
    assert!(of_pagerduty["plain"].as_str().is_some_and(|text| text.contains("site")), "{of_pagerduty}");
    assert_eq!(of_pagerduty.as_object().map(|map| map.len()), Some(4));
    assert_eq!(details("opsgenie", 0), Some(serde_json::json!({ "site": "boston" })));
    assert_eq!(details("opsgenie", 1), None);
    assert_eq!(details("victorops", 0), Some(serde_json::json!({ "owner": "{{ status }}" })));
}

#[test]
fn services_get_what_they_have_and_the_rest_is_reported() {
    let text = r#"global:
  opsgenie_api_url: http://h/opsgenie/
route: {receiver: r}
receivers:
- name: r
  opsgenie_configs:
  - {api_key: k, tags: 'a, b', details: {runbook: '{{ .CommonAnnotations.runbook }}', site: boston}}
  - {api_key: k, tags: '{{ .CommonLabels.site }}'}
  telegram_configs:
  - {bot_token: 0012345678901234567890, chat_id: -100, parse_mode: '', message: '<{{ .Status }}>'}
  - {bot_token: t, chat_id: -100, message: '<b>{{ .Status }}</b>'}
  - {bot_token: t, chat_id: -100, parse_mode: MarkdownV2, message: '*{{ .Status }}*'}
  webex_configs:
  - {room_id: '7', http_config: {authorization: {credentials: token}, proxy_url: 'http://h:1/'}}
  discord_configs:
  - {webhook_url: 'http://h/d', http_config: {basic_auth: {username: u, password: p}, follow_redirects: true}}
  slack_configs:
  - {api_url: 'http://h/s', channel: '#ops'}
"#;
    let (imported, _) = runs(text);
    let expected = [
        (8, "receivers[0].opsgenie_configs[1].tags"),
        (12, "receivers[0].telegram_configs[2].parse_mode"),
        (16, "receivers[0].discord_configs[0].http_config.basic_auth"),
    ];
    assert_eq!(fates(&imported, Fate::Impossible), expected);
    assert_eq!(
        fates(&imported, Fate::Approximated),
        [(16, "receivers[0].discord_configs[0].http_config.follow_redirects")]
    );
    assert!(
        imported.secrets.values().any(|secret| secret == "0012345678901234567890"),
        "{:?}",
        imported.secrets
    );
    for words in [
        "api_url: \"http://h/opsgenie\"",
        "tags: [a, b]",
        "site: boston",
        "chat: \"-100\"",
        "text: \"<{{ status }}>\"",
        "html: \"<b>{{ status }}</b>\"",
        "room: \"7\"",
        "token: \"${env:AMS2_IMPORTED_R_CREDENTIALS}\"",
        "proxy: \"http://h:1/\"",
        "channel: \"#ops\"",
    ] {
        assert!(imported.text.contains(words), "{words}\n{}", imported.text);
    }
}

/// Of every kind of receiver, what Alertmanager requires of it: configurations that it starts with, and what they become.
#[test]
fn every_kind_starts_with_no_more_than_alertmanager_requires() {
    const CALLED: &str = "global: {slack_api_url: 'http://h/s', opsgenie_api_key: k, victorops_api_key: k, wechat_api_secret: s, wechat_api_corp_id: c, \
                          jira_api_url: 'http://h/rest/api/2', rocketchat_token: t, rocketchat_token_id: i, telegram_bot_token: t, \
                          mattermost_webhook_url: 'http://h/m', smtp_smarthost: 'h:25', smtp_from: a@example.com}";
    // Kind, its settings, and the action that it becomes; none where ours needs more, and the report says what.
    let rows = [
        ("webhook", "url: 'http://h/'", "webhook"),
        ("webhook", "url: 'http://h/{{ .CommonLabels.team }}'", "webhook"),
        ("webhook", "url: 'http://user:hunter2@h:8080/x?y=z'", "webhook"),
        ("email", "to: b@example.com", "email"),
        ("pagerduty", "routing_key: k", "pagerduty"),
        ("pagerduty", "service_key: k", "pagerduty"),
        ("opsgenie", "{}", "opsgenie"),
        ("slack", "{}", "slack"),
        ("slack", "app_token: t", ""),
        ("slack", "app_token: t, channel: '#c'", "slack"),
        ("discord", "webhook_url: 'http://h/d'", "discord"),
        ("mattermost", "{}", "mattermost"),
        ("msteams", "webhook_url: 'http://h/t'", "msteams"),
        ("msteamsv2", "webhook_url: 'http://h/t'", "msteams"),
        ("jira", "project: P, issue_type: Bug", ""),
        ("jira", "project: P, issue_type: Bug, http_config: {authorization: {credentials: c}}", "jira"),
        ("incidentio", "url: 'http://h/i', alert_source_token: t", "incidentio"),
        ("incidentio", "url: 'http://h/i', http_config: {authorization: {credentials: t}}", "incidentio"),
        ("incidentio", "url: 'http://h/i'", ""),
        ("pushover", "user_key: u, token: t", "pushover"),
        ("rocketchat", "channel: '#c'", "rocketchat"),
        ("rocketchat", "{}", ""),
        ("sns", "topic_arn: 'arn:aws:sns:eu-west-1:1:a', sigv4: {region: eu-west-1}", ""),
        ("sns", "topic_arn: 'arn:aws:sns:eu-west-1:1:a', sigv4: {access_key: a, secret_key: s}", "sns"),
        ("telegram", "chat_id: 1", "telegram"),
        ("telegram", "chat_id_file: chat", ""),
        ("victorops", "routing_key: r", "victorops"),
        ("webex", "room_id: r, http_config: {authorization: {credentials: c}}", "webex"),
        ("webex", "room_id: r, http_config: {basic_auth: {username: u, password: p}}", ""),
        ("wechat", "{}", ""),
        ("wechat", "agent_id: '1', to_user: u", "wechat"),
    ];
    for (kind, settings, action) in rows {
        let settings = if settings == "{}" { "" } else { settings };
        let text = format!(
            "{CALLED}\nroute: {{receiver: r}}\nreceivers:\n- name: r\n  {kind}_configs:\n  - {{{settings}}}\n- name: other\n"
        );
        let (imported, loaded) = runs(&text);
        let actions: Vec<&str> =
            loaded.core.receivers[0].actions.iter().map(|one| one.id.kind.as_str()).collect();
        let row = format!("{kind}: {settings}: {:#?}", imported.report);
        match action {
            "" => assert_eq!(actions, [""; 0], "{row}"),
            action => assert_eq!(actions, [action], "{row}"),
        }
        let path = format!("receivers[0].{kind}_configs[0]");
        let left_out = imported.report.iter().find(|entry| entry.setting == path);
        assert_eq!(left_out.map(|entry| entry.fate), action.is_empty().then_some(Fate::Impossible), "{row}");
        if let Some(entry) = left_out {
            assert!(entry.words.starts_with("it is left out: ") && entry.words.len() > 30, "{row}");
        }
    }
}

/// One action that cannot run stops nobody: it is left out with the reason, and the others of the file are told.
#[test]
fn what_cannot_run_is_left_out_and_the_others_stay() {
    let rows = [
        (
            "email_configs: [{to: '{{ .CommonLabels.owner }}', from: a@example.com, smarthost: 'h:25'}]",
            "nobody is named in its `to`",
        ),
        (
            "email_configs: [{to: nobody, from: a@example.com, smarthost: 'h:25'}]",
            "it is left out: email.to[0]: \"nobody\" is no mail address",
        ),
        ("slack_configs: [{api_url_file: missing}]", "slack.webhook_url_file"),
        ("discord_configs: [{webhook_url: 'http://h/{{ .Status }}'}]", "discord.webhook_url: "),
        (
            "webhook_configs: [{url: 'http://h/', http_config: {proxy_url: 'gopher://h:1'}}]",
            "it is left out: webhook.proxy: it begins with",
        ),
        ("webhook_configs: [{url: 'http://'}]", "it is left out: webhook.url: it is no URL"),
        (
            "webhook_configs: [{url: 'http://h/', http_config: {basic_auth: {password: p}}}]",
            "webhook.basic_auth: `username` is missing",
        ),
        (
            "webhook_configs: [{url: 'http://:p@h/'}]",
            "it is left out: webhook.basic_auth.username: it is empty",
        ),
        ("pagerduty_configs: [{routing_key_file: missing}]", "pagerduty.routing_key_file"),
    ];
    for (receiver, words) in rows {
        let text = format!(
            "route: {{receiver: r}}\nreceivers:\n- name: r\n  webex_configs: [{{room_id: r, http_config: {{authorization: {{credentials: c}}}}}}]\n  {receiver}\n"
        );
        let (imported, loaded) = runs(&text);
        let kinds: Vec<&str> =
            loaded.core.receivers[0].actions.iter().map(|one| one.id.kind.as_str()).collect();
        assert_eq!(kinds, ["webex"], "{receiver}");
        let left_out = imported.report.iter().filter(|entry| entry.words.starts_with("it is left out: "));
        let left_out: Vec<(usize, &str)> = left_out.map(|entry| (entry.line, entry.words.as_str())).collect();
        assert!(matches!(left_out[..], [(5, why)] if why.contains(words)), "{receiver}: {left_out:?}");
        assert_eq!(imported.secrets.len(), 1, "secrets of what is left out are, too: {:?}", imported.secrets);
        // What files of theirs hold need not be on the machine where the file is brought over.
        let folder = tempfile::tempdir().expect("a folder");
        let written = import(&text, folder.path(), SecretsTo::Folder("secrets".into()), false)
            .map_err(|m| lines(&m))
            .expect("right");
        assert_eq!(written.text.contains("missing"), receiver.contains("missing"), "{}", written.text);
    }
}

/// What Alertmanager reads and is written otherwise here.
#[test]
fn what_alertmanager_starts_with_starts() {
    let text = "route: {receiver: team/db/mail, routes: [{matchers: [a=b], group_by: [], mute_time_intervals: [never]}]}\nreceivers:\n- name: team/db/mail\n  \
                webhook_configs: [{url: 'http://h/', send_resolved: no}]\ninhibit_rules:\n-\n- {}\ntime_intervals: [{name: never, time_intervals: []}]\nglobal:\ntemplates:\n";
    let (imported, loaded) = runs(text);
    assert_eq!(fates(&imported, Fate::Impossible), []);
    let receiver = &loaded.core.receivers[0];
    assert_eq!((receiver.name.as_str(), receiver.actions[0].send_resolved), ("team/db/mail", false));
    let id = receiver.actions[0].id.to_string();
    assert_eq!(config::action_id(&id).as_ref(), Some(&receiver.actions[0].id), "{id}");
}

#[test]
fn the_web_hook_gets_logins_headers_times_and_a_body_of_its_own() {
    let text = r#"route: {receiver: r}
receivers:
- name: r
  webhook_configs:
  - url: http://h/
    timeout: 1m0.5s
    payload:
      text: '{{ .Status }}'
      number: '{{ len .Alerts }}'
      fixed: {a: [1, true]}
    http_config:
      oauth2:
        client_id: ams2
        client_secret: hunter2
        token_url: http://h/token
        scopes: [alerts, more]
      http_headers:
        X-Team: {values: [db, web]}
        X-Api-Key: {secrets: [hunter3]}
        X-File: {files: [a]}
  - {url: 'http://h/b', payload: '{{ .Status }}', timeout: 0s, http_config: {bearer_token: hunter4}}
  - {url: 'http://h/c', payload: [a, '{{ .Status }}'], timeout: 25h, http_config: {oauth2: {client_id: a, client_secret_file: s, token_url: 'http://h/t', endpoint_params: {a: b}}}}
  - {url: 'http://h/d', timeout: soon}
"#;
    let imported = brought(text);
    let at = "receivers[0].webhook_configs";
    let impossible = [
        (20, format!("{at}[0].http_config.http_headers.X-File.files")),
        (22, format!("{at}[2]")),
        (22, format!("{at}[2].http_config.oauth2.endpoint_params")),
        (23, format!("{at}[3].timeout")),
    ];
    let mut found = fates(&imported, Fate::Impossible);
    found.sort_unstable();
    assert_eq!(found, impossible.iter().map(|(line, path)| (*line, path.as_str())).collect::<Vec<_>>());
    let approximated = [(21, format!("{at}[1].timeout")), (22, format!("{at}[2].timeout"))];
    let near = fates(&imported, Fate::Approximated);
    assert_eq!(near, approximated.iter().map(|(line, path)| (*line, path.as_str())).collect::<Vec<_>>());
    for (line, path) in [
        (6, "timeout"),
        (8, "payload.text"),
        (13, "http_config.oauth2.client_id"),
        (18, "http_config.http_headers.X-Team"),
    ] {
        let path = format!("{at}[0].{path}");
        assert!(
            fates(&imported, Fate::Translated).contains(&(line, path.as_str())),
            "{path}: {:#?}",
            imported.report
        );
    }
    let ours: serde_json::Value = serde_saphyr::from_str(&imported.text).expect("YAML");
    let hook = |number: usize| ours["receivers"][0]["actions"][number]["webhook"].clone();
    let first = hook(0);
    assert_eq!(first["timeout"], "60500ms");
    assert_eq!(first["body"]["text"], "{{ status }}");
    assert_eq!(first["body"]["fixed"], serde_json::json!({ "a": [1, true] }));
    assert_eq!(first["headers"]["X-Team"], "db, web");
    assert_eq!(first["oauth2"]["scopes"], serde_json::json!(["alerts", "more"]));
    assert!(!imported.text.contains("hunter"), "{}", imported.text);
    assert_eq!(hook(1)["body"], "{{ status }}");
    assert!(
        hook(1)["bearer_token"].as_str().is_some_and(|token| imported
            .secrets
            .values()
            .any(|known| known == "hunter4")
            && token.contains("BEARER")),
        "{:?}",
        hook(1)
    );
    let (_, loaded) = runs(text);
    assert_eq!(loaded.core.receivers[0].actions.len(), 3);
    assert_eq!(loaded.core.receivers[0].actions[0].timeout_ms, 60_500);
    // A header that is secret comes from the environment, since no file can give it.
    let folder = tempfile::tempdir().expect("a folder");
    let written = import(text, folder.path(), SecretsTo::Folder("secrets".into()), false)
        .map_err(|m| lines(&m))
        .expect("right");
    assert!(
        fates(&written, Fate::Approximated)
            .contains(&(19, format!("{at}[0].http_config.http_headers.X-Api-Key").as_str()))
    );
    assert!(
        written.text.contains("X-Api-Key: \"${env:AMS2_IMPORTED_R_X_API_KEY}\"")
            && !written.text.contains("hunter"),
        "{}",
        written.text
    );
}

#[test]
fn what_all_share_over_http_is_put_into_each_that_says_nothing_itself() {
    let text = r#"global:
  http_config: {proxy_url: 'http://proxy.example.com:3128', basic_auth: {username: u, password: hunter2}, no_proxy: x}
route: {receiver: r}
receivers:
- name: r
  webhook_configs:
  - url: http://h/a
  - {url: 'http://h/b', http_config: {follow_redirects: false}}
  discord_configs:
  - {webhook_url: 'http://h/d'}
  - {webhook_url: 'http://h/e'}
"#;
    let (imported, _) = runs(text);
    let ours: serde_json::Value = serde_saphyr::from_str(&imported.text).expect("YAML");
    let actions = &ours["receivers"][0]["actions"];
    let proxy = serde_json::json!("http://proxy.example.com:3128");
    assert_eq!((&actions[0]["webhook"]["proxy"], &actions[2]["discord"]["proxy"]), (&proxy, &proxy));
    assert_eq!(actions[0]["webhook"]["basic_auth"]["username"], "u");
    assert!(actions[1]["webhook"].get("proxy").is_none(), "{actions}");
    // What one kind has no use for is said once.
    let impossible = [(2, "global.http_config.no_proxy"), (2, "global.http_config.basic_auth")];
    let mut found = fates(&imported, Fate::Impossible);
    found.sort_unstable_by_key(|(_, path)| std::cmp::Reverse(*path));
    assert_eq!(found, impossible);
}

/// Where the two grammars of matchers read the same text otherwise, the classic one counts, and that is said.
#[test]
fn matchers_that_the_two_grammars_read_otherwise_are_reported() {
    let text = r#"route:
  receiver: r
  routes:
  - matchers: ['foo="bar"', 'foo="\u263a"']
receivers: [{name: r}]
inhibit_rules:
- {source_matchers: ['a=b\d'], target_matchers: ['x="\x41"'], equal: [n]}
"#;
    let (imported, loaded) = runs(text);
    let near = [(4, "routes[0].matchers"), (7, "inhibit_rules[0].target_matchers")];
    assert_eq!(fates(&imported, Fate::Approximated), near);
    let words = r#"differ on it: foo="\\u263a" counts, as in its default mode, not foo="☺": "#;
    assert!(imported.report.iter().any(|entry| entry.words.contains(words)), "{:#?}", imported.report);
    assert_eq!(loaded.core.route.routes[0].matchers[1].value, r"\u263a");
}

/// Through the file: what is too large or no text is refused, and said.
#[test]
fn a_huge_and_a_binary_file_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let huge = "a: b\n".repeat(4 << 20);
    let rows: [(&str, &[u8], &str); 3] = [
        ("huge.yml", huge.as_bytes(), "bytes; at most 4194304 are read"),
        ("binary.yml", b"\x7fELF\x02\x01\x01\x00\xff\xfe\x80route: {receiver: r}\n", "UTF-8"),
        ("missing.yml", b"", "missing.yml"),
    ];
    for (name, bytes, words) in rows {
        let path = folder.path().join(name);
        if !bytes.is_empty() {
            std::fs::write(&path, bytes).expect("written");
        }
        let wrong = read(&path, SecretsTo::Variables).expect_err(name);
        let found = lines(&wrong.found);
        assert!(found.contains(words) && found.contains(name), "{name}: {found}");
    }
}
