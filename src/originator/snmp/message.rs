//! A message as it comes: who says that it is from him (RFC 1157, 1901, 3412, 3414), and the notification in it (RFC 3416),
//! one of v1 as RFC 3584 section 3.1 makes it one of v2.

use std::borrow::Cow;

use super::{
    ber::{self, Malformed, Reader},
    oid,
    value::{Kind, Varbind},
};

/// Most varbinds of a notification that are used: more than any MIB has, and few enough to make little of a hostile one.
pub const VARBINDS_MAX: usize = 256;
/// RFC 3412 section 6.3: everybody takes messages of so many bytes.
const MAX_SIZE_MIN: i32 = 484;
/// The User-based Security Model (RFC 3411 section 6.1).
const USM: i32 = 3;
/// RFC 3411 section 5: an engine id has 5 to 32 octets; none asks for ours.
const ENGINE_BYTES_MAX: usize = 32;
/// RFC 3414 section 2.4.
const USER_BYTES_MAX: usize = 32;

/// 1.3.6.1.2.1.1.3.0
const SYS_UP_TIME: [u8; 8] = [0x2b, 6, 1, 2, 1, 1, 3, 0];
/// 1.3.6.1.6.3.1.1.4.1.0
const SNMP_TRAP_OID: [u8; 10] = [0x2b, 6, 1, 6, 3, 1, 1, 4, 1, 0];
/// 1.3.6.1.6.3.1.1.4.3.0
const SNMP_TRAP_ENTERPRISE: [u8; 10] = [0x2b, 6, 1, 6, 3, 1, 1, 4, 3, 0];
/// 1.3.6.1.6.3.18.1.3.0
const SNMP_TRAP_ADDRESS: [u8; 9] = [0x2b, 6, 1, 6, 3, 18, 1, 3, 0];
/// 1.3.6.1.6.3.18.1.4.0: a community, which nobody is shown.
const SNMP_TRAP_COMMUNITY: [u8; 9] = [0x2b, 6, 1, 6, 3, 18, 1, 4, 0];
/// 1.3.6.1.6.3.1.1.5: the traps of v1 with a number of their own.
const SNMP_TRAPS: [u8; 8] = [0x2b, 6, 1, 6, 3, 1, 1, 5];

/// RFC 1157 section 4.1.6.
const TRAP_V1: u8 = 0xa4;
/// RFC 3416 section 3.
const INFORM: u8 = 0xa6;
const TRAP_V2: u8 = 0xa7;
/// An answer.
pub const RESPONSE: u8 = 0xa2;
/// What an engine says of itself.
pub const REPORT: u8 = 0xa8;

/// Which SNMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// SNMPv1.
    V1,
    /// SNMPv2c.
    V2c,
    /// SNMPv3.
    V3,
}

impl Version {
    /// All of them.
    pub const ALL: [Version; 3] = [Version::V1, Version::V2c, Version::V3];

    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Version::V1 => "1",
            Version::V2c => "2c",
            Version::V3 => "3",
        }
    }
}

/// Why a datagram is nobody's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// There is nothing in it.
    Empty,
    /// It is no BER, or its header is not SNMP's.
    Malformed,
    /// Another version than 1, 2c and 3.
    Version,
    /// A v3 message of another security model, or of less than an engine must take, or that encrypts and does not authenticate.
    Security,
}

impl From<Malformed> for Unread {
    fn from(_: Malformed) -> Unread {
        Unread::Malformed
    }
}

/// A message whose sender is not proved yet.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'m> {
    /// The message without what stands behind it.
    pub whole: &'m [u8],
    /// Whether something stands behind it.
    pub has_more: bool,
    /// Who says that it is from him.
    pub from: Claim<'m>,
}

/// Who says that a message is from him.
#[derive(Clone, Copy, Debug)]
pub enum Claim<'m> {
    /// Whoever knows a community.
    Community {
        /// 1 or 2c.
        version: Version,
        /// The community.
        community: &'m [u8],
        /// The PDU, tag and all.
        pdu: &'m [u8],
    },
    /// A user.
    User(Header<'m>),
}

