use std::sync::{Arc, Mutex};

use super::{wire::Word, *};
use crate::{
    ActionSettings, sample,
    webhook::mock::{Asked, Server as Mock, answer as said},
};

fn action(settings: &str) -> Box<dyn Action> {
    let settings: ActionSettings = serde_saphyr::from_str(&format!("forward: {settings}")).expect("settings");
    settings.build(&BuildContext::new("/nowhere", Default::default())).expect("an action")
}

fn batch_of(asked: &Asked) -> Batch {
    assert_eq!(asked.header("content-encoding"), Some("zstd"));
    let json = zstd::bulk::decompress(&asked.body, 16 << 20).expect("compressed");
    serde_json::from_slice(&json).expect("a batch")
}

/// What a parent answers that takes all but what `answer` says.
fn takes(asked: &Asked, answer: Answer) -> Vec<u8> {
    let server = Server { name: "primary".into(), journal: "00000000000000bb".into(), version: "".into() };
    let left = (answer.refused.len() + answer.cut.len()) as u64;
    let answer = Answer { server, accepted: batch_of(asked).alerts.len() as u64 - left, ..answer };
    said(200, &[], &serde_json::to_string(&answer).expect("JSON"))
}

const AMPLE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn what_is_sent_is_the_alert_with_its_place_and_what_the_parent_says_counts_for_each() {
    let word = |index, detail: &str| vec![Word { index, detail: detail.into() }];
    let parent = Mock::start(move |_, asked| {
        takes(
            asked,
            Answer { refused: word(1, "no such thing"), cut: word(2, "a > b > a"), ..Answer::default() },
        )
    })
    .await;
    let action = action(&format!(
        "{{ to: ['http://{}/ams2/'], bearer_token: example-token, labels: {{ site: x, zone: dmz }} }}",
        parent.address
    ));
    let own =
        Alert { client: "ams2".into(), ..sample::alert_of(&[("event", "Startup"), ("source", "ams2")], &[]) };
    let hops = [
        (trail::ORIGIN, "pda/0000000000000001/5"),
        (trail::TRAIL, "pda/0000000000000001 now"),
        ("summary", "s"),
    ];
    let relayed = Alert {
        firing: false,
        ends_at: Some(ams2_core::Wall(7)),
        ..sample::alert_of(&[("event", "B")], &hops)
    };
    let alerts = [sample::alert(), own, relayed];
    let batch: Vec<Delivery> = alerts.into_iter().map(|alert| sample::delivery_of(1, vec![alert])).collect();
    let results = action.deliver(&batch, AMPLE).await;
    let Ok(Receipt::Delivered { reply, memo, .. }) = &results[0] else { panic!("{results:?}") };
    assert_eq!(reply, "primary has it on its disk");
    assert_eq!(memo.as_deref(), Some(&b"primary/00000000000000bb"[..]));
    assert!(
        matches!(&results[1], Err(f) if f.kind == FailureKind::Permanent && f.reason.contains("no such thing"))
    );
    assert!(
        matches!(&results[2], Ok(Receipt::Delivered { reply, .. }) if reply.contains("a loop was cut: a > b > a"))
    );
    let asked = parent.asked();
    assert_eq!((asked.len(), asked[0].path.as_str()), (1, "/ams2/api/v1/forward"));
    assert_eq!(asked[0].header("authorization"), Some("Bearer example-token"));
    let sent = batch_of(&asked[0]).alerts;
    assert_eq!((sent[0].labels["site"].as_str(), sent[0].labels["zone"].as_str()), ("boston", "dmz"));
    assert_eq!((sent[0].position.as_str(), sent[0].ends_at, &sent[0].origin), ("17", None, &None));
    assert!(!sent[1].labels.contains_key("source") && sent[1].labels.contains_key("server"), "{:?}", sent[1]);
    assert_eq!(sent[2].origin.as_deref(), Some("pda/0000000000000001/5"));
    assert_eq!((sent[2].ends_at, sent[2].annotations.len()), (Some(7), 1), "{:?}", sent[2]);
}

#[tokio::test]
async fn the_next_parent_is_asked_where_the_first_does_not_take_it() {
    let broken = Mock::start(|_, _| said(503, &[("Retry-After", "9")], "disk full")).await;
    let well = Mock::start(|_, asked| takes(asked, Answer::default())).await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    let to = |addresses: &[std::net::SocketAddr]| {
        let all: Vec<String> = addresses.iter().map(|address| format!("'http://{address}'")).collect();
        action(&format!("{{ to: [{}] }}", all.join(", ")))
    };
    let one = [sample::delivery()];
    let three = to(&[closed, broken.address, well.address]);
    assert!(three.deliver(&one, AMPLE).await[0].is_ok());
    assert!(three.deliver(&one, AMPLE).await[0].is_ok());
    assert_eq!((broken.asked().len(), well.asked().len()), (1, 2), "who took it is asked first from then on");
    let failure = to(&[broken.address]).deliver(&one, AMPLE).await[0].clone().expect_err("nobody takes it");
    assert_eq!((failure.kind, failure.retry_after_ms), (FailureKind::Transient, Some(9_000)));
}

