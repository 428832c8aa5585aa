//! Users of v3 (RFC 3414): their keys for each engine, what they prove, and messages of ours. Nothing is believed before its
//! digest is right, and no digest is looked at that has not exactly the length of its user's.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::Instant,
};

use ams2_handlers::{
    Secret,
    snmp_trap::{Authentication, OwnEngine, Privacy},
};
use async_snmp::{
    LocalizedKey, MasterKeys,
    v3::{PrivKey, SaltCounter, in_authoritative_time_window},
};

use super::{
    ber,
    message::{Header, REPORT},
};

/// Keys that are remembered: making them again costs little, but for every message it would add up.
const KEYS_MAX: usize = 1024;
/// usmStatsUnknownEngineIDs.0 and usmStatsNotInTimeWindows.0 (RFC 3414 section 5).
const UNKNOWN_ENGINE: [u8; 10] = [0x2b, 6, 1, 6, 3, 15, 1, 1, 4, 0];
const NOT_IN_TIME: [u8; 10] = [0x2b, 6, 1, 6, 3, 15, 1, 1, 2, 0];
/// The longest message of ours that anybody gets, as we say it.
const MAX_SIZE: i64 = 65_507;

/// A user as the config has it. What a user has passwords for must be used, no less and no more.
#[derive(Debug)]
pub struct User {
    /// The name.
    pub name: Vec<u8>,
    /// How it authenticates, and its password for that.
    pub authentication: Option<(Authentication, Secret)>,
    /// How it encrypts, likewise.
    pub privacy: Option<(Privacy, Secret)>,
    /// Made of the passwords when they are used for the first time: that takes milliseconds.
    master: OnceLock<Option<MasterKeys>>,
}

impl User {
    /// A user with these passwords.
    pub fn new(
        name: Vec<u8>,
        authentication: Option<(Authentication, Secret)>,
        privacy: Option<(Privacy, Secret)>,
    ) -> User {
        User { name, authentication, privacy, master: OnceLock::new() }
    }

    /// The level that its messages must have, in RFC 3411's word.
    pub fn level(&self) -> &'static str {
        level(self.authentication.is_some(), self.privacy.is_some())
    }

    /// Its keys for an engine; `None` where they cannot be made.
    pub(super) fn keys(&self, engine: &[u8]) -> Option<Keys> {
        let (authentication, password) = self.authentication.as_ref()?;
        let master = self.master.get_or_init(|| {
            let keys = MasterKeys::new((*authentication).into(), password.expose().as_bytes()).ok()?;
            match &self.privacy {
                Some((privacy, password)) => {
                    keys.with_privacy((*privacy).into(), password.expose().as_bytes()).ok()
                }
                None => Some(keys),
            }
        });
        let (authentication, privacy) = master.as_ref()?.localize(engine).ok()?;
        // Without one of its own the password for authentication would stand in.
        let privacy = privacy.filter(|_| self.privacy.is_some());
        Some(Keys { authentication, privacy })
    }
}

/// A level in RFC 3411's word.
pub fn level(is_authenticated: bool, is_private: bool) -> &'static str {
    match (is_authenticated, is_private) {
        (false, _) => "noAuthNoPriv",
        (true, false) => "authNoPriv",
        (true, true) => "authPriv",
    }
}

/// Keys of a user for one engine.
pub struct Keys {
    authentication: LocalizedKey,
    privacy: Option<PrivKey>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys")
    }
}

/// What is wrong with a message of a user who is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It has another level than the user's.
    Level,
    /// Its digest has another length than the user's, or is another.
    Digest,
    /// It cannot be decrypted.
    Decryption,
}

/// Keys by user, of the config, and engine. A key is remembered once a message was right with it: who invents engines
/// fills nothing.
#[derive(Default)]
pub struct Keyring {
    known: HashMap<(usize, Vec<u8>), Arc<Keys>>,
}

impl Keyring {
    /// Another config is in force.
    pub fn clear(&mut self) {
        self.known.clear();
    }

