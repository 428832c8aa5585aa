//! What a machine is called that checks in or hands on alerts: by its token, or where many share one by its token and what it
//! calls itself.

use ams2_core::trail;
use smol_str::{SmolStr, format_smolstr};

use super::auth::Sender;

/// Bytes that are shown of a wrong name.
const NAME_SHOWN: usize = 64;

/// Who says something of itself: put into the request by whoever let it in.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The client that was let in.
    name: SmolStr,
    /// Whether many machines come under that name.
    many: Many,
    /// Where from: an address or a user.
    pub address: SmolStr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Many {
    /// It is one.
    No,
    /// The config says so, or nobody has a name here.
    Yes,
}

/// Why a machine cannot be called so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{shown}` is no name of a server")]
pub struct NoName {
    shown: String,
}

impl Caller {
    pub(super) fn of(sender: &Sender<'_>, address: SmolStr) -> Caller {
        let many = if sender.known.is_none_or(|client| client.enrol) { Many::Yes } else { Many::No };
        Caller { name: sender.name.clone(), many, address }
    }

    /// What a machine is called that calls itself `server`.
    pub fn called(&self, server: &str) -> Result<SmolStr, NoName> {
        match self.many {
            Many::No => Ok(self.name.clone()),
            Many::Yes if is_name(server) => Ok(format_smolstr!("{}/{server}", self.name)),
            Many::Yes => Err(NoName { shown: ams2_handlers::text::cut(server, NAME_SHOWN).to_string() }),
        }
    }
}

/// Whether a machine may call itself so.
fn is_name(name: &str) -> bool {
    trail::is_server_name(name) && name.split('/').all(|part| !part.bytes().all(|byte| byte == b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::originator::{KnownClient, Right};

    #[test]
    fn a_machine_is_called_by_its_token_or_by_that_and_its_own_name() {
        let client = |enrol| KnownClient {
            name: "boston".into(),
            token: None,
            uid: None,
            allow: vec![],
            may: vec![Right::Send],
            enrol,
        };
        let (one, many) = (client(false), client(true));
        let called = |known: Option<&KnownClient>, server: &str| {
            let sender = Sender { name: "boston".into(), known };
            Caller::of(&sender, "192.0.2.7".into()).called(server).ok()
        };
        // Whatever it calls itself.
        for server in ["ws-1", "", "boston/ws-1", "a\nb"] {
            assert_eq!(called(Some(&one), server).as_deref(), Some("boston"), "{server:?}");
        }
        assert_eq!(called(Some(&many), "ws-1.example.com").as_deref(), Some("boston/ws-1.example.com"));
        assert_eq!(called(None, "ws_1").as_deref(), Some("boston/ws_1"), "where nobody has a name");
        assert_eq!(called(Some(&many), "floor-2/ws-1").as_deref(), Some("boston/floor-2/ws-1"));
        let long = "a".repeat(trail::SERVER_BYTES_MAX + 1);
        for server in ["", ".", "..", "/", "a/../b", "a//b", "a b", "ä", "a\0", "a\u{1b}[2J", &long] {
            assert_eq!(called(Some(&many), server), None, "{server:?}");
        }
        assert!(called(Some(&many), &long[1..]).is_some());
    }
}
