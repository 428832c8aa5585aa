//! An authority for certificates of a test, and what it signs.

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    DnType, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};

use super::harness::Site;

/// An authority whose certificate is `NAME.pem` in the site.
pub struct Authority<'s> {
    site: &'s Site,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl<'s> Authority<'s> {
    pub fn new(site: &'s Site, name: &str) -> Authority<'s> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer =
            CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed");
        site.secret(&format!("{name}.pem"), &issuer.pem());
        Authority { site, issuer }
    }

    /// Signs a certificate for these names; it and its key are `FILE.pem` and `FILE.key`.
    pub fn sign(&self, file: &str, names: &[&str]) -> Certificate {
        self.sign_with(file, names, |_| {})
    }

    /// The same with changes.
    pub fn sign_with(
        &self,
        file: &str,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Certificate {
        let (params, key) = asked(file, names, change);
        let made = params.signed_by(&key, &self.issuer).expect("signed");
        self.site.secret(&format!("{file}.pem"), &made.pem());
        self.site.secret(&format!("{file}.key"), &key.serialize_pem());
        made
    }

    /// A certificate that signed itself.
    pub fn none(site: &Site, file: &str, names: &[&str]) -> Certificate {
        let (params, key) = asked(file, names, |_| {});
        let made = params.self_signed(&key).expect("signed");
        site.secret(&format!("{file}.pem"), &made.pem());
        site.secret(&format!("{file}.key"), &key.serialize_pem());
        made
    }

    /// Takes the certificates with these serial numbers back, in `FILE`.
    pub fn revoke(&self, file: &str, serials: &[u64]) {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2999, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer).expect("signed");
        self.site.secret(file, &list.pem().expect("PEM"));
    }
}

fn asked(
    file: &str,
    names: &[&str],
    change: impl FnOnce(&mut CertificateParams),
) -> (CertificateParams, KeyPair) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.distinguished_name.push(DnType::CommonName, file);
    change(&mut params);
    (params, KeyPair::generate().expect("a key"))
}