    /// Whether a message is its user's; the keys for an answer, `None` for a user without any. `number` is the user's in the
    /// config.
    pub fn proves(
        &mut self,
        number: usize,
        user: &User,
        header: &Header<'_>,
        whole: &[u8],
    ) -> Result<Option<Arc<Keys>>, Wrong> {
        if header.is_authenticated != user.authentication.is_some()
            || header.is_private != user.privacy.is_some()
        {
            return Err(Wrong::Level);
        }
        if user.authentication.is_none() {
            return Ok(None);
        }
        let name = (number, header.engine.to_vec());
        let known = self.known.get(&name).cloned();
        let is_known = known.is_some();
        let made = || user.keys(header.engine).map(Arc::new);
        let keys = known.or_else(made).ok_or(Wrong::Digest)?;
        // RFC 3414 section 6.3.2 (1): the exact length (CVE-2008-0960), then a comparison that takes the same time for all.
        let end = header.mac_at + header.mac.len();
        if header.mac.len() != keys.authentication.mac_len() || end > whole.len() {
            return Err(Wrong::Digest);
        }
        let mut without = whole.to_vec();
        without[header.mac_at..end].fill(0);
        if !keys.authentication.verify_hmac(&without, header.mac).unwrap_or(false) {
            return Err(Wrong::Digest);
        }
        if !is_known {
            if self.known.len() >= KEYS_MAX {
                self.known.clear();
            }
            self.known.insert(name, keys.clone());
        }
        Ok(Some(keys))
    }
}

impl Keys {
    /// The scoped PDU of a private message.
    pub fn decrypted(&self, header: &Header<'_>) -> Result<Vec<u8>, Wrong> {
        let key = self.privacy.as_ref().ok_or(Wrong::Decryption)?;
        let octets = ber::Reader::new(header.data).expect(ber::OCTETS).map_err(|_| Wrong::Decryption)?;
        let plain = key.decrypt(octets, header.boots, header.time, header.salt);
        plain.map(|plain| plain.to_vec()).map_err(|_| Wrong::Decryption)
    }
}

/// Our own engine, and what it says.
pub struct Own {
    engine: OwnEngine,
    salt: SaltCounter,
    /// Reports so far, for their varbinds.
    unknown_engine: u32,
    not_in_time: u32,
}

/// Whom a message of ours is for.
#[derive(Debug)]
pub struct To<'m> {
    /// msgID of what it answers.
    pub id: i32,
    /// The user.
    pub user: &'m [u8],
    /// The user's keys; `None` for a message that proves nothing.
    pub keys: Option<&'m Keys>,
    /// Whether it is encrypted.
    pub is_private: bool,
}

impl Own {
    /// `None` where the system gives no random numbers.
    pub fn new(engine: OwnEngine) -> Option<Own> {
        Some(Own { engine, salt: SaltCounter::new().ok()?, unknown_engine: 0, not_in_time: 0 })
    }

    /// Its id.
    pub fn id(&self) -> &[u8] {
        &self.engine.id
    }

    fn clock(&self, now: Instant) -> (u32, u32) {
        let seconds = now.saturating_duration_since(self.engine.started).as_secs();
        (self.engine.boots, u32::try_from(seconds).unwrap_or(u32::MAX) & 0x7fff_ffff)
    }

    /// Whether a message that is for us is of now (RFC 3414 section 3.2 (7a)).
    pub fn is_timely(&self, header: &Header<'_>, now: Instant) -> bool {
        let (boots, time) = self.clock(now);
        in_authoritative_time_window(boots, time, header.boots, header.time)
    }

    /// Tells who asks what our engine is.
    pub fn unknown_engine(&mut self, header: &Header<'_>, now: Instant) -> Option<Vec<u8>> {
        self.unknown_engine = self.unknown_engine.wrapping_add(1);
        let to = To { id: header.id, user: &[], keys: None, is_private: false };
        self.report(&UNKNOWN_ENGINE, self.unknown_engine, &to, now)
    }

    /// Tells who is right but for the time what time it is with us.
    pub fn not_in_time(&mut self, header: &Header<'_>, keys: &Keys, now: Instant) -> Option<Vec<u8>> {
        self.not_in_time = self.not_in_time.wrapping_add(1);
        let to = To { id: header.id, user: header.user, keys: Some(keys), is_private: false };
        self.report(&NOT_IN_TIME, self.not_in_time, &to, now)
    }

    fn report(&self, oid: &[u8], count: u32, to: &To<'_>, now: Instant) -> Option<Vec<u8>> {
        let (mut varbind, mut list) = (Vec::new(), Vec::new());
        ber::write(&mut varbind, ber::OID, oid);
        ber::write_number(&mut varbind, super::value::Kind::COUNTER32, i64::from(count));
        ber::write(&mut list, ber::SEQUENCE, &varbind);
        self.message(to, &self.engine.id, &[], &pdu(REPORT, 0, &list), now)
    }