/// The header of a v3 message, with its security parameters.
#[derive(Clone, Copy, Debug)]
pub struct Header<'m> {
    /// msgID.
    pub id: i32,
    /// msgMaxSize: how long an answer may be.
    pub max_size: i32,
    /// Whether it says that it is authenticated.
    pub is_authenticated: bool,
    /// Whether it is encrypted.
    pub is_private: bool,
    /// Whether whoever sent it wants to know what is wrong with it.
    pub is_reportable: bool,
    /// The engine that it is for, or of.
    pub engine: &'m [u8],
    /// How often that engine started.
    pub boots: u32,
    /// Seconds since then.
    pub time: u32,
    /// The user's name.
    pub user: &'m [u8],
    /// Its digest.
    pub mac: &'m [u8],
    /// Where in the message that stands.
    pub mac_at: usize,
    /// What decrypts it, beside the key.
    pub salt: &'m [u8],
    /// The scoped PDU, or an OCTET STRING of it encrypted; tag and all.
    pub data: &'m [u8],
}

impl<'m> Envelope<'m> {
    /// Reads a datagram.
    pub fn read(datagram: &'m [u8]) -> Result<Envelope<'m>, Unread> {
        if datagram.is_empty() {
            return Err(Unread::Empty);
        }
        let mut outer = Reader::new(datagram);
        let mut message = Reader::new(outer.expect(ber::SEQUENCE)?);
        let whole = &datagram[..datagram.len() - outer.rest().len()];
        let from = match message.integer()? {
            0 => Claim::of_community(Version::V1, message)?,
            1 => Claim::of_community(Version::V2c, message)?,
            3 => Claim::User(Header::read(whole, message)?),
            _ => return Err(Unread::Version),
        };
        Ok(Envelope { whole, has_more: !outer.is_empty(), from })
    }
}

impl<'m> Claim<'m> {
    fn of_community(version: Version, mut message: Reader<'m>) -> Result<Claim<'m>, Unread> {
        let community = message.expect(ber::OCTETS)?;
        Ok(Claim::Community { version, community, pdu: message.rest() })
    }
}

impl<'m> Header<'m> {
    /// RFC 3412 section 6, RFC 3414 section 2.4.
    fn read(whole: &'m [u8], mut message: Reader<'m>) -> Result<Header<'m>, Unread> {
        let mut global = Reader::new(message.expect(ber::SEQUENCE)?);
        let (id, max_size) = (global.integer()?, global.integer()?);
        let [flags] = global.expect(ber::OCTETS)? else { return Err(Unread::Malformed) };
        let model = global.integer()?;
        if id < 0 || !global.is_empty() {
            return Err(Unread::Malformed);
        }
        if model != USM || max_size < MAX_SIZE_MIN || flags & 3 == 2 {
            return Err(Unread::Security);
        }
        let mut outer = Reader::new(message.expect(ber::OCTETS)?);
        let mut parameters = Reader::new(outer.expect(ber::SEQUENCE)?);
        let engine = parameters.expect(ber::OCTETS)?;
        let (boots, time) = (parameters.integer()?, parameters.integer()?);
        let (user, mac) = (parameters.expect(ber::OCTETS)?, parameters.expect(ber::OCTETS)?);
        let salt = parameters.expect(ber::OCTETS)?;
        let (Ok(boots), Ok(time)) = (u32::try_from(boots), u32::try_from(time)) else {
            return Err(Unread::Malformed);
        };
        let is_engine = engine.is_empty() || (5..=ENGINE_BYTES_MAX).contains(&engine.len());
        if !parameters.is_empty() || !outer.is_empty() || !is_engine || user.len() > USER_BYTES_MAX {
            return Err(Unread::Malformed);
        }
        // Where a slice stands within another that it was cut from.
        let mac_at = (mac.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize);
        Ok(Header {
            id,
            max_size,
            is_authenticated: flags & 1 != 0,
            is_private: flags & 2 != 0,
            is_reportable: flags & 4 != 0,
            engine,
            boots,
            time,
            user,
            mac,
            mac_at,
            salt,
            data: message.rest(),
        })
    }
}

/// A scoped PDU (RFC 3412 section 6.8).
#[derive(Clone, Copy, Debug)]
pub struct Scoped<'m> {
    /// The engine whose context it is.
    pub engine: &'m [u8],
    /// The context's name.
    pub context: &'m [u8],
    /// The PDU, tag and all.
    pub pdu: &'m [u8],
}

