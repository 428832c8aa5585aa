//! Amazon SNS: what is signed, roles, FIFO topics, and what is too long. That the signatures are right is shown in `webhook/sigv4.rs` and beside
//! botocore in the end-to-end tests.

use reqwest::Url;

use super::*;

const PUBLISHED: &str =
    "<PublishResponse><PublishResult><MessageId>567910cd</MessageId></PublishResult></PublishResponse>";
const TOPIC: &str = "topic_arn: 'arn:aws:sns:eu-west-1:1:alerts'";

fn action(server: &Server, more: &str) -> Box<dyn Action> {
    build(&format!(
        "sns: {{ access_key: AKIDEXAMPLE, secret_key: example-secret, api_url: 'http://{0}', sts_url: 'http://{0}/sts', {more} }}",
        server.address
    ))
}

/// The fields of a form.
fn fields(asked: &Asked) -> BTreeMap<String, String> {
    let url = Url::parse(&format!("http://h/?{}", asked.text())).expect("a form");
    url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}

async fn told(more: &str, delivery: &Delivery) -> (Asked, BTreeMap<String, String>) {
    let server = Server::always(200, &[], PUBLISHED).await;
    let told = tell(&*action(&server, more), delivery).await;
    assert!(told.is_ok(), "{more}: {told:?}");
    let asked = server.asked().remove(0);
    let fields = fields(&asked);
    (asked, fields)
}

#[tokio::test]
async fn a_message_is_published_and_signed() {
    let more = format!("{TOPIC}, attributes: {{ severity: '{{{{ severity }}}}', empty: '' }}");
    let (asked, fields) = told(&more, &sample::delivery()).await;
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/"));
    assert_eq!(asked.header("x-amz-date"), Some("20261124T101502Z"));
    let login = asked.header("authorization").expect("signed");
    let start = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261124/eu-west-1/sns/aws4_request, SignedHeaders=content-type;host;x-amz-date, Signature=";
    assert!(login.strip_prefix(start).is_some_and(|signature| signature.len() == 64), "{login}");
    assert_eq!(asked.header("x-amz-security-token"), None);
    let rows = [
        ("Action", "Publish"),
        ("Version", "2010-03-31"),
        ("TopicArn", "arn:aws:sns:eu-west-1:1:alerts"),
        ("Subject", "[FIRING] Virus Found, critical: site=boston"),
        ("MessageAttributes.entry.1.Name", "severity"),
        ("MessageAttributes.entry.1.Value.DataType", "String"),
        ("MessageAttributes.entry.1.Value.StringValue", "critical"),
    ];
    for (name, value) in rows {
        assert_eq!(fields.get(name).map(String::as_str), Some(value), "{name}: {fields:?}");
    }
    assert!(fields["Message"].starts_with("[FIRING] Virus Found"), "{fields:?}");
    assert_eq!(fields.len(), rows.len() + 1, "{fields:?}");
    let (asked, _) = told(&format!("{TOPIC}, session_token: example-token"), &sample::delivery()).await;
    assert_eq!(asked.header("x-amz-security-token"), Some("example-token"));
    assert!(
        asked.header("authorization").is_some_and(|login| login.contains("x-amz-date;x-amz-security-token"))
    );
}

#[tokio::test]
async fn a_fifo_topic_drops_a_repetition_and_keeps_a_groups_order() {
    let more = "topic_arn: 'arn:aws:sns:eu-west-1:1:alerts.fifo'";
    let (_, first) = told(more, &sample::delivery()).await;
    let (_, again) = told(more, &Delivery { attempt: 2, maybe_duplicate: true, ..sample::delivery() }).await;
    assert_eq!(first, again, "a retry is the same to the last byte");
    assert_eq!(first["MessageDeduplicationId"], "0000000000000000000000000000002a");
    let (_, other) = told(more, &sample::delivery_of(7, vec![sample::alert()])).await;
    assert_eq!(other["MessageGroupId"], first["MessageGroupId"]);
    assert_ne!(other["MessageDeduplicationId"], first["MessageDeduplicationId"]);
}

#[tokio::test]
async fn what_is_too_long_is_cut_between_characters_and_says_so() {
    let text = "text: \"{% for i in range(9000) %}ééééééééééé{% endfor %}\"";
    let truncated = |fields: &BTreeMap<String, String>| {
        let name = fields.get("MessageAttributes.entry.1.Name").map(String::as_str);
        name == Some("truncated") && fields["MessageAttributes.entry.1.Value.StringValue"] == "true"
    };
    let (_, fields) =
        told(&format!("phone_number: '+15550101', region: us-east-1, {text}"), &sample::delivery()).await;
    assert_eq!(fields["Message"].chars().count(), 1600);
    assert!(fields["Message"].ends_with("é…") && truncated(&fields));
    assert!(!fields.contains_key("Subject"), "{:?}", fields.keys());
    // The longest that a template gives is longer than what SNS takes.
    let text = text.replace("9000", "11900");
    let (asked, fields) = told(&format!("{TOPIC}, {text}"), &sample::delivery()).await;
    let length = fields["Message"].len();
    assert!((244_990..=245_000).contains(&length) && truncated(&fields), "{length}");
    assert!(asked.body.len() < 800_000, "{}", asked.body.len());
    let (_, fields) = told(&format!("{TOPIC}, text: short"), &sample::delivery()).await;
    assert!(!truncated(&fields));
    let mut delivery = sample::delivery();
    delivery.groups[0].alerts[0].labels[1].1 = "two\nlines\u{7}".into();
    let (_, fields) = told(&format!("{TOPIC}, subject: '{{{{ event }}}}'"), &delivery).await;
    assert_eq!(fields["Subject"], r"two\nlines\u{7}");
}

