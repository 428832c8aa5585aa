//! Who a client is, and what it may send. Tokens are kept as SHA-256 and compared in constant time.

use ams2_core::{AlertRef, Severities, matcher::Compiled};
use sha2::{Digest, Sha256};
use smol_str::SmolStr;
use subtle::ConstantTimeEq;

/// The SHA-256 of a token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenHash(pub [u8; 32]);

impl TokenHash {
    /// The hash of a token.
    pub fn of(token: &str) -> TokenHash {
        TokenHash(Sha256::digest(token.as_bytes()).into())
    }
}

/// Not even the hash of a secret is shown.
impl std::fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenHash(..)")
    }
}

/// What a client may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Send alerts that match its `allow`.
    Send,
    /// Hand on alerts that other servers accepted.
    Relay,
    /// Ask what is: alerts, groups, deliveries, metrics.
    Read,
    /// Read, and acknowledge, retry, drop, test and reload.
    Operate,
}

impl Right {
    /// Every right, in the order in which they grow.
    pub const ALL: [Right; 4] = [Right::Send, Right::Relay, Right::Read, Right::Operate];

    /// Its name in the config.
    pub fn word(self) -> &'static str {
        match self {
            Right::Send => "send",
            Right::Relay => "relay",
            Right::Read => "read",
            Right::Operate => "operate",
        }
    }

    /// What it is good for, for messages.
    pub(super) fn what(self) -> &'static str {
        match self {
            Right::Send => "send alerts",
            Right::Relay => "hand on alerts of other servers",
            Right::Read => "ask what is here",
            Right::Operate => "change anything here",
        }
    }
}

/// A client of the config.
#[derive(Clone, Debug)]
pub struct KnownClient {
    /// Its name.
    pub name: SmolStr,
    /// Its token; `None` for one that is known by its Unix user alone.
    pub token: Option<TokenHash>,
    /// Its Unix user on the socket.
    pub uid: Option<u32>,
    /// It may send only alerts that match all of these.
    pub allow: Vec<Compiled>,
    /// What it may do.
    pub may: Vec<Right>,
    /// Whether many machines share it, so that each that checks in has a name of its own behind this one.
    pub enrol: bool,
}

/// Every client of the config.
#[derive(Clone, Debug, Default)]
pub struct Clients {
    /// In the order of the config.
    pub known: Vec<KnownClient>,
    /// For the matchers of `allow`.
    pub severities: Severities,
}

/// Who sent a request.
#[derive(Clone, Debug)]
pub(super) struct Sender<'a> {
    pub name: SmolStr,
    /// `None` for one that the config does not name: this machine, where it names nobody, or who runs the router.
    pub known: Option<&'a KnownClient>,
}

impl KnownClient {
    /// Whether it has a right; who may operate may read.
    pub fn has(&self, right: Right) -> bool {
        self.may.contains(&right) || right == Right::Read && self.may.contains(&Right::Operate)
    }
}

impl Clients {
    /// Whether everybody must say who they are: as soon as the config names clients.
    pub fn need_names(&self) -> bool {
        !self.known.is_empty()
    }

    /// Whether any client has a token.
    pub fn have_tokens(&self) -> bool {
        self.known.iter().any(|client| client.token.is_some())
    }

    /// The client with this token. Takes equally long whichever it is.
    pub(super) fn by_token(&self, token: &str) -> Option<&KnownClient> {
        let hash = TokenHash::of(token);
        let mut found = None;
        for client in &self.known {
            if let Some(known) = client.token
                && bool::from(known.0.ct_eq(&hash.0))
            {
                found = Some(client);
            }
        }
        found
    }

    /// The client with this Unix user.
    pub(super) fn by_uid(&self, uid: u32) -> Option<&KnownClient> {
        self.known.iter().find(|client| client.uid == Some(uid))
    }

    /// The first of the client's matchers that an alert does not match.
    pub(super) fn refuses<'c>(&self, client: &'c KnownClient, alert: &AlertRef<'_>) -> Option<&'c Compiled> {
        client.allow.iter().find(|m| !m.matches(alert.label(&m.matcher.name), &self.severities))
    }
}
