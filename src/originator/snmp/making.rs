//! Datagrams into the alerts of one arrival for each client: who sent it, whether that is proved, and what it says.

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use ams2_core::{AlertBatch, BatchBuilder, Wall, input::Arrival};
use sha2::{Digest, Sha256};
use smol_str::{SmolStr, ToSmolStr};

use super::{
    Snmp, SnmpSettings,
    alert::{alerts, unread},
    clients::{Client, Hidden, Nobody},
    engines::{Engines, Timely},
    fields::{Came, TrapFields},
    message::{
        Claim, Envelope, Header, NoNotification, Notification, ParseError, RESPONSE, Scoped, Unread, Version,
    },
    metrics::Dropped,
    oid,
    rates::Rates,
    repeats::{Before, Repeats},
    usm::{Keyring, Keys, Own, To, Wrong, level, pdu},
};
use crate::{
    denied::Budget,
    originator::mapping::{Bounds, copy},
};

/// Alerts in one arrival: enough for one flush to carry many, few enough that none is large.
const MESSAGES_MAX: usize = 1000;
/// Bytes of a batch at first.
const BATCH_BYTES: usize = 16 << 10;
/// Reports that one address gets in a second: what senders of v3 ask first is short, and the answer is longer.
const REPORTS_PER_SECOND: usize = 20;

/// What is remembered from one datagram to the next.
pub struct Memory {
    /// Our own engine; `None` where no user of v3 is known, or it could not be started.
    pub own: Option<Own>,
    /// Engines that send traps.
    pub engines: Engines,
    /// What came lately.
    pub repeats: Repeats,
    keyring: Keyring,
    rates: Rates,
    reports: Rates,
    flooding: Budget,
    settings: Arc<SnmpSettings>,
    id: String,
}

/// Alerts of one client on their way.
pub struct Making {
    client: SmolStr,
    batch: BatchBuilder,
    /// Informs to be answered, all of one arrival.
    pub answers: Vec<Answer>,
    count: usize,
}

/// What came of the datagrams of a piece.
#[derive(Default)]
pub struct Piece {
    /// Traps, which nobody answers.
    pub traps: Vec<Making>,
    /// Informs, which are answered once they are kept.
    pub informs: Vec<Making>,
    /// Messages that leave at once: Reports, and answers to informs that came before.
    pub at_once: Vec<(SocketAddr, Vec<u8>)>,
}

/// An inform that waits for the journal.
#[derive(Debug)]
pub struct Answer {
    /// Where to.
    pub to: SocketAddr,
    /// The inform, among those that came before.
    pub what: u128,
    how: How,
    request_id: i32,
    list: Vec<u8>,
}

#[derive(Debug)]
enum How {
    Community(Hidden),
    User {
        id: i32,
        user: Vec<u8>,
        keys: Option<Arc<Keys>>,
        is_private: bool,
        engine: Vec<u8>,
        context: Vec<u8>,
        bytes_max: usize,
    },
}

impl Answer {
    /// The answer as it leaves (RFC 3416 section 4.2.7).
    pub fn message(&self, own: Option<&Own>, now: Instant) -> Option<Vec<u8>> {
        use super::ber;
        let pdu = pdu(RESPONSE, self.request_id, &self.list);
        match &self.how {
            How::Community(community) => {
                let (mut content, mut whole) = (Vec::new(), Vec::new());
                // Version 2c; v1 has no informs.
                ber::write_number(&mut content, ber::INTEGER, 1);
                ber::write(&mut content, ber::OCTETS, &community.0);
                content.extend_from_slice(&pdu);
                ber::write(&mut whole, ber::SEQUENCE, &content);
                Some(whole)
            }
            How::User { id, user, keys, is_private, engine, context, bytes_max } => {
                let to = To { id: *id, user, keys: keys.as_deref(), is_private: *is_private };
                // Who sends more than it takes has no answer.
                own?.message(&to, engine, context, &pdu, now).filter(|message| message.len() <= *bytes_max)
            }
        }
    }
}

