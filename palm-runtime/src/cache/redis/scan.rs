//! [`ScanCursor`]: a scan by prefix over all nodes of a cluster, with `SCAN`.
//!
//! A page may end in the middle of a step of `SCAN`, so the position of a scan has the node, the cursor of the server,
//! and the keys that were found but not returned yet. A peer can send any text as a position, so it is validated.

use super::connection::{ClusterNode, RedisConnection};
use crate::cache::{CacheError, Position};

/// Approximate number of keys that the server examines in one step.
const KEYS_PER_STEP: usize = 250;

/// Number of steps for one page.
pub(super) const MAX_STEPS: usize = 40;

/// Returns a glob pattern that matches all keys with `prefix`.
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

/// The state of a scan.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ScanCursor {
    /// The node that is being scanned. `None` before the first one, and with a single server.
    node: Option<ClusterNode>,
    /// The cursor of the server, which is 0 at the first step of a node. `None` if the node is finished.
    cursor: Option<u64>,
    is_begun: bool,
    is_done: bool,
    /// Keys that were found but not returned yet.
    found: Vec<String>,
}

impl ScanCursor {
    /// Creates a cursor at the beginning or at the position where a page ended. Rejects a position with keys that do
    /// not begin with `prefix`: a peer must not read other keys by a forged position.
    pub(super) fn after(position: Option<&Position>, prefix: &str) -> Result<Self, CacheError> {
        let Some(position) = position else {
            return Ok(Self::default());
        };
        Self::parse(position.as_str())
            .filter(|scan| scan.found.iter().all(|key| key.starts_with(prefix)))
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

    /// Makes a step if no found keys are left. Returns `false` at the end of the scan. A step may find no keys.
    pub(super) async fn find_more(
        &mut self,
        connection: &RedisConnection,
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
        scan.arg("MATCH")
            .arg(pattern)
            .arg("COUNT")
            .arg(KEYS_PER_STEP);
        // Lists, sets and other types of other programs are not values.
        scan.arg("TYPE").arg("string");
        let (cursor, found): (u64, Vec<Vec<u8>>) =
            connection.query_at(self.node.as_ref(), scan).await?;
        self.cursor = Some(cursor).filter(|cursor| *cursor != 0);
        // palm's keys are UTF-8.
        self.found = found
            .into_iter()
            .filter_map(|key| String::from_utf8(key).ok())
            .collect();
        self.found.sort();
        self.found.dedup();
        Ok(true)
    }

    /// Returns the position: the cursor or `-`, the node or `-`, and the remaining keys, each preceded by its length.
    /// `None` at the end of the scan.
    pub(super) fn position(&self) -> Option<Position> {
        if self.is_done && self.found.is_empty() {
            return None;
        }
        let dash = || "-".to_owned();
        let cursor = self.cursor.map_or_else(dash, |cursor| cursor.to_string());
        let node = self.node.as_ref();
        let node = node.map_or_else(dash, |ClusterNode { host, port }| format!("{host}:{port}"));
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
                Some(ClusterNode { host, port })
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
    fn pattern_matches_the_prefix_literally() {
        assert_eq!(pattern("palm:"), "palm:*");
        assert_eq!(pattern(r"a*[b-c]?\^"), r"a\*\[b\-c\]\?\\\^*");
    }

    #[test]
    fn position_restores_the_cursor() {
        let node = Some(ClusterNode {
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
            let scan = ScanCursor {
                node,
                cursor,
                is_begun,
                is_done,
                found,
            };
            assert_eq!(
                ScanCursor::after(scan.position().as_ref(), "").unwrap(),
                scan
            );
        }
    }

    #[test]
    fn malformed_or_forged_position_is_rejected() {
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
            let rejected = ScanCursor::after(Some(&Position::new(text)), "p").unwrap_err();
            let expected = format!("`{text}` is not a position of a scan");
            assert_eq!(rejected.to_string(), expected);
        }
    }
}
