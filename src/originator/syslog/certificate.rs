//! Certificates of those who send over TLS (RFC 5425): whom they name, and whether that is to be believed.

use std::{fmt, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::WebPkiSupportedAlgorithms,
    pki_types::{CertificateDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use sha2::{Digest, Sha256};
use smol_str::SmolStr;

use super::clients::Senders;

/// Longest part of a certificate that is shown, in bytes: it may say anything.
const SHOWN_BYTES_MAX: usize = 100;

/// The SHA-256 of a certificate (RFC 5425 section 4.2.2).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Reads `sha256:` and 64 hex digits, with colons between them or without, as `openssl x509 -fingerprint -sha256` has them.
    pub fn parse(text: &str) -> Option<Fingerprint> {
        let (kind, digits) = text.split_once(':')?;
        let digits: String = digits.chars().filter(|c| *c != ':').collect();
        let is_known = kind.eq_ignore_ascii_case("sha256") || kind.eq_ignore_ascii_case("sha-256");
        if !is_known || digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()?;
        }
        Some(Fingerprint(bytes))
    }
}

/// `sha256:` and 64 hex digits.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a certificate says of who has it.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// Its DNS names (subjectAltName), in lower case. A common name is none.
    pub names: Vec<SmolStr>,
    /// Its common name, for messages; may be empty.
    pub subject: String,
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
}

impl Certificate {
    /// Reads a certificate; `None` if it is none.
    pub fn read(der: &CertificateDer<'_>) -> Option<Certificate> {
        let read = webpki::EndEntityCert::try_from(der).ok()?;
        Some(Certificate {
            names: read.valid_dns_names().map(|name| name.to_ascii_lowercase().into()).collect(),
            subject: common_name(read.subject()),
            fingerprint: Fingerprint(Sha256::digest(der).into()),
        })
    }
}

/// The common name within a distinguished name in DER (X.520 section 6.2.2), if it is a short text.
fn common_name(subject: &[u8]) -> String {
    const ID_AT_COMMON_NAME: [u8; 5] = [0x06, 0x03, 0x55, 0x04, 0x03];
    let found = subject.windows(ID_AT_COMMON_NAME.len()).position(|window| window == ID_AT_COMMON_NAME);
    let text = found.and_then(|at| {
        let [_kind, length, text @ ..] = &subject[at + ID_AT_COMMON_NAME.len()..] else { return None };
        text.get(..usize::from(*length))
    });
    let text = String::from_utf8_lossy(text.unwrap_or_default());
    ams2_handlers::text::cut(&ams2_handlers::text::one_line(&text), SHOWN_BYTES_MAX).into_owned()
}

/// A certificate that is not believed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the certificate of `{subject}` ({fingerprint}) is refused: {why}")]
pub struct NotBelieved {
    subject: String,
    fingerprint: Fingerprint,
    why: String,
}

/// Asks everybody for a certificate: one that an authority of the config signed and that has a name, or one whose fingerprint the
/// config has.
#[derive(Debug)]
pub struct Verifier {
    /// Those that one of the authorities signed.
    authorities: Option<Arc<dyn ClientCertVerifier>>,
    senders: Arc<Senders>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    /// `authorities` checks who signed; without it fingerprints alone count.
    pub fn new(authorities: Option<Arc<dyn ClientCertVerifier>>, senders: Arc<Senders>) -> Verifier {
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        Verifier { authorities, senders, algorithms }
    }

    /// Why a certificate is not believed.
    fn doubt(
        &self,
        certificate: &Certificate,
        der: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Option<String> {
        if self.senders.trust(&certificate.fingerprint) {
            return out_of_date(der, now).map(str::to_owned);
        }
        let Some(authorities) = &self.authorities else {
            return Some("no client has its fingerprint (originator.syslog.clients)".into());
        };
        match authorities.verify_client_cert(der, intermediates, now) {
            Err(Error::InvalidCertificate(why)) => Some(words(&why)),
            Err(why) => Some(why.to_string()),
            Ok(_) if certificate.names.is_empty() => {
                let mend = "sign one with a DNS name as subjectAltName, or give a client its fingerprint";
                Some(format!("it has no name, and a common name is none: {mend}"))
            }
            Ok(_) => None,
        }
    }
}

/// Why an authority's word does not count, for people.
fn words(why: &CertificateError) -> String {
    match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".into(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet".into()
        }
        CertificateError::Revoked => "it was revoked".into(),
        CertificateError::UnknownIssuer => "none of the authorities signed it".into(),
        other => other.to_string(),
    }
}

/// Why nobody should believe a certificate now, whoever signed it.
fn out_of_date(der: &CertificateDer<'_>, now: UnixTime) -> Option<&'static str> {
    use webpki::Error::{CertExpired, CertNotValidYet};
    let certificate = webpki::EndEntityCert::try_from(der).ok()?;
    let usage = webpki::KeyUsage::client_auth();
    // Its time is looked at before who signed it: that there are no authorities here is all the same.
    match certificate.verify_for_usage(&[], &[], &[], now, usage, None, None).err()? {
        CertExpired { .. } => Some("it has expired"),
        CertNotValidYet { .. } => Some("it is not valid yet"),
        _ => None,
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // A client whose fingerprint counts has perhaps no certificate of theirs, and should send what it has.
        match &self.authorities {
            Some(authorities) if self.senders.known.iter().all(|known| known.fingerprints.is_empty()) => {
                authorities.root_hint_subjects()
            }
            _ => &[],
        }
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let bad = || Error::InvalidCertificate(CertificateError::BadEncoding);
        let certificate = Certificate::read(end_entity).ok_or_else(bad)?;
        match self.doubt(&certificate, end_entity, intermediates, now) {
            None => Ok(ClientCertVerified::assertion()),
            Some(why) => {
                let Certificate { subject, fingerprint, .. } = certificate;
                let why = NotBelieved { subject, fingerprint, why };
                Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why)))))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_tools_write_it() {
        let digits = "0A".repeat(32);
        let apart = vec!["0a"; 32].join(":");
        for text in [format!("sha256:{digits}"), format!("SHA256:{apart}"), format!("sha-256:{apart}")] {
            assert_eq!(Fingerprint::parse(&text), Some(Fingerprint([10; 32])), "{text}");
        }
        assert_eq!(Fingerprint([10; 32]).to_string(), format!("sha256:{}", digits.to_lowercase()));
        for wrong in [
            "",
            "sha256:",
            "sha1:0a",
            &digits,
            &format!("sha256:{digits}0"),
            &format!("sha256:{}é", &digits[2..]),
        ] {
            assert_eq!(Fingerprint::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_certificate_says_its_names() {
        use rcgen::{CertificateParams, DnType, KeyPair};
        let mut params = CertificateParams::new(["GW.example.com".to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, "a\u{1b}b");
        let made = params.self_signed(&KeyPair::generate().expect("a key")).expect("a certificate");
        let read = Certificate::read(made.der()).expect("one");
        assert_eq!((&*read.names, &*read.subject), (&["gw.example.com".into()][..], r"a\u{1b}b"));
        assert!(Certificate::read(&CertificateDer::from(&b"none"[..])).is_none());
    }
}