impl Making {
    fn new(client: &SmolStr) -> Making {
        let batch = BatchBuilder::with_capacity(BATCH_BYTES);
        Making { client: client.clone(), batch, answers: Vec::new(), count: 0 }
    }

    /// The arrival, if there is anything in it, and who waits for it.
    pub fn finish(self) -> (Option<Arrival>, Vec<Answer>) {
        let batch = self.batch.finish();
        let arrival = (!batch.is_empty()).then(|| Arrival { client: self.client, batch: Arc::new(batch) });
        (arrival, self.answers)
    }
}

/// The place of a client in a list, its last that is not full.
fn of_client<'l>(list: &'l mut Vec<Making>, client: &SmolStr) -> &'l mut Making {
    let found = list.iter().rposition(|making| making.client == *client && making.count < MESSAGES_MAX);
    let at = found.unwrap_or_else(|| {
        list.push(Making::new(client));
        list.len() - 1
    });
    &mut list[at]
}

/// A message whose sender is known.
struct Proved<'m> {
    version: Version,
    client: &'m Client,
    /// Empty for a user.
    community: &'m [u8],
    pdu: Cow<'m, [u8]>,
    header: Option<Header<'m>>,
    keys: Option<Arc<Keys>>,
    engine: Vec<u8>,
    context: Vec<u8>,
    is_first: bool,
    is_for_us: bool,
}

/// Why a datagram is not taken: what is counted, and what is said of who sent it.
struct NotTaken(Dropped, Option<String>);

impl From<Dropped> for NotTaken {
    fn from(why: Dropped) -> NotTaken {
        NotTaken(why, None)
    }
}

impl Memory {
    /// Nothing came yet.
    pub fn new(own: Option<Own>, engines: Engines, settings: Arc<SnmpSettings>, now: Instant) -> Memory {
        Memory {
            own,
            engines,
            repeats: Repeats::default(),
            keyring: Keyring::default(),
            rates: Rates::new(settings.limits.messages_per_second, now),
            reports: Rates::new(REPORTS_PER_SECOND, now),
            flooding: Budget::default(),
            settings,
            id: String::new(),
        }
    }

    /// The settings that are in force from now on; whether they are others.
    pub fn install(&mut self, settings: &Arc<SnmpSettings>) -> bool {
        if Arc::ptr_eq(&self.settings, settings) {
            return false;
        }
        self.settings = settings.clone();
        self.keyring.clear();
        self.rates.set(settings.limits.messages_per_second);
        true
    }

    /// Whether one more datagram of an address is looked at.
    fn is_within_rate<I>(&mut self, address: IpAddr, snmp: &Snmp<I>, now: Instant) -> bool {
        let is_within = self.rates.takes(address, now);
        if !is_within {
            snmp.metrics.left_out(Dropped::Rate);
            let (peer, most) = (address.to_smolstr(), self.settings.limits.messages_per_second);
            if let Some(more) = self.flooding.take(&peer, now) {
                let what = format!(
                    "it sends more than {most} notifications of SNMP a second, of which the rest is dropped: {} so far",
                    more + 1
                );
                (snmp.on_denied)(peer, what);
            }
        }
        is_within
    }

    /// Takes a datagram in.
    pub fn take<I>(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        snmp: &Snmp<I>,
        piece: &mut Piece,
        now: Instant,
    ) {
        let address = super::peer(from);
        if !self.is_within_rate(address, snmp, now) {
            return;
        }
        let settings = self.settings.clone();
        let taken =
            Envelope::read(datagram).map_err(|why| NotTaken::from(unread_as(why))).and_then(|envelope| {
                let proved = self.proved(&envelope, from, &settings, piece, now)?;
                self.made(&proved, &envelope, from, snmp, piece, now)
            });
        if let Err(NotTaken(why, said)) = taken {
            snmp.metrics.left_out(why);
            if let Some(said) = said {
                (snmp.on_denied)(address.to_smolstr(), said);
            }
        }
    }

