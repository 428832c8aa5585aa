//! TLS as a client: whom we trust, and who we are.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::Secret;

/// Our own certificate and its key, both PEM.
pub(crate) struct Identity<'a> {
    pub(crate) cert: &'a str,
    pub(crate) key: &'a Secret,
}

/// What cannot be used.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The certificates of those that we trust.
    Authorities(String),
    /// Our own certificate or its key.
    Identity(String),
}

/// TLS 1.2 and 1.3 with servers that one of the authorities in `ca` (PEM) signed; without, one that this system trusts.
pub fn client(ca: Option<&str>) -> Result<Arc<ClientConfig>, String> {
    client_with(ca, None, true).map(Arc::new).map_err(|trouble| match trouble {
        Trouble::Authorities(what) | Trouble::Identity(what) => what,
    })
}

/// The same, with a certificate of our own for servers that ask for one. Where no TLS is `expected`, nobody need be trusted.
pub(crate) fn client_with(
    ca: Option<&str>,
    identity: Option<Identity<'_>>,
    expected: bool,
) -> Result<ClientConfig, Trouble> {
    let roots = match authorities(ca) {
        Err(_) if ca.is_none() && !expected => RootCertStore::empty(),
        found => found.map_err(Trouble::Authorities)?,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.expect("ring knows TLS 1.2 and 1.3").with_root_certificates(roots);
    let Some(Identity { cert, key }) = identity else { return Ok(builder.with_no_client_auth()) };
    let wrong = |what: String| Trouble::Identity(what);
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(cert.as_bytes()).collect();
    let chain = chain.map_err(|error| wrong(format!("it is no PEM: {error}")))?;
    if chain.is_empty() {
        return Err(wrong("it holds no certificate".into()));
    }
    let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes());
    let key = key.map_err(|error| wrong(format!("its key cannot be used: {error}")))?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| wrong(format!("it does not fit its key: {error}")))
}

fn authorities(ca: Option<&str>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let certificate = certificate.map_err(|error| format!("it is no PEM: {error}"))?;
                roots.add(certificate).map_err(|error| format!("a certificate cannot be used: {error}"))?;
            }
            if roots.is_empty() {
                return Err("it holds no certificate".into());
            }
        }
        None => {
            roots = system_authorities();
            if roots.is_empty() {
                return Err("this system has no certificates of authorities".into());
            }
        }
    }
    Ok(roots)
}

/// How long the system's authorities are kept: a config with a thousand web hooks reads them once, and a reload after they
/// changed reads them again.
const SYSTEM_KEPT: Duration = Duration::from_secs(10);

/// Those that this system trusts. One that cannot be read is missed only by servers that it signed.
fn system_authorities() -> RootCertStore {
    static KEPT: Mutex<Option<(Instant, RootCertStore)>> = Mutex::new(None);
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    match &*kept {
        Some((read, roots)) if read.elapsed() < SYSTEM_KEPT => roots.clone(),
        _ => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            *kept = Some((Instant::now(), roots.clone()));
            roots
        }
    }
}
