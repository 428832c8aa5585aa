//! Messages of one sender into the alerts of one arrival.

use std::{
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
};

use ams2_core::{AlertBatch, AlertRef, BatchBuilder, Wall, input::Arrival};
use smol_str::{SmolStr, ToSmolStr};

use super::{
    Syslog, SyslogSettings, Transport,
    alert::{AUTHENTICATED, Whose, default_alert, identity, marks},
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
/// Bytes of alerts in one arrival, about: far less than the journal takes at once, whatever rules make of a message.
pub const ARRIVAL_BYTES_MAX: usize = 1 << 20;
/// An alert has at most about so many times as many bytes as its message, without rules: it may be kept raw and escaped, too.
const ALERT_TIMES: usize = 4;
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
    bytes: usize,
    id: String,
}

impl Default for Making {
    fn default() -> Making {
        Making { batch: BatchBuilder::with_capacity(ALERT_BYTES * 16), count: 0, bytes: 0, id: String::new() }
    }
}

impl Making {
    /// Whether no more messages should be put in.
    pub fn is_full(&self) -> bool {
        self.count >= MESSAGES_MAX || self.bytes >= ARRIVAL_BYTES_MAX
    }

    /// Bytes of the alerts in it, about.
    pub fn bytes(&self) -> usize {
        self.bytes
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
        let bytes_max = settings.alert_limits.alert_bytes;
        let of_rules = match settings.mapping.rules.is_empty() {
            true => None,
            false => match self.of_rules(&message, settings) {
                OfRules::Dropped => return metrics.left_out(Dropped::Rule),
                OfRules::None => None,
                OfRules::Alerts(alerts) => Some(alerts),
            },
        };
        if is_bound && let Some(refused) = refused(of_rules.as_ref(), &message, peer, sender, settings) {
            metrics.left_out(Dropped::Denied);
            return (syslog.on_denied)(sender.name.clone(), refused);
        }
        let is_own = message.came.is_authenticated == Some(true) || {
            let most = settings.limits.alerts_per_address;
            let admits =
                |what: &[&str]| syslog.identities.admits(peer.address, what, most, std::time::Instant::now());
            match &of_rules {
                Some(alerts) => alerts.iter().all(|alert| {
                    let labels = alert.labels().flat_map(|(name, value)| [name, value]);
                    // What is over is kept no longer.
                    is_over(&alert) || admits(&labels.collect::<Vec<_>>())
                }),
                None => admits(&identity(&message)),
            }
        };
        match of_rules {
            Some(alerts) if is_own => {
                self.bytes += alerts.memory_bytes();
                alerts.iter().for_each(|alert| copy(alert, &mut self.batch));
            }
            _ => {
                self.bytes += (ALERT_TIMES * frame.bytes.len()).min(bytes_max) + ALERT_BYTES;
                let whose = if is_own { Whose::Own } else { Whose::Shared };
                default_alert(&message, whose, bytes_max, &self.id, &mut self.batch);
            }
        }
        if !is_own {
            metrics.crowded.fetch_add(1, Ordering::Relaxed);
            syslog.note(peer.transport, &peer.name, "alerts", || {
                let most = settings.limits.alerts_per_address;
                format!(
                    "more than {most} different alerts came from this address in ten minutes, or many times as many from all: what else comes is the alert `Too Many Syslog Alerts` (originator.syslog.limits.alerts_per_address)"
                )
            });
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

    /// The alerts of a message by the rules.
    fn of_rules(&self, message: &Message<'_>, settings: &SyslogSettings) -> OfRules {
        let limits = &settings.alert_limits;
        let now = Wall(jiff::Timestamp::now().as_millisecond());
        let bounds = Bounds { severities: &settings.senders.severities, limits, now };
        let mut by_rule = BatchBuilder::default();
        match settings.mapping.map(&MessageFields { message, now }, bounds, &mut by_rule) {
            Mapped::Dropped => OfRules::Dropped,
            Mapped::Alerts(1..) => {
                let (by_rule, mut made) = (by_rule.finish(), BatchBuilder::default());
                let seal = |alert| sealed(alert, message, limits.alert_bytes, &self.id, &mut made);
                by_rule.iter().for_each(seal);
                OfRules::Alerts(made.finish())
            }
            // Nothing comes of it, or the config has no such rule.
            _ => OfRules::None,
        }
    }
}

/// What the rules make of a message.
enum OfRules {
    /// It is of no interest.
    Dropped,
    /// None takes it.
    None,
    Alerts(AlertBatch),
}

/// Whether an alert ends, and is not only to end some day.
fn is_over(alert: &AlertRef<'_>) -> bool {
    alert.times().ends_at.is_some_and(|end| end.0 <= jiff::Timestamp::now().as_millisecond())
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
        default_alert(message, Whose::Own, bytes_max, id, batch);
    }
}

/// Why a client may not send a message, or the alerts that rules make of it.
fn refused(
    of_rules: Option<&AlertBatch>,
    message: &Message<'_>,
    peer: &Peer,
    sender: &Sender<'_>,
    settings: &SyslogSettings,
) -> Option<String> {
    let mut own = BatchBuilder::default();
    default_alert(message, Whose::Own, settings.alert_limits.alert_bytes, "", &mut own);
    let own = own.finish();
    let itself = own.alert(0)?;
    let mut alerts = of_rules.unwrap_or(&own).iter();
    let matcher = alerts.find_map(|alert| settings.senders.refuses(sender, &alert, &itself))?;
    let (name, matcher, from, transport) =
        (&sender.name, &matcher.matcher, &peer.name, peer.transport.word());
    Some(format!(
        "the client `{name}` may only send alerts with {matcher} (syslog over {transport} from {from})"
    ))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{KnownSender, Senders, SyslogLimits},
        *,
    };
    use crate::originator::{Limits, mapping::Mapping};

