//! Messages of one sender into the alerts of one arrival.

use std::{
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
};

use ams2_core::{AlertBatch, AlertRef, BatchBuilder, Wall, input::Arrival};
use smol_str::{SmolStr, ToSmolStr};

use super::{
    Syslog, SyslogSettings, Transport,
    alert::{AUTHENTICATED, default_alert, marks},
    certificate::Certificate,
    clients::Sender,
    fields::MessageFields,
    frames::Frame,
    message::{Came, Message},
    metrics::Dropped,
};
use crate::originator::mapping::{Bounds, Mapped, copy};

/// Messages in one arrival: enough for one flush to carry many, few enough that none is large.
pub const MESSAGES_MAX: usize = 1000;
/// A message of ours that has come back more often than this is not taken again: somewhere is a loop.
const HOPS_MAX: u32 = 16;
/// Bytes of a batch for each message at first.
const ALERT_BYTES: usize = 300;

/// Where messages come from.
#[derive(Debug)]
pub struct Peer {
    /// How.
    pub transport: Transport,
    /// The address.
    pub address: IpAddr,
    /// The same in words.
    pub name: SmolStr,
    /// Its certificate.
    pub certificate: Option<Certificate>,
    /// Whether others than this machine reach the listener.
    pub is_from_outside: bool,
}

impl Peer {
    /// A peer without a certificate.
    pub fn new(transport: Transport, address: IpAddr, is_from_outside: bool) -> Peer {
        Peer { transport, address, name: address.to_smolstr(), certificate: None, is_from_outside }
    }

    /// Whether a certificate says who it is; `None` where that says nothing.
    fn is_authenticated(&self) -> Option<bool> {
        match self.certificate {
            Some(_) => Some(true),
            None => self.is_from_outside.then_some(false),
        }
    }

    /// What is said of one whom the config does not name.
    pub fn unknown(&self) -> String {
        let by = if self.certificate.is_some() { " with its certificate" } else { "" };
        let transport = self.transport.word();
        format!(
            "no client of originator.syslog.clients comes from this address{by} (syslog over {transport})"
        )
    }
}

/// An arrival that is being made.
pub struct Making {
    batch: BatchBuilder,
    count: usize,
    id: String,
}

impl Default for Making {
    fn default() -> Making {
        Making { batch: BatchBuilder::with_capacity(ALERT_BYTES * 16), count: 0, id: String::new() }
    }
}

impl Making {
    /// Whether no more messages should be put in.
    pub fn is_full(&self) -> bool {
        self.count >= MESSAGES_MAX
    }

    /// The arrival, if there is anything in it.
    pub fn finish(self, client: &SmolStr) -> Option<Arrival> {
        let batch = self.batch.finish();
        (!batch.is_empty()).then(|| Arrival { client: client.clone(), batch: Arc::new(batch) })
    }

