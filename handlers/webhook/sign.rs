//! Signatures by Standard Webhooks 1.0 (<https://www.standardwebhooks.com>): whoever knows the secret can tell that a body is
//! ours, and new.

use base64::{Engine, prelude::BASE64_STANDARD};
use ring::hmac;

/// A secret that signs.
pub(crate) struct Signer(hmac::Key);

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer(..)")
    }
}

/// Shortest secret, in bytes: Standard Webhooks asks for 24 to 64.
const SECRET_BYTES_MIN: usize = 16;

impl Signer {
    /// Reads `whsec_` and base64, as the libraries for it write secrets; anything else is the secret itself.
    pub(crate) fn new(secret: &str) -> Result<Signer, String> {
        let bytes = match secret.strip_prefix("whsec_") {
            Some(encoded) => BASE64_STANDARD.decode(encoded).map_err(|_| "no base64 follows `whsec_`")?,
            None => secret.as_bytes().to_vec(),
        };
        if bytes.len() < SECRET_BYTES_MIN {
            return Err(format!(
                "a secret of {} bytes, and at least {SECRET_BYTES_MIN} are asked for",
                bytes.len()
            ));
        }
        Ok(Signer(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// The value of `webhook-signature`.
    pub(crate) fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(body);
        format!("v1,{}", BASE64_STANDARD.encode(context.sign()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example that the specification's libraries test themselves with.
    #[test]
    fn the_signature_is_that_of_the_specifications_libraries() {
        let signer = Signer::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a secret");
        let signature =
            signer.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn secrets_that_are_none_are_refused() {
        for secret in ["short", "whsec_???", "whsec_c2hvcnQ="] {
            assert!(Signer::new(secret).is_err(), "{secret}");
        }
        assert!(Signer::new("sixteen bytes in").is_ok());
    }
}
