//! Who may send, and what: known by a community or a user, perhaps from certain addresses alone.

use std::{collections::HashMap, net::IpAddr};

use ams2_core::{AlertRef, Severities, matcher::Compiled};
use smol_str::SmolStr;

use super::usm::User;
use crate::originator::syslog::Network;

/// What a community is, or a user's name: shown to nobody, since whoever knows a community may use it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Hidden(pub Vec<u8>);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hidden")
    }
}

impl std::borrow::Borrow<[u8]> for Hidden {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// How a client is known.
#[derive(Debug)]
pub enum Access {
    /// Whoever knows this community, over v1 or v2c.
    Community(Hidden),
    /// This user, over v3.
    User(User),
}

/// A client of the config.
#[derive(Debug)]
pub struct Client {
    /// Its name.
    pub name: SmolStr,
    /// How it is known.
    pub access: Access,
    /// Where it comes from; empty for anywhere.
    pub addresses: Vec<Network>,
    /// What its alerts must match.
    pub allow: Vec<Compiled>,
}

/// Every client of the config.
#[derive(Debug, Default)]
pub struct Clients {
    known: Vec<Client>,
    /// Positions by community and by user. Hashed with a key of the process's own: what the time of a look says, nobody can use.
    communities: HashMap<Hidden, Vec<usize>>,
    users: HashMap<Hidden, Vec<usize>>,
    /// For the matchers of `allow`.
    pub severities: Severities,
}

/// Why nobody of the config is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nobody {
    /// Nobody has this community, or this user's name.
    Unknown,
    /// Somebody has, and comes from elsewhere.
    Elsewhere,
}

impl Clients {
    /// In the order of the config: the first that fits counts.
    pub fn new(known: Vec<Client>, severities: Severities) -> Clients {
        let mut clients = Clients { severities, ..Clients::default() };
        for (number, client) in known.iter().enumerate() {
            let (table, key) = match &client.access {
                Access::Community(community) => (&mut clients.communities, community.clone()),
                Access::User(user) => (&mut clients.users, Hidden(user.name.clone())),
            };
            table.entry(key).or_default().push(number);
        }
        clients.known = known;
        clients
    }

    /// Whether anybody is known by a user.
    pub fn has_users(&self) -> bool {
        !self.users.is_empty()
    }

    /// Who knows a community.
    pub fn of_community(&self, community: &[u8], address: IpAddr) -> Result<&Client, Nobody> {
        self.fitting(self.communities.get(community), address).map(|number| &self.known[number])
    }

    /// Who says to be a user, with his number in the config.
    pub fn of_user(&self, name: &[u8], address: IpAddr) -> Result<(usize, &Client, &User), Nobody> {
        let number = self.fitting(self.users.get(name), address)?;
        match &self.known[number] {
            client @ Client { access: Access::User(user), .. } => Ok((number, client, user)),
            _ => Err(Nobody::Unknown),
        }
    }

    fn fitting(&self, numbers: Option<&Vec<usize>>, address: IpAddr) -> Result<usize, Nobody> {
        let numbers = numbers.ok_or(Nobody::Unknown)?;
        let fits = |number: &&usize| {
            let addresses = &self.known[**number].addresses;
            addresses.is_empty() || addresses.iter().any(|network| network.contains(address))
        };
        numbers.iter().find(fits).copied().ok_or(Nobody::Elsewhere)
    }

    /// The first matcher of a client's that an alert does not match.
    pub fn refuses<'c>(&self, client: &'c Client, alert: &AlertRef<'_>) -> Option<&'c Compiled> {
        client.allow.iter().find(|m| !m.matches(alert.label(&m.matcher.name), &self.severities))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_known_by_what_it_says_and_where_it_is() {
        let client = |name: &str, access: Access, addresses: &[&str]| Client {
            name: name.into(),
            access,
            addresses: addresses.iter().map(|text| Network::parse(text).expect("one")).collect(),
            allow: Vec::new(),
        };
        let community = |text: &str| Access::Community(Hidden(text.as_bytes().to_vec()));
        let clients = Clients::new(
            vec![
                client("here", community("a"), &["192.0.2.0/24"]),
                client("there", community("a"), &["2001:db8::/32"]),
                client("anywhere", community("b"), &[]),
                client("ups", Access::User(User::new(b"a".to_vec(), None, None)), &["192.0.2.1"]),
            ],
            Severities::default(),
        );
        assert!(clients.has_users());
        let who = |community: &str, address: &str| {
            let found = clients.of_community(community.as_bytes(), address.parse().expect("one"));
            found.map(|client| client.name.to_string())
        };
        assert_eq!(who("a", "192.0.2.9").as_deref(), Ok("here"));
        assert_eq!(who("a", "2001:db8::1").as_deref(), Ok("there"));
        assert_eq!(who("a", "203.0.113.1"), Err(Nobody::Elsewhere));
        assert_eq!(who("b", "203.0.113.1").as_deref(), Ok("anywhere"));
        for wrong in ["", "A", "aa"] {
            assert_eq!(who(wrong, "192.0.2.9"), Err(Nobody::Unknown), "{wrong}");
        }
        let user = |name: &str, address: &str| {
            let found = clients.of_user(name.as_bytes(), address.parse().expect("one"));
            found.map(|(number, ..)| number)
        };
        assert_eq!(user("a", "192.0.2.1"), Ok(3));
        assert_eq!(user("a", "192.0.2.2"), Err(Nobody::Elsewhere));
        assert_eq!(user("b", "192.0.2.1"), Err(Nobody::Unknown));
    }
}