    const ADDRESS: [u8; 4] = [192, 0, 2, 7];

    /// What becomes of messages of one sender: its arrival, and what is counted.
    struct Made {
        making: Making,
        syslog: Syslog<()>,
    }

    impl Made {
        fn of(messages: &[&str], settings: SyslogSettings, is_from_outside: bool) -> Made {
            let syslog = Syslog::new((), settings.clone(), Arc::default(), Box::new(|_, _| {}), 1);
            let peer = Peer::new(Transport::Udp, ADDRESS.into(), is_from_outside);
            let sender = settings.senders.who(peer.address, None).expect("it is known");
            let mut making = Making::default();
            for message in messages {
                let frame = Frame { bytes: message.as_bytes(), is_truncated: false, is_unterminated: false };
                making.take(frame, &peer, &sender, &syslog, &settings);
            }
            Made { making, syslog }
        }

        /// The events that came of it.
        fn events(self) -> Vec<String> {
            let arrival = self.making.finish(&"a".into());
            let alerts = arrival.iter().flat_map(|arrival| arrival.batch.iter());
            alerts.map(|alert| alert.label("event").to_owned()).collect()
        }
    }

    fn settings(rules: &str) -> SyslogSettings {
        let text = format!("requests: [{{path: /in/a, mapping: {rules}}}]");
        let mapping = match rules {
            "" => Mapping::default(),
            _ => crate::config::hook("syslog", &text).expect(rules).requests[0].mapping.clone(),
        };
        SyslogSettings {
            senders: Arc::default(),
            tls: None,
            limits: SyslogLimits::default(),
            alert_limits: Limits { alert_bytes: 1 << 20, ..Limits::default() },
            mapping,
        }
    }

    #[test]
    fn an_arrival_is_full_by_the_bytes_of_its_alerts() {
        let rules = "[{labels: {event: E}, annotations: {a: '{{ text }}'}}]";
        let large = format!("<13>{}", "x".repeat(60_000));
        let messages = |count: usize| vec![&*large; count];
        let bytes_of_one = Made::of(&messages(1), settings(rules), false).making.bytes();
        assert!((60_000..200_000).contains(&bytes_of_one), "{bytes_of_one}");
        let enough = ARRIVAL_BYTES_MAX.div_ceil(bytes_of_one);
        assert!(!Made::of(&messages(enough - 1), settings(rules), false).making.is_full());
        assert!(Made::of(&messages(enough), settings(rules), false).making.is_full());
        assert!(!Made::of(&["<13>x"; MESSAGES_MAX - 1], settings(""), false).making.is_full());
        assert!(Made::of(&["<13>x"; MESSAGES_MAX], settings(""), false).making.is_full());
    }

    #[test]
    fn what_a_rule_leaves_out_is_asked_of_the_message() {
        let matcher = ams2_core::matcher::Matcher::parse("facility = local7");
        let allow = vec![matcher.and_then(|matcher| matcher.compile(&Default::default())).expect("right")];
        let known = KnownSender {
            name: "a".into(),
            addresses: Vec::new(),
            certificates: Vec::new(),
            fingerprints: Vec::new(),
            allow,
        };
        let senders = Arc::new(Senders { known: vec![known], ..Senders::default() });
        let rules = "[{when: ['app = a'], labels: {event: Ruled}}, {when: ['app = b'], labels: {event: Ruled, facility: user}}]";
        let settings = SyslogSettings { senders, ..settings(rules) };
        let made =
            Made::of(&["<191>a: x", "<13>a: x", "<191>b: x", "<191>c: x", "<13>c: x"], settings, false);
        assert_eq!(made.syslog.metrics.dropped().find(|(why, _)| *why == "denied"), Some(("denied", 3)));
        assert_eq!(made.events(), ["Ruled", "c"]);
    }

    #[test]
    fn who_makes_up_too_many_alerts_shares_one() {
        let limits = SyslogLimits { alerts_per_address: 2, ..SyslogLimits::default() };
        let rules = "[{when: ['app = rule'], labels: {event: '{{ text }}'}}, {when: ['app = over'], does: resolve, labels: {event: '{{ text }}'}}]";
        let settings = SyslogSettings { limits, ..settings(rules) };
        let messages =
            ["<13>a: x", "<13>a: y", "<13>rule: b", "<13>c: x", "<13>rule: d", "<13>over: e", "<13>a: z"];
        let made = Made::of(&messages, settings, true);
        assert_eq!(made.syslog.metrics.crowded.load(Ordering::Relaxed), 2);
        let shared = "Too Many Syslog Alerts";
        assert_eq!(made.events(), ["a", "a", "b", shared, shared, "e", "a"]);
    }
}