impl<'m> Scoped<'m> {
    /// Reads one; what a cipher puts behind it is no part of it.
    pub fn read(data: &'m [u8]) -> Result<Scoped<'m>, Malformed> {
        let mut scoped = Reader::new(Reader::new(data).expect(ber::SEQUENCE)?);
        let (engine, context) = (scoped.expect(ber::OCTETS)?, scoped.expect(ber::OCTETS)?);
        Ok(Scoped { engine, context, pdu: scoped.rest() })
    }
}

/// What of a notification could not be read. It is kept all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// Nothing of it: its header is wrong.
    Pdu,
    /// The list of varbinds, from one of them on.
    Varbinds,
    /// A value is not what its type says.
    Value,
    /// sysUpTime.0 and snmpTrapOID.0 are not the first two varbinds, or are there twice.
    Prefix,
    /// It has too many varbinds.
    Many,
    /// Something stands behind the message.
    Behind,
}

impl ParseError {
    /// All of them.
    pub const ALL: [ParseError; 6] = [
        ParseError::Pdu,
        ParseError::Varbinds,
        ParseError::Value,
        ParseError::Prefix,
        ParseError::Many,
        ParseError::Behind,
    ];

    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            ParseError::Pdu => "pdu",
            ParseError::Varbinds => "varbinds",
            ParseError::Value => "value",
            ParseError::Prefix => "prefix",
            ParseError::Many => "many",
            ParseError::Behind => "behind",
        }
    }
}

/// A trap or an inform.
#[derive(Clone, Debug)]
pub struct Notification<'m> {
    /// Which SNMP.
    pub version: Version,
    /// Whether its sender wants an answer.
    pub is_inform: bool,
    /// What the answer is known by; 0 in v1, which has none.
    pub request_id: i32,
    /// snmpTrapOID.0; 0.0 where there is none.
    pub trap: Cow<'m, [u8]>,
    /// snmpTrapEnterprise.0, where it is said.
    pub enterprise: Option<&'m [u8]>,
    /// The agent's own address, where it is said and one.
    pub agent: Option<[u8; 4]>,
    /// Hundredths of a second since the agent started.
    pub uptime: Option<u32>,
    /// What it says besides.
    pub varbinds: Vec<Varbind<'m>>,
    /// The content of the whole list of varbinds, as an answer repeats it.
    pub list: &'m [u8],
    /// What of it could not be read.
    pub parse_error: Option<ParseError>,
}

/// Why a PDU is no notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoNotification {
    /// It asks for something, answers something, or is of another version than its message.
    Other,
    /// Its header is wrong.
    Malformed,
}

