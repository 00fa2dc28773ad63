//! The flow of a message that did not arrive over a client's link: it follows from the client id of the message.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use crate::fair_queue::{Flow, FlowKey};
use crate::message::{Message, client_id};

/// The tasks of a worker, in the order in which its master sent them.
pub const IN_ORDER: Flow = Flow { key: 0, weight: 1 };

/// A bit that is set in hashed keys. Other keys are numbers of sessions, which are small.
const HASHED: FlowKey = 1 << 63;

fn client(message: &Message) -> &[u8] {
    client_id(message.client_bytes())
}

fn hashed(client: &[u8]) -> Flow {
    // Seeded, so that peers cannot choose ids which share a flow.
    static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    Flow::new(HASHER.hash_one(client) | HASHED)
}

/// Returns the flow of a message's client.
pub fn flow_of(message: &Message) -> Flow {
    hashed(client(message))
}

/// [`flow_of`] for many messages: caches the last client, which the next message usually shares.
#[derive(Debug, Default)]
pub struct FlowCache(Option<(Box<[u8]>, Flow)>);

impl FlowCache {
    pub fn flow_of(&mut self, message: &Message) -> Flow {
        if let Some((last, flow)) = &self.0
            && let Some(rest) = message.client_bytes().strip_prefix(&**last)
            && rest.first().is_none_or(|byte| *byte == b'/')
        {
            return *flow;
        }
        let client = client(message);
        let flow = hashed(client);
        self.0 = Some((client.into(), flow));
        flow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flow_is_that_of_the_client_id_up_to_the_slash() {
        let message = |client: &'static str| {
            let mut message = Message::new("a.b", "");
            message.set_client(client);
            message
        };
        let mut cache = FlowCache::default();
        let mut key = |client| {
            let flow = cache.flow_of(&message(client));
            assert_eq!(flow, flow_of(&message(client)), "{client}");
            flow.key
        };
        let anna = key("anna");
        assert_eq!([key("anna/1"), key("anna/2/3"), key("anna")], [anna; 3]);
        let others = [key("anna2"), key("anna2/1"), key("ann"), key(""), key("/")];
        assert_eq!(others[0], others[1]);
        assert_eq!(others[3], others[4]);
        assert!(!others.contains(&anna) && others[0] != others[2] && others[2] != others[3]);
    }
}
