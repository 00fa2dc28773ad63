//! The keys of a client's session, which no other session can name.

/// What stands in front of each key of a session: its name and a slash. A name is escaped, so that it has no
/// slash: then no prefix is the beginning of another one, and a session `x` cannot reach the keys of `xy`, or
/// of `x/y`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Session {
    prefix: String,
}

impl Session {
    /// A client with an empty name has no session: keys are unchanged.
    pub(super) fn new(name: &str) -> Self {
        let prefix = match name {
            "" => String::new(),
            name => name.replace('%', "%25").replace('/', "%2F") + "/",
        };
        Self { prefix }
    }

    /// The key as the service knows it.
    pub(super) fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// The key as the session knows it.
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
    fn no_session_names_a_key_of_another_one() {
        let names = ["x", "xy", "x/", "x/y", "x%2Fy", "x%", "%", "/", "mine"];
        for one in names {
            for other in names.iter().filter(|other| **other != one) {
                let (one, other) = (Session::new(one), Session::new(other));
                // Whatever the key is, the prefixes differ before either ends.
                assert!(!one.prefix.starts_with(&other.prefix), "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn keys_have_the_name_in_front_and_lose_it_again() {
        let session = Session::new("mine");
        assert_eq!(session.full("k"), "mine/k");
        assert_eq!(session.without("mine/k".to_owned()), "k");
        let none = Session::new("");
        assert_eq!(none.full("k"), "k");
        assert_eq!(none.without("k".to_owned()), "k");
    }
}
