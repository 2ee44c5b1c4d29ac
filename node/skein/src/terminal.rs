//! What may reach a terminal of text that others wrote: guests, callers, other nodes, strangers.
//!
//! A terminal obeys control characters: it moves the cursor over what was said before, sets its title, answers as if it had
//! been typed; and direction controls have a line read otherwise than it is. Here they become visible, in one way for all
//! that this program prints. Bytes for a file or a pipe are not its business.

use std::{borrow::Cow, fmt::Write as _};

/// The text with everything that a terminal would obey written as `\u001b`, which is how JSON writes it, so that a JSON
/// document stays the same document. Line ends and tabs stay.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, |letter| matches!(letter, '\n' | '\t'))
}

/// As [`printable`], with line ends written out as well: for what is to stay one line, or one cell of a table.
pub(crate) fn one_line(text: &str) -> Cow<'_, str> {
    escaped(text, |letter| letter == '\t')
}

/// A line of the log, whose last character ends it. Colours are the log's own, if it `has_colours`: what they frame has
/// no escape character in it any more.
pub(crate) fn log_line(line: &str, has_colours: bool) -> Cow<'_, str> {
    let Some(line_alone) = line.strip_suffix('\n') else { return log_text(line, has_colours) };
    match log_text(line_alone, has_colours) {
        Cow::Borrowed(_) => Cow::Borrowed(line),
        Cow::Owned(mut text) => {
            text.push('\n');
            Cow::Owned(text)
        }
    }
}

fn log_text(text: &str, has_colours: bool) -> Cow<'_, str> {
    escaped(text, |letter| letter == '\t' || has_colours && letter == '\u{1b}')
}

fn escaped(text: &str, is_kept: impl Fn(char) -> bool) -> Cow<'_, str> {
    let is_obeyed = |letter: char| is_obeyed(letter) && !is_kept(letter);
    if !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        if is_obeyed(letter) {
            // All of them are below 2^16. Writing to a string cannot fail.
            let _ = write!(shown, "\\u{:04x}", u32::from(letter));
        } else {
            shown.push(letter);
        }
    }
    Cow::Owned(shown)
}

/// Control characters of ASCII and of Latin-1, separators of lines, and the controls of direction (Unicode Standard
/// Annex 9, `Bidi_Control`).
fn is_obeyed(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        for (text, expected) in [
            ("plain, täglich 日本 🙂", "plain, täglich 日本 🙂"),
            ("two\nlines\tand a tab", "two\nlines\tand a tab"),
            ("\u{1b}[2J\u{1b}]0;title\u{7}", "\\u001b[2J\\u001b]0;title\\u0007"),
            ("over\rwritten\u{8}", "over\\u000dwritten\\u0008"),
            ("\0\u{7f}\u{80}\u{9b}31m\u{9f}\u{a0}", "\\u0000\\u007f\\u0080\\u009b31m\\u009f\u{a0}"),
            ("a\u{202e}b\u{2066}c\u{2069}\u{200f}\u{61c}", "a\\u202eb\\u2066c\\u2069\\u200f\\u061c"),
            ("a\u{2028}b\u{2027}c\u{2065}d\u{206a}", "a\\u2028b\u{2027}c\u{2065}d\u{206a}"),
        ] {
            assert_eq!(printable(text), expected);
            assert_eq!(printable(expected), expected, "twice is once");
        }
        for code in 0..=0x2fff_u32 {
            let Some(letter) = char::from_u32(code) else { continue };
            let shown = printable(letter.encode_utf8(&mut [0; 4])).into_owned();
            assert!(!shown.contains(|letter: char| letter.is_control() && !"\n\t".contains(letter)), "{code:x}");
        }
    }

    #[test]
    fn what_is_to_be_one_line_is_one() {
        assert_eq!(one_line("error\nnext: forged\r\n"), "error\\u000anext: forged\\u000d\\u000a");
        assert_eq!(log_line("INFO a\nERROR forged\n", false), "INFO a\\u000aERROR forged\n");
        assert_eq!(log_line("INFO plain\n", false), "INFO plain\n");
        assert_eq!(log_line("no end", true), "no end");
    }

    #[test]
    fn only_a_log_with_colours_keeps_them() {
        let line = "\u{1b}[32mINFO\u{1b}[0m a\u{202e}\u{9b}2J\n";
        assert_eq!(log_line(line, true), "\u{1b}[32mINFO\u{1b}[0m a\\u202e\\u009b2J\n");
        assert_eq!(log_line(line, false), "\\u001b[32mINFO\\u001b[0m a\\u202e\\u009b2J\n");
    }

    #[test]
    fn a_json_document_stays_the_same_document() {
        let value = serde_json::json!({ "a": "\u{1b}[0m\n\u{7f}\u{9b}\u{202e}\\u0041 \\", "b\u{202e}": ["\u{2028}"] });
        for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            let shown = printable(&text);
            assert!(!shown.contains('\u{202e}') && !shown.contains('\u{9b}'), "{shown}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        }
    }
}
