//! SNMP as a way in: the listener, communities and users, names, limits.

use std::sync::Arc;

use ams2_core::matcher::Op;
use ams2_handlers::{
    Secret,
    snmp_trap::{Authentication, Privacy},
};
use smol_str::SmolStr;

use super::Reader;
use crate::{
    config::{
        Snmp, nearest,
        tree::{Node, Value},
    },
    originator::{
        Limits, RESERVED_CLIENTS,
        mapping::Mapping,
        snmp::{
            Access, Client, Clients, Hidden, Names, SnmpLimits, SnmpSettings, TRAP, User, parse_oid,
            trap_path,
        },
    },
};

/// Communities that everybody tries first.
const GUESSED: [&str; 2] = ["public", "private"];
/// Longest community, in bytes.
const COMMUNITY_BYTES_MAX: usize = 255;
/// RFC 3414 section 2.4 and 11.2.
const USER_BYTES_MAX: usize = 32;
const PASSWORD_BYTES_MIN: usize = 8;
/// Most names.
const NAMES_MAX: usize = 10_000;
const AUTHENTICATIONS: [(&str, Authentication); 5] = [
    ("sha1", Authentication::Sha1),
    ("sha224", Authentication::Sha224),
    ("sha256", Authentication::Sha256),
    ("sha384", Authentication::Sha384),
    ("sha512", Authentication::Sha512),
];
const PRIVACIES: [(&str, Privacy); 3] =
    [("aes128", Privacy::Aes128), ("aes192", Privacy::Aes192), ("aes256", Privacy::Aes256)];
const OID_MEND: &str =
    "write it like 1.3.6.1.4.1.32473.7: `snmptranslate -On NAME` says the number of a name";