    /// Takes a message in.
    pub fn take<I>(
        &mut self,
        frame: Frame<'_>,
        peer: &Peer,
        sender: &Sender<'_>,
        syslog: &Syslog<I>,
        settings: &SyslogSettings,
    ) {
        let metrics = &syslog.metrics;
        let text = String::from_utf8_lossy(frame.bytes);
        let came = Came {
            raw: frame.bytes,
            is_truncated: frame.is_truncated,
            is_unterminated: frame.is_unterminated,
            peer: &peer.name,
            is_authenticated: peer.is_authenticated(),
        };
        let message = Message::read(&text, came);
        if message.hops() > HOPS_MAX {
            metrics.left_out(Dropped::Loop);
            syslog.note(peer.transport, &peer.name, "loop", || {
                format!(
                    "a message of an alert of ours came back for the {HOPS_MAX}th time, and is not taken: whoever gets what `event_log` sends here sends it on to us"
                )
            });
            return;
        }
        self.count += 1;
        syslog.ids.write(&mut self.id);
        let is_bound = sender.known.is_some_and(|known| !known.allow.is_empty());
        if settings.mapping.rules.is_empty() && !is_bound {
            default_alert(&message, settings.alert_limits.alert_bytes, &self.id, &mut self.batch);
        } else {
            let Some(alerts) = self.made(&message, settings) else { return metrics.left_out(Dropped::Rule) };
            if let Some(refused) = refused(&alerts, peer, sender, settings) {
                metrics.left_out(Dropped::Denied);
                return (syslog.on_denied)(sender.name.clone(), refused);
            }
            alerts.iter().for_each(|alert| copy(alert, &mut self.batch));
        }
        metrics.message(peer.transport, frame.bytes.len());
        if frame.is_truncated {
            metrics.truncated.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(error) = message.parse_error {
            metrics.parse_error(error);
            syslog.note(peer.transport, &peer.name, error.word(), || {
                let shown = ams2_handlers::text::cut(&text, 200);
                format!("a message could not be read, and is kept as it came: {shown}")
            });
        }
    }

    /// The alerts of a message by the rules, or as it is without any; `None` when a rule says that it is of no interest.
    fn made(&self, message: &Message<'_>, settings: &SyslogSettings) -> Option<AlertBatch> {
        let limits = &settings.alert_limits;
        let mut made = BatchBuilder::default();
        if !settings.mapping.rules.is_empty() {
            let now = Wall(jiff::Timestamp::now().as_millisecond());
            let bounds = Bounds { severities: &settings.senders.severities, limits, now };
            let mut by_rule = BatchBuilder::default();
            match settings.mapping.map(&MessageFields { message, now }, bounds, &mut by_rule) {
                Mapped::Dropped => return None,
                Mapped::Alerts(1..) => {
                    let by_rule = by_rule.finish();
                    by_rule
                        .iter()
                        .for_each(|alert| sealed(alert, message, limits.alert_bytes, &self.id, &mut made));
                    return Some(made.finish());
                }
                // Nothing comes of it, or the config has no such rule.
                _ => {}
            }
        }
        default_alert(message, limits.alert_bytes, &self.id, &mut made);
        Some(made.finish())
    }
}

/// Adds an alert that a rule made, with what no rule may leave out or say otherwise: who vouches for the sender, and what
/// keeps a message from being lost or going round for ever.
fn sealed(alert: AlertRef<'_>, message: &Message<'_>, bytes_max: usize, id: &str, batch: &mut BatchBuilder) {
    let pairs = alert.labels().chain(alert.annotations());
    let bytes: usize = pairs.map(|(name, value)| name.len() + value.len()).sum();
    let marks = marks(message, bytes_max.saturating_sub(bytes));
    for (name, value) in alert.labels().filter(|(name, _)| *name != AUTHENTICATED) {
        batch.label(name, value);
    }
    if let Some(is) = message.came.is_authenticated {
        batch.label(AUTHENTICATED, if is { "true" } else { "false" });
    }
    for (name, value) in alert.annotations().filter(|(name, _)| marks.iter().all(|(mark, _)| mark != name)) {
        batch.annotation(name, value);
    }
    for (name, value) in &marks {
        batch.annotation(name, value);
    }
    if let Some(key) = alert.key() {
        batch.key(key);
    }
    let id = alert.id().unwrap_or(id);
    if batch.finish_alert(alert.times(), Some(id), alert.generator_url()).is_err() {
        // The only label that it had is ours to say.
        default_alert(message, bytes_max, id, batch);
    }
}

/// Why a client may not send these.
fn refused(
    alerts: &AlertBatch,
    peer: &Peer,
    sender: &Sender<'_>,
    settings: &SyslogSettings,
) -> Option<String> {
    let matcher = alerts.iter().find_map(|alert| settings.senders.refuses(sender, &alert))?;
    let (name, matcher, from, transport) =
        (&sender.name, &matcher.matcher, &peer.name, peer.transport.word());
    Some(format!(
        "the client `{name}` may only send alerts with {matcher} (syslog over {transport} from {from})"
    ))
}