    fn proved<'m>(
        &mut self,
        envelope: &Envelope<'m>,
        from: SocketAddr,
        settings: &'m SnmpSettings,
        piece: &mut Piece,
        now: Instant,
    ) -> Result<Proved<'m>, NotTaken> {
        match envelope.from {
            Claim::Community { version, community, pdu } => {
                let client =
                    settings.clients.of_community(community, super::peer(from)).map_err(|nobody| {
                        let what = match nobody {
                            Nobody::Unknown => "with an unknown community",
                            Nobody::Elsewhere => "with the community of a client that comes from elsewhere",
                        };
                        NotTaken(
                            Dropped::Community,
                            Some(format!("a message of SNMP v{} {what}", version.word())),
                        )
                    })?;
                let (engine, context) = Default::default();
                let (pdu, header, keys, is_first, is_for_us) = (pdu.into(), None, None, false, true);
                Ok(Proved {
                    version,
                    client,
                    community,
                    pdu,
                    header,
                    keys,
                    engine,
                    context,
                    is_first,
                    is_for_us,
                })
            }
            Claim::User(header) => self.proved_user(header, envelope.whole, from, settings, piece, now),
        }
    }

    /// RFC 3414 section 3.2.
    fn proved_user<'m>(
        &mut self,
        header: Header<'m>,
        whole: &[u8],
        from: SocketAddr,
        settings: &'m SnmpSettings,
        piece: &mut Piece,
        now: Instant,
    ) -> Result<Proved<'m>, NotTaken> {
        let Some(own) = &mut self.own else { return Err(Dropped::User.into()) };
        let is_for_us = header.engine == own.id();
        if !is_for_us && header.is_reportable || header.engine.is_empty() {
            // A sender of informs asks so who we are; one whose engine we were before hears that we are another.
            if header.is_reportable && self.reports.takes(super::peer(from), now) {
                piece.at_once.extend(own.unknown_engine(&header, now).map(|report| (from, report)));
            }
            return Err(Dropped::Discovery.into());
        }
        let shown = || ams2_handlers::text::one_line(&String::from_utf8_lossy(header.user)).into_owned();
        let found = settings.clients.of_user(header.user, super::peer(from));
        let (number, client, user) = found.map_err(|nobody| {
            let what = match nobody {
                Nobody::Unknown => "nobody of the config",
                Nobody::Elsewhere => "one of the config that comes from elsewhere",
            };
            NotTaken(Dropped::User, Some(format!("a message of SNMP v3 of the user `{}`, {what}", shown())))
        })?;
        let keys = self.keyring.proves(number, user, &header, whole).map_err(|wrong| {
            let (why, what) = match wrong {
                Wrong::Level => {
                    let found = level(header.is_authenticated, header.is_private);
                    (Dropped::Level, format!("with {found}, and {} is asked for", user.level()))
                }
                Wrong::Digest => {
                    (Dropped::Digest, "with a wrong password or another way to authenticate".to_owned())
                }
                Wrong::Decryption => (Dropped::Decryption, "which cannot be decrypted".to_owned()),
            };
            NotTaken(why, Some(format!("a message of SNMP v3 of the user `{}` {what}", shown())))
        })?;
        let mut is_first = false;
        if let Some(keys) = &keys {
            let timely = match is_for_us {
                true if own.is_timely(&header, now) => Timely::Yes,
                true => Timely::No,
                false => self.engines.check(header.engine, header.user, header.boots, header.time, now),
            };
            is_first = timely == Timely::First;
            if timely == Timely::No {
                let is_asked = is_for_us && header.is_reportable;
                if is_asked && self.reports.takes(super::peer(from), now) {
                    piece.at_once.extend(own.not_in_time(&header, keys, now).map(|report| (from, report)));
                }
                // Who has just learnt our engine does not know its clock yet.
                let said = (!is_asked).then(|| {
                    format!("a message of SNMP v3 of the user `{}` of another time: perhaps one that was recorded", shown())
                });
                return Err(NotTaken(Dropped::Time, said));
            }
        }
        let data: Cow<'m, [u8]> = match &keys {
            Some(keys) if header.is_private => {
                let undecrypted = |_| {
                    let said =
                        format!("a message of SNMP v3 of the user `{}` which cannot be decrypted", shown());
                    NotTaken(Dropped::Decryption, Some(said))
                };
                keys.decrypted(&header).map_err(undecrypted)?.into()
            }
            _ => header.data.into(),
        };
        // What is decrypted with another key is no BER.
        let scoped = Scoped::read(&data).map_err(|_| {
            let why = if header.is_private { Dropped::Decryption } else { Dropped::Malformed };
            let said = format!("a message of SNMP v3 of the user `{}` which cannot be read: perhaps with another password for privacy", shown());
            NotTaken(why, header.is_private.then_some(said))
        })?;
        let (engine, context, pdu) =
            (scoped.engine.to_vec(), scoped.context.to_vec(), scoped.pdu.to_vec().into());
        let (version, community, header) = (Version::V3, &[][..], Some(header));
        Ok(Proved { version, client, community, pdu, header, keys, engine, context, is_first, is_for_us })
    }

    fn made<I>(
        &mut self,
        proved: &Proved<'_>,
        envelope: &Envelope<'_>,
        from: SocketAddr,
        snmp: &Snmp<I>,
        piece: &mut Piece,
        now: Instant,
    ) -> Result<(), NotTaken> {
        let Proved { version, client, pdu, header, .. } = proved;
        let settings = self.settings.clone();
        let peer = super::peer(from).to_smolstr();
        let notification = match Notification::read(*version, pdu) {
            Ok(mut notification) => {
                if envelope.has_more {
                    notification.wrong(ParseError::Behind);
                }
                Some(notification)
            }
            Err(NoNotification::Other) => return Err(Dropped::Pdu.into()),
            Err(NoNotification::Malformed) => None,
        };
        let is_inform = notification.as_ref().is_some_and(|notification| notification.is_inform);
        // RFC 3414 section 1.5.1: we are the authority for what is to be answered, and for nothing else.
        if *version == Version::V3 && notification.is_some() && is_inform != proved.is_for_us {
            return Err(Dropped::Pdu.into());
        }
        let is_digest = header.is_some_and(|header| header.is_authenticated);
        let is_unique = is_inform || is_digest;
        let request = notification.as_ref().map_or(0, |notification| notification.request_id);
        // An inform that comes again may have another msgID, and with it another digest. What has a digest may come again from
        // anywhere.
        let (place, octets) =
            (if is_digest { "" } else { &*peer }, if is_inform { &**pdu } else { envelope.whole });
        let what = if is_unique { name_of(&client.name, place, request, octets) } else { 0 };
        let before = if is_unique { self.repeats.see(what, now) } else { Before::No };
        let answer = notification
            .as_ref()
            .filter(|_| is_inform)
            .map(|notification| answer(proved, notification, from, what));
        match before {
            Before::No => {}
            Before::Kept if is_inform => {
                let message = answer.and_then(|answer| answer.message(self.own.as_ref(), now));
                piece.at_once.extend(message.map(|message| (from, message)));
                return Err(Dropped::Repeated.into());
            }
            Before::Kept | Before::UnderWay => return Err(Dropped::Repeated.into()),
        }
        match is_unique {
            // The journal knows it by that for longer than we do, over restarts too.
            true => self.id = format!("snmp-{what:032x}"),
            false => snmp.ids.write(&mut self.id),
        }
        let user = header.map(|header| String::from_utf8_lossy(header.user).into_owned()).unwrap_or_default();
        let came = Came {
            peer: &peer,
            client: &client.name,
            is_authenticated: if is_digest { Some(true) } else { snmp.is_from_outside.then_some(false) },
            user: &user,
            level: header.map_or("", |header| level(header.is_authenticated, header.is_private)),
            engine: header.map_or(&[], |header| header.engine),
            context: &proved.context,
            is_first: proved.is_first,
            raw: pdu,
        };
        let made = self.alerts(notification.as_ref(), came, &settings);
        let Some(made) = made else {
            self.repeats.kept(what);
            // It needs no journal to be of no interest.
            let message = answer.and_then(|answer| answer.message(self.own.as_ref(), now));
            piece.at_once.extend(message.map(|message| (from, message)));
            return Err(Dropped::Rule.into());
        };
        let refused = made.iter().find_map(|alert| settings.clients.refuses(client, &alert));
        if let Some(matcher) = refused {
            self.repeats.refused(what);
            let said =
                format!("the client `{}` may only send alerts with {} (SNMP)", client.name, matcher.matcher);
            return Err(NotTaken(Dropped::Denied, Some(said)));
        }
        snmp.metrics.message(*version, envelope.whole.len());
        let error =
            notification.as_ref().map_or(Some(ParseError::Pdu), |notification| notification.parse_error);
        if let Some(error) = error {
            snmp.metrics.parse_error(error);
        }
        let making = of_client(if is_inform { &mut piece.informs } else { &mut piece.traps }, &client.name);
        made.iter().for_each(|alert| copy(alert, &mut making.batch));
        making.count += made.len();
        making.answers.extend(answer);
        Ok(())
    }

    fn alerts(
        &self,
        notification: Option<&Notification<'_>>,
        came: Came<'_>,
        settings: &SnmpSettings,
    ) -> Option<AlertBatch> {
        let now = Wall(jiff::Timestamp::now().as_millisecond());
        let bounds = Bounds { severities: &settings.clients.severities, limits: &settings.alert_limits, now };
        match notification {
            Some(notification) => {
                let trap = oid::dotted(&notification.trap);
                let fields = TrapFields::new(notification, came, &settings.names, &trap);
                alerts(&fields, settings, bounds, &self.id)
            }
            None => Some(unread(&came, bounds, &self.id)),
        }
    }
}

