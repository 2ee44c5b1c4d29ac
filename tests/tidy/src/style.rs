//! What one Rust file must be and must not contain.

use crate::{Finding, Source};

/// Longest file, in lines without its tests. Two hundred less is where a reader wants an explanation.
pub const FILE_LINES_MAX: usize = 600;
/// From here on a file is listed, so that it gets split before it must be.
pub const FILE_LINES_LISTED: usize = 400;
/// Longest function, in lines that hold code.
pub const FUNCTION_LINES_MAX: usize = 70;

/// The only folders with code the compiler cannot prove safe: the engine, and the program it is measured beside.
const UNSAFE_FOLDERS: [&str; 2] = ["node/engine/", "bench/wasmtime/"];
/// Leave to sleep in a test, on the line or the one above it, with the reason after it.
const MAY_SLEEP: &str = "// tidy: sleeps because";

/// Every broken rule of a file.
pub fn check(source: &Source) -> Vec<Finding> {
    let mut findings = check_shape(source);
    findings.extend(check_lines(source));
    findings.extend(functions(&source.code).into_iter().filter(|function| function.lines > FUNCTION_LINES_MAX).map(
        |function| {
            let advice = format!(
                "fn {} has {} lines of code, {FUNCTION_LINES_MAX} at most: give its parts names",
                function.name, function.lines
            );
            Finding::new(&source.path, function.line, advice)
        },
    ));
    findings
}

/// The number of lines that are not the file's tests.
pub fn lines_outside_tests(source: &Source) -> usize {
    if source.is_test() { 0 } else { source.tests_at() }
}

fn check_shape(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut found = |line, advice: String| findings.push(Finding::new(&source.path, line, advice));
    if source.path.ends_with("/mod.rs") {
        found(1, "is named mod.rs: call it by its module, foo.rs beside foo/".into());
    }
    if !source.text.starts_with("//! ") {
        found(1, "does not begin with `//! `: say in a sentence what this file owns".into());
    }
    let lines = lines_outside_tests(source);
    if lines > FILE_LINES_MAX {
        found(FILE_LINES_MAX + 1, format!("has {lines} lines, {FILE_LINES_MAX} at most: one noun for each file"));
    }
    findings
}

fn check_lines(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let tests_at = if source.is_test() { 0 } else { source.tests_at() };
    let text: Vec<_> = source.text.lines().collect();
    let lines: Vec<_> = source.code.lines().collect();
    let has_paused_time = has_word(&source.code, "start_paused") || has_word(&source.code, "time::pause(");
    for (at, code) in lines.iter().enumerate() {
        let mut found = |advice: &str| findings.push(Finding::new(&source.path, at + 1, advice));
        if has_word(code, "todo!") || has_word(code, "unimplemented!") {
            found("is not written yet: write it, or open an issue and return an error");
        }
        if has_word(code, "unsafe") && !UNSAFE_FOLDERS.iter().any(|folder| source.path.starts_with(folder)) {
            found("uses unsafe outside node/engine: find a safe way, or a crate that has one");
        }
        let may_sleep = has_paused_time || text[at.saturating_sub(1)..=at].iter().any(|line| line.contains(MAY_SLEEP));
        if at >= tests_at && has_word(code, "sleep(") && !may_sleep && !is_poll(&lines[..at]) {
            found("sleeps in a test: wait for a condition with a deadline, or pause time");
        }
    }
    findings
}

/// True if the block that is open after `lines` is a loop: one that looks again and again, not one that hopes.
fn is_poll(lines: &[&str]) -> bool {
    let mut closed = 0_usize;
    for line in lines.iter().rev() {
        for c in line.chars().rev() {
            match c {
                '}' => closed += 1,
                '{' if closed == 0 => return has_word(line, "while") || has_word(line, "loop"),
                '{' => closed -= 1,
                _ => {}
            }
        }
    }
    false
}

/// True if `line` holds `word` and no longer word that ends or begins with it.
fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let is_cut_off = !line[..at].ends_with(is_part);
        is_cut_off && (!word.ends_with(is_part) || !line[at + word.len()..].starts_with(is_part))
    })
}

/// A function with a body.
struct Function {
    name: String,
    line: usize,
    lines: usize,
}

