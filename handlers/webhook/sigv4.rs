//! AWS Signature Version 4: a request that says who sends it, and that nobody can change or send again after a quarter of an hour.
//! As AWS describes it: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>.

use ams2_core::Wall;
use reqwest::{
    Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue},
};
use ring::{digest, hmac};

use super::{
    client::{Request, place_of},
    oauth::form,
};
use crate::{Secret, target::escape::hex, text::timestamp};

/// What signs, and for what.
pub(crate) struct Keys<'a> {
    pub(crate) access_key: &'a str,
    pub(crate) secret_key: &'a Secret,
    /// Of keys that expire; empty for others.
    pub(crate) session_token: &'a Secret,
    pub(crate) region: &'a str,
    pub(crate) service: &'a str,
}

/// Signs a request as it is at that time: what is behind its host, its body and the type of it.
pub(crate) fn sign(request: &mut Request, keys: &Keys<'_>, now: Wall) -> Result<(), String> {
    let stamp = timestamp(now).strftime("%Y%m%dT%H%M%SZ").to_string();
    let host = place_of(&request.url);
    let token = keys.session_token.expose();
    let mut signed = vec![("host", host.as_str()), ("x-amz-date", stamp.as_str())];
    if let Some(value) = request.headers.get(CONTENT_TYPE) {
        signed.insert(0, ("content-type", value.to_str().expect("it is ours")));
    }
    if !token.is_empty() {
        signed.push(("x-amz-security-token", token));
    }
    let authorization = authorization(
        request.method.as_str(),
        &request.url,
        &signed,
        &digest_hex(&request.body),
        keys,
        &stamp,
    );
    let mut set = |name, value: &str| {
        let mut value =
            HeaderValue::from_str(value).map_err(|_| "keys that no header can have".to_owned())?;
        value.set_sensitive(true);
        request.headers.insert(name, value);
        Ok::<_, String>(())
    };
    if !token.is_empty() {
        set(HeaderName::from_static("x-amz-security-token"), token)?;
    }
    set(HeaderName::from_static("x-amz-date"), &stamp)?;
    set(AUTHORIZATION, &authorization)
}

/// The value of `Authorization`. `headers` are those that are signed, sorted by name; `stamp` is the time of `x-amz-date`.
fn authorization(
    method: &str,
    url: &Url,
    headers: &[(&str, &str)],
    body_digest: &str,
    keys: &Keys<'_>,
    stamp: &str,
) -> String {
    let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
    let canonical = format!(
        "{method}\n{}\n{}\n{lines}\n{names}\n{body_digest}",
        canonical_path(url),
        canonical_query(url)
    );
    let day = &stamp[..8];
    let scope = format!("{day}/{}/{}/aws4_request", keys.region, keys.service);
    let to_sign = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}", digest_hex(canonical.as_bytes()));
    let secret = format!("AWS4{}", keys.secret_key.expose());
    let key = [day, keys.region, keys.service, "aws4_request"]
        .iter()
        .fold(secret.into_bytes(), |key, part| mac(&key, part.as_bytes()));
    let signature = hex(&mac(&key, to_sign.as_bytes()));
    format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
        keys.access_key
    )
}

/// Each part of the path is encoded once more than it is in the URL, as all services but S3 want it.
fn canonical_path(url: &Url) -> String {
    url.path().split('/').map(form).collect::<Vec<_>>().join("/")
}

/// The parameters sorted, encoded as AWS does.
fn canonical_query(url: &Url) -> String {
    let mut pairs: Vec<(String, String)> =
        url.query_pairs().map(|(name, value)| (form(&name), form(&value))).collect();
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

fn mac(key: &[u8], bytes: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), bytes).as_ref().to_vec()
}

fn digest_hex(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: &str = "20150830T123600Z";

    fn keys<'a>(secret_key: &'a Secret, session_token: &'a Secret) -> Keys<'a> {
        Keys { access_key: "AKIDEXAMPLE", secret_key, session_token, region: "us-east-1", service: "service" }
    }

    /// The suite that AWS tests its own libraries with, by the names of its cases (github.com/awslabs/aws-c-auth, tests/aws-signing-test-suite/v4,
    /// `header-signature.txt`).
    #[test]
    fn signatures_are_those_that_aws_publishes() {
        let token = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267";
        let digest = "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e";
        let host = ("host", "example.amazonaws.com");
        let date = ("x-amz-date", STAMP);
        let rows: [(&str, &str, &str, &[(&str, &str)], &str, &str); 5] = [
            (
                "get-vanilla",
                "GET",
                "/",
                &[host, date],
                "",
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "post-vanilla",
                "POST",
                "/",
                &[host, date],
                "",
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                "get-vanilla-query-order-encoded",
                "GET",
                "/?Param-3=Value3&Param=Value2&%E1%88%B4=Value1",
                &[host, date],
                "",
                "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac",
            ),
            (
                "get-vanilla-with-session-token",
                "GET",
                "/",
                &[host, date, ("x-amz-security-token", token)],
                "",
                "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8",
            ),
            (
                "post-x-www-form-urlencoded",
                "POST",
                "/",
                &[
                    ("content-length", "13"),
                    ("content-type", "application/x-www-form-urlencoded"),
                    host,
                    ("x-amz-content-sha256", digest),
                    date,
                ],
                "Param1=value1",
                "d3875051da38690788ef43de4db0d8f280229d82040bfac253562e56c3f20e0b",
            ),
        ];
        let (secret, none) = (Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"), Secret::new(""));
        for (name, method, rest, headers, body, signature) in rows {
            let url: Url = format!("https://example.amazonaws.com{rest}").parse().expect("a URL");
            let digest = digest_hex(body.as_bytes());
            let value = authorization(method, &url, headers, &digest, &keys(&secret, &none), STAMP);
            assert!(value.ends_with(&format!(", Signature={signature}")), "{name}: {value}");
        }
    }
}
