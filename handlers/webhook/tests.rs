use std::sync::Arc;

use ams2_core::{Wall, input::FailureKind};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::json;

use super::{
    mock::{Asked, Server, answer},
    *,
};
use crate::{ActionSettings, sample};

/// Longer than any peer here takes.
const AMPLE: Duration = Duration::from_secs(30);
/// 2026-11-24T10:15:02Z.
const NOW: Wall = Wall(1_795_515_302_000);

fn settings(text: &str) -> ActionSettings {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn build(text: &str) -> Box<dyn Action> {
    let context =
        BuildContext { clock: Arc::new(|| NOW), ..BuildContext::new("/nowhere", Default::default()) };
    settings(text).build(&context).unwrap_or_else(|errors| panic!("{text}: {errors:?}"))
}

async fn tell(action: &dyn Action, delivery: Delivery) -> Result<Receipt, Failure> {
    action.deliver(&[delivery], AMPLE).await.remove(0)
}

fn mistakes(text: &str) -> Vec<String> {
    let built = settings(text).build(&BuildContext::new("/nowhere", Default::default()));
    built.map(drop).expect_err(text).iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_notification_is_alertmanagers_body_with_an_id_that_retries_keep() {
    let server = Server::start(|number, _| match number {
        0 => answer(503, &[], "busy"),
        _ => answer(200, &[], "thanks\nagain"),
    })
    .await;
    let action =
        build(&format!("webhook: {{ url: 'http://{}/alerts', headers: {{ X-Team: ops }} }}", server.address));
    let first = tell(&*action, sample::delivery()).await.expect_err("busy");
    assert_eq!(first.kind, FailureKind::Transient);
    assert_eq!(first.reason, format!("{}: 503 Service Unavailable: busy", server.address));
    let again = Delivery { attempt: 2, maybe_duplicate: true, ..sample::delivery() };
    let told = tell(&*action, again).await;
    assert_eq!(told, Ok(Receipt::delivered(r"200 OK: thanks\nagain")));
    let asked = server.asked();
    assert_eq!(asked[0].body, asked[1].body);
    assert_eq!((asked[0].method.as_str(), asked[0].path.as_str()), ("POST", "/alerts"));
    for asked in &asked {
        assert_eq!(asked.header("idempotency-key"), Some("0000000000000000000000000000002a"));
        assert_eq!(asked.header("content-type"), Some("application/json"));
        assert_eq!(asked.header("x-team"), Some("ops"));
        assert_eq!(asked.header("user-agent"), Some(concat!("ams2/", env!("CARGO_PKG_VERSION"))));
    }
    let body = asked[0].json();
    assert_eq!(body["version"], "4");
    assert_eq!(body["alerts"][0]["endsAt"], "0001-01-01T00:00:00Z");
    assert_eq!(body.as_object().map(serde_json::Map::len), Some(10));
}

/// reliability: what each answer means.
#[tokio::test]
async fn every_status_means_what_it_should() {
    use FailureKind::{Permanent, Transient};
    let date = "Tue, 24 Nov 2026 10:16:02 GMT";
    let rows: [(u16, &[(&str, &str)], Option<(FailureKind, Option<u64>)>); 26] = [
        (200, &[], None),
        (201, &[], None),
        (204, &[], None),
        (301, &[("Location", "http://169.254.169.254/")], Some((Permanent, None))),
        (308, &[("Location", "/")], Some((Permanent, None))),
        (304, &[], Some((Permanent, None))),
        (400, &[], Some((Permanent, None))),
        (401, &[], Some((Permanent, None))),
        (403, &[], Some((Permanent, None))),
        (404, &[], Some((Permanent, None))),
        (410, &[], Some((Permanent, None))),
        (413, &[], Some((Permanent, None))),
        (408, &[], Some((Transient, None))),
        (425, &[], Some((Transient, None))),
        (429, &[], Some((Transient, None))),
        (429, &[("Retry-After", "1")], Some((Transient, Some(1000)))),
        (429, &[("Retry-After", "0")], Some((Transient, Some(1000)))),
        (429, &[("Retry-After", "31536000")], Some((Transient, Some(3_600_000)))),
        (429, &[("Retry-After", "99999999999999999999999")], Some((Transient, Some(3_600_000)))),
        (429, &[("Retry-After", date)], Some((Transient, Some(60_000)))),
        (429, &[("Retry-After", "Sunday, 06-Nov-94 08:49:37 GMT")], Some((Transient, Some(1000)))),
        (429, &[("Retry-After", "soon")], Some((Transient, None))),
        (429, &[("Retry-After", "-5")], Some((Transient, None))),
        (500, &[], Some((Transient, None))),
        (503, &[("Retry-After", "120")], Some((Transient, Some(120_000)))),
        (599, &[], Some((Transient, None))),
    ];
    for (status, headers, expected) in rows {
        let server = Server::always(status, headers, "").await;
        let action = build(&format!("webhook: {{ url: 'http://{}/' }}", server.address));
        let told = tell(&*action, sample::delivery()).await;
        let told = told.map(drop).map_err(|failure| (failure.kind, failure.retry_after_ms));
        assert_eq!(told.err(), expected, "{status} {headers:?}");
        assert_eq!(server.asked().len(), 1, "{status}: one attempt is one request");
    }
}

#[tokio::test]
async fn answers_are_read_as_far_as_they_are_of_use() {
    let endless = |_: usize, _: &Asked| {
        let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for _ in 0..200 {
            bytes.extend_from_slice(b"1000\r\n");
            bytes.extend_from_slice(&[b'x'; 0x1000]);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes
    };
    let huge = |_: usize, _: &Asked| b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\nyes".to_vec();
    let bomb = |_: usize, _: &Asked| answer(200, &[("Content-Encoding", "gzip")], "\u{1f}8");
    for server in [Server::start(endless).await, Server::start(huge).await, Server::start(bomb).await] {
        let action = build(&format!("webhook: {{ url: 'http://{}/' }}", server.address));
        // The one that never ends what it says is waited for only as long as the attempt may take.
        let told = action.deliver(&[sample::delivery()], Duration::from_secs(1)).await.remove(0);
        match told {
            Ok(Receipt::Delivered { reply, .. }) => {
                assert!(reply.starts_with("200 OK") && reply.len() <= 4096, "{}", reply.len())
            }
            told => panic!("{told:?}"),
        }
    }
}

#[tokio::test]
async fn far_ends_that_are_not_there_or_go_away_are_tried_again() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("bound");
    let action = build(&format!("webhook: {{ url: 'http://{closed}/secret-path' }}"));
    let failure = tell(&*action, sample::delivery()).await.expect_err("nobody is there");
    assert_eq!(failure.kind, FailureKind::Transient);
    assert!(failure.reason.contains("refused") && !failure.reason.contains("secret"), "{}", failure.reason);
    // It took the request and said nothing: it may have it.
    let server = Server::start(|_, _| Vec::new()).await;
    let action = build(&format!("webhook: {{ url: 'http://{}/secret-path' }}", server.address));
    let failure = tell(&*action, sample::delivery()).await.expect_err("it closed");
    assert_eq!(failure.kind, FailureKind::Uncertain, "{}", failure.reason);
    assert!(!failure.reason.contains("secret"), "{}", failure.reason);
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn what_a_far_end_repeats_of_a_secret_is_hidden() {
    let server = Server::start(|_, asked: &Asked| {
        let login = asked.header("authorization").unwrap_or_default();
        answer(404, &[], &format!("no {} for {login}", asked.path))
    })
    .await;
    let text = format!(
        "webhook: {{ url: 'http://{}/services/T0/secret', bearer_token: token-of-ours }}",
        server.address
    );
    let action = build(&text);
    let failure = tell(&*action, sample::delivery()).await.expect_err("404");
    let expected = format!("{}: 404 Not Found: no [hidden] for [hidden]", server.address);
    assert_eq!(failure.reason, expected);
    for shown in [format!("{action:?}"), format!("{:?}", settings(&text))] {
        assert!(!shown.contains("T0") && !shown.contains("token-of"), "{shown}");
    }
}

#[tokio::test]
async fn no_part_of_a_secret_is_repeated_however_it_was_sent() {
    // It says what it was sent in pieces: the last part of the path, the query's values, the login without its kind.
    let server = Server::start(|_, asked: &Asked| {
        let login =
            asked.header("authorization").unwrap_or_default().split(' ').next_back().unwrap_or_default();
        let (path, query) = asked.path.split_once('?').unwrap_or_default();
        let part = path.rsplit('/').next().unwrap_or_default();
        let value = query.split('=').next_back().unwrap_or_default();
        let custom = asked.header("x-key").unwrap_or_default().split(' ').next_back().unwrap_or_default();
        answer(404, &[], &format!("part {part} value {value} login {login} custom {custom}"))
    })
    .await;
    for login in [
        "basic_auth: { username: ann, password: 'canary pass' }",
        "bearer_token: canary-token",
        "headers: { X-Key: 'Key canary-of-a-header' }",
    ] {
        let text = format!(
            "webhook: {{ url: 'http://{}/services/T0/canary-part?a=canary-value', {login} }}",
            server.address
        );
        let failure = tell(&*build(&text), sample::delivery()).await.expect_err("404");
        assert!(failure.reason.contains("part [hidden] value [hidden] login"), "{login}: {}", failure.reason);
        assert!(!failure.reason.contains("canary"), "{login}: {}", failure.reason);
        assert!(!failure.reason.contains("YW5u"), "{login}: {}", failure.reason);
    }
}

#[tokio::test]
async fn tokens_that_were_fetched_and_the_login_for_them_are_hidden_too() {
    let server = Server::start(|_, asked: &Asked| match asked.path.as_str() {
        "/token" => answer(200, &[], r#"{"access_token":"canary-token","token_type":"bearer"}"#),
        "/none" => {
            let login = asked.header("authorization").unwrap_or_default().replace("Basic ", "");
            answer(401, &[], &format!(r#"{{"error":"invalid_client","error_description":"not {login}"}}"#))
        }
        _ => answer(403, &[], &asked.header("authorization").unwrap_or_default().replace("Bearer ", "no ")),
    })
    .await;
    for (path, words) in
        [("token", "403 Forbidden: no [hidden]"), ("none", "401 invalid_client not [hidden]")]
    {
        let text = format!(
            "webhook: {{ url: 'http://{0}/', oauth2: {{ client_id: us, client_secret: canary-secret, token_url: 'http://{0}/{path}' }} }}",
            server.address
        );
        let failure = tell(&*build(&text), sample::delivery()).await.expect_err("refused");
        assert!(failure.reason.ends_with(words), "{}", failure.reason);
    }
}

#[tokio::test]
async fn signatures_are_over_the_id_the_time_and_the_body() {
    let server = Server::always(200, &[], "").await;
    let text = "webhook: { url: 'http://ADDRESS/', signing_secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw }";
    let action = build(&text.replace("ADDRESS", &server.address.to_string()));
    tell(&*action, sample::delivery()).await.expect("told");
    let asked = server.asked().remove(0);
    let id = asked.header("webhook-id").expect("an id");
    assert_eq!(id, "0000000000000000000000000000002a");
    assert_eq!(asked.header("webhook-timestamp"), Some("1795515302"));
    let signer = Signer::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a secret");
    assert_eq!(asked.header("webhook-signature"), Some(signer.sign(id, 1_795_515_302, &asked.body).as_str()));
}

#[tokio::test]
async fn logins_are_sent() {
    let server = Server::always(200, &[], "").await;
    for (login, expected) in [
        ("basic_auth: { username: ann, password: 'pass: word' }", "Basic YW5uOnBhc3M6IHdvcmQ="),
        ("basic_auth: { username: ann }", "Basic YW5uOg=="),
        ("bearer_token: example", "Bearer example"),
    ] {
        let action = build(&format!("webhook: {{ url: 'http://{}/', {login} }}", server.address));
        tell(&*action, sample::delivery()).await.expect("told");
        assert_eq!(server.asked().pop().expect("asked").header("authorization"), Some(expected));
    }
}

/// A server that gives out tokens at /token and takes the newest of them elsewhere.
async fn oauth_server(life: &'static str) -> Server {
    let given = std::sync::atomic::AtomicUsize::new(0);
    Server::start(move |_, asked: &Asked| {
        use std::sync::atomic::Ordering::Relaxed;
        if asked.path == "/token" {
            let number = given.fetch_add(1, Relaxed) + 1;
            return answer(
                200,
                &[],
                &format!(r#"{{"access_token":"t{number}","token_type":"Bearer"{life}}}"#),
            );
        }
        // The first token is withdrawn after one use.
        let used = asked.header("authorization").unwrap_or_default().to_owned();
        let newest = format!("Bearer t{}", given.load(Relaxed));
        if used == newest && !(used == "Bearer t1" && asked.text().contains("second")) {
            answer(200, &[], "")
        } else {
            answer(401, &[], "")
        }
    })
    .await
}

fn oauth_action(server: &Server) -> Box<dyn Action> {
    build(&format!(
        "webhook: {{ url: 'http://{0}/hook', body: '{{{{ receiver }}}}', oauth2: {{ client_id: 'a b', client_secret: 's:1', token_url: 'http://{0}/token', scopes: [x, y] }} }}",
        server.address
    ))
}

#[tokio::test]
async fn a_token_is_fetched_once_kept_and_fetched_anew_when_it_is_refused() {
    let server = oauth_server(r#","expires_in":3600"#).await;
    let action = oauth_action(&server);
    for receiver in ["first", "first", "second", "third"] {
        let delivery = Delivery { receiver: receiver.into(), ..sample::delivery() };
        tell(&*action, delivery).await.unwrap_or_else(|failure| panic!("{receiver}: {failure:?}"));
    }
    let paths: Vec<String> = server.asked().iter().map(|asked| asked.path.clone()).collect();
    assert_eq!(paths, ["/token", "/hook", "/hook", "/hook", "/token", "/hook", "/hook"]);
    let asked = &server.asked()[0];
    assert_eq!(asked.text(), "grant_type=client_credentials&scope=x%20y");
    assert_eq!(asked.header("content-type"), Some("application/x-www-form-urlencoded"));
    let login = BASE64_STANDARD.encode("a%20b:s%3A1");
    assert_eq!(asked.header("authorization"), Some(format!("Basic {login}").as_str()));
}

#[tokio::test]
async fn a_token_that_expired_is_not_used() {
    let server = oauth_server(r#","expires_in":"0""#).await;
    let action = oauth_action(&server);
    for _ in 0..2 {
        tell(&*action, sample::delivery()).await.expect("told");
    }
    let tokens = server.asked().iter().filter(|asked| asked.path == "/token").count();
    assert_eq!(tokens, 2);
}

#[tokio::test]
async fn a_message_waits_while_there_is_no_token() {
    let rows = [
        (
            400,
            r#"{"error":"invalid_client","error_description":"no such client"}"#,
            "400 invalid_client no such client",
        ),
        (200, "<html>", "no JSON"),
        (200, r#"{"access_token":""}"#, "no `access_token`"),
        (200, "{\"access_token\":\"a\\r\\nX: y\"}", "no `access_token`"),
        (200, r#"{"access_token":"a","token_type":"mac"}"#, "no bearer token"),
        (503, "", "503"),
    ];
    for (status, body, words) in rows {
        let server = Server::always(status, &[("Retry-After", "9")], body).await;
        let failure = tell(&*oauth_action(&server), sample::delivery()).await.expect_err(words);
        assert_eq!(failure.kind, FailureKind::Transient, "{}", failure.reason);
        assert_eq!(failure.retry_after_ms, Some(9000), "{}", failure.reason);
        assert!(failure.reason.contains(words) && !failure.reason.contains("s:1"), "{}", failure.reason);
        assert!(server.asked().iter().all(|asked| asked.path == "/token"));
    }
}

#[tokio::test]
async fn bodies_by_template_and_as_json() {
    let server = Server::always(200, &[], "").await;
    let rows = [
        (
            "body: '{{ title }}', content_type: text/plain, method: PUT",
            "[FIRING] Virus Found, critical: site=boston",
        ),
        (
            "body: { a: '{{ event }}', b: [1, '{{ alerts[0].labels.computer }}'] }",
            r#"{"a":"Virus Found","b":[1,"ws-042"]}"#,
        ),
    ];
    for (more, body) in rows {
        let action = build(&format!("webhook: {{ url: 'http://{}/', {more} }}", server.address));
        tell(&*action, sample::delivery()).await.expect("told");
        assert_eq!(server.asked().pop().expect("asked").text(), body);
    }
    let asked = server.asked();
    assert_eq!((asked[0].method.as_str(), asked[0].header("content-type")), ("PUT", Some("text/plain")));
    // A template that fails leaves a dead letter that says so.
    let action = build(&format!(
        "webhook: {{ url: 'http://{}/', body: '{{{{ common_labels.no }}}}' }}",
        server.address
    ));
    let failure = tell(&*action, sample::delivery()).await.expect_err("it fails");
    assert_eq!(failure.kind, FailureKind::Permanent);
    assert!(failure.reason.contains("the template `body` failed"), "{}", failure.reason);
}

/// What an alert says is a part of a path, never a way to elsewhere.
#[tokio::test]
async fn a_url_by_template_stays_where_it_points() {
    let server = Server::always(200, &[], "").await;
    let action = build(&format!(
        "webhook: {{ url: 'http://{}/e/{{{{ event }}}}?s={{{{ event }}}}' }}",
        server.address
    ));
    let with = |event: &str| sample::delivery_of(1, vec![sample::alert_of(&[("event", event)], &[])]);
    for (event, path) in [
        ("Virus Found", "/e/Virus%20Found?s=Virus%20Found"),
        ("a/b?c#d", "/e/a%2Fb%3Fc%23d?s=a%2Fb%3Fc%23d"),
        ("@192.0.2.1:80\r\n", "/e/%40192.0.2.1%3A80%0D%0A?s=%40192.0.2.1%3A80%0D%0A"),
    ] {
        tell(&*action, with(event)).await.expect(event);
        assert_eq!(server.asked().pop().expect("asked").path, path, "{event}");
    }
    for event in ["..", "."] {
        let failure = tell(&*action, with(event)).await.expect_err(event);
        assert_eq!(failure.kind, FailureKind::Permanent);
        assert!(failure.reason.contains("leads elsewhere"), "{}", failure.reason);
    }
}

/// reliability: a host that came from an alert is not inside, by name or by number.
#[tokio::test]
async fn a_host_from_an_alert_is_never_inside() {
    let server = Server::always(200, &[], "").await;
    let port = server.address.port();
    let action = build(&format!("webhook: {{ url: 'http://{{{{ common_labels.host }}}}:{port}/' }}"));
    let with = |host: &str| sample::delivery_of(1, vec![sample::alert_of(&[("host", host)], &[])]);
    for host in ["127.0.0.1", "localhost", "0x7f000001", "2130706433", "127.1", "169.254.169.254", "0"] {
        let failure = tell(&*action, with(host)).await.expect_err(host);
        assert_eq!(failure.kind, FailureKind::Permanent, "{host}: {}", failure.reason);
        assert!(failure.reason.contains("private, loopback or link-local"), "{host}: {}", failure.reason);
    }
    // Brackets, colons and slashes cannot make another host of it.
    for host in ["[::1]", "a@127.0.0.1", "127.0.0.1/", "127.0.0.1:1#"] {
        let failure = tell(&*action, with(host)).await.expect_err(host);
        assert_eq!(failure.kind, FailureKind::Permanent, "{host}: {}", failure.reason);
    }
    assert_eq!(server.asked().len(), 0);
}

#[tokio::test]
async fn redirects_are_followed_only_where_the_config_says_and_never_inside() {
    let elsewhere = Server::always(200, &[], "here").await;
    let port = elsewhere.address.port();
    let to = move |place: &str| answer(307, &[("Location", place)], "");
    let server = Server::start(move |_, asked: &Asked| match asked.path.as_str() {
        "/near" => to("/arrived"),
        "/circle" => to("/circle"),
        "/inside" => to("http://169.254.169.254/latest"),
        "/name" => to(&format!("http://localhost:{port}/")),
        "/port" => to(&format!("http://127.0.0.1:{port}/")),
        "/see-other" => answer(303, &[("Location", "/arrived")], ""),
        _ => answer(200, &[], "arrived"),
    })
    .await;
    let told = async |path: &str, redirects: bool| {
        let text = format!(
            "webhook: {{ url: 'http://{}{path}', redirects: {redirects}, bearer_token: example }}",
            server.address
        );
        tell(&*build(&text), sample::delivery()).await
    };
    let refused = told("/near", false).await.expect_err("not followed");
    assert!(
        refused.kind == FailureKind::Permanent && refused.reason.contains("not followed"),
        "{}",
        refused.reason
    );
    assert_eq!(told("/near", true).await, Ok(Receipt::delivered("200 OK: arrived")));
    let arrived = server.asked().pop().expect("asked");
    assert_eq!((arrived.path.as_str(), arrived.method.as_str()), ("/arrived", "POST"));
    assert!(arrived.text().contains("Virus Found") && arrived.header("authorization").is_some());
    for (path, words) in
        [("/circle", "in circles"), ("/inside", "link-local"), ("/name", "link-local"), ("/see-other", "303")]
    {
        let refused = told(path, true).await.expect_err(path);
        assert!(
            refused.kind == FailureKind::Permanent && refused.reason.contains(words),
            "{path}: {}",
            refused.reason
        );
    }
    // The host that the config names, by another port, is told; who we are stays with the first.
    assert_eq!(told("/port", true).await, Ok(Receipt::delivered("200 OK: here")));
    let asked = elsewhere.asked().pop().expect("asked");
    assert_eq!((asked.header("authorization"), asked.header("idempotency-key").is_some()), (None, true));
}

#[tokio::test]
async fn a_proxy_is_asked_only_when_the_config_names_it() {
    let proxy = Server::always(200, &[], "by proxy").await;
    let action = build(&format!(
        "webhook: {{ url: 'http://hooks.example.com/a', proxy: 'http://{}' }}",
        proxy.address
    ));
    assert_eq!(tell(&*action, sample::delivery()).await, Ok(Receipt::delivered("200 OK: by proxy")));
    assert_eq!(proxy.asked()[0].path, "http://hooks.example.com/a");
    assert!(action.probe(AMPLE).await.expect("there").contains("takes connections"));
    let found = mistakes("webhook: { url: 'http://{{ common_labels.h }}/', proxy: 'http://127.0.0.1:1' }");
    assert!(found[0].contains("cannot be checked behind a proxy"), "{found:?}");
}

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Authority { issuer: CertifiedIssuer::self_signed(params, key).expect("signed") }
    }

    fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for `name` and its key, both PEM.
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        (params.signed_by(&key, &self.issuer).expect("signed").pem(), key.serialize_pem())
    }

    /// A server as `name` that demands certificates of `clients`.
    fn server(&self, name: &str, clients: Option<&Authority>) -> Arc<rustls::ServerConfig> {
        let (cert, key) = self.issue(name);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("versions");
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = rustls::RootCertStore::empty();
                roots
                    .add(CertificateDer::from_pem_slice(clients.pem().as_bytes()).expect("PEM"))
                    .expect("added");
                let verifier =
                    rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().expect("built"))
            }
        };
        let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).expect("PEM")];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
        Arc::new(builder.with_single_cert(chain, key).expect("they fit"))
    }
}

/// A web hook to `server` with these settings of TLS.
fn over_tls(server: &Server, tls: serde_json::Value) -> Box<dyn Action> {
    let url = format!("https://localhost:{}/", server.address.port());
    build(&json!({ "webhook": { "url": url, "tls": tls } }).to_string())
}

#[tokio::test]
async fn certificates_are_checked_both_ways() {
    let (ours, others) = (Authority::new(), Authority::new());
    let ok = |_: usize, _: &Asked| answer(200, &[], "yes");
    let server = Server::start_with(Some(ours.server("localhost", Some(&ours))), ok).await;
    let (cert, key) = ours.issue("ams2");
    let good = over_tls(&server, json!({ "ca": ours.pem(), "cert": cert, "key": key }));
    assert_eq!(tell(&*good, sample::delivery()).await, Ok(Receipt::delivered("200 OK: yes")));
    assert!(good.probe(AMPLE).await.expect("there").contains("its certificate is good"));
    assert_eq!(server.asked().len(), 1, "a probe sends nothing");
    let (stranger_cert, stranger_key) = others.issue("ams2");
    for tls in [
        json!({ "ca": others.pem(), "cert": cert, "key": key }),
        json!({ "cert": cert, "key": key }),
        json!({ "ca": ours.pem() }),
        json!({ "ca": ours.pem(), "cert": stranger_cert, "key": stranger_key }),
        json!({ "ca": ours.pem(), "cert": cert, "key": key, "server_name": "hooks.example.com" }),
    ] {
        let shown = tls.to_string().len();
        let failure = tell(&*over_tls(&server, tls), sample::delivery()).await.expect_err("no TLS");
        assert_ne!(failure.kind, FailureKind::Permanent, "{shown}: {}", failure.reason);
    }
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_server_may_have_a_certificate_of_another_name_that_the_config_gives() {
    let ours = Authority::new();
    let tls = Some(ours.server("hooks.example.com", None));
    let server = Server::start_with(tls, |_, _| answer(200, &[], "yes")).await;
    let action = over_tls(&server, json!({ "ca": ours.pem(), "server_name": "hooks.example.com" }));
    assert_eq!(tell(&*action, sample::delivery()).await, Ok(Receipt::delivered("200 OK: yes")));
    let host = format!("localhost:{}", server.address.port());
    assert_eq!(server.asked()[0].header("host"), Some(host.as_str()));
    assert!(action.probe(AMPLE).await.is_ok());
    let without = over_tls(&server, json!({ "ca": ours.pem() }));
    let failure = tell(&*without, sample::delivery()).await.expect_err("another name");
    assert!(failure.reason.contains("certificate"), "{}", failure.reason);
}

#[test]
fn mistakes_in_settings_are_named() {
    let rows = [
        ("url: 'ftp://h/'", "url: it is no URL of a web hook"),
        ("url: 'h/path'", "url: it is no URL of a web hook"),
        ("url: 'http://ann:secret@h/'", "there are settings for that"),
        ("url: 'http://h/#frag'", "never sent"),
        ("url: '{{ event }}'", "begins with neither"),
        ("url: 'http://h/{{ nosuch }}'", "its template is wrong"),
        ("url: 'http://h/', method: GET", "method"),
        ("url: 'http://h/', headers: { Idempotency-Key: x }", "is set by ams2"),
        ("url: 'http://h/', headers: { 'a b': x }", "no name of a header"),
        ("url: 'http://h/', bearer_token: x, headers: { Authorization: x }", "is set by ams2"),
        ("url: 'http://h/', headers: { X: \"a\\nb\" }", "no header can have"),
        ("url: 'http://h/', body: '{{ nosuch }}'", "body: no variable"),
        ("url: 'http://h/', body: { a: '{{ nosuch }}' }", "body: a: no variable"),
        ("url: 'http://h/', signing_secret: short", "signing_secret"),
        (
            "url: 'http://h/', bearer_token: a, basic_auth: { username: u, password: p }",
            "more than one login",
        ),
        ("url: 'http://h/', basic_auth: { username: 'a:b', password: p }", "colon"),
        ("url: 'http://h/', basic_auth: { username: '', password: p }", "basic_auth.username: it is empty"),
        ("url: 'http://h/', basic_auth: { username: u, password: '' }", "basic_auth.password: it is empty"),
        ("url: 'http://h/', basic_auth: { username: u, password: \"a\\nb\" }", "control characters"),
        ("url: 'http://h/', bearer_token: 'Bearer x'", "no token"),
        ("url: 'http://h/', oauth2: { client_id: a, client_secret: b, token_url: x }", "oauth2.token_url"),
        ("url: 'http://h/', proxy: 'socks5://h'", "proxy"),
        ("url: 'http://h/', tls: { ca: x }", "tls.ca_file"),
        ("url: 'http://h/', tls: { cert: x }", "without its key"),
        ("url: 'http://h/', tls: { server_name: '!' }", "tls.server_name"),
    ];
    for (text, words) in rows {
        let found = mistakes(&format!("webhook: {{ {text} }}"));
        assert!(found.iter().any(|mistake| mistake.contains(words)), "{text}: {found:?}");
        assert!(found.iter().all(|mistake| !mistake.contains("secret@")), "{text}: {found:?}");
    }
    let warned = settings("webhook: { url: 'http://hooks.example.com/', bearer_token: x }").warnings();
    assert!(warned[0].message.contains("in the clear"), "{warned:?}");
    assert_eq!(settings("webhook: { url: 'http://127.0.0.1/', bearer_token: x }").warnings(), []);
}

#[test]
fn a_former_configs_words_go_where_the_newest_says() {
    let old = settings("webhook: { url: 'http://old/', body: old, max_alerts: 3 }");
    let new = settings("webhook: { url: 'http://new/', body: new, bearer_token: new }");
    let expected = settings("webhook: { url: 'http://new/', body: old, bearer_token: new, max_alerts: 3 }");
    assert_eq!(new.with_texts_of(&old), expected);
}
