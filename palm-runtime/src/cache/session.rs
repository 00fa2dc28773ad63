//! [`Session`]: a namespace for the keys of a client, which no other session can reach.

/// The prefix of each key of a session: its name and a slash. The name is escaped so that it contains no slash. So no
/// session prefix is a prefix of another one, and the session `x` cannot reach the keys of `xy` or `x/y`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Session {
    prefix: String,
}

impl Session {
    /// Creates the session of a client. With an empty name, keys are unchanged.
    pub(super) fn new(name: &str) -> Self {
        let prefix = match name {
            "" => String::new(),
            name => name.replace('%', "%25").replace('/', "%2F") + "/",
        };
        Self { prefix }
    }

    /// Returns the key as it is stored: with the prefix of the session.
    pub(super) fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// Returns the key as the client uses it: without the prefix of the session.
    pub(super) fn without(&self, key: String) -> String {
        match key.strip_prefix(&self.prefix) {
            Some(rest) if !self.prefix.is_empty() => rest.to_owned(),
            _ => key,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_session_can_reach_keys_of_another_one() {
        let names = ["x", "xy", "x/", "x/y", "x%2Fy", "x%", "%", "/", "mine"];
        for one in names {
            for other in names.iter().filter(|other| **other != one) {
                let (one, other) = (Session::new(one), Session::new(other));
                // The prefixes differ before either ends, so the key does not matter.
                assert!(!one.prefix.starts_with(&other.prefix), "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn session_adds_its_prefix_to_keys_and_removes_it_again() {
        let session = Session::new("mine");
        assert_eq!(session.full("k"), "mine/k");
        assert_eq!(session.without("mine/k".to_owned()), "k");
        let none = Session::new("");
        assert_eq!(none.full("k"), "k");
        assert_eq!(none.without("k".to_owned()), "k");
    }
}
