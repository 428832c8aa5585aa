//! What is read from other files: secrets, keys, certificates.

use std::{fs::File, io::Read, os::unix::fs::PermissionsExt, sync::Arc};

use rustls::{
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};

use super::Reader;
use crate::{
    config::tree::{self, Node},
    originator::Tls,
};

/// Largest file with a secret or with certificates, in bytes: all authorities that a system trusts fit.
const SECRET_BYTES_MAX: u64 = 1 << 20;

/// A certificate with its chain, its key, and where that is named.
pub(super) struct Identity<'n> {
    chain: Vec<CertificateDer<'static>>,
    private: PrivateKeyDer<'static>,
    key: &'n Node,
}

impl Reader<'_> {
    /// A secret's file. Its content is never shown.
    pub(super) fn secret(&mut self, node: &Node) -> Option<String> {
        let path = self.folder.join(self.found.path(node)?);
        let shown = path.display();
        let text = match tree::open(&path) {
            Ok((_, metadata)) if metadata.permissions().mode() & 0o007 != 0 => {
                let mend = format!("chmod 600 {shown}");
                let message = format!("everybody on this machine can read or write {shown}");
                self.found.error(node.place, message, mend);
                return None;
            }
            Ok((file, _)) => read_small(file)
                .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "is not text in UTF-8".to_owned())),
            Err(why) => Err(why),
        };
        match text.map(|text| text.trim_end_matches(['\r', '\n']).to_owned()) {
            Ok(secret) if secret.is_empty() => {
                self.found.error(node.place, format!("{shown} is empty"), "write the secret into it");
                None
            }
            Ok(secret) => Some(secret),
            Err(why) => {
                let mend = "make it a file that the user that ams2 runs as can read";
                self.found.error(node.place, format!("{shown} {why}"), mend);
                None
            }
        }
    }

    /// What a file holds that is no secret: certificates.
    pub(super) fn file_text(&mut self, node: &Node) -> Option<String> {
        let path = self.folder.join(self.found.path(node)?);
        let text = tree::open(&path).and_then(|(file, _)| read_small(file));
        let text = text.and_then(|bytes| String::from_utf8(bytes).map_err(|_| "is not text in UTF-8".into()));
        match text {
            Ok(text) => Some(text),
            Err(why) => {
                let mend = "make it a file that the user that ams2 runs as can read";
                self.found.error(node.place, format!("{} {why}", path.display()), mend);
                None
            }
        }
    }

    pub(super) fn tls(&mut self, node: &Node) -> Option<Tls> {
        let mut fields = self.found.fields(node);
        let cert = fields.demand("cert_file", &mut self.found);
        let key = fields.demand("key_file", &mut self.found);
        let ca = fields.take("client_ca_file");
        fields.end(&mut self.found);
        let identity = self.identity(cert?, key?)?;
        let verifier = match ca {
            None => None,
            Some(node) => Some(self.authorities(node, None)?),
        };
        self.served(identity, verifier).map(Arc::new)
    }

    /// A certificate and its key.
    pub(super) fn identity<'n>(&mut self, cert: &Node, key: &'n Node) -> Option<Identity<'n>> {
        let chain = self.certificates(cert)?;
        if let Some(why) = chain.first().and_then(out_of_date) {
            self.found.warning(cert.place, format!("no client will trust it: {why}"), "have it renewed");
        }
        let secret = self.secret(key)?;
        match PrivateKeyDer::from_pem_slice(secret.as_bytes()) {
            Ok(private) => Some(Identity { chain, private, key }),
            Err(error) => {
                self.found.error(
                    key.place,
                    format!("the file holds no private key: {error}"),
                    "use PEM, unencrypted",
                );
                None
            }
        }
    }

    /// Who may sign certificates of clients, and which of those were taken back.
    pub(super) fn authorities(
        &mut self,
        ca: &Node,
        crl: Option<&Node>,
    ) -> Option<Arc<dyn ClientCertVerifier>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(self.certificates(ca)?);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        if let Some(node) = crl {
            // Those of an authority without a list stand.
            builder = builder.with_crls(self.revocations(node)?).allow_unknown_revocation_status();
        }
        match builder.build() {
            Ok(verifier) => Some(verifier),
            Err(error) => {
                self.found.error(ca.place, format!("clients cannot be checked with it: {error}"), "");
                None
            }
        }
    }

    fn revocations(&mut self, node: &Node) -> Option<Vec<CertificateRevocationListDer<'static>>> {
        let text = self.file_text(node)?;
        let lists: Result<Vec<_>, _> =
            CertificateRevocationListDer::pem_slice_iter(text.as_bytes()).collect();
        match lists {
            Ok(lists) if !lists.is_empty() => Some(lists),
            _ => {
                self.found.error(node.place, "the file holds no list of revoked certificates", "use PEM");
                None
            }
        }
    }

    /// What a listener shows, and whom it asks for a certificate.
    pub(super) fn served(
        &mut self,
        identity: Identity<'_>,
        verifier: Option<Arc<dyn ClientCertVerifier>>,
    ) -> Option<rustls::ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.expect("ring knows TLS 1.2 and 1.3");
        let builder = match verifier {
            None => builder.with_no_client_auth(),
            Some(verifier) => builder.with_client_cert_verifier(verifier),
        };
        match builder.with_single_cert(identity.chain, identity.private) {
            Ok(config) => Some(config),
            Err(error) => {
                self.found.error(
                    identity.key.place,
                    format!("the certificate and the key do not fit: {error}"),
                    "use the key that the certificate was made with",
                );
                None
            }
        }
    }

    pub(super) fn certificates(&mut self, node: &Node) -> Option<Vec<CertificateDer<'static>>> {
        let path = self.folder.join(self.found.path(node)?);
        let read = tree::open(&path).and_then(|(file, _)| read_small(file)).and_then(|pem| {
            let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
            chain.map_err(|error| format!("cannot be used: {error}"))
        });
        match read {
            Ok(chain) if !chain.is_empty() => Some(chain),
            Ok(_) => {
                self.found.error(node.place, format!("{} holds no certificate", path.display()), "use PEM");
                None
            }
            Err(why) => {
                self.found.error(node.place, format!("{} {why}", path.display()), "use PEM, readable");
                None
            }
        }
    }
}

/// Why nobody trusts a certificate now, whoever signed it.
fn out_of_date(certificate: &CertificateDer<'_>) -> Option<&'static str> {
    use webpki::Error::{CertExpired, CertNotValidYet};
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    let usage = webpki::KeyUsage::server_auth();
    // Its time is looked at before who signed it: that there are no authorities here is all the same.
    match certificate.verify_for_usage(&[], &[], &[], UnixTime::now(), usage, None, None).err()? {
        CertExpired { .. } => Some("the certificate has expired"),
        CertNotValidYet { .. } => Some("the certificate is not valid yet"),
        _ => None,
    }
}

/// What the file holds, if it is as small as keys, certificates and passwords are.
fn read_small(file: File) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > SECRET_BYTES_MAX {
        return Err(format!("has more than {SECRET_BYTES_MAX} bytes"));
    }
    Ok(bytes)
}