impl Reader<'_> {
    pub(super) fn snmp(&mut self, node: &Node, alert_limits: &Limits) -> Option<Snmp> {
        let mut fields = self.found.fields(node);
        let listen_node = fields.demand("listen", &mut self.found);
        let listen = listen_node.and_then(|node| self.listen(node));
        let insecure = fields.take("insecure").and_then(|node| self.found.flag(node)).unwrap_or(false);
        let clients =
            fields.demand("clients", &mut self.found).map(|node| self.snmp_clients(node)).unwrap_or_default();
        let names = fields.take("names").map(|node| self.oid_names(node)).unwrap_or_default();
        let limits = fields.take("limits").map(|node| self.snmp_limits(node)).unwrap_or_default();
        let mapping = fields.take("mapping").map(|node| self.snmp_mapping(node)).unwrap_or_default();
        fields.end(&mut self.found);
        let in_the_clear = clients.iter().find(|client| match &client.access {
            Access::Community(_) => true,
            Access::User(user) => user.authentication.is_none(),
        });
        if let (Some(address), Some(place), Some(client), false) =
            (listen, listen_node.map(|node| node.place), in_the_clear, insecure)
            && !address.ip().is_loopback()
        {
            let name = &client.name;
            let message = format!(
                "{address} can be reached from outside, and nothing proves that a message is of the client `{name}`"
            );
            let mend = "listen on 127.0.0.1, use users with passwords, or say `insecure: true`";
            self.found.error(place, message, mend);
        }
        let clients = Arc::new(Clients::new(clients, self.severities.clone()));
        let alert_limits = alert_limits.clone();
        let settings = SnmpSettings { clients, names: Arc::new(names), limits, alert_limits, mapping };
        Some(Snmp { listen: listen?, settings })
    }

    fn snmp_mapping(&mut self, node: &Node) -> Mapping {
        let path = trap_path();
        let why = [
            "no notification of SNMP says who takes charge of an alert",
            "no notification of SNMP is a ping",
            "a sender of SNMP hears no reason",
        ];
        let mapping = self.mapping_of_messages(node, "snmp", why);
        for (node, rule) in self.found.list(node).iter().zip(&mapping.rules) {
            let asked = rule.when.iter().filter(|(of, _)| *of == path).map(|(_, matcher)| &matcher.matcher);
            for matcher in asked.filter(|matcher| matches!(matcher.op, Op::Equal | Op::NotEqual)) {
                if parse_oid(&matcher.value).is_none() || matcher.value.starts_with('.') {
                    let message = format!("`{}` is no OID of a notification", matcher.value);
                    let mend = format!(
                        "{OID_MEND}; those that come with ams2 and those of `names` are in the field `{TRAP}_name`"
                    );
                    self.found.error(node.place, message, mend);
                }
            }
        }
        mapping.indexed_by(&path)
    }

    fn oid_names(&mut self, node: &Node) -> Names {
        let mut names = Names::default();
        let entries = self.found.fields(node).entries;
        if entries.len() > NAMES_MAX {
            self.found.error(
                node.place,
                format!("{} names", entries.len()),
                format!("use at most {NAMES_MAX}"),
            );
        }
        for (key, value) in entries {
            let Some(text) = self.found.expanded(value) else { continue };
            let is_name = key.text.starts_with(|c: char| c.is_ascii_alphabetic())
                && key.text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
            match parse_oid(&text) {
                _ if !is_name => {
                    let mend = "begin it with a letter, and use letters, digits, `-` and `_`";
                    self.found.error(key.place, format!("`{}` is no name of an object", key.text), mend);
                }
                Some(octets) => names.add(key.text.as_str().into(), octets),
                None => self.found.error(value.place, format!("`{text}` is no OID"), OID_MEND),
            }
        }
        names
    }

    fn snmp_clients(&mut self, node: &Node) -> Vec<Client> {
        let mut clients: Vec<Client> = Vec::new();
        for item in self.found.list(node) {
            let mut fields = self.found.fields(item);
            let name_node = fields.demand("name", &mut self.found);
            let name: Option<SmolStr> = name_node.and_then(|node| self.found.plain(node)).map(Into::into);
            let mut addresses = Vec::new();
            for item in fields.take("addresses").map(|node| self.found.list(node)).unwrap_or_default() {
                addresses.extend(self.network(item));
            }
            let allow = match fields.take("allow") {
                Some(node) if matches!(node.value, Value::Null) => {
                    let mend = "write the matchers, or leave `allow` out for everything";
                    self.found.error(node.place, "`allow` is empty", mend);
                    Vec::new()
                }
                allow => allow.map(|node| self.matchers(node)).unwrap_or_default(),
            };
            let insecure = fields.take("insecure").and_then(|node| self.found.flag(node)).unwrap_or(false);
            let (community, user) = (fields.take("community_file"), fields.take("user"));
            for (key, node) in fields.entries {
                // Whoever writes something else there may write the secret itself.
                let is_secret = ["community", "auth_password", "priv_password"].contains(&key.text.as_str());
                if is_secret {
                    self.found.secret_at(node.place);
                }
            }
            let authentication = (fields.take("auth"), fields.take("auth_password_file"));
            let privacy = (fields.take("priv"), fields.take("priv_password_file"));
            fields.end(&mut self.found);
            let access = match (community, user) {
                (Some(_), Some(node)) => {
                    let message = "a client has a community or is a user, not both";
                    self.found.error(node.place, message, "make two clients of it");
                    None
                }
                (Some(node), None) => {
                    if let Some(node) = [authentication.0, authentication.1, privacy.0, privacy.1]
                        .into_iter()
                        .flatten()
                        .next()
                    {
                        let message = "only a user has a password";
                        self.found.error(node.place, message, "remove it, or add `user:`");
                    }
                    self.community(node, insecure).map(|community| Access::Community(Hidden(community)))
                }
                (None, Some(node)) => self.snmp_user(node, authentication, privacy).map(Access::User),
                (None, None) => {
                    let mend = "add `community_file:`, or `user:` with passwords";
                    self.found.error(item.place, "nothing says how to know the client", mend);
                    None
                }
            };
            let (Some(name), Some(name_node)) = (name, name_node) else { continue };
            if RESERVED_CLIENTS.contains(&name.as_str()) || name.is_empty() {
                let message = format!("a client may not be called `{name}`");
                self.found.error(name_node.place, message, "choose another name");
                continue;
            }
            if clients.iter().any(|known| known.name == name) {
                let message = format!("the client `{name}` is defined twice");
                self.found.error(name_node.place, message, "rename one");
                continue;
            }
            clients.extend(access.map(|access| Client { name, access, addresses, allow }));
        }
        clients
    }

    fn community(&mut self, node: &Node, insecure: bool) -> Option<Vec<u8>> {
        let community = self.secret(node)?;
        if community.len() > COMMUNITY_BYTES_MAX || community.contains(char::is_control) {
            let message = "a community that is longer than 255 bytes or has control characters";
            self.found.error(node.place, message, "write one into it as the devices know it");
            return None;
        }
        if GUESSED.contains(&community.as_str()) && !insecure {
            let mend = "give the devices another one, or say `insecure: true` for this client";
            self.found.error(node.place, format!("everybody tries the community `{community}` first"), mend);
            return None;
        }
        Some(community.into_bytes())
    }

    fn snmp_user(
        &mut self,
        node: &Node,
        (auth, auth_password): (Option<&Node>, Option<&Node>),
        (privacy, priv_password): (Option<&Node>, Option<&Node>),
    ) -> Option<User> {
        let name = self.found.plain(node)?.to_owned();
        if name.is_empty() || name.len() > USER_BYTES_MAX || name.contains(char::is_control) {
            self.found.error(
                node.place,
                format!("{name:?} is no name of a user"),
                "use 1 to 32 bytes, as the devices know it",
            );
            return None;
        }
        let authentication = self.with_password(auth, auth_password, &AUTHENTICATIONS, "sha256", "auth");
        let privacy_found = self.with_password(privacy, priv_password, &PRIVACIES, "aes128", "priv");
        if let (None, Some(node)) = (auth_password, privacy.or(priv_password)) {
            let message = "who encrypts authenticates, too";
            self.found.error(node.place, message, "add `auth_password_file:`");
        }
        Some(User::new(name.into_bytes(), authentication?, privacy_found?))
    }

    /// A way to authenticate or encrypt, and its password; `None` for a mistake.
    fn with_password<T: Copy>(
        &mut self,
        way: Option<&Node>,
        password: Option<&Node>,
        ways: &[(&str, T)],
        unless_set: &str,
        key: &str,
    ) -> Option<Option<(T, Secret)>> {
        let word = match way {
            Some(node) => self.found.plain(node)?.to_owned(),
            None => unless_set.to_owned(),
        };
        let found = ways.iter().find(|(known, _)| *known == word).map(|(_, way)| *way);
        if let (None, Some(node)) = (found, way) {
            let known: Vec<&str> = ways.iter().map(|(known, _)| *known).collect();
            let message = match word.as_str() {
                "md5" => "MD5 protects nothing any more".to_owned(),
                "des" => "DES protects nothing any more".to_owned(),
                word => format!("`{word}` is no such way"),
            };
            let near = nearest(&word, known.iter().copied()).map(|near| format!("did you mean `{near}`? "));
            let mend = format!("{}use one of {}", near.unwrap_or_default(), known.join(", "));
            self.found.error(node.place, message, mend);
            return None;
        }
        let Some(node) = password else {
            if let Some(node) = way {
                let mend = format!("add `{key}_password_file:`");
                self.found.error(node.place, format!("`{key}` without a password"), mend);
                return None;
            }
            return Some(None);
        };
        let password = self.secret(node)?;
        if password.len() < PASSWORD_BYTES_MIN {
            let message = "the password has fewer than 8 bytes (RFC 3414 section 11.2)";
            self.found.error(node.place, message, "use a longer one, there and here");
            return None;
        }
        Some(Some((found?, Secret::new(password))))
    }

    fn snmp_limits(&mut self, node: &Node) -> SnmpLimits {
        let mut limits = SnmpLimits::default();
        let mut fields = self.found.fields(node);
        let found = &mut self.found;
        let receive = fields.take("receive_bytes");
        if let Some(bytes) =
            receive.and_then(|node| found.bytes_within(node, "receive_bytes", &(64 << 10..=256 << 20)))
        {
            limits.receive_bytes = bytes;
        }
        fields.limit_times(found, [("inform_time", &mut limits.inform_time)]);
        fields.limit_counts(found, [("messages_per_second", &mut limits.messages_per_second)]);
        fields.end(&mut self.found);
        limits
    }
}
