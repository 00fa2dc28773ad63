//! Checks the configuration of a component before any part is opened, and reports all mistakes at once.

use std::collections::HashSet;
use std::time::Duration;

use super::settings::Settings;
use crate::component_error::{ConfigurationError, StartError};
use crate::component_kind::ComponentKind;
use crate::link::LinkOptions;
use crate::part::Binding;

/// Collects mistakes.
#[derive(Debug, Default)]
pub(super) struct Mistakes(Vec<String>);

impl Mistakes {
    pub(super) fn add(&mut self, mistake: impl Into<String>) {
        self.0.push(mistake.into());
    }

    /// Returns an error if there are mistakes.
    pub(super) fn finish(self, component: &str) -> Result<(), StartError> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(StartError::Configuration {
            component: component.to_owned(),
            source: ConfigurationError::new(self.0),
        })
    }

    /// Checks the name of a component. Names of workers are for people, and may contain any character.
    pub(super) fn check_name(&mut self, kind: Option<ComponentKind>, name: &str) {
        if let Some(ComponentKind::Worker | ComponentKind::HttpWorker) = kind {
            if name.is_empty() {
                self.add("its name is empty: remove `.name(\"\")` to use the default name");
            }
        } else if name.is_empty() || name.contains([' ', '.']) {
            self.add(format!(
                "`{name}` cannot be a name: a name has at least one character, and neither a space nor a dot"
            ));
        }
    }

    /// Checks the options that all components share.
    pub(super) fn check_settings(&mut self, settings: &Settings) {
        let (socket, link) = (&settings.socket_options, &settings.link_options);
        let (queue, cache) = (&settings.queue_limits, &settings.cache_limits);
        self.check_not_zero("queue_limits", "messages", queue.messages);
        self.check_not_zero("queue_limits", "bytes", queue.bytes);
        self.check_not_zero("cache_limits", "key_bytes", cache.key_bytes);
        self.check_not_zero("cache_limits", "value_bytes", cache.value_bytes);
        let queue_len = usize::try_from(socket.queue_len).unwrap_or(usize::MAX);
        for (field, value) in [
            ("queue_len", queue_len),
            ("max_message_bytes", socket.max_message_bytes),
            ("max_receive_bytes", socket.max_receive_bytes),
            ("max_handshakes", socket.max_handshakes),
            ("max_connections", socket.max_connections),
        ] {
            self.check_not_zero("socket_options", field, value);
        }
        if socket.handshake_timeout == Duration::ZERO {
            self.add(
                "`handshake_timeout` of `.socket_options(..)` is zero, so no peer could connect: keep the \
                 default of 10 s",
            );
        }
        if settings.links_only && !link.enabled {
            self.add(
                "with `.links_only(true)` no peer can reach it, since `enabled` of its `.link_options(..)` is \
                 false: remove one of the two",
            );
        }
        if link.enabled {
            self.check_link(link);
        }
        if let Some(host) = &settings.advertised_host
            && (host.is_empty() || host.contains(['/', ' ']))
        {
            self.add(format!(
                "`.advertised_host(\"{host}\")` is not a host: set a name or an IP address, without `tcp://` \
                 and port"
            ));
        }
    }

    fn check_not_zero(&mut self, option: &str, field: &str, value: usize) {
        if value == 0 {
            self.add(format!(
                "`{field}` of `.{option}(..)` is 0, so no message could pass: it has to be at least 1"
            ));
        }
    }

    fn check_link(&mut self, link: &LinkOptions) {
        if link.idle_timeout == Duration::ZERO {
            self.add(
                "`idle_timeout` of `.link_options(..)` is zero, so every peer would count as lost at once: it \
                 has to be longer than any delay of the network, such as 15 s",
            );
        }
        if link.heartbeat == Duration::ZERO {
            self.add(
                "`heartbeat` of `.link_options(..)` is zero, so peers would only send heartbeats: keep the \
                 default of 7 s",
            );
        }
        if link.max_sessions == 0 {
            self.add(
                "`max_sessions` of `.link_options(..)` is 0, so no peer could connect: set `enabled` to \
                 false to disable links",
            );
        }
        if link.max_deliver == 0 {
            self.add(
                "`max_deliver` of `.link_options(..)` is 0, so no task would run: it has to be at least 1",
            );
        }
    }

    /// Checks the addresses that are bound, each with the name of its part if it has one. Reports malformed addresses,
    /// and two parts with the same address.
    pub(super) fn check_bound<'a>(
        &mut self,
        links_only: bool,
        bindings: impl IntoIterator<Item = (Option<&'a str>, Binding)>,
    ) {
        let mut bound = Vec::new();
        for (part, binding) in bindings {
            if binding.is_legacy && links_only {
                continue;
            }
            let what = match part {
                Some(part) => format!("the part `{part}` (`{}`)", binding.option),
                None => format!("`{}`", binding.option),
            };
            match binding.address {
                Ok(address) => bound.push((what, address)),
                Err(error) => self.add(format!("{what}: {error}")),
            }
        }
        for (index, (what, address)) in bound.iter().enumerate() {
            let others = &bound[..index];
            if let Some((other, _)) = others.iter().find(|(_, other)| other.collides(address)) {
                self.add(format!(
                    "{other} and {what} both bind `{address}`: set different addresses, or \
                     port 0 for a free one"
                ));
            }
        }
    }

    /// Reports duplicate names.
    pub(super) fn check_twice(&mut self, what: &str, names: impl IntoIterator<Item = String>) {
        let mut seen = HashSet::new();
        for name in names {
            if !seen.insert(name.clone()) {
                self.add(format!("{what} {name} is set twice: remove one"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::chain;
    use crate::queue::QueueLimits;

    fn check(mistakes: Mistakes, expected: &str) {
        let rejected = mistakes.finish("shop").map_err(|error| chain(&error));
        assert_eq!(rejected.err().unwrap_or_default(), expected);
    }

    fn find_mistakes(settings: &Settings) -> Mistakes {
        let mut mistakes = Mistakes::default();
        mistakes.check_settings(settings);
        mistakes
    }

    #[test]
    fn default_settings_have_no_mistakes() {
        check(find_mistakes(&Settings::default()), "");
    }

    #[test]
    fn all_mistakes_are_listed_with_their_options() {
        let settings = Settings {
            queue_limits: QueueLimits {
                messages: 0,
                bytes: 0,
            },
            advertised_host: Some("tcp://node7".to_owned()),
            ..Settings::default()
        };
        let mut mistakes = find_mistakes(&settings);
        mistakes.check_name(None, "my shop");
        check(
            mistakes,
            "cannot start `shop`: 4 mistakes: (1) `messages` of `.queue_limits(..)` is 0, so no message could \
             pass: it has to be at least 1; (2) `bytes` of `.queue_limits(..)` is 0, so no message could pass: it \
             has to be at least 1; (3) `.advertised_host(\"tcp://node7\")` is not a host: set a name or an IP address, \
             without `tcp://` and port; (4) `my shop` cannot be a name: a name has at least one character, and \
             neither a space nor a dot",
        );
    }

    #[test]
    fn link_options_of_zero_are_rejected_unless_links_are_disabled() {
        let mut settings = Settings {
            link_options: LinkOptions {
                idle_timeout: Duration::ZERO,
                heartbeat: Duration::ZERO,
                max_sessions: 0,
                max_deliver: 0,
                ..LinkOptions::default()
            },
            ..Settings::default()
        };
        let mistakes = find_mistakes(&settings).0;
        let fields = ["idle_timeout", "heartbeat", "max_sessions", "max_deliver"];
        assert_eq!(mistakes.len(), fields.len());
        for (mistake, field) in mistakes.iter().zip(fields) {
            assert!(mistake.starts_with(&format!("`{field}` of `.link_options(..)` is ")));
        }
        // Options of disabled links are not checked.
        settings.link_options.enabled = false;
        check(find_mistakes(&settings), "");
        settings.links_only = true;
        check(
            find_mistakes(&settings),
            "cannot start `shop`: with `.links_only(true)` no peer can reach it, since `enabled` of its \
             `.link_options(..)` is false: remove one of the two",
        );
    }

    #[test]
    fn socket_options_and_cache_limits_of_zero_are_rejected() {
        let mut settings = Settings::default();
        settings.socket_options.queue_len = 0;
        settings.socket_options.max_message_bytes = 0;
        settings.socket_options.max_handshakes = 0;
        settings.socket_options.handshake_timeout = Duration::ZERO;
        settings.cache_limits.key_bytes = 0;
        settings.cache_limits.value_bytes = 0;
        assert_eq!(find_mistakes(&settings).0.len(), 6);
    }

    fn bound(links_only: bool, addresses: &[(&str, &'static str, &str)]) -> Mistakes {
        let mut mistakes = Mistakes::default();
        let bindings = addresses.iter().map(|(part, option, address)| {
            let binding = Binding {
                option,
                address: address.parse(),
                is_legacy: *option != "db_address",
            };
            (Some(*part).filter(|part| !part.is_empty()), binding)
        });
        mistakes.check_bound(links_only, bindings);
        mistakes
    }

    #[test]
    fn two_parts_with_one_address_are_rejected_by_name() {
        let at = "tcp://127.0.0.1:5555";
        check(
            bound(
                false,
                &[("Pull", "pull_address", at), ("Cache", "db_address", at)],
            ),
            "cannot start `shop`: the part `Pull` (`pull_address`) and the part `Cache` (`db_address`) both \
             bind `tcp://127.0.0.1:5555`: set different addresses, or port 0 for a free one",
        );
        // A wildcard includes every interface.
        let any = "tcp://*:5555";
        let mistakes = bound(false, &[("", "pub_address", any), ("", "db_address", at)]);
        assert_eq!(mistakes.0.len(), 1);
        assert!(mistakes.0[0].starts_with("`pub_address` and `db_address` both bind"));
        let path = "ipc:///tmp/a";
        let mistakes = bound(
            false,
            &[("", "pub_address", path), ("", "db_address", path)],
        );
        assert_eq!(mistakes.0.len(), 1);
        let free = "tcp://127.0.0.1:0";
        check(
            bound(
                false,
                &[("", "pub_address", free), ("", "db_address", free)],
            ),
            "",
        );
        // Only the `db_address` is bound.
        check(
            bound(true, &[("", "pub_address", at), ("", "db_address", at)]),
            "",
        );
    }

    #[test]
    fn malformed_address_is_rejected_with_its_option() {
        check(
            bound(false, &[("Pull", "pull_address", "udp://localhost:5555")]),
            "cannot start `shop`: the part `Pull` (`pull_address`): `udp://localhost:5555` is not an address: only \
             tcp, ipc and inproc are supported; write `tcp://host:port`, `ipc://path` or `inproc://name`",
        );
    }
}