/// Whatever a parent answers, an alert is told or waits: only what it names is given up.
#[tokio::test]
async fn nonsense_of_a_parent_gives_up_nothing() {
    let answers: [(u16, &str); 8] = [
        (200, ""),
        (200, "ok"),
        (200, "{}"),
        (200, r#"{"server":{"name":"p","journal":"00000000000000bb"},"accepted":0}"#),
        (
            200,
            r#"{"server":{"name":"p","journal":"00000000000000bb"},"accepted":18446744073709551615,"cut":[{"index":9,"detail":""}]}"#,
        ),
        (200, r#"{"server":{"name":"p q","journal":"00000000000000bb"},"accepted":1}"#),
        (401, "who are you, example-token?"),
        (404, "no such path"),
    ];
    for (status, body) in answers {
        let parent = Mock::start(move |_, _| said(status, &[], body)).await;
        let action = action(&format!("{{ to: ['http://{}'], bearer_token: example-token }}", parent.address));
        let failure = action.deliver(&[sample::delivery()], AMPLE).await[0].clone().expect_err(body);
        assert_eq!(failure.kind, FailureKind::Transient, "{body}");
        assert!(!failure.reason.contains("example-token"), "{}", failure.reason);
    }
}

/// What is too large for a parent comes in halves, and what is too large alone is given up alone.
#[tokio::test]
async fn what_is_too_large_for_a_parent_comes_in_parts() {
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let seen = sizes.clone();
    let parent = Mock::start(move |_, asked| {
        let batch = batch_of(asked);
        let is_large = |alert: &wire::Alert| alert.annotations.values().any(|value| value.len() > 1_000);
        if batch.alerts.len() > 2 || batch.alerts.iter().any(is_large) {
            return said(413, &[], "too large");
        }
        seen.lock().expect("no panic").push(batch.alerts.len());
        takes(asked, Answer::default())
    })
    .await;
    let action = action(&format!("{{ to: ['http://{}'] }}", parent.address));
    let large = sample::alert_of(&[("event", "L")], &[("text", &"x".repeat(2_000))]);
    let mut batch: Vec<Delivery> = (0..5).map(|_| sample::delivery()).collect();
    batch.push(sample::delivery_of(2, vec![large]));
    let results = action.deliver(&batch, AMPLE).await;
    assert!(results[..5].iter().all(Result::is_ok), "{results:?}");
    assert!(
        matches!(&results[5], Err(failure) if failure.kind == FailureKind::Permanent),
        "{:?}",
        results[5]
    );
    assert_eq!(sizes.lock().expect("no panic").iter().sum::<usize>(), 5);
}

#[test]
fn a_request_has_an_end() {
    let delivery = sample::delivery();
    let wide = sample::alert_of(&[("event", "E")], &[("text", &"x".repeat(300 << 10))]);
    let narrow = sample::alert();
    let items: Vec<Item<'_>> =
        [&wide, &wide, &wide, &wide, &narrow].iter().map(|alert| (0, &delivery, *alert)).collect();
    assert_eq!(parts(&items).map(<[Item<'_>]>::len).collect::<Vec<_>>(), [3, 2]);
    let many: Vec<Item<'_>> = (0..1_001).map(|_| (0, &delivery, &narrow)).collect();
    assert_eq!(parts(&many).map(<[Item<'_>]>::len).collect::<Vec<_>>(), [500, 500, 1]);
}

#[test]
fn settings_that_lead_nowhere_are_named() {
    let rows = [
        ("{ to: [] }", "to"),
        ("{ to: ['ftp://a'] }", "to[0]"),
        ("{ to: ['https://u:p@a'] }", "to[0]"),
        ("{ to: ['https://a/?x=1'] }", "to[0]"),
        ("{ to: ['https://a', 'https://a/'] }", "to[1]"),
        ("{ to: ['https://a'], bearer_token: 'Bearer x' }", "bearer_token"),
        ("{ to: ['https://a'], labels: { source: x } }", "labels"),
        ("{ to: ['https://a'], spool_max: 10 }", "spool_max"),
    ];
    for (settings, field) in rows {
        let settings: ActionSettings =
            serde_saphyr::from_str(&format!("forward: {settings}")).expect("settings");
        let errors = settings.build(&BuildContext::new("/nowhere", Default::default())).expect_err(field);
        assert_eq!(errors.iter().map(|error| error.field.as_str()).collect::<Vec<_>>(), [field]);
    }
    let clear: ActionSettings =
        serde_saphyr::from_str("forward: { to: ['http://parent.example.com'], bearer_token: x }")
            .expect("settings");
    assert_eq!(clear.warnings().len(), 1);
}

/// It goes to the parent that takes alerts, and the one before hears where it went.
#[tokio::test]
async fn a_check_in_goes_to_the_chosen_parent_and_the_one_before_hears_of_it() {
    let answered = |router: &str| {
        let body = format!(
            r#"{{"router":"{router}","incarnation":"00000000000000bb","client":"c","period_ms":60000}}"#
        );
        said(200, &[], &body)
    };
    let first = Mock::start(move |number, asked| match asked.json().get("leaves_for") {
        None if number > 0 => said(503, &[], "later"),
        _ => answered("first"),
    })
    .await;
    let second = Mock::start(move |_, _| answered("second")).await;
    let action = action(&format!("{{ to: ['http://{}', 'http://{}/x'] }}", first.address, second.address));
    let report = Report { server: "laptop".into(), version: "1".into(), waiting: 7, ..Report::default() };
    for router in ["first", "second"] {
        let answer = action.check_in(&report, AMPLE).await.expect("it checks in").expect("it is answered");
        assert_eq!(answer.router, router);
    }
    let asked = first.asked();
    assert_eq!(asked.iter().map(|asked| asked.path.as_str()).collect::<Vec<_>>(), ["/api/v1/checkin"; 3]);
    assert_eq!(
        (asked[0].json()["waiting"].as_u64(), asked[2].json()["leaves_for"].as_str()),
        (Some(7), Some("second"))
    );
    assert_eq!(second.asked()[0].path, "/x/api/v1/checkin");
}
