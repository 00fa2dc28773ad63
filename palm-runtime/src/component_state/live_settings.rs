//! [`LiveSettings`]: the settings of a component that an operator can change while it runs.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tracing::{Level, Span};

use crate::call_slots::{CallSlots, Prefetch};
use crate::function::nearest;
use crate::stop::Stop;

const CONCURRENCY: &str = "concurrency";
const DRAIN_LIMIT: &str = "drain_limit";
const LOG_LEVEL: &str = "log_level";
const PREFETCH: &str = "prefetch";

/// The value of `log_level` that stands for the level of the program.
const DEFAULT: &str = "default";

/// The value of `prefetch` that stands for as many tasks as the worker finishes in a fixed time.
const MEASURED: &str = "measured";

/// The settings of a running component.
#[derive(Debug)]
pub(crate) struct LiveSettings {
    /// The number of calls that may run at once, if the component runs calls and may change it.
    pub(crate) slots: Option<Arc<CallSlots>>,
    pub(crate) stop: Stop,
    /// The span of the component, whose field `log_level` the subscriber of [`logging`](crate::logging) reads.
    pub(crate) span: Span,
    pub(crate) log_level: Mutex<Option<Level>>,
}

/// A change that was checked.
enum Change {
    Concurrency(usize),
    DrainLimit(Duration),
    LogLevel(Option<Level>),
    Prefetch(Prefetch),
}

impl LiveSettings {
    /// Returns the names of the settings that this component has, and their values.
    pub(crate) fn values(&self) -> Vec<(&'static str, String)> {
        let drain_limit = humantime::format_duration(self.stop.linger()).to_string();
        let concurrency = self
            .slots
            .as_ref()
            .map(|slots| slots.concurrency().to_string());
        let prefetch = self.prefetch().map(|prefetch| match prefetch {
            Prefetch::Measured => MEASURED.to_owned(),
            Prefetch::Fixed(tasks) => tasks.to_string(),
        });
        let values = [
            (CONCURRENCY, concurrency),
            (DRAIN_LIMIT, Some(drain_limit)),
            (LOG_LEVEL, Some(self.log_level())),
            (PREFETCH, prefetch),
        ];
        let values = values.into_iter();
        values
            .filter_map(|(name, value)| Some((name, value?)))
            .collect()
    }

    /// Returns the value of the setting `log_level`.
    pub(crate) fn log_level(&self) -> String {
        let level = *self.log_level.lock();
        let level = level.map(|level| level.as_str().to_ascii_lowercase());
        level.unwrap_or_else(|| DEFAULT.to_owned())
    }

    fn prefetch(&self) -> Option<Prefetch> {
        self.slots.as_ref()?.prefetch()
    }