    /// A message of ours with this PDU; `None` where it cannot be encrypted.
    pub fn message(
        &self,
        to: &To<'_>,
        context_engine: &[u8],
        context: &[u8],
        pdu: &[u8],
        now: Instant,
    ) -> Option<Vec<u8>> {
        let (boots, time) = self.clock(now);
        let (mut scoped, mut data, mut salt) = (Vec::new(), Vec::new(), Vec::new());
        ber::write(&mut scoped, ber::OCTETS, context_engine);
        ber::write(&mut scoped, ber::OCTETS, context);
        scoped.extend_from_slice(pdu);
        ber::write(&mut data, ber::SEQUENCE, &scoped);
        if to.is_private {
            let key = to.keys?.privacy.as_ref()?;
            let (octets, used) = key.encrypt_aes(&data, boots, time, &self.salt).ok()?;
            data.clear();
            ber::write(&mut data, ber::OCTETS, &octets);
            salt = used.to_vec();
        }
        let flags = u8::from(to.keys.is_some()) | u8::from(to.is_private) << 1;
        let mac_bytes = to.keys.map_or(0, |keys| keys.authentication.mac_len());

        let mut global = Vec::new();
        ber::write_number(&mut global, ber::INTEGER, i64::from(to.id));
        ber::write_number(&mut global, ber::INTEGER, MAX_SIZE);
        ber::write(&mut global, ber::OCTETS, &[flags]);
        ber::write_number(&mut global, ber::INTEGER, 3);
        let mut parameters = Vec::new();
        ber::write(&mut parameters, ber::OCTETS, &self.engine.id);
        ber::write_number(&mut parameters, ber::INTEGER, i64::from(boots));
        ber::write_number(&mut parameters, ber::INTEGER, i64::from(time));
        ber::write(&mut parameters, ber::OCTETS, to.user);
        ber::write(&mut parameters, ber::OCTETS, &vec![0; mac_bytes]);
        let before_salt = parameters.len();
        ber::write(&mut parameters, ber::OCTETS, &salt);
        // What stands behind the digest: the salt, and the data.
        let behind = parameters.len() - before_salt + data.len();
        let mut outer = Vec::new();
        ber::write(&mut outer, ber::SEQUENCE, &parameters);

        let mut content = Vec::new();
        ber::write_number(&mut content, ber::INTEGER, 3);
        ber::write(&mut content, ber::SEQUENCE, &global);
        ber::write(&mut content, ber::OCTETS, &outer);
        content.extend_from_slice(&data);
        let mut whole = Vec::new();
        ber::write(&mut whole, ber::SEQUENCE, &content);
        if let Some(keys) = to.keys {
            let mac = keys.authentication.compute_hmac(&whole).ok()?;
            let end = whole.len() - behind;
            whole.get_mut(end - mac_bytes..end)?.copy_from_slice(&mac);
        }
        Some(whole)
    }
}

/// A PDU without an error (RFC 3416 section 3). `list` is the content of its list of varbinds.
pub fn pdu(tag: u8, request_id: i32, list: &[u8]) -> Vec<u8> {
    let (mut content, mut pdu) = (Vec::with_capacity(list.len() + 24), Vec::with_capacity(list.len() + 32));
    ber::write_number(&mut content, ber::INTEGER, i64::from(request_id));
    ber::write_number(&mut content, ber::INTEGER, 0);
    ber::write_number(&mut content, ber::INTEGER, 0);
    ber::write(&mut content, ber::SEQUENCE, list);
    ber::write(&mut pdu, tag, &content);
    pdu
}

#[cfg(test)]
mod tests {
    use super::{
        super::message::{Claim, Envelope, RESPONSE, Scoped},
        *,
    };

    fn secret(text: &str) -> Secret {
        Secret::new(text)
    }

    fn user(authentication: Authentication, privacy: Option<Privacy>) -> User {
        let privacy = privacy.map(|privacy| (privacy, secret("example two")));
        User::new(b"ups".to_vec(), Some((authentication, secret("example one"))), privacy)
    }

    fn own() -> Own {
        Own::new(OwnEngine { id: vec![0x80, 0, 0x7e, 0xd9, 5, 1], boots: 7, started: Instant::now() })
            .expect("random")
    }

