//! Who we are to the manager: the version, and its community or user. v3 always authenticates and encrypts.

use super::Settings;
use crate::{Secret, SettingsError};

/// Which SNMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnmpVersion {
    /// SNMPv1 (RFC 1157).
    V1,
    /// SNMPv2c (RFC 1901).
    V2c,
    /// SNMPv3 (RFC 3410).
    V3,
}

/// How a v3 user authenticates (RFC 3414, RFC 7860).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Authentication {
    /// HMAC-MD5-96: known here so that it is refused in plain words.
    #[schemars(skip)]
    Md5,
    /// HMAC-SHA-96.
    Sha1,
    /// HMAC-128-SHA-224.
    Sha224,
    /// HMAC-192-SHA-256.
    Sha256,
    /// HMAC-256-SHA-384.
    Sha384,
    /// HMAC-384-SHA-512.
    Sha512,
}

/// How a v3 user encrypts (RFC 3826).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Privacy {
    /// CBC-DES: known here so that it is refused in plain words.
    #[schemars(skip)]
    Des,
    /// AES-128.
    Aes128,
    /// AES-192, with the longer key made as net-snmp does.
    Aes192,
    /// AES-256, with the longer key made as net-snmp does.
    Aes256,
}

/// YAML reads `1` and `3` as numbers.
impl<'de> serde::Deserialize<'de> for SnmpVersion {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<SnmpVersion, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = SnmpVersion;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("1, 2c or 3")
            }
            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<SnmpVersion, E> {
                self.visit_str(&value.to_string())
            }
            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<SnmpVersion, E> {
                self.visit_str(&value.to_string())
            }
            fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<SnmpVersion, E> {
                match value {
                    "1" => Ok(SnmpVersion::V1),
                    "2c" => Ok(SnmpVersion::V2c),
                    "3" => Ok(SnmpVersion::V3),
                    other => Err(E::invalid_value(serde::de::Unexpected::Str(other), &self)),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl schemars::JsonSchema for SnmpVersion {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SnmpVersion".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "enum": [1, 3, "1", "2c", "3"] })
    }
}

/// RFC 3414 section 5: usmUserName has at most 32 bytes.
const USER_BYTES_MAX: usize = 32;
/// Longest community: longer ones are a mistaken file.
const COMMUNITY_BYTES_MAX: usize = 255;
/// RFC 3414 section 11.2: passwords have at least 8 characters.
const PASSWORD_BYTES_MIN: usize = 8;
/// Who we are to the manager.
#[derive(Clone, Debug)]
pub(super) enum Access {
    V1(Secret),
    V2c(Secret),
    V3(User),
}

/// A user of the User-based Security Model (RFC 3414), always with authentication and privacy.
#[derive(Clone, Debug)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) authentication: Authentication,
    pub(super) authentication_password: Secret,
    pub(super) privacy: Privacy,
    pub(super) privacy_password: Secret,
}

impl SnmpVersion {
    fn word(self) -> &'static str {
        match self {
            SnmpVersion::V1 => "1",
            SnmpVersion::V2c => "2c",
            SnmpVersion::V3 => "3",
        }
    }
}

impl Access {
    /// What stands in a message before the varbinds of the alert, at most, in bytes, without the trap's own OID.
    pub(super) fn head_bytes(&self) -> usize {
        match self {
            // Message and PDU headers 35, sysUpTime.0 20, the name of snmpTrapOID.0 18.
            Access::V1(community) | Access::V2c(community) => 80 + community.expose().len(),
            // As well: global data 25, twice an engine id of 32, digest 50, salt 10, boots and time 12, padding.
            Access::V3(user) => 280 + user.name.len(),
        }
    }
}

impl Settings {
    pub(super) fn version(&self) -> SnmpVersion {
        self.version.unwrap_or(SnmpVersion::V2c)
    }