/// What an inform is known by when it comes again (row 83), and an authenticated trap (row 79); the same over restarts. The journal
/// has it as the id of an occurrence.
fn name_of(client: &str, peer: &str, request: i32, octets: &[u8]) -> u128 {
    let mut hash = Sha256::new();
    // No UTF-8 text holds the byte 0xFF.
    for part in [client.as_bytes(), &[0xff], peer.as_bytes(), &[0xff], &request.to_be_bytes(), octets] {
        hash.update(part);
    }
    let [first, ..] = *hash.finalize().as_chunks::<16>().0 else { return 0 };
    u128::from_be_bytes(first)
}

fn answer(proved: &Proved<'_>, notification: &Notification<'_>, to: SocketAddr, what: u128) -> Answer {
    let how = match &proved.header {
        Some(header) => How::User {
            id: header.id,
            user: header.user.to_vec(),
            keys: proved.keys.clone(),
            is_private: header.is_private,
            engine: proved.engine.clone(),
            context: proved.context.clone(),
            bytes_max: usize::try_from(header.max_size).unwrap_or(0),
        },
        None => How::Community(Hidden(proved.community.to_vec())),
    };
    Answer { to, what, how, request_id: notification.request_id, list: notification.list.to_vec() }
}

fn unread_as(why: Unread) -> Dropped {
    match why {
        Unread::Empty => Dropped::Empty,
        Unread::Malformed => Dropped::Malformed,
        Unread::Version => Dropped::Version,
        Unread::Security => Dropped::Security,
    }
}