    fn header<'m>(whole: &'m [u8]) -> Header<'m> {
        match Envelope::read(whole).expect("a message").from {
            Claim::User(header) => header,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_message_proves_itself_and_none_that_was_changed_does() {
        for authentication in [
            Authentication::Sha1,
            Authentication::Sha224,
            Authentication::Sha256,
            Authentication::Sha384,
            Authentication::Sha512,
        ] {
            for privacy in [None, Some(Privacy::Aes128), Some(Privacy::Aes192), Some(Privacy::Aes256)] {
                let (own, user) = (own(), user(authentication, privacy));
                let keys = user.keys(own.id()).expect("keys");
                let to = To { id: 4711, user: b"ups", keys: Some(&keys), is_private: privacy.is_some() };
                let sent = pdu(RESPONSE, 17, &[]);
                let whole = own.message(&to, own.id(), b"ctx", &sent, Instant::now()).expect("made");
                let found = header(&whole);
                assert_eq!((found.id, found.boots, found.user), (4711, 7, &b"ups"[..]));
                let mut ring = Keyring::default();
                let keys = ring.proves(0, &user, &found, &whole).expect("proved").expect("keys");
                let plain = if privacy.is_some() {
                    keys.decrypted(&found).expect("plain")
                } else {
                    found.data.to_vec()
                };
                let scoped = Scoped::read(&plain).expect("scoped");
                assert_eq!((scoped.engine, scoped.context, scoped.pdu), (own.id(), &b"ctx"[..], &sent[..]));
                for at in 0..whole.len() {
                    let mut other = whole.clone();
                    other[at] ^= 1;
                    if let Ok(Envelope { from: Claim::User(found), whole, .. }) = Envelope::read(&other) {
                        assert!(ring.proves(0, &user, &found, whole).is_err(), "{at}");
                    }
                }
            }
        }
    }

    /// Row 78: digests of other lengths than the user's are no digests, whatever stands in them.
    #[test]
    fn a_digest_has_its_length() {
        let (own, user) = (own(), user(Authentication::Sha256, None));
        let keys = user.keys(own.id()).expect("keys");
        let to = To { id: 1, user: b"ups", keys: Some(&keys), is_private: false };
        let whole = own.message(&to, own.id(), b"", &pdu(RESPONSE, 1, &[]), Instant::now()).expect("made");
        let right = header(&whole);
        for length in [0, 1, 11, 12, 13, 23] {
            let wrong = Header { mac: &right.mac[..length], ..right };
            assert_eq!(
                Keyring::default().proves(0, &user, &wrong, &whole).err(),
                Some(Wrong::Digest),
                "{length}"
            );
        }
        assert!(Keyring::default().proves(0, &user, &right, &whole).is_ok());
    }

    #[test]
    fn a_user_has_one_level() {
        let own = own();
        let users = [
            User::new(b"ups".to_vec(), None, None),
            user(Authentication::Sha1, None),
            user(Authentication::Sha1, Some(Privacy::Aes128)),
        ];
        for (level, user) in users.iter().enumerate() {
            let keys = user.keys(own.id());
            let to = To { id: 1, user: b"ups", keys: keys.as_ref(), is_private: level == 2 };
            let whole =
                own.message(&to, own.id(), b"", &pdu(RESPONSE, 1, &[]), Instant::now()).expect("made");
            let found = header(&whole);
            for (other, user) in users.iter().enumerate() {
                let proved = Keyring::default().proves(0, user, &found, &whole);
                match other == level {
                    true => assert!(proved.is_ok(), "{level} {other}"),
                    false => assert_eq!(proved.err(), Some(Wrong::Level), "{level} {other}"),
                }
            }
        }
    }

    #[test]
    fn what_is_for_us_is_of_now() {
        let mut own = own();
        let now = Instant::now();
        let report = {
            let asked =
                own.message(&To { id: 9, user: b"", keys: None, is_private: false }, b"", b"", &[], now);
            let asked = asked.expect("made");
            own.unknown_engine(&header(&asked), now).expect("made")
        };
        let told = header(&report);
        assert_eq!((told.id, told.boots, told.engine), (9, 7, own.id()));
        assert!(own.is_timely(&told, now));
        for (boots, time) in
            [(6, told.time), (8, told.time), (7, told.time + 151), (2_147_483_647, told.time)]
        {
            assert!(!own.is_timely(&Header { boots, time, ..told }, now), "{boots} {time}");
        }
        own.engine.boots = 2_147_483_647;
        assert!(!own.is_timely(&Header { boots: 2_147_483_647, ..told }, now));
    }
}
