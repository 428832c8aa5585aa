//! Mail over SMTP (RFC 5321): one message for one notification, with text and HTML, to each recipient of a list.
//!
//! Each recipient has an outcome of its own: one that is refused for now is tried again alone, one that is refused for
//! good becomes a dead letter alone. What the server says of itself or of our login (421, 530, 535, no TLS) is never the
//! mail's fault: it waits. Without TLS nothing leaves this machine unless the config says `tls: none`.

mod guard;
mod letter;
mod smtp;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use lettre::{
    Address,
    message::{Mailbox, header::HeaderName},
};
use tokio::time::Instant;

use crate::{
    Action, BuildContext, Defaults, Delivery, Failure, FileSetting, Kind, Receipt, Recipient, Secret,
    SettingsError,
    delivery::written,
    net::{self, HostPort},
    render::{Scope, Template},
    settings::{Warnings, settings},
    tls, units,
};
use letter::{Letter, Letters};
use smtp::{Login, RECIPIENTS_MAX, Security, Server, Trouble};

/// The entry in the table.
pub const KIND: Kind = Kind {
    key: "email",
    summary: "sends a mail with text and HTML over SMTP, with an outcome for each recipient",
    examples: &[
        "email: { to: [secops@example.com], from: ams2@example.com, smtp: 'smtp://127.0.0.1:25' }",
        "email: { to: ['Night desk <night@example.com>', secops@example.com], from: 'ams2 <ams2@example.com>', smtp: 'smtp://mail.example.com:587', reply_to: secops@example.com }",
        "email: { to: [secops@example.com], from: ams2@example.com, smtp: 'smtps://mail.example.com', subject: '{{ severity | upper }} {{ event }}', html: false }",
    ],
    files: &[FileSetting::secret("password_file", "password"), FileSetting::public("ca_file", "ca")],
    defaults: Defaults {
        send_resolved: true,
        max_in_flight: 4,
        batch_max: 1,
        timeout: units::Duration::from_seconds(60),
        max_alerts: 100,
        patient: false,
    },
};

settings! {
    /// Settings of an `email` action.
    pub struct Settings {
        /// Who gets it: addresses, or `Name <address>`.
        pub to: Vec<String>,
        /// Who it is from: an address, or `Name <address>`.
        pub from: String,
        /// The mail server: `smtp://host:port` (587 unless set) or `smtps://host:port` (465 unless set).
        pub smtp: String,
        /// `required`: STARTTLS, or nothing is sent. `none`: in the clear. Unless set, `none` to this machine itself and
        /// `required` to any other.
        pub tls: Option<TlsMode>,
        /// Certificates (PEM) of the authorities that may sign the server's; from `ca_file`. Unless set, those that this
        /// system trusts.
        pub ca: Option<String>,
        /// Who logs in.
        pub user: Option<String>,
        /// Its password, from `password_file` or `${env:NAME}`.
        pub password: Option<Secret>,
        /// The name that we greet the server with; our address unless set.
        pub hello: Option<String>,
        /// Where answers go; to the sender unless set.
        pub reply_to: Option<String>,
        /// A template for the subject; one line.
        pub subject: Option<String>,
        /// A template for the text part.
        pub text: Option<String>,
        /// A template for the HTML part, or `false` for mails in plain text alone.
        pub html: Option<Html>,
        /// More headers: names, and a template for the value of each.
        pub headers: Option<BTreeMap<String, String>>,
    }
}

/// Whether the way to the server is private.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TlsMode {
    /// STARTTLS, or nothing is sent.
    Required,
    /// In the clear.
    None,
}

/// The HTML part.
#[derive(Clone, Debug, PartialEq)]
pub enum Html {
    /// There is none, or the default.
    Default(bool),
    /// By this template.
    Template(String),
}

impl schemars::JsonSchema for Html {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Html".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": ["string", "boolean"] })
    }
}

