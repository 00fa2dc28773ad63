//! Output as text: valid UTF-8 without control characters, except colours.

use vte::{Params, Parser, Perform};

/// Appends one line of output to `output`: valid UTF-8; of the escape sequences only colours and font styles remain.
pub(super) fn clean(line: &[u8], output: &mut String) {
    match std::str::from_utf8(line) {
        Ok(text) if !text.contains(|it: char| it.is_control() && it != '\t') => {
            output.push_str(text)
        }
        // A parser for each line: a sequence that is not terminated ends with its line.
        _ => Parser::new().advance(
            &mut Cleaner {
                output,
                keeps_colours: true,
            },
            line,
        ),
    }
}

/// Returns a text without any escape sequences and control characters.
pub fn plain(text: &str) -> String {
    let mut output = String::with_capacity(text.len());
    match text.contains(char::is_control) {
        false => output.push_str(text),
        true => Parser::new().advance(
            &mut Cleaner {
                output: &mut output,
                keeps_colours: false,
            },
            text.as_bytes(),
        ),
    }
    output
}

struct Cleaner<'a> {
    output: &'a mut String,
    keeps_colours: bool,
}

impl Perform for Cleaner<'_> {
    fn print(&mut self, character: char) {
        if !character.is_control() {
            self.output.push(character);
        }
    }

    fn execute(&mut self, byte: u8) {
        if byte == b'\t' {
            self.output.push('\t');
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], _ignore: bool, action: char) {
        // "Select graphic rendition".
        if !self.keeps_colours || action != 'm' || !intermediates.is_empty() {
            return;
        }
        self.output.push_str("\u{1b}[");
        for (index, parameter) in params.iter().enumerate() {
            if index > 0 {
                self.output.push(';');
            }
            let values = parameter.iter().map(u16::to_string);
            self.output.push_str(&values.collect::<Vec<_>>().join(":"));
        }
        self.output.push('m');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_remain_and_other_sequences_do_not() {
        let cases: [(&[u8], &str); 9] = [
            (b"plain\ttext", "plain\ttext"),
            (b"\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m"),
            (b"\x1b[38:5:1mx\x1b[m", "\x1b[38:5:1mx\x1b[0m"),
            (b"a\x1b[2J\x1b[Hb\x1b[?25l", "ab"),
            (b"\x1b]0;title\x07text", "text"),
            (b"unterminated\x1b]0;title", "unterminated"),
            (b"50%\r100%\x08\0", "50%100%"),
            (b"\xff\xfe\xc3", "\u{fffd}\u{fffd}\u{fffd}"),
            ("a\u{9b}31mb".as_bytes(), "a31mb"),
        ];
        for (line, expected) in cases {
            let mut output = String::new();
            clean(line, &mut output);
            // A truncated character at the end of a line is dropped or replaced.
            let expected = expected.trim_end_matches('\u{fffd}');
            assert_eq!(output.trim_end_matches('\u{fffd}'), expected, "{line:?}");
        }
        assert_eq!(plain("\x1b[1;31mred\x1b[0m\n"), "red");
    }
}