    /// Settings of one version given to another: a misunderstanding that should not pass in silence.
    pub(super) fn misplaced(&self) -> Vec<SettingsError> {
        let is_v3 = self.version() == SnmpVersion::V3;
        let word = self.version().word();
        let rows = [
            ("community", self.community.is_some() && is_v3),
            ("user", self.user.is_some() && !is_v3),
            ("auth", self.auth.is_some() && !is_v3),
            ("auth_password", self.auth_password.is_some() && !is_v3),
            ("priv", self.privacy.is_some() && !is_v3),
            ("priv_password", self.priv_password.is_some() && !is_v3),
        ];
        let wrong = rows.into_iter().filter(|(_, is_wrong)| *is_wrong);
        let mend = if is_v3 { "remove it" } else { "remove it, or say `version: 3`" };
        let mut errors: Vec<SettingsError> = wrong
            .map(|(field, _)| SettingsError::new(field, format!("version {word} has no `{field}`"), mend))
            .collect();
        if self.inform == Some(true) && self.version() == SnmpVersion::V1 {
            let mend = "use version 2c or 3, or remove `inform`";
            errors.push(SettingsError::new("inform", "version 1 has no informs", mend));
        }
        errors
    }

    pub(super) fn access(&self) -> Result<Access, Vec<SettingsError>> {
        let community = || match &self.community {
            Some(community) if is_text(community.expose(), 1, COMMUNITY_BYTES_MAX) => Ok(community.clone()),
            Some(_) => Err(vec![SettingsError::new(
                "community",
                "a community that is empty, longer than 255 bytes or has control characters",
                "write it as the manager knows it",
            )]),
            None => Err(vec![SettingsError::new(
                "community",
                format!("version {} needs a community, and there is no default one", self.version().word()),
                "add `community_file`, or `community: ${env:NAME}`",
            )]),
        };
        match self.version() {
            SnmpVersion::V1 => community().map(Access::V1),
            SnmpVersion::V2c => community().map(Access::V2c),
            SnmpVersion::V3 => self.user().map(Access::V3),
        }
    }

    fn user(&self) -> Result<User, Vec<SettingsError>> {
        let mut errors = Vec::new();
        let mut wrong = |field: &str, message: String, mend: &str| {
            errors.push(SettingsError::new(field, message, mend));
        };
        let name = self.user.clone().unwrap_or_default();
        if !is_text(&name, 1, USER_BYTES_MAX) {
            let message = match self.user {
                None => "version 3 needs a user".to_owned(),
                Some(_) => format!("{name:?} is no name of a user"),
            };
            wrong("user", message, "use 1 to 32 bytes, as the manager knows it");
        }
        let authentication = self.auth.unwrap_or(Authentication::Sha256);
        if authentication == Authentication::Md5 {
            wrong(
                "auth",
                "MD5 protects nothing any more".into(),
                "use sha256, or what the manager has of sha1 to sha512",
            );
        }
        let privacy = self.privacy.unwrap_or(Privacy::Aes128);
        if privacy == Privacy::Des {
            wrong(
                "priv",
                "DES protects nothing any more".into(),
                "use aes128, or what the manager has of aes192 and aes256",
            );
        }
        for (field, password) in
            [("auth_password", &self.auth_password), ("priv_password", &self.priv_password)]
        {
            match password {
                None => {
                    let mend = format!("add `{field}_file`, or `{field}: ${{env:NAME}}`");
                    wrong(
                        field,
                        format!("version 3 needs `{field}`: alerts do not travel in the clear"),
                        &mend,
                    );
                }
                Some(password) if password.expose().len() < PASSWORD_BYTES_MIN => {
                    wrong(
                        field,
                        "shorter than 8 characters (RFC 3414)".into(),
                        "use a longer one, there and here",
                    );
                }
                Some(_) => {}
            }
        }
        match (&self.auth_password, &self.priv_password) {
            (Some(authentication_password), Some(privacy_password)) if errors.is_empty() => Ok(User {
                name,
                authentication,
                authentication_password: authentication_password.clone(),
                privacy,
                privacy_password: privacy_password.clone(),
            }),
            _ => Err(errors),
        }
    }
}

fn is_text(text: &str, bytes_min: usize, bytes_max: usize) -> bool {
    (bytes_min..=bytes_max).contains(&text.len()) && !text.contains(char::is_control)
}