#[tokio::test]
async fn a_role_is_taken_on_with_the_key_and_kept_until_it_is_refused() {
    let server = Server::start(|number, asked| {
        if is_to("POST /sts/", asked) {
            let body = format!("<AssumeRoleResponse><Credentials><AccessKeyId>ASIA{number}</AccessKeyId><SecretAccessKey>role-secret</SecretAccessKey><SessionToken>role-token-{number}</SessionToken></Credentials></AssumeRoleResponse>");
            return answer(200, &[], &body);
        }
        match number {
            3 => answer(403, &[], "<ErrorResponse><Error><Code>ExpiredToken</Code></Error></ErrorResponse>"),
            _ => answer(200, &[], PUBLISHED),
        }
    })
    .await;
    let action =
        action(&server, &format!("{TOPIC}, role_arn: 'arn:aws:iam::1:role/alerts', external_id: x1"));
    for _ in 0..3 {
        tell(&*action, &sample::delivery()).await.expect("published");
    }
    let asked = server.asked();
    let key = |asked: &Asked| {
        let login = asked.header("authorization").expect("signed");
        login.split(['=', '/']).nth(1).expect("a key").to_owned()
    };
    let seen: Vec<(String, String, Option<&str>)> = asked
        .iter()
        .map(|asked| (asked.path.clone(), key(asked), asked.header("x-amz-security-token")))
        .collect();
    let (sts, sns) = ("/sts/".to_owned(), "/".to_owned());
    let expected = [
        (sts.clone(), "AKIDEXAMPLE".to_owned(), None),
        (sns.clone(), "ASIA0".to_owned(), Some("role-token-0")),
        (sns.clone(), "ASIA0".to_owned(), Some("role-token-0")),
        (sns.clone(), "ASIA0".to_owned(), Some("role-token-0")),
        (sts, "AKIDEXAMPLE".to_owned(), None),
        (sns, "ASIA4".to_owned(), Some("role-token-4")),
    ];
    assert_eq!(seen, expected);
    let assume = fields(&asked[0]);
    assert_eq!(assume["RoleArn"], "arn:aws:iam::1:role/alerts");
    assert_eq!((assume["ExternalId"].as_str(), assume["DurationSeconds"].as_str()), ("x1", "3600"));
    assert!(
        asked[0].header("authorization").is_some_and(|login| login.contains("/eu-west-1/sts/aws4_request"))
    );
}

#[tokio::test]
async fn what_sns_says_is_told_and_no_key() {
    let words = "<ErrorResponse><Error><Code>AuthorizationError</Code><Message>example-secret may not publish</Message></Error></ErrorResponse>";
    let server = Server::always(403, &[], words).await;
    let action = action(&server, TOPIC);
    let failure = tell(&*action, &sample::delivery()).await.expect_err("refused");
    assert_eq!(failure.kind, FailureKind::Permanent);
    assert!(
        failure.reason.contains("AuthorizationError") && failure.reason.contains("may not publish"),
        "{}",
        failure.reason
    );
    assert!(!failure.reason.contains("example-secret"), "{}", failure.reason);
    assert!(!format!("{action:?}").contains("example-secret"), "{action:?}");
}

#[test]
fn the_region_comes_from_somewhere() {
    let rows = [
        ("phone_number: '+1'", Some("region: nothing says which region")),
        ("topic_arn: 'nonsense'", Some("region: nothing says which region")),
        ("topic_arn: '{{ common_labels.topic }}'", Some("region: nothing says which region")),
        ("topic_arn: '{{ common_labels.topic }}', region: eu-west-1", None),
        ("topic_arn: 'arn:aws:sns:eu-west-1:1:{{ common_labels.team }}'", None),
        ("topic_arn: 'arn:aws-cn:sns:cn-north-1:1:a'", None),
        ("topic_arn: 'arn:aws:sns:eu-west-1:1:a', external_id: x", Some("external_id: it is for a role")),
        (
            "topic_arn: 'arn:aws:sns:eu-west-1:1:a', phone_number: '+1'",
            Some("phone_number: two ways to the same place"),
        ),
    ];
    for (more, words) in rows {
        let text = format!("sns: {{ access_key: a, secret_key: b, {more} }}");
        let settings: ActionSettings = serde_saphyr::from_str(&text).expect(&text);
        let found = settings
            .build(&BuildContext::new("/nowhere", Default::default()))
            .map(drop)
            .err()
            .unwrap_or_default();
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found.is_empty(), words.is_none(), "{text}: {found:?}");
        assert!(
            words.is_none_or(|words| found.iter().any(|mistake| mistake.starts_with(words))),
            "{text}: {found:?}"
        );
    }
}