impl<'de> serde::Deserialize<'de> for Html {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Html, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Html;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a template, true or false")
            }
            fn visit_bool<E>(self, value: bool) -> Result<Html, E> {
                Ok(Html::Default(value))
            }
            fn visit_str<E>(self, value: &str) -> Result<Html, E> {
                Ok(Html::Template(value.to_owned()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Most recipients of one action.
const RECIPIENTS_OF_ACTION_MAX: usize = 10_000;
/// Headers that are ours: another word in them would lead mail programs, or mail servers, astray.
const OUR_HEADERS: [&str; 17] = [
    "auto-submitted",
    "bcc",
    "cc",
    "content-transfer-encoding",
    "content-type",
    "date",
    "from",
    "importance",
    "in-reply-to",
    "message-id",
    "mime-version",
    "references",
    "reply-to",
    "sender",
    "subject",
    "to",
    "user-agent",
];
/// What a mail looks like unless a template says otherwise.
const DEFAULT_HTML: &str = include_str!("email/mail.html");

/// A mail action that is ready.
#[derive(Debug)]
struct Email {
    letters: Letters,
    server: Server,
}

impl Warnings for Settings {}

impl Settings {
    /// The words of `older`, sent where these settings say.
    pub(crate) fn with_texts_of(&self, older: &Settings) -> Settings {
        Settings {
            subject: older.subject.clone(),
            text: older.text.clone(),
            html: older.html.clone(),
            headers: older.headers.clone(),
            ..self.clone()
        }
    }

    pub(crate) fn build(&self, _: &BuildContext) -> Result<Box<dyn Action>, Vec<SettingsError>> {
        let mut errors = Vec::new();
        let letters = self.letters().map_err(|found| errors.extend(found));
        let server = self.server().map_err(|found| errors.extend(found));
        match (letters, server) {
            (Ok(letters), Ok(server)) => Ok(Box::new(Email { letters, server })),
            _ => Err(errors),
        }
    }

    fn letters(&self) -> Result<Letters, Vec<SettingsError>> {
        let mut errors = Vec::new();
        let mut mailbox = |field: String, text: &str| {
            let read = text.parse::<Mailbox>();
            let clean = !text.contains(crate::text::leaves_the_line);
            match read {
                Ok(mailbox) if clean => Some(Mailbox { email: in_ascii(mailbox.email), ..mailbox }),
                _ => {
                    let mend = "write it like secops@example.com or 'Night desk <night@example.com>'";
                    errors.push(SettingsError::new(field, format!("{text:?} is no mail address"), mend));
                    None
                }
            }
        };
        let from = mailbox("from".into(), &self.from);
        let reply_to = self.reply_to.as_deref().and_then(|text| mailbox("reply_to".into(), text));
        let mut to: Vec<Mailbox> = Vec::new();
        for (position, text) in self.to.iter().enumerate().take(RECIPIENTS_OF_ACTION_MAX) {
            to.extend(mailbox(format!("to[{position}]"), text));
        }
        for (field, mailbox) in [("from", &from), ("reply_to", &reply_to)] {
            if mailbox.as_ref().is_some_and(|mailbox| !AsRef::<str>::as_ref(&mailbox.email).is_ascii()) {
                let mend = "the name before it may have any letters, the address may not";
                errors.push(SettingsError::new(field, "an address that is not ASCII", mend));
            }
        }
        if self.to.is_empty() {
            errors.push(SettingsError::new("to", "a mail to nobody", "add an address"));
        }
        if self.to.len() > RECIPIENTS_OF_ACTION_MAX {
            let message = format!("{} recipients", self.to.len());
            let mend = format!("at most {RECIPIENTS_OF_ACTION_MAX}: send to a mailing list instead");
            errors.push(SettingsError::new("to", message, mend));
        }
        let mut template = |field: &str, source: Option<&str>, scope: Scope| {
            let compiled =
                source.map(|source| Template::compile_with(source, scope, &self.templates)).transpose();
            compiled.unwrap_or_else(|error| {
                errors.push(error.of_setting(field));
                None
            })
        };
        let subject = template("subject", self.subject.as_deref(), Scope::Delivery);
        let text = template("text", self.text.as_deref(), Scope::Delivery);
        let html = match &self.html {
            Some(Html::Default(false)) => None,
            None | Some(Html::Default(true)) => template("html", Some(DEFAULT_HTML), Scope::Html),
            Some(Html::Template(source)) => template("html", Some(source), Scope::Html),
        };
        let mut headers = Vec::new();
        for (name, source) in self.headers.iter().flatten() {
            let value = template(&format!("headers.{name}"), Some(source), Scope::Delivery);
            headers.extend(HeaderName::new_from_ascii(name.clone()).ok().zip(value));
        }
        for name in self.headers.iter().flatten().map(|(name, _)| name) {
            let is_plain = |b: u8| b.is_ascii_graphic() && b != b':';
            let is_name = (1..=76).contains(&name.len()) && name.bytes().all(is_plain);
            let is_ours = OUR_HEADERS.contains(&name.to_lowercase().as_str());
            if is_ours || !is_name {
                let what = if is_ours { "is set by ams2" } else { "is no name of a header" };
                let mend = "use a name like X-Team";
                errors.push(SettingsError::new("headers", format!("{name:?} {what}"), mend));
            }
        }
        match from {
            Some(from) if errors.is_empty() => {
                let is_html_ours = !matches!(self.html, Some(Html::Template(_)));
                Ok(Letters { from, reply_to, to, subject, text, html, is_html_ours, headers })
            }
            _ => Err(errors),
        }
    }

    fn server(&self) -> Result<Server, Vec<SettingsError>> {
        let mut errors = Vec::new();
        let mend = "write smtp://mail.example.com:587 or smtps://mail.example.com:465";
        let (implicit, rest) = match self.smtp.split_once("://") {
            Some(("smtp", rest)) => (false, rest),
            Some(("smtps", rest)) => (true, rest),
            _ => {
                let message = format!("{:?} is no mail server", net::shown(&self.smtp));
                return Err(vec![SettingsError::new("smtp", message, mend)]);
            }
        };
        let default_port = if implicit { 465 } else { 587 };
        let place = HostPort::parse(rest.trim_end_matches('/'), Some(default_port))
            .map_err(|what| vec![SettingsError::new("smtp", what, mend)])?;
        let clear = match self.tls {
            Some(TlsMode::None) => true,
            Some(TlsMode::Required) => false,
            None => !implicit && place.is_loopback(),
        };
        if implicit && clear {
            let mend = "remove `tls: none`, or write smtp://";
            errors.push(SettingsError::new("tls", "smtps:// is TLS from the first byte", mend));
        }
        if clear && self.ca.is_some() {
            let mend = "say `tls: required`, or remove `ca_file`";
            errors.push(SettingsError::new("ca_file", "there is no TLS to check with it", mend));
        }
        let login = match (&self.user, &self.password) {
            (None, None) => None,
            (Some(user), Some(password)) => {
                let odd = |text: &str| text.is_empty() || text.contains(char::is_control);
                if odd(user) || odd(password.expose()) {
                    let message = "a user or password that is empty or has control characters";
                    errors.push(SettingsError::new("user", message, "write both as the server knows them"));
                }
                if clear && !place.is_loopback() {
                    let mend = "remove `tls: none`, or the login";
                    let message = "the password would go over the network in the clear";
                    errors.push(SettingsError::new("tls", message, mend));
                }
                Some(Login { user: user.clone(), password: password.clone() })
            }
            (Some(_), None) => {
                let mend = "add `password_file`, or `password: ${env:NAME}`";
                errors.push(SettingsError::new("user", "a user without a password", mend));
                None
            }
            (None, Some(_)) => {
                errors.push(SettingsError::new("password", "a password without a user", "add `user`"));
                None
            }
        };
        if let Some(name) = &self.hello
            && (name.is_empty() || name.len() > 255 || !name.bytes().all(|b| b.is_ascii_graphic()))
        {
            let mend = "write this machine's full name";
            errors.push(SettingsError::new("hello", format!("{name:?} is no name of a host"), mend));
        }
        let security = if clear {
            Security::Plain
        } else {
            match tls::client(self.ca.as_deref()) {
                Ok(config) if implicit => Security::Implicit(config),
                Ok(config) => Security::StartTls(config),
                Err(what) => {
                    let mend =
                        "name a PEM file with the certificate of the authority that signed the server's";
                    errors.push(SettingsError::new("ca_file", what, mend));
                    Security::Plain
                }
            }
        };
        if !errors.is_empty() {
            return Err(errors);
        }
        let connections = self.common().limits(&KIND.defaults).max_in_flight as usize;
        Ok(Server::new(place, security, login, self.hello.clone(), connections))
    }
}

#[async_trait::async_trait]
impl Action for Email {
    async fn deliver(&self, batch: &[Delivery], deadline: Duration) -> Vec<Result<Receipt, Failure>> {
        let end = Instant::now() + deadline;
        let mut results = Vec::with_capacity(batch.len());
        for delivery in batch {
            results.push(self.tell(delivery, end).await);
        }
        results
    }

    async fn probe(&self, deadline: Duration) -> Result<String, String> {
        let named = |words: String| format!("{}: {words}", self.server.place);
        self.server.probe(Instant::now() + deadline).await.map(named).map_err(named)
    }
}

impl Email {
    async fn tell(&self, delivery: &Delivery, end: Instant) -> Result<Receipt, Failure> {
        let letter = written(delivery, || self.letters.write(delivery));
        let Letter { bytes, memo } = letter.map_err(Failure::permanent)?;
        let recipients = self.recipients(delivery.unfinished.as_deref());
        // The config was changed since these were refused for now: it is the admin's word that they are not told.
        let left = delivery.unfinished.as_ref().map_or(0, Vec::len);
        let mut sum = Sum { gone: left.saturating_sub(recipients.len()), ..Sum::default() };
        if recipients.is_empty() {
            let (reply, memo) = (format!("nobody is left to be told: {}", gone(sum.gone)), Some(memo));
            return Ok(Receipt::Delivered { reply, memo, unfinished: Vec::new(), refused: Vec::new() });
        }
        for (done, some) in recipients.chunks(RECIPIENTS_MAX).enumerate() {
            match self.server.send(&self.letters.from.email, some, &bytes, end).await {
                Ok(told) => sum.add(told),
                Err(Trouble::ForGood(words)) => {
                    sum.words.clone_from(&words);
                    sum.refused.extend(some.iter().map(|(recipient, _)| (*recipient, words.clone())));
                }
                Err(Trouble::ForNow(words)) => {
                    (sum.words, sum.of_the_server) = (words, true);
                    sum.unfinished.extend(some.iter().map(|(recipient, _)| *recipient));
                }
                Err(trouble @ (Trouble::Server(_) | Trouble::Lost(_))) => {
                    // No better luck with the rest of them.
                    sum.is_lost = matches!(trouble, Trouble::Lost(_));
                    (sum.words, sum.of_the_server) = (trouble.words(), true);
                    let rest = &recipients[done * RECIPIENTS_MAX..];
                    sum.unfinished.extend(rest.iter().map(|(recipient, _)| *recipient));
                    break;
                }
            }
        }
        sum.outcome(&self.server.place, memo)
    }

    /// Those of the list that are to be told, each once.
    fn recipients(&self, unfinished: Option<&[Recipient]>) -> Vec<(Recipient, Address)> {
        let wanted: Option<BTreeSet<Recipient>> = unfinished.map(|some| some.iter().copied().collect());
        let is_wanted = |position, recipient| {
            wanted.as_ref().is_none_or(|some: &BTreeSet<Recipient>| {
                some.contains(&recipient) || some.contains(&Recipient::at(position))
            })
        };
        let mut known = BTreeSet::new();
        (0u16..)
            .zip(self.letters.addresses())
            .map(|(position, address)| (position, recipient(address), address))
            .filter(|(position, recipient, _)| is_wanted(*position, *recipient) && known.insert(*recipient))
            .map(|(_, recipient, address)| (recipient, address.clone()))
            .collect()
    }
}

/// The address with its domain as DNS has it (RFC 5891), which every server takes; unless what stands before the `@` needs SMTPUTF8
/// all the same.
fn in_ascii(address: Address) -> Address {
    if address.domain().is_ascii() || !address.user().is_ascii() {
        return address;
    }
    // Hosts of web addresses are written so, too.
    let url = reqwest::Url::parse(&format!("http://{}/", address.domain()));
    let domain = url.ok().and_then(|url| url.host_str().map(str::to_owned));
    domain.and_then(|domain| Address::new(address.user(), &domain).ok()).unwrap_or(address)
}

/// Who has this address. Domains are the same in capitals; what stands before the `@` is the domain's own business.
fn recipient(address: &Address) -> Recipient {
    Recipient::of(&format!("{}@{}", address.user(), address.domain().to_ascii_lowercase()))
}

fn gone(count: usize) -> String {
    match count {
        1 => "1 recipient that was left is not in `to` any more".into(),
        count => format!("{count} recipients that were left are not in `to` any more"),
    }
}

/// What became of a mail over all its transactions.
#[derive(Default)]
struct Sum {
    reply: Option<String>,
    unfinished: Vec<Recipient>,
    refused: Vec<(Recipient, String)>,
    words: String,
    /// Whether it is the server, or the mail as a whole, that some have to wait for, and not each of them.
    of_the_server: bool,
    /// Whether the server may have what it did not answer.
    is_lost: bool,
    /// Recipients that were left and that the config has no more.
    gone: usize,
}

impl Sum {
    fn add(&mut self, told: smtp::Told) {
        self.reply = told.reply.or(self.reply.take());
        // Those that were refused for good have their words beside them.
        let is_why = !told.unfinished.is_empty() || self.unfinished.is_empty();
        if is_why && !told.words.is_empty() {
            self.words = told.words;
        }
        self.of_the_server |= told.as_a_whole;
        self.unfinished.extend(told.unfinished);
        self.refused.extend(told.refused);
    }

    /// A mail that nobody has is a failure; else some have it, and each of the others has a fate of its own.
    fn outcome(self, place: &HostPort, memo: Vec<u8>) -> Result<Receipt, Failure> {
        let Sum { reply, unfinished, refused, words, of_the_server, is_lost, gone: gone_count } = self;
        let failure = match (is_lost, of_the_server) {
            (true, _) => Failure::uncertain,
            (false, true) => Failure::transient,
            (false, false) => Failure::deferred,
        };
        match reply {
            None if unfinished.is_empty() => Err(Failure::permanent(format!("{place}: {words}"))),
            None if refused.is_empty() => Err(failure(format!("{place}: {words}"))),
            None => {
                Ok(Receipt::Partial { failure: failure(format!("{place}: {words}")), unfinished, refused })
            }
            // Some have it; whether the others do nobody knows.
            Some(reply) if is_lost => {
                Ok(Receipt::Partial { failure: failure(format!("{reply}; {words}")), unfinished, refused })
            }
            Some(reply) => {
                // Who is tried again wants to know why.
                let reply = if unfinished.is_empty() { reply } else { format!("{reply}; {words}") };
                let reply = if gone_count == 0 { reply } else { format!("{reply}; {}", gone(gone_count)) };
                Ok(Receipt::Delivered { reply, memo: Some(memo), unfinished, refused })
            }
        }
    }
}

#[cfg(test)]
mod dialogue;
#[cfg(test)]
mod tests;
