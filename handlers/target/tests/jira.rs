//! Jira, beside a mock that keeps issues as Jira does.

use std::sync::Mutex;

use base64::{Engine, prelude::BASE64_STANDARD};

use super::*;

#[derive(Clone, Debug)]
struct Issue {
    fields: Json,
    labels: Vec<String>,
    done: bool,
}

/// Issues, and what to do with the next request.
#[derive(Debug, Default)]
struct State {
    issues: Vec<Issue>,
    /// The search does not find what is new.
    index_lags: bool,
    /// The next one of these (`POST /issue`) is done, and its answer lost.
    lose: Option<&'static str>,
}

struct Jira {
    server: Server,
    state: Arc<Mutex<State>>,
}

impl Jira {
    async fn start() -> Jira {
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        let server = Server::start(move |_, asked| {
            let state = &mut *shared.lock().expect("no panic");
            let given = serve(state, asked);
            match state.lose {
                Some(to) if is_to(to, asked) => {
                    state.lose = None;
                    Vec::new()
                }
                _ => given,
            }
        })
        .await;
        Jira { server, state }
    }

    fn action(&self, more: &str) -> Box<dyn Action> {
        let login = "user: ams2@example.com, password: example-secret, project: OPS, issue_type: Task";
        build(&format!("jira: {{ api_url: 'http://{}', {login}, {more} }}", self.server.address))
    }

    /// The requests since the last call, without their bodies.
    fn steps(&self, from: &mut usize) -> Vec<String> {
        let asked = self.server.asked();
        let steps = asked[*from..].iter().map(|asked| format!("{} {}", asked.method, asked.path)).collect();
        *from = asked.len();
        steps
    }

    fn issues(&self) -> Vec<Issue> {
        self.state.lock().expect("no panic").issues.clone()
    }

    /// What the newest request to this had.
    fn body(&self, to: &str) -> Json {
        let asked = self.server.asked();
        asked.iter().rev().find(|asked| is_to(to, asked)).unwrap_or_else(|| panic!("no {to}")).json()
    }
}

