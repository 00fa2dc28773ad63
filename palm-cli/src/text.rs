//! Numbers, durations and names as text.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use palm::report::Backlog;
use unicode_width::UnicodeWidthStr as _;

/// Shown for a number that is unknown.
pub const UNKNOWN: &str = "-";

/// Replaces control characters: names are chosen by peers, and a terminal would obey them.
pub fn clean(text: &str) -> Cow<'_, str> {
    match text.contains(char::is_control) {
        true => Cow::Owned(text.replace(char::is_control, "\u{fffd}")),
        false => Cow::Borrowed(text),
    }
}

/// Returns a number with separated thousands, such as `10,000`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns a rate with three digits, such as `1.23k`.
pub fn rate(rate: f64) -> String {
    scaled(rate, 1000.0, &["", "k", "M", "G", "T"])
}

/// Returns a number of bytes with three digits, such as `1.23 MiB`.
pub fn bytes(bytes: u64) -> String {
    scaled(
        bytes as f64,
        1024.0,
        &[" B", " KiB", " MiB", " GiB", " TiB"],
    )
}

fn scaled(number: f64, step: f64, units: &[&str]) -> String {
    let (mut number, mut units) = (number, units);
    while number >= 999.5 && units.len() > 1 {
        number /= step;
        units = &units[1..];
    }
    let decimals = match number {
        number if number >= 99.95 || number.fract() == 0.0 => 0,
        number if number >= 9.995 => 1,
        _ => 2,
    };
    format!("{number:.decimals$}{}", units[0])
}

/// Returns a share as a percentage, such as `97 %`.
pub fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// Returns a duration with up to three digits, such as `1.2 ms`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    let (number, unit) = match seconds {
        seconds if seconds >= 172_800.0 => (seconds / 86_400.0, "d"),
        seconds if seconds >= 7200.0 => (seconds / 3600.0, "h"),
        seconds if seconds >= 120.0 => (seconds / 60.0, "min"),
        seconds if seconds >= 0.9995 => (seconds, "s"),
        seconds if seconds >= 0.000_999_5 => (seconds * 1e3, "ms"),
        seconds if seconds > 0.0 => (seconds * 1e6, "µs"),
        _ => return "0 s".to_owned(),
    };
    let decimals = usize::from(number < 9.95);
    format!("{number:.decimals$} {unit}")
}

/// Returns what waits, and the limit of messages: `3 of 10,000`.
pub fn backlog(backlog: &Backlog) -> String {
    match backlog.limit_messages {
        0 => count(backlog.messages),
        limit => format!("{} of {}", count(backlog.messages), count(limit)),
    }
}

/// Returns the text of a value, or `-` if there is none.
pub fn or_unknown<T>(value: Option<T>, text: impl Fn(T) -> String) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), text)
}

/// How the cells of a column are aligned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// For text.
    Left,
    /// For numbers.
    Right,
}

/// Returns aligned rows without borders. `columns` are the heads; each line has the indentation `indent`.
pub fn table(indent: &str, columns: &[(&str, Align)], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<_> = columns.iter().map(|(head, _)| head.width()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(clean(cell).width());
        }
    }
    let heads = columns.iter().map(|(head, _)| (*head).to_owned()).collect();
    let mut text = String::new();
    for row in std::iter::once(&heads).chain(rows) {
        let mut line = indent.to_owned();
        for ((cell, width), (_, align)) in row.iter().zip(&widths).zip(columns) {
            let cell = clean(cell);
            let gap = " ".repeat(width.saturating_sub(cell.width()));
            let _ = match align {
                Align::Left => write!(line, "{cell}{gap}  "),
                Align::Right => write!(line, "{gap}{cell}  "),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let counts = [0, 999, 1000, 10_000, 1_234_567].map(count);
        assert_eq!(counts, ["0", "999", "1,000", "10,000", "1,234,567"]);
        let rates = [0.0, 0.254, 12.0, 999.4, 999.9, 1234.0, 319_000.0, 1.2e9].map(rate);
        let expected = ["0", "0.25", "12", "999", "1.00k", "1.23k", "319k", "1.20G"];
        assert_eq!(rates, expected);
        let sizes = [0, 1023, 65_536, 1 << 30].map(bytes);
        assert_eq!(sizes, ["0 B", "1.00 KiB", "64 KiB", "1 GiB"]);
        let nanos = [
            0,
            1500,
            999_999,
            20_000_000,
            9_990_000_000,
            7_200_000_000_000,
        ];
        let durations = nanos.map(|nanos| duration(Duration::from_nanos(nanos)));
        let expected = ["0 s", "1.5 µs", "1.0 ms", "20 ms", "10 s", "2.0 h"];
        assert_eq!(durations, expected);
    }

    #[test]
    fn table_aligns_wide_and_control_characters() {
        let columns = [("name", Align::Left), ("n", Align::Right)];
        let rows = [["é日", "1"], ["\u{1b}[31m", "100"]];
        let rows = rows.map(|row| row.map(str::to_owned).to_vec());
        let expected = "  name     n\n  é日      1\n  \u{fffd}[31m  100\n";
        assert_eq!(table("  ", &columns, &rows), expected);
    }
}
