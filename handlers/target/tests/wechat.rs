//! WeCom: tokens that are kept, expire and are refused.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

const SENT: &str = r#"{"errcode":0,"errmsg":"ok","msgid":"1"}"#;

/// A server that gives the n-th token with this many seconds to live, and answers messages by `script`: the token, and which message it
/// is, from 0.
async fn wecom(lives: u64, script: impl Fn(&str, usize) -> String + Send + Sync + 'static) -> Server {
    let (tokens, messages) = (AtomicUsize::new(0), AtomicUsize::new(0));
    Server::start(move |_, asked| {
        if is_to("GET /gettoken", asked) {
            assert!(asked.path.ends_with("/gettoken?corpid=ww1&corpsecret=example-secret"), "{}", asked.path);
            assert!(asked.body.is_empty() && asked.header("content-type").is_none());
            let number = tokens.fetch_add(1, Ordering::SeqCst) + 1;
            let body = json!({ "errcode": 0, "errmsg": "ok", "access_token": format!("example-token-{number}"), "expires_in": lives });
            return answer(200, &[], &body.to_string());
        }
        let token = asked.path.split("access_token=").nth(1).expect("a token");
        match script(token, messages.fetch_add(1, Ordering::SeqCst)).as_str() {
            "" => Vec::new(),
            body => answer(200, &[], body),
        }
    })
    .await
}

fn action(server: &Server, more: &str) -> Box<dyn Action> {
    build(&format!(
        "wechat: {{ corp_id: ww1, secret: example-secret, agent_id: '7', api_url: 'http://{}/cgi-bin/', {more} }}",
        server.address
    ))
}

/// What was asked for, by its last part, and with which token.
fn steps(server: &Server) -> Vec<String> {
    let step = |asked: &Asked| {
        let path = asked.path.strip_prefix("/cgi-bin/").expect("below the API");
        path.split("corpid")
            .next()
            .unwrap_or_default()
            .replace("message/send?access_token=example-token-", "send ")
    };
    server.asked().iter().map(step).collect()
}

#[tokio::test]
async fn a_token_is_kept_until_it_expires() {
    let server = wecom(7200, |_, _| SENT.into()).await;
    let action = action(&server, "to_user: '@all'");
    for _ in 0..3 {
        tell(&*action, &sample::delivery()).await.expect("sent");
    }
    assert_eq!(steps(&server), ["gettoken?", "send 1", "send 1", "send 1"]);
    // One that is dead at once is good for nothing.
    let server = wecom(0, |_, _| SENT.into()).await;
    let action = self::action(&server, "to_user: '@all'");
    for _ in 0..2 {
        tell(&*action, &sample::delivery()).await.expect("sent");
    }
    assert_eq!(steps(&server), ["gettoken?", "send 1", "gettoken?", "send 2"]);
}

#[tokio::test]
async fn a_token_that_is_refused_is_fetched_anew_once() {
    for code in [40001, 40014, 42001] {
        let refusal = json!({ "errcode": code, "errmsg": "access_token expired" }).to_string();
        let first = refusal.clone();
        let server =
            wecom(7200, move |token, _| if token.ends_with("-1") { first.clone() } else { SENT.into() })
                .await;
        let action = action(&server, "to_user: kim");
        tell(&*action, &sample::delivery()).await.expect("sent");
        tell(&*action, &sample::delivery()).await.expect("sent");
        assert_eq!(steps(&server), ["gettoken?", "send 1", "gettoken?", "send 2", "send 2"], "{code}");

        let server = wecom(7200, move |_, _| refusal.clone()).await;
        let action = self::action(&server, "to_user: kim");
        let failure = tell(&*action, &sample::delivery()).await.expect_err("refused");
        assert_eq!(failure.kind, FailureKind::Permanent, "{}", failure.reason);
        assert!(failure.reason.contains("access_token expired"), "{}", failure.reason);
        assert_eq!(steps(&server), ["gettoken?", "send 1", "gettoken?", "send 2"], "{code}");
    }
}

#[tokio::test]
async fn messages_at_once_share_one_login() {
    let server = wecom(7200, |_, _| SENT.into()).await;
    let action = action(&server, "to_tag: '1'");
    let delivery = sample::delivery();
    let tells = (0..5).map(|_| tell(&*action, &delivery));
    for told in futures(tells.collect()).await {
        told.expect("sent");
    }
    assert_eq!(steps(&server).iter().filter(|step| step.starts_with("gettoken")).count(), 1);
}

