//! One Rust file, and the same text with its comments and literals blanked out.

/// A Rust file.
#[derive(Debug)]
pub struct Source {
    /// Where it is, from the top of the repository.
    pub path: String,
    /// What it says.
    pub text: String,
    /// The same with spaces for comments, strings and characters; lines and columns stay.
    pub code: String,
}

impl Source {
    /// Reads a text as the file at `path`.
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        let text = text.into();
        let code = blank(&text);
        Self { path: path.into(), text, code }
    }

    /// True if the whole file is test code.
    pub fn is_test(&self) -> bool {
        let stem = self.path.trim_end_matches(".rs");
        self.path.starts_with("tests/")
            || self.path.contains("/tests/")
            || stem.ends_with("/tests")
            || stem.ends_with("_tests")
    }

    /// The index of the first line of the test module at the end; the number of lines if there is none.
    pub fn tests_at(&self) -> usize {
        let lines: Vec<_> = self.code.lines().collect();
        let is_head = |at: &usize| {
            lines[*at].starts_with("#[cfg(test)]")
                && lines[at + 1..]
                    .iter()
                    .find(|line| !line.trim().is_empty() && !line.starts_with("#["))
                    .is_some_and(|line| line.trim_end().ends_with('{') && line.contains("mod "))
        };
        (0..lines.len()).find(is_head).unwrap_or(lines.len())
    }
}

/// Where the literal or comment that begins `rest` ends; `None` if none begins there.
fn blanked_bytes(rest: &str, is_after_word: bool) -> Option<usize> {
    let until = |end: &str, from: usize| rest[from..].find(end).map_or(rest.len(), |at| from + at + end.len());
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(block_comment(rest));
    }
    if rest.starts_with('"') {
        return Some(quoted(rest));
    }
    if rest.starts_with('\'') {
        return character(rest);
    }
    if is_after_word {
        return None;
    }
    let raw = ["r", "br", "cr"].into_iter().find_map(|prefix| {
        let hashes = rest.strip_prefix(prefix)?;
        let count = hashes.len() - hashes.trim_start_matches('#').len();
        hashes[count..].starts_with('"').then_some((prefix.len() + count + 1, count))
    });
    raw.map(|(from, hashes)| until(&format!("\"{}", "#".repeat(hashes)), from))
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    let bytes = rest.as_bytes();
    while at < bytes.len() {
        match &bytes[at..bytes.len().min(at + 2)] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted(rest: &str) -> usize {
    let mut is_escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A character literal; a lifetime is none.
fn character(rest: &str) -> Option<usize> {
    let mut inner = rest[1..].char_indices();
    match inner.next()?.1 {
        '\\' => rest[3..].find('\'').map(|at| at + 4),
        _ => inner.next().filter(|(_, next)| *next == '\'').map(|(at, _)| at + 2),
    }
}

fn blank(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let is_after_word = code.ends_with(|last: char| last.is_alphanumeric() || last == '_');
        let bytes = blanked_bytes(rest, is_after_word);
        let (head, tail) = rest.split_at(bytes.unwrap_or(next.len_utf8()));
        match bytes {
            Some(_) => code.extend(head.chars().map(|c| if c == '\n' { '\n' } else { ' ' })),
            None => code += head,
        }
        rest = tail;
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        assert_eq!(blank(text), expected, "{text}");
    }

    #[test]
    fn comments_and_literals_are_blank_and_code_stays() {
        check("a // b\nc", "a     \nc");
        check("/* a /* b */ c */d", "                 d");
        check(r#"f("a\"{", x)"#, "f(      , x)");
        check("r#\"a\"b\"#+r\"\\\"+r", "        +    +r");
        check("for'{'", "for   ");
        check("'\\''{'\\u{7b}'", "    {        ");
        check("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)");
        check("var\"x\"", "var   ");
    }

    #[test]
    fn a_test_module_starts_at_its_attribute() {
        assert_eq!(Source::new("a.rs", "fn a() {}\n#[cfg(test)]\nmod tests {\n}\n").tests_at(), 1);
        assert_eq!(Source::new("a.rs", "#[cfg(test)]\nmod tests;\nfn a() {}\n").tests_at(), 3);
        assert!(Source::new("mesh/a/src/b/tests.rs", "").is_test());
        assert!(!Source::new("mesh/a/src/attests.rs", "").is_test());
    }
}