    /// Changes settings: all of them, or none if there are mistakes.
    ///
    /// # Errors
    ///
    /// What is wrong with each setting.
    pub(crate) fn change<'a>(
        &self,
        settings: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<(), Vec<String>> {
        let (mut changes, mut mistakes) = (Vec::new(), Vec::new());
        for (name, value) in settings {
            match self.check(name, value) {
                Ok(change) => changes.push(change),
                Err(mistake) => mistakes.push(mistake),
            }
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        for change in changes {
            self.apply(change);
        }
        Ok(())
    }

    fn check(&self, name: &str, value: &str) -> Result<Change, String> {
        let invalid = |expected: &str| format!("`{name}` is \"{value}\", expected {expected}");
        match name {
            CONCURRENCY if self.slots.is_some() => match value.parse() {
                Ok(calls @ 1..=CallSlots::MAX_CONCURRENCY) => Ok(Change::Concurrency(calls)),
                _ => Err(invalid("a number of calls, at least 1")),
            },
            DRAIN_LIMIT => {
                let limit = humantime::parse_duration(value);
                let limit =
                    limit.map_err(|_| invalid("a duration with a unit, such as \"30s\""))?;
                Ok(Change::DrainLimit(limit))
            }
            LOG_LEVEL if value == DEFAULT => Ok(Change::LogLevel(None)),
            LOG_LEVEL => {
                let level = value.parse().map_err(|_| {
                    invalid("\"error\", \"warn\", \"info\", \"debug\", \"trace\" or \"default\"")
                })?;
                Ok(Change::LogLevel(Some(level)))
            }
            PREFETCH if value == MEASURED && self.prefetch().is_some() => {
                Ok(Change::Prefetch(Prefetch::Measured))
            }
            PREFETCH if self.prefetch().is_some() => match value.parse() {
                Ok(tasks @ 0..=CallSlots::MAX_FIXED_PREFETCH) => {
                    Ok(Change::Prefetch(Prefetch::Fixed(tasks)))
                }
                _ => Err(invalid("a number of tasks, or \"measured\"")),
            },
            _ => {
                let known: Vec<_> = self.values().into_iter().map(|(name, _)| name).collect();
                Err(format!(
                    "unknown setting `{name}`; {}",
                    nearest(name, &known)
                ))
            }
        }
    }

    fn apply(&self, change: Change) {
        match change {
            Change::Concurrency(calls) => {
                if let Some(slots) = &self.slots {
                    slots.set_concurrency(calls);
                }
                tracing::info!(
                    concurrency = calls,
                    "an operator has changed the concurrency"
                );
            }
            Change::Prefetch(prefetch) => {
                if let Some(slots) = &self.slots {
                    slots.set_prefetch(prefetch);
                }
                tracing::info!(
                    ?prefetch,
                    "an operator has changed how many tasks are prefetched"
                );
            }
            Change::DrainLimit(limit) => {
                self.stop.set_linger(limit);
                tracing::info!(drain_limit = ?limit, "an operator has changed the drain limit");
            }
            Change::LogLevel(level) => {
                *self.log_level.lock() = level;
                match level {
                    Some(level) => self.span.record(LOG_LEVEL, tracing::field::display(level)),
                    None => self.span.record(LOG_LEVEL, DEFAULT),
                };
                let log_level = level.map(tracing::field::display);
                tracing::info!(log_level, "an operator has changed the log level");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(slots: Option<Arc<CallSlots>>) -> LiveSettings {
        LiveSettings {
            slots,
            stop: Stop::new(Duration::from_secs(10)),
            span: Span::none(),
            log_level: Mutex::default(),
        }
    }

    #[test]
    fn change_applies_all_settings() {
        let slots = Arc::new(CallSlots::default());
        slots.begin_with(2);
        let settings = settings(Some(slots.clone()));
        let initial = [
            ("concurrency", "2"),
            ("drain_limit", "10s"),
            ("log_level", "default"),
        ];
        assert_eq!(
            settings.values(),
            initial.map(|(name, value)| (name, value.to_owned()))
        );
        let changed = [
            ("concurrency", "7"),
            ("drain_limit", "1m 30s"),
            ("log_level", "debug"),
        ];
        settings.change(changed).unwrap();
        assert_eq!(
            settings.values(),
            changed.map(|(name, value)| (name, value.to_owned()))
        );
        assert_eq!(slots.concurrency(), 7);
        assert_eq!(settings.stop.linger(), Duration::from_secs(90));
        settings.change([("log_level", "default")]).unwrap();
        assert_eq!(settings.log_level(), "default");
    }

    #[test]
    fn prefetch_is_a_setting_of_workers_with_a_link() {
        let slots = Arc::new(CallSlots::default());
        let settings = settings(Some(slots.clone()));
        let mistakes = settings.change([("prefetch", "4")]).unwrap_err();
        assert!(
            mistakes[0].starts_with("unknown setting `prefetch`"),
            "{mistakes:?}"
        );
        slots.set_prefetch(Prefetch::Measured);
        assert!(
            settings
                .values()
                .contains(&(PREFETCH, "measured".to_owned()))
        );
        settings.change([("prefetch", "4")]).unwrap();
        assert!(settings.values().contains(&(PREFETCH, "4".to_owned())));
        assert_eq!(slots.prefetch(), Some(Prefetch::Fixed(4)));
        for prefetch in ["-1", "all", "1000001"] {
            settings.change([("prefetch", prefetch)]).unwrap_err();
        }
        settings.change([("prefetch", "measured")]).unwrap();
        assert_eq!(slots.prefetch(), Some(Prefetch::Measured));
    }

    #[test]
    fn change_with_mistakes_lists_all_of_them_and_has_no_effect() {
        let settings = settings(None);
        let mistakes = settings.change([
            ("drain_limit", "1s"),
            ("drain_limt", "1s"),
            ("drain_limit", "5"),
            ("log_level", "loud"),
            ("concurrency", "4"),
        ]);
        assert_eq!(
            mistakes.unwrap_err(),
            [
                "unknown setting `drain_limt`; did you mean `drain_limit`?",
                "`drain_limit` is \"5\", expected a duration with a unit, such as \"30s\"",
                "`log_level` is \"loud\", expected \"error\", \"warn\", \"info\", \"debug\", \"trace\" or \"default\"",
                "unknown setting `concurrency`; there are `drain_limit`, `log_level`",
            ]
        );
        assert_eq!(settings.stop.linger(), Duration::from_secs(10));
        let none = LiveSettings {
            slots: Some(Arc::default()),
            ..settings
        };
        for concurrency in ["0", "-1", "many", "99999999999"] {
            none.change([("concurrency", concurrency)]).unwrap_err();
        }
    }
}