/// All of them at once.
async fn futures<T>(all: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut all: Vec<_> = all.into_iter().map(|one| (Box::pin(one), None)).collect();
    std::future::poll_fn(move |context| {
        for (one, done) in all.iter_mut().filter(|(_, done)| done.is_none()) {
            if let std::task::Poll::Ready(value) = one.as_mut().poll(context) {
                *done = Some(value);
            }
        }
        match all.iter().all(|(_, done)| done.is_some()) {
            true => std::task::Poll::Ready(all.iter_mut().filter_map(|(_, done)| done.take()).collect()),
            false => std::task::Poll::Pending,
        }
    })
    .await
}

/// reliability: a login that is refused is not the message's fault.
#[tokio::test]
async fn a_login_that_is_refused_leaves_the_message_waiting_and_shows_no_secret() {
    let words = r#"{"errcode":40001,"errmsg":"invalid credential example-secret"}"#;
    let server = Server::always(200, &[], words).await;
    let failure = tell(&*action(&server, "to_user: kim"), &sample::delivery()).await.expect_err("no token");
    assert_eq!(failure.kind, FailureKind::Transient);
    assert!(failure.reason.starts_with("login: 127.0.0.1:"), "{}", failure.reason);
    assert!(
        failure.reason.contains("40001") && !failure.reason.contains("example-secret"),
        "{}",
        failure.reason
    );
    assert_eq!(server.asked().len(), 1, "nothing was sent");

    let server = wecom(7200, |token, _| format!(r#"{{"errcode":60020,"errmsg":"{token} may not"}}"#)).await;
    let action = action(&server, "to_user: kim");
    let failure = tell(&*action, &sample::delivery()).await.expect_err("refused");
    assert_eq!(failure.kind, FailureKind::Permanent);
    assert!(
        failure.reason.contains("may not") && !failure.reason.contains("example-token"),
        "{}",
        failure.reason
    );
    assert!(!format!("{action:?}").contains("example-"), "{action:?}");
}

#[tokio::test]
async fn an_answer_that_is_lost_is_uncertain_and_the_token_stays_good() {
    let server = wecom(7200, |_, number| if number == 0 { String::new() } else { SENT.into() }).await;
    let action = action(&server, "to_user: kim");
    let failure = tell(&*action, &sample::delivery()).await.expect_err("lost");
    assert_eq!(failure.kind, FailureKind::Uncertain);
    tell(&*action, &sample::delivery()).await.expect("sent");
    assert_eq!(steps(&server), ["gettoken?", "send 1", "send 1"]);
}

#[tokio::test]
async fn text_and_markdown_are_cut_and_mention_nobody() {
    let server = wecom(7200, |_, _| SENT.into()).await;
    let mut delivery = sample::delivery();
    delivery.groups[0].alerts[0].labels[1].1 =
        format!("<@kim> [a](http://x)\u{1}{}", "é".repeat(3000)).into();
    let told = async |more: &str| {
        tell(&*action(&server, more), &delivery).await.expect(more);
        server.asked().pop().expect("asked").json()
    };
    let body = told("to_user: '{{ common_labels.site }}', text: '<a>{{ event }}'").await;
    assert_eq!(
        (&body["touser"], &body["msgtype"], &body["agentid"]),
        (&json!("boston"), &json!("text"), &json!(7))
    );
    let text = body["text"]["content"].as_str().expect("text");
    assert!(
        text.starts_with("<a>‹@kim> [a](http://x)é") && text.len() <= 2048 && text.ends_with('…'),
        "{text}"
    );
    assert!(body.get("toparty").is_none() && body.get("markdown").is_none(), "{body}");
    let body = told("to_party: '2', markdown: '**{{ event }}**'").await;
    let text = body["markdown"]["content"].as_str().expect("text");
    assert!(text.starts_with("**‹@kim> ［a](http://x)é") && text.len() <= 2048, "{text}");
    assert!(body.get("text").is_none(), "{body}");
}

#[test]
fn somebody_must_get_it() {
    let text = "wechat: { corp_id: a, secret: b, agent_id: '7' }";
    let settings: ActionSettings = serde_saphyr::from_str(text).expect(text);
    let found = settings.build(&BuildContext::new("/nowhere", Default::default())).map(drop).expect_err(text);
    assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), ["to_user: nobody gets it"]);
}
