//! How keys are found: node by node, step by step.

use super::connection::{Connection, Node};
use crate::cache::{CacheError, Position};

/// How many keys the server looks at in one step, roughly.
const COUNT: usize = 250;

/// How many steps one page may take.
pub(super) const STEPS: usize = 40;

/// The glob that matches what begins with `prefix`.
pub(super) fn pattern(prefix: &str) -> String {
    let mut pattern = String::with_capacity(prefix.len() + 1);
    for character in prefix.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '\\' | '^' | '-') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('*');
    pattern
}

/// Where a scan is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The node that is being scanned; none before the first one, and where there is only one server.
    node: Option<Node>,
    /// Where the server goes on. `None`: at the next node. The server begins and ends at 0.
    cursor: Option<u64>,
    is_begun: bool,
    is_done: bool,
    /// What the server has found and nobody has taken yet.
    found: Vec<String>,
}

impl Place {
    /// At the beginning, or where a page ended. The position may come from a peer that made it up: what
    /// it has found begins with `prefix`, or it is none.
    pub(super) fn after(position: Option<&Position>, prefix: &str) -> Result<Self, CacheError> {
        let Some(position) = position else {
            return Ok(Self::default());
        };
        Self::parse(position.as_str())
            .filter(|place| place.found.iter().all(|key| key.starts_with(prefix)))
            .ok_or_else(|| CacheError::Position {
                position: position.as_str().to_owned(),
            })
    }

    pub(super) fn take_found(&mut self) -> Vec<String> {
        std::mem::take(&mut self.found)
    }

    pub(super) fn put_back(&mut self, found: &[String]) {
        self.found = found.to_vec();
    }

    /// Sees to it that something is found, unless this step finds nothing. Tells whether there may be
    /// something.
    pub(super) async fn find_more(
        &mut self,
        connection: &Connection,
        pattern: &str,
    ) -> Result<bool, CacheError> {
        if !self.found.is_empty() {
            return Ok(true);
        }
        if self.is_done {
            return Ok(false);
        }
        if self.cursor.is_none() {
            let nodes = connection.nodes().await?;
            let next = nodes
                .into_iter()
                .find(|node| self.node.as_ref().is_none_or(|last| node > last));
            if next.is_none() && self.is_begun {
                self.is_done = true;
                return Ok(false);
            }
            self.node = next;
            self.cursor = Some(0);
            self.is_begun = true;
        }
        let mut scan = redis::cmd("SCAN");
        scan.arg(self.cursor.unwrap_or(0));
        scan.arg("MATCH").arg(pattern).arg("COUNT").arg(COUNT);
        // Somebody else's lists and sets are no values.
        scan.arg("TYPE").arg("string");
        let (cursor, found): (u64, Vec<Vec<u8>>) =
            connection.query_at(self.node.as_ref(), scan).await?;
        self.cursor = Some(cursor).filter(|cursor| *cursor != 0);
        // What is not UTF-8 is no key of ours.
        self.found = found
            .into_iter()
            .filter_map(|key| String::from_utf8(key).ok())
            .collect();
        self.found.sort();
        self.found.dedup();
        Ok(true)
    }

    /// The place as text: the cursor or `-`, the node or `-`, and the keys that are left, each with its
    /// length in front. `None` at the end.
    pub(super) fn position(&self) -> Option<Position> {
        if self.is_done && self.found.is_empty() {
            return None;
        }
        let dash = || "-".to_owned();
        let cursor = self.cursor.map_or_else(dash, |cursor| cursor.to_string());
        let node = self.node.as_ref();
        let node = node.map_or_else(dash, |Node { host, port }| format!("{host}:{port}"));
        let mut text = format!("{cursor} {node}");
        for key in &self.found {
            text.push_str(&format!(" {}:{key}", key.len()));
        }
        Some(Position::new(text))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ' ');
        let cursor = match parts.next()? {
            "-" => None,
            cursor => Some(cursor.parse().ok()?),
        };
        let node = match parts.next()? {
            "-" => None,
            node => {
                let (host, port) = node.rsplit_once(':')?;
                let (host, port) = (host.to_owned(), port.parse().ok()?);
                Some(Node { host, port })
            }
        };
        let mut found = Vec::new();
        let mut rest = parts.next();
        while let Some(text) = rest {
            let (len, text) = text.split_once(':')?;
            let (key, text) = text.split_at_checked(len.parse().ok()?)?;
            found.push(key.to_owned());
            rest = match text {
                "" => None,
                text => Some(text.strip_prefix(' ')?),
            };
        }
        Some(Self {
            node,
            cursor,
            is_begun: true,
            is_done: false,
            found,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_so_and_nothing_else() {
        assert_eq!(pattern("palm:"), "palm:*");
        assert_eq!(pattern(r"a*[b-c]?\^"), r"a\*\[b\-c\]\?\\\^*");
    }

    #[test]
    fn a_place_is_found_again() {
        let node = Some(Node {
            host: "::1".into(),
            port: 7000,
        });
        let found = vec!["a b".to_owned(), String::new(), "3:\u{fc}".to_owned()];
        for (cursor, node, found) in [
            (Some(7), node.clone(), found.clone()),
            (None, node, Vec::new()),
            (Some(0), None, found),
        ] {
            let (is_begun, is_done) = (true, false);
            let place = Place {
                node,
                cursor,
                is_begun,
                is_done,
                found,
            };
            assert_eq!(Place::after(place.position().as_ref(), "").unwrap(), place);
        }
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in [
            "",
            "x -",
            "1",
            "1 host",
            "1 - 5:pabc",
            "1 - 2:p\u{fc}",
            "1 - 1:pb",
            "1 - 1:b",
        ] {
            let refused = Place::after(Some(&Position::new(text)), "p").unwrap_err();
            let expected = format!("a scan cannot go on at `{text}`");
            assert_eq!(refused.to_string(), expected);
        }
    }
}