/// The functions of a file whose comments and literals are blank.
fn functions(code: &str) -> Vec<Function> {
    let starts =
        code.match_indices("fn ").filter(|(at, _)| !code[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_'));
    starts
        .filter_map(|(at, _)| {
            let name: String = code[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let open = body_at(&code[at..]).filter(|_| !name.is_empty())?;
            let body = &code[at + open..at + body_end(&code[at..], open)];
            let lines = body.lines().skip(1).filter(|line| !line.trim().is_empty()).count().saturating_sub(1);
            Some(Function { name, line: 1 + code[..at].matches('\n').count(), lines })
        })
        .collect()
}

/// Where the body of the function that begins `code` opens; `None` if it has none.
fn body_at(code: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth = depth.saturating_sub(1),
            '{' if depth == 0 => return Some(at),
            ';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// Just after the brace that closes the one at `open`; the end of the text if none does.
fn body_end(code: &str, open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, c) in code[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return open + at + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_file(path: &str, text: &str, expected: &[&str]) {
        let found: Vec<_> = check(&Source::new(path, text)).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), expected.len(), "{path}: {found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found} is not {expected}");
        }
    }

    #[test]
    fn a_file_begins_with_what_it_owns_and_has_its_own_name() {
        check_file("mesh/a/src/b.rs", "//! Owns b.\nfn b() {}\n", &[]);
        check_file("mesh/a/src/b.rs", "fn b() {}\n", &["mesh/a/src/b.rs:1: does not begin"]);
        check_file("mesh/a/src/b/mod.rs", "//! B.\n", &["mesh/a/src/b/mod.rs:1: is named mod.rs"]);
    }

    #[test]
    fn a_long_file_is_found_and_its_tests_do_not_count() {
        let long = format!("//! B.\n{}", "// x\n".repeat(600));
        check_file("mesh/a/src/b.rs", &long, &["mesh/a/src/b.rs:601: has 601 lines"]);
        check_file("mesh/a/tests/b.rs", &long, &[]);
        let tested = format!("//! B.\n#[cfg(test)]\nmod tests {{\n{}}}\n", "// x\n".repeat(600));
        check_file("mesh/a/src/b.rs", &tested, &[]);
    }

    #[test]
    fn a_long_function_is_found_where_it_begins() {
        let body = |lines| format!("//! B.\n\nfn b(x: [u8; 2]) -> u8 {{\n{}}}\nfn c();\n", "    x();\n".repeat(lines));
        check_file("mesh/a/src/b.rs", &body(70), &[]);
        check_file("mesh/a/src/b.rs", &body(71), &["mesh/a/src/b.rs:3: fn b has 71 lines"]);
    }

    #[test]
    fn unfinished_and_unsafe_code_is_found_and_words_about_it_are_not() {
        check_file("mesh/a/src/b.rs", "//! B.\nfn b() { todo!() }", &["mesh/a/src/b.rs:2: is not written"]);
        check_file("mesh/a/src/b.rs", "//! B.\nfn b() { unsafe { c() } }", &["mesh/a/src/b.rs:2: uses unsafe"]);
        check_file("node/engine/src/b.rs", "//! B.\nfn b() { unsafe { c() } }", &[]);
        check_file("mesh/a/src/b.rs", "//! unsafe todo!\n#![forbid(unsafe_code)]\nfn b() { c(\"todo!\") }", &[]);
    }

    #[test]
    fn a_test_does_not_sleep_unless_it_polls_or_time_is_paused() {
        let test =
            "//! B.\nasync fn b() { sleep(MOMENT).await }\n#[cfg(test)]\nmod tests {\nfn b() { sleep(MOMENT) }\n}\n";
        check_file("mesh/a/src/b.rs", test, &["mesh/a/src/b.rs:5: sleeps"]);
        check_file("mesh/a/tests/b.rs", "//! B.\nfn b() { time::sleep(MOMENT) }\n", &["mesh/a/tests/b.rs:2: sleeps"]);
        let poll = "//! B.\nfn b() {\n    while !c() {\n        if d() {}\n        sleep(MOMENT);\n    }\n}\n";
        check_file("mesh/a/tests/b.rs", poll, &[]);
        let hope = "//! B.\nfn b() {\n    while !c() {\n    }\n    sleep(MOMENT);\n}\n";
        check_file("mesh/a/tests/b.rs", hope, &["mesh/a/tests/b.rs:5: sleeps"]);
        let paused = "//! B.\n#[tokio::test(start_paused = true)]\nasync fn b() { sleep(MOMENT).await }\n";
        check_file("mesh/a/tests/b.rs", paused, &[]);
        let poll = "//! B.\n// tidy: sleeps because it polls a process.\nfn b() { time::sleep(MOMENT) }\n";
        check_file("mesh/a/tests/b.rs", poll, &[]);
    }
}