fn serve(state: &mut State, asked: &Asked) -> Vec<u8> {
    let path = asked.path.split_once("/rest/api/").expect("the API").1.split_once('/').expect("a version").1;
    let parts: Vec<&str> = path.split('/').collect();
    let key = |number: usize| format!("OPS-{}", number + 1);
    match (asked.method.as_str(), &parts[..]) {
        ("POST", ["search"] | ["search", "jql"]) => {
            let body = asked.json();
            let jql = body["jql"].as_str().expect("a query");
            let label =
                jql.split("labels = \"").nth(1).and_then(|rest| rest.split('"').next()).expect("a label");
            let is_known = |id: usize| body["reconcileIssues"][0] == json!(id);
            let found = state.issues.iter().enumerate().filter(|(number, issue)| {
                issue.labels.iter().any(|known| known == label)
                    && (!issue.done || jql.contains("resolutiondate >= -"))
                    && (!state.index_lags || is_known(10_000 + number))
            });
            let issues = found.map(|(number, issue)| {
                let category = if issue.done { "done" } else { "new" };
                json!({ "id": (10_000 + number).to_string(), "key": key(number), "fields": { "status": { "statusCategory": { "key": category } } } })
            });
            answer(200, &[], &json!({ "issues": issues.collect::<Vec<_>>() }).to_string())
        }
        ("POST", ["issue"]) => {
            let fields = asked.json()["fields"].clone();
            let labels = serde_json::from_value(fields["labels"].clone()).expect("labels");
            state.issues.push(Issue { fields, labels, done: false });
            let number = state.issues.len() - 1;
            let body =
                json!({ "id": (10_000 + number).to_string(), "key": key(number), "self": "http://jira/1" });
            answer(201, &[], &body.to_string())
        }
        (method, ["issue", name, rest @ ..]) => {
            let Some(number) = (0..state.issues.len()).find(|number| key(*number) == *name) else {
                return answer(404, &[], r#"{"errorMessages":["Issue does not exist"],"errors":{}}"#);
            };
            let issue = &mut state.issues[number];
            match (method, rest) {
                ("PUT", []) => {
                    let body = asked.json();
                    for (name, value) in body["fields"].as_object().into_iter().flatten() {
                        issue.fields[name] = value.clone();
                    }
                    let added = body["update"]["labels"].as_array().cloned().unwrap_or_default();
                    let added =
                        added.iter().map(|change| change["add"].as_str().expect("a label").to_owned());
                    issue.labels.extend(added);
                    answer(204, &[], "")
                }
                ("GET", ["transitions"]) => {
                    let ways = match issue.done {
                        true => json!([{ "id": "41", "name": "Reopen" }]),
                        false => json!([{ "id": "21", "name": "Start" }, { "id": "31", "name": "Done" }]),
                    };
                    answer(200, &[], &json!({ "expand": "transitions", "transitions": ways }).to_string())
                }
                ("POST", ["transitions"]) => {
                    issue.done = asked.json()["transition"]["id"] == "31";
                    answer(204, &[], "")
                }
                other => panic!("Jira knows no {other:?}"),
            }
        }
        other => panic!("Jira knows no {other:?}"),
    }
}

const WAYS: &str = "resolve_transition: Done, reopen_transition: Reopen, reopen_duration: 1d";
/// As Alertmanager makes it: `printf '{}:{site="boston"}' | sha256sum`.
const LABEL: &str = "ALERT{58c1c0221b4884a571c66c354485f458d7115eb81e2cfef565a262ccf6d51e71}";

/// What was said, and the delivery that follows with what it gave back.
async fn next(action: &dyn Action, delivery: &mut Delivery) -> String {
    match tell(action, delivery).await {
        Ok(Receipt::Delivered { reply, memo, .. }) => {
            delivery.memo = memo;
            reply
        }
        told => panic!("{told:?}"),
    }
}

#[tokio::test]
async fn an_issue_is_opened_changed_resolved_and_opened_again() {
    let jira = Jira::start().await;
    let action = jira.action(&format!("{WAYS}, labels: ['{{{{ severity }}}}', 'two words'], description_wiki: '*{{{{ firing }}}}* {{{{ event }}}}'"));
    let (mut from, mut delivery) = (0, sample::delivery());
    assert_eq!(next(&*action, &mut delivery).await, "OPS-1 is new");
    assert_eq!(jira.steps(&mut from), ["POST /rest/api/2/search", "POST /rest/api/2/issue"]);
    assert_eq!(delivery.memo.as_deref(), Some(&br#"{"id":"10000"}"#[..]));
    let issue = jira.issues().remove(0);
    assert_eq!(issue.fields["description"], "*1* Virus Found");
    assert_eq!(issue.fields["priority"], json!({ "name": "High" }));
    assert_eq!(issue.labels, ["critical", "two_words", LABEL]);

    delivery.groups[0].firing = 3;
    jira.state.lock().expect("no panic").issues[0].labels.push("by-hand".into());
    assert_eq!(next(&*action, &mut delivery).await, "OPS-1 was changed");
    assert_eq!(jira.steps(&mut from), ["POST /rest/api/2/search", "PUT /rest/api/2/issue/OPS-1"]);
    let issue = jira.issues().remove(0);
    assert_eq!(issue.fields["description"], "*3* Virus Found");
    assert!(issue.labels.contains(&"by-hand".into()), "what people added stays: {issue:?}");

    let mut ended = resolved(&delivery);
    assert_eq!(next(&*action, &mut ended).await, "OPS-1 was changed and resolved");
    let moved = [
        "POST /rest/api/2/search",
        "PUT /rest/api/2/issue/OPS-1",
        "GET /rest/api/2/issue/OPS-1/transitions",
        "POST /rest/api/2/issue/OPS-1/transitions",
    ];
    assert_eq!(jira.steps(&mut from), moved);
    assert!(jira.issues()[0].done);
    assert_eq!(ended.memo, Some(Vec::new()));

    assert_eq!(next(&*action, &mut ended).await, "there is no open issue", "the end told once more");
    assert_eq!(jira.steps(&mut from), ["POST /rest/api/2/search"]);

    let mut again = Delivery { memo: None, ..sample::delivery() };
    assert_eq!(next(&*action, &mut again).await, "OPS-1 was changed and opened again");
    assert!(!jira.issues()[0].done && jira.issues().len() == 1);

    // Another group has an issue of its own.
    let mut other = sample::delivery();
    other.groups[0].key = "{}:{site=\"paris\"}".into();
    assert_eq!(next(&*action, &mut other).await, "OPS-2 is new");
}

/// reliability: whatever answer is lost, there is one issue, and it ends.
#[tokio::test]
async fn a_retry_after_a_lost_answer_makes_no_second_issue() {
    for lost in ["POST /search", "POST /issue", "PUT /issue", "GET /transitions", "POST /transitions"] {
        let jira = Jira::start().await;
        let action = jira.action(WAYS);
        jira.state.lock().expect("no panic").lose = Some(lost);
        let mut delivery = sample::delivery();
        for step in 0..3 {
            let told = match tell(&*action, &delivery).await {
                Err(failure) => {
                    let is_create = lost == "POST /issue";
                    let kind = if is_create { FailureKind::Uncertain } else { FailureKind::Transient };
                    assert_eq!(failure.kind, kind, "{lost}: {}", failure.reason);
                    assert_eq!(failure.retry_after_ms, is_create.then_some(20_000), "{lost}");
                    delivery = Delivery { attempt: 2, maybe_duplicate: true, ..delivery };
                    tell(&*action, &delivery).await
                }
                told => told,
            };
            let Ok(Receipt::Delivered { memo, .. }) = told else { panic!("{lost} {step}: {told:?}") };
            delivery.memo = memo;
            if step == 1 {
                delivery = resolved(&delivery);
            }
        }
        let issues = jira.issues();
        assert!(issues.len() == 1 && issues[0].done, "{lost}: {issues:?}");
        assert!(jira.state.lock().expect("no panic").lose.is_none(), "{lost} was asked for");
    }
}

/// Jira Cloud's search does not see an issue at once: what it is told to look at, it does.
#[tokio::test]
async fn an_issue_that_the_search_does_not_see_yet_is_found_by_its_id() {
    let jira = Jira::start().await;
    jira.state.lock().expect("no panic").index_lags = true;
    let action = jira.action("api_type: cloud, resolve_transition: Done");
    let mut delivery = sample::delivery();
    assert_eq!(next(&*action, &mut delivery).await, "OPS-1 is new");
    assert_eq!(next(&*action, &mut delivery).await, "OPS-1 was changed");
    assert_eq!(jira.body("POST /search/jql")["reconcileIssues"], json!([10_000]));
    let mut ended = resolved(&delivery);
    assert_eq!(next(&*action, &mut ended).await, "OPS-1 was changed and resolved");
    assert_eq!(jira.issues().len(), 1);
}

#[tokio::test]
async fn a_transition_that_the_issue_lacks_is_named_with_those_it_has() {
    let jira = Jira::start().await;
    let action = jira.action("resolve_transition: Close");
    let mut delivery = sample::delivery();
    next(&*action, &mut delivery).await;
    let failure = tell(&*action, &resolved(&delivery)).await.expect_err("no way");
    let words = "transition: OPS-1 has no transition \"Close\" where it is now; it has Start, Done";
    assert_eq!((failure.kind, failure.reason.as_str()), (FailureKind::Permanent, words));
}

#[tokio::test]
async fn the_search_asks_for_what_may_be_changed() {
    let open = "statusCategory != Done";
    let rows = [
        ("priority: ''", open),
        (WAYS, "(resolutiondate is EMPTY or resolutiondate >= -1440m)"),
        ("reopen_transition: Reopen", open),
        ("reopen_transition: Reopen, reopen_duration: 59s", open),
        (
            "wont_fix_resolution: 'Won''t \"fix\"'",
            r#"(resolution is EMPTY or resolution != "Won't \"fix\"") and statusCategory != Done"#,
        ),
    ];
    for (more, condition) in rows {
        let jira = Jira::start().await;
        let action = jira.action(more);
        tell(&*action, &sample::delivery()).await.expect(more);
        let body = jira.body("POST /search");
        let jql = body["jql"].as_str().expect("a query");
        let start = format!("{condition} and project = \"OPS\" and labels = \"ALERT{{");
        assert!(
            jql.starts_with(&start) && jql.ends_with("}\" order by status ASC, resolutiondate DESC"),
            "{jql}"
        );
        assert_eq!(body["fields"], json!(["status"]), "{body}");
        assert!(body.get("reconcileIssues").is_none(), "{body}");
    }
}

/// reliability: no value breaks out of the query, and an address that fails sends nothing.
#[tokio::test]
async fn a_project_by_template_stays_inside_its_quotes() {
    let jira = Jira::start().await;
    let url = format!("http://{}", jira.server.address);
    let text = |project: &str| {
        format!("jira: {{ api_url: '{url}', token: t, issue_type: Task, project: '{project}' }}")
    };
    let mut delivery = sample::delivery();
    delivery.groups[0].alerts[0].labels[3].1 = "X\" or project != \"".into();
    tell(&*build(&text("{{ common_labels.site }}")), &delivery).await.expect("told");
    let body = jira.body("POST /search");
    let jql = body["jql"].as_str().expect("a query");
    assert!(jql.contains(r#"project = "X\" or project != \"" and"#), "{jql}");
    let before = jira.server.asked().len();
    let failure =
        tell(&*build(&text("{{ common_labels.nosuch }}")), &delivery).await.expect_err("no address");
    assert!(failure.reason.starts_with("the template `project` failed: undefined"), "{}", failure.reason);
    assert_eq!((failure.kind, jira.server.asked().len()), (FailureKind::Permanent, before));
}

#[tokio::test]
async fn descriptions_are_wiki_markup_or_documents_and_nothing_of_a_strangers_is() {
    let mut delivery = sample::delivery();
    delivery.groups[0].alerts[0].labels[1].1 = "[~admin] \"}],\"x\": {code}".into();
    let told = async |version: u8, more: &str| {
        let jira = Jira::start().await;
        let url = format!("http://{}/rest/api/{version}", jira.server.address);
        let text = format!("jira: {{ api_url: '{url}', token: t, project: P, issue_type: Task, {more} }}");
        tell(&*build(&text), &delivery).await.expect(more);
        jira.body("POST /issue")["fields"]["description"].clone()
    };
    let paragraph = |text: &str| json!({ "version": 1, "type": "doc", "content": [{ "type": "paragraph", "content": [{ "type": "text", "text": text }] }] });
    let words = r#"[~admin] "}],"x": {code}"#;
    assert_eq!(told(2, "description: '{{ event }}'").await, r#"\[\~admin\] "\}\],"x": \{code\}"#);
    assert_eq!(told(2, "description_wiki: '*{{ event }}*'").await, r#"*\[\~admin\] "\}\],"x": \{code\}*"#);
    assert_eq!(told(3, "description: '{{ event }}'").await, paragraph(words));
    let document = r#"{"version": 1, "type": "doc", "content": [{"type": "paragraph", "content": [{"type": "text", "text": "{{ event }}"}]}]}"#;
    assert_eq!(told(3, &format!("description_adf: '{document}'")).await, paragraph(words));
    let broken = told(3, "description_adf: '{\"version\":', description: d").await.to_string();
    assert!(broken.contains(r#""text":"d""#) && broken.contains("gives no JSON"), "{broken}");
}

#[tokio::test]
async fn fields_of_the_admins_go_along_and_one_that_fails_says_so() {
    let jira = Jira::start().await;
    let action = jira.action("priority: Low, fields: { customfield_1: { value: '{{ event }}' }, customfield_2: [1, '{{ common_labels.nosuch }}'], priority: { id: '2' } }");
    tell(&*action, &sample::delivery()).await.expect("told");
    let fields = &jira.issues()[0].fields;
    assert_eq!(fields["customfield_1"], json!({ "value": "Virus Found" }));
    assert_eq!(fields["customfield_2"][0], 1);
    assert!(
        fields["customfield_2"][1].as_str().is_some_and(|text| text.contains("a template failed")),
        "{fields}"
    );
    assert_eq!(fields["priority"], json!({ "id": "2" }), "the admin's own");
    assert_eq!(fields["project"], json!({ "key": "OPS" }));
}

#[tokio::test]
async fn what_jira_says_is_told_and_no_login() {
    let login = BASE64_STANDARD.encode("ams2@example.com:example-secret");
    let words = format!(
        r#"{{"errorMessages":["Basic {login} of example-secret is not enough"],"errors":{{"project":"project is required"}}}}"#
    );
    let server = Server::always(400, &[], &words).await;
    let text = format!(
        "jira: {{ api_url: 'http://{}', user: ams2@example.com, password: example-secret, project: OPS, issue_type: Task }}",
        server.address
    );
    let failure = tell(&*build(&text), &sample::delivery()).await.expect_err("refused");
    assert_eq!(failure.kind, FailureKind::Permanent);
    assert!(
        failure.reason.starts_with("search: 127.0.0.1:") && failure.reason.contains("400 Bad Request"),
        "{}",
        failure.reason
    );
    assert!(failure.reason.contains("project is required"), "{}", failure.reason);
    assert!(
        !failure.reason.contains("example-secret") && !failure.reason.contains(&login),
        "{}",
        failure.reason
    );
    let asked = server.asked().remove(0);
    assert_eq!(asked.header("authorization"), Some(format!("Basic {login}").as_str()));
    assert_eq!(asked.header("idempotency-key"), Some("0000000000000000000000000000002a-search"));
}

#[test]
fn settings_that_do_not_go_together_are_named() {
    let rows = [
        ("", "user: nothing says who we are"),
        ("user: a", "password: a user without a password"),
        ("password: a", "user: nothing says who we are"),
        ("password: a, token: b", "user: a password without a user"),
        ("user: a, password: b, token: c", "token: two logins"),
        ("token: a, description_adf: '{}'", "description_adf: version 2 of the API does not know it"),
        ("token: a, fields: { labels: [a] }", "fields: a field that has a setting of its own"),
        ("token: a, fields: { a: '{{ nosuch }}' }", "fields.a: no variable is called `nosuch`"),
        ("token: a, labels: ['{{ nosuch }}']", "labels[0]: no variable is called `nosuch`"),
        ("token: a, api_type: server", "api_type: \"server\" is not one of its values"),
    ];
    for (more, words) in rows {
        let text = format!("jira: {{ api_url: 'http://h', project: P, issue_type: T, {more} }}");
        let settings: ActionSettings = serde_saphyr::from_str(&text).expect(&text);
        let found =
            settings.build(&BuildContext::new("/nowhere", Default::default())).map(drop).expect_err(&text);
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert!(found.iter().any(|mistake| mistake.starts_with(words)), "{text}: {found:?}");
    }
}
