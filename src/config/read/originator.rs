//! The ways in: listeners, limits, clients.

use std::{net::SocketAddr, path::Path};

use ams2_handlers::units;
use smol_str::SmolStr;

use super::Reader;
use crate::{
    config::{
        Gravity, Http, Place, Snmp, Syslog,
        tree::{Node, Value},
    },
    originator::{
        Clients, HttpLimits, KnownClient, Limits, RESERVED_CLIENTS, Right, SOCKET_BYTES_MAX, SocketSettings,
        TokenHash, inbound::Hooks,
    },
};

/// Where HTTP listens unless the config says otherwise.
const LISTEN: &str = "127.0.0.1:9093";
/// Shorter tokens can be guessed.
const TOKEN_BYTES_MIN: usize = 16;

/// Every way in, and who may come.
pub(super) struct WaysIn {
    pub http: Option<Http>,
    pub socket: Option<SocketSettings>,
    pub syslog: Option<Syslog>,
    pub snmp: Option<Snmp>,
    pub clients: Clients,
    pub limits: Limits,
    pub inbound: Hooks,
}

/// Whether many machines share the client of this name.
fn is_enrolling(clients: &[KnownClient], name: &str) -> bool {
    clients.iter().any(|client| client.enrol && client.name == name)
}

impl Reader<'_> {
    pub(super) fn originator(&mut self, node: Option<&Node>, data_dir: &Path) -> WaysIn {
        let empty = Node { place: Default::default(), value: Value::Map(Vec::new()) };
        let mut fields = self.found.fields(node.unwrap_or(&empty));
        let before = self.found.list.len();
        let clients = fields.take("clients").map(|node| self.clients(node)).unwrap_or_default();
        // Whom a client with a mistake would have let in is not known: what follows from that is not said as well.
        let clients_are_wrong = self.found.list[before..].iter().any(|found| found.gravity == Gravity::Error);
        let clients = Clients { known: clients, severities: self.severities.clone() };
        let limits = fields.take("limits").map(|node| self.alert_limits(node)).unwrap_or_default();
        let inbound = fields.take("inbound").map(|node| self.inbound(node, &clients)).unwrap_or_default();
        let http = fields.take("http");
        let socket = fields.take("socket");
        let syslog = fields.take("syslog");
        let snmp = fields.take("snmp");
        fields.end(&mut self.found);
        let http = match http {
            Some(Node { value: Value::Bool(false), .. }) => None,
            Some(node) => self.http(node, &clients, clients_are_wrong),
            None => self.http(&empty, &clients, clients_are_wrong),
        };
        let socket = match socket {
            Some(Node { value: Value::Bool(false), .. }) => None,
            Some(node) => self.socket(node, data_dir),
            None => self.socket(&empty, data_dir),
        };
        let syslog = syslog.and_then(|node| self.syslog(node, &limits));
        let snmp = snmp.and_then(|node| self.snmp(node, &limits));
        WaysIn { http, socket, syslog, snmp, clients, limits, inbound }
    }

    pub(super) fn http(&mut self, node: &Node, clients: &Clients, clients_are_wrong: bool) -> Option<Http> {
        let mut fields = self.found.fields(node);
        let listen_node = fields.take("listen");
        let listen = match listen_node {
            Some(node) => self.listen(node),
            None => LISTEN.parse().ok(),
        };
        let tls_node = fields.take("tls");
        let tls = tls_node.and_then(|node| self.tls(node));
        let insecure = fields.take("insecure").and_then(|node| self.found.flag(node)).unwrap_or(false);
        let mut hosts = Vec::new();
        if let Some(node) = fields.take("hosts") {
            for item in self.found.list(node) {
                hosts.extend(self.found.expanded(item));
            }
        }
        let limits = fields.take("limits").map(|node| self.http_limits(node)).unwrap_or_default();
        let prefix = fields.take("prefix").and_then(|node| self.prefix(node)).unwrap_or_default();
        let prefix = self.overrides.prefix.clone().unwrap_or(prefix);
        fields.end(&mut self.found);
        let listen = self.overrides.listen.or(listen)?;
        if !listen.ip().is_loopback() && !insecure {
            let place = listen_node.unwrap_or(node).place;
            // What is wrong with it is said above.
            if tls.is_none() && tls_node.is_none() {
                let mend = "add `tls: {cert_file, key_file}`, listen on 127.0.0.1, or say `insecure: true`";
                self.found.error(place, format!("{listen} can be reached from outside without TLS"), mend);
            }
            if !clients.have_tokens() && !clients_are_wrong {
                let mend = "add `clients:` with tokens, listen on 127.0.0.1, or say `insecure: true`";
                self.found.error(place, format!("{listen} can be reached from outside by anybody"), mend);
            }
        }
        if insecure && !listen.ip().is_loopback() && !clients.need_names() && !clients_are_wrong {
            let place = listen_node.unwrap_or(node).place;
            let message = format!(
                "everybody who reaches {listen} may send alerts, acknowledge, retry, drop and reload"
            );
            self.found.warning(place, message, "add `clients:` with tokens");
        }
        Some(Http { listen, tls, hosts, insecure, prefix, limits })
    }

    pub(super) fn listen(&mut self, node: &Node) -> Option<SocketAddr> {
        let text = self.found.expanded(node)?;
        let parsed = text.parse().ok();
        if parsed.is_none() {
            let message = format!("`{text}` is no address and port");
            self.found.error(
                node.place,
                message,
                "write it like 127.0.0.1:9093 or [::1]:9093, with a port from 0 to 65535",
            );
        }
        parsed
    }

    fn prefix(&mut self, node: &Node) -> Option<SmolStr> {
        let text = self.found.expanded(node)?;
        let prefix = crate::config::prefix(&text);
        if prefix.is_none() {
            let message = format!("`{text}` is no beginning of a path");
            self.found.error(node.place, message, crate::config::PREFIX_MEND);
        }
        prefix
    }

    pub(super) fn http_limits(&mut self, node: &Node) -> HttpLimits {
        let mut limits = HttpLimits::default();
        let mut fields = self.found.fields(node);
        let found = &mut self.found;
        for (name, size, allowed) in [
            // A request is one record of the journal, which has frames of at most 64 MiB.
            ("body_bytes", &mut limits.body_bytes, 1 << 10..=32 << 20),
            ("bytes_in_flight", &mut limits.bytes_in_flight, 1 << 20..=1 << 40),
            // The HTTP library reads so much at least.
            ("head_bytes", &mut limits.head_bytes, 8 << 10..=1 << 20),
        ] {
            if let Some(bytes) = fields.take(name).and_then(|node| found.bytes_within(node, name, &allowed)) {
                *size = bytes;
            }
        }
        fields.limit_times(
            found,
            [
                ("header_time", &mut limits.header_time),
                ("body_time", &mut limits.body_time),
                ("answer_time", &mut limits.answer_time),
                ("handshake_time", &mut limits.handshake_time),
            ],
        );
        fields.limit_counts(
            found,
            [
                ("connections", &mut limits.connections),
                ("connections_per_address", &mut limits.connections_per_address),
                ("headers", &mut limits.headers),
            ],
        );
        let sized = fields.take("bytes_in_flight").or(fields.take("body_bytes"));
        fields.end(&mut self.found);
        // A compressed body that does not get smaller by it stands there twice.
        let least = limits.body_bytes * 2;
        if let Some(node) = sized
            && limits.bytes_in_flight < least
        {
            let mend = format!("use {} or more, or a smaller body_bytes", units::Bytes::new(least as u64));
            self.found.error(node.place, "bytes_in_flight has no room for one body", mend);
        }
        limits
    }

    pub(super) fn alert_limits(&mut self, node: &Node) -> Limits {
        let mut limits = Limits::default();
        let mut fields = self.found.fields(node);
        let found = &mut self.found;
        for (name, size, allowed) in [
            // What ams2's own alerts need, too.
            ("name_bytes", &mut limits.name_bytes, 16..=64 << 10),
            ("alert_bytes", &mut limits.alert_bytes, 1 << 10..=16 << 20),
            // `ams2 send` makes ids of 32 bytes.
            ("id_bytes", &mut limits.id_bytes, 32..=4 << 10),
        ] {
            if let Some(bytes) = fields.take(name).and_then(|node| found.bytes_within(node, name, &allowed)) {
                *size = bytes;
            }
        }
        for (name, count) in [("labels", &mut limits.labels), ("annotations", &mut limits.annotations)] {
            if let Some(number) = fields.take(name).and_then(|node| found.number(node, 1..=10_000)) {
                *count = number as usize;
            }
        }
        fields.end(&mut self.found);
        limits
    }

    pub(super) fn socket(&mut self, node: &Node, data_dir: &Path) -> Option<SocketSettings> {
        let mut fields = self.found.fields(node);
        let path_node = fields.take("path");
        let path = path_node.and_then(|node| self.found.path(node)).unwrap_or_else(|| "ams2.sock".into());
        let whole = data_dir.join(&path);
        if whole.as_os_str().len() > SOCKET_BYTES_MAX {
            let message = format!(
                "the socket's path {} has {} bytes; a socket's may have {SOCKET_BYTES_MAX}",
                whole.display(),
                whole.as_os_str().len()
            );
            let place = path_node.unwrap_or(node).place;
            self.found.error(place, message, "use a shorter path, or a shorter data folder");
        }
        let mode = fields.take("mode").and_then(|node| {
            let text = self.found.text(node)?;
            let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
            if mode.is_none() {
                self.found.error(
                    node.place,
                    format!("`{text}` is no mode"),
                    "write three octal digits in quotes: \"660\"",
                );
            }
            mode
        });
        fields.end(&mut self.found);
        // The design's sample names the data folder in the path; what is relative and does not starts there.
        let path = if path.is_absolute() || path.starts_with(data_dir) { path } else { data_dir.join(path) };
        Some(SocketSettings { path, mode: mode.unwrap_or(0o600) })
    }

    pub(super) fn clients(&mut self, node: &Node) -> Vec<KnownClient> {
        let (mut clients, mut places): (Vec<KnownClient>, Vec<Place>) = Default::default();
        for item in self.found.list(node) {
            let mut fields = self.found.fields(item);
            let name_node = fields.demand("name", &mut self.found);
            let name: Option<SmolStr> = name_node.and_then(|node| self.found.plain(node)).map(Into::into);
            let token = fields.take("token_file").and_then(|node| self.token(node));
            for (key, node) in fields.entries {
                // Whoever writes something else there may write the token itself.
                if key.text.starts_with("token") && key.text != "token_file" {
                    self.found.secret_at(node.place);
                }
            }
            let hash_node = fields.take("token_sha256");
            let hash = hash_node.and_then(|node| self.token_hash(node));
            if let Some(node) = hash_node
                && fields.take("token_file").is_some()
            {
                let message = "both `token_file` and `token_sha256` are given";
                self.found.error(node.place, message, "remove one");
            }
            let uid = fields.take("uid").and_then(|node| self.found.number(node, 0..=u64::from(u32::MAX)));
            let allow = match fields.take("allow") {
                Some(node) if matches!(node.value, Value::Null) => {
                    let mend = "write the matchers, or leave `allow` out for everything";
                    self.found.error(node.place, "`allow` is empty", mend);
                    Vec::new()
                }
                allow => allow.map(|node| self.matchers(node)).unwrap_or_default(),
            };
            let may = fields.take("may").map(|node| self.rights(node)).unwrap_or_else(|| vec![Right::Send]);
            let enrol = fields.take("enrol").and_then(|node| self.found.flag(node)).unwrap_or(false);
            let known = ["token_file", "token_sha256", "uid"].map(|name| fields.take(name).is_some());
            fields.end(&mut self.found);
            let (Some(name), Some(name_node)) = (name, name_node) else { continue };
            if RESERVED_CLIENTS.contains(&name.as_str()) || name.is_empty() {
                self.found.error(
                    name_node.place,
                    format!("a client may not be called `{name}`"),
                    "choose another name",
                );
                continue;
            }
            if clients.iter().any(|client| client.name == name) {
                self.found.error(
                    name_node.place,
                    format!("the client `{name}` is defined twice"),
                    "rename one",
                );
                continue;
            }
            if !known.contains(&true) {
                let mend = "add `token_file`, `token_sha256` or `uid`";
                self.found.error(item.place, format!("nothing says how to know the client `{name}`"), mend);
            }
            let token = token.as_deref().map(TokenHash::of).or(hash);
            let uid = uid.map(|uid| uid as u32);
            for (what, other) in [
                ("token", clients.iter().find(|other| token.is_some() && other.token == token)),
                ("uid", clients.iter().find(|other| uid.is_some() && other.uid == uid)),
            ] {
                if let Some(other) = other {
                    let message = format!("the clients `{}` and `{name}` have the same {what}", other.name);
                    self.found.error(item.place, message, "nobody could tell them apart: give each its own");
                }
            }
            clients.push(KnownClient { name, token, uid, allow, may, enrol });
            places.push(name_node.place);
        }
        for (client, place) in clients.iter().zip(places) {
            let parts = client.name.match_indices('/').map(|(end, _)| &client.name[..end]);
            if let Some(many) = parts.into_iter().find(|part| is_enrolling(&clients, part)) {
                let message = format!("`{}` may be one of the many machines of `{many}`", client.name);
                self.found.error(place, message, format!("choose a name that does not begin with `{many}/`"));
            }
        }
        clients
    }

    /// A client's token: one line.
    fn token(&mut self, node: &Node) -> Option<String> {
        let token = self.secret(node)?;
        if token.contains(['\r', '\n']) {
            let mend = "write one token into it, and give each client a file of its own";
            self.found.error(node.place, "the file holds several lines", mend);
            return None;
        }
        if token.len() < TOKEN_BYTES_MIN {
            let message = format!("the token has {} bytes, and could be guessed", token.len());
            self.found.warning(node.place, message, "make a longer one: openssl rand -hex 32");
        }
        Some(token)
    }

    fn rights(&mut self, node: &Node) -> Vec<Right> {
        let mut rights = Vec::new();
        for item in self.found.list(node) {
            let Some(word) = self.found.plain(item) else { continue };
            match Right::ALL.into_iter().find(|right| right.word() == word) {
                Some(right) => rights.push(right),
                None => {
                    self.found.error(
                        item.place,
                        format!("`{word}` is no right"),
                        "rights are send, read, operate",
                    );
                }
            }
        }
        if rights.is_empty() {
            self.found.error(node.place, "`may` is empty", "write for instance [send], or leave it out");
        }
        rights
    }

    pub(super) fn token_hash(&mut self, node: &Node) -> Option<TokenHash> {
        let text = self.found.expanded(node)?;
        let digits: Option<Vec<u8>> = (0..text.len() / 2)
            .map(|i| text.get(2 * i..2 * i + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
            .collect();
        let hash = digits.and_then(|digits| digits.try_into().ok()).map(TokenHash);
        if hash.is_none() || text.len() != 64 {
            self.found.error(
                node.place,
                "this is no SHA-256",
                "write 64 hex digits: `printf %s TOKEN | sha256sum`",
            );
            return None;
        }
        hash
    }
}