impl<'m> Notification<'m> {
    /// Reads a PDU.
    pub fn read(version: Version, pdu: &'m [u8]) -> Result<Notification<'m>, NoNotification> {
        let mut outer = Reader::new(pdu);
        let (tag, content) = outer.element().map_err(|_| NoNotification::Malformed)?;
        let content = Reader::new(content);
        let read = match (version, tag) {
            (Version::V1, TRAP_V1) => Notification::of_v1(content),
            (Version::V2c | Version::V3, TRAP_V2 | INFORM) => {
                Notification::of_v2(version, tag == INFORM, content)
            }
            _ => return Err(NoNotification::Other),
        };
        let mut read = read.map_err(|_| NoNotification::Malformed)?;
        if !outer.is_empty() {
            read.wrong(ParseError::Behind);
        }
        Ok(read)
    }

    /// The first thing that is wrong is the one that is said.
    pub fn wrong(&mut self, error: ParseError) {
        self.parse_error.get_or_insert(error);
    }

    fn of_v1(mut pdu: Reader<'m>) -> Result<Notification<'m>, Malformed> {
        let enterprise = pdu.expect(ber::OID)?;
        let address = pdu.expect(Kind::IP_ADDRESS)?;
        let (generic, specific) = (pdu.integer()?, pdu.integer()?);
        let uptime = pdu.expect(Kind::TIME_TICKS)?;
        let list = pdu.expect(ber::SEQUENCE)?;
        if !oid::is_valid(enterprise) {
            return Err(Malformed);
        }
        // RFC 3584 section 3.1 (2).
        let trap = match (u8::try_from(generic), u32::try_from(specific)) {
            (Ok(generic @ 0..=5), _) => [&SNMP_TRAPS[..], &[generic + 1]].concat(),
            (Ok(6), Ok(specific)) => {
                let mut trap = [enterprise, &[0]].concat();
                oid::push(&mut trap, specific);
                trap
            }
            _ => return Err(Malformed),
        };
        let agent = <[u8; 4]>::try_from(address).map_err(|_| Malformed)?;
        let number = ber::unsigned(uptime).and_then(|ticks| u32::try_from(ticks).ok());
        let mut notification = Notification {
            version: Version::V1,
            is_inform: false,
            request_id: 0,
            trap: trap.into(),
            enterprise: Some(enterprise),
            agent: Some(agent).filter(|agent| *agent != [0; 4]),
            uptime: number,
            varbinds: Vec::new(),
            list,
            parse_error: None,
        };
        if number.is_none() {
            notification.wrong(ParseError::Value);
        }
        if !pdu.is_empty() {
            notification.wrong(ParseError::Behind);
        }
        notification.read_varbinds(|_, _| false);
        Ok(notification)
    }

    fn of_v2(version: Version, is_inform: bool, mut pdu: Reader<'m>) -> Result<Notification<'m>, Malformed> {
        let request_id = pdu.integer()?;
        // error-status and error-index say nothing here.
        pdu.integer()?;
        pdu.integer()?;
        let list = pdu.expect(ber::SEQUENCE)?;
        let mut notification = Notification {
            version,
            is_inform,
            request_id,
            // zeroDotZero (RFC 2578 section 7.1.1).
            trap: Cow::Borrowed(&[0]),
            enterprise: None,
            agent: None,
            uptime: None,
            varbinds: Vec::new(),
            list,
            parse_error: None,
        };
        if !pdu.is_empty() {
            notification.wrong(ParseError::Behind);
        }
        let (mut at, mut prefix) = (0, [false; 2]);
        notification.read_varbinds(|notification, varbind| {
            let position = at;
            at += 1;
            let which = match varbind.oid {
                oid if oid == SYS_UP_TIME => 0,
                oid if oid == SNMP_TRAP_OID => 1,
                _ => return false,
            };
            // Twice: the first counts, and the other stays a varbind.
            if prefix[which] || position != which {
                notification.wrong(ParseError::Prefix);
                if prefix[which] {
                    return false;
                }
            }
            let ticks = || ber::unsigned(varbind.content).and_then(|ticks| u32::try_from(ticks).ok());
            match which {
                0 if varbind.tag == Kind::TIME_TICKS && ticks().is_some() => notification.uptime = ticks(),
                1 if varbind.tag == ber::OID && oid::is_valid(varbind.content) => {
                    notification.trap = Cow::Borrowed(varbind.content);
                }
                _ => {
                    notification.wrong(ParseError::Value);
                    return false;
                }
            }
            prefix[which] = true;
            true
        });
        if prefix != [true; 2] {
            notification.wrong(ParseError::Prefix);
        }
        Ok(notification)
    }

    /// Reads the list of varbinds as far as it goes; those that `takes` takes are no further ones.
    fn read_varbinds(&mut self, mut takes: impl FnMut(&mut Notification<'m>, &Varbind<'m>) -> bool) {
        let mut list = Reader::new(self.list);
        while !list.is_empty() {
            let Ok(varbind) = Varbind::read(&mut list) else { return self.wrong(ParseError::Varbinds) };
            if self.varbinds.len() >= VARBINDS_MAX {
                return self.wrong(ParseError::Many);
            }
            if takes(self, &varbind) || varbind.oid == SNMP_TRAP_COMMUNITY {
                continue;
            }
            if !varbind.is_right(self.version) {
                self.wrong(ParseError::Value);
            } else if varbind.oid == SNMP_TRAP_ENTERPRISE && varbind.tag == ber::OID {
                self.enterprise = self.enterprise.or(Some(varbind.content));
                continue;
            } else if varbind.oid == SNMP_TRAP_ADDRESS && varbind.tag == Kind::IP_ADDRESS {
                let agent = <[u8; 4]>::try_from(varbind.content).ok().filter(|agent| *agent != [0; 4]);
                self.agent = self.agent.or(agent);
                continue;
            }
            self.varbinds.push(varbind);
        }
    }
}
