//! Counts the words of a text: payload in, JSON with the most frequent words out.
//!
//! ```text
//! skein publish examples/wordcount && skein invoke wordcount -d 'the cat and the dog and the bird'
//! {"words":8,"distinct":5,"top":[{"word":"the","count":3},{"word":"and","count":2},{"word":"bird","count":1}]}
//! ```
//!
//! How many words it lists is the first of its `args` in function.toml. Exit code 1 with a message on stderr: a text
//! that is not UTF-8 or has no word in it; 2: an argument that is not a number.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let most = match std::env::args().nth(1).map(|most| most.parse::<usize>()) {
        None => 10,
        Some(Ok(most)) => most,
        Some(Err(error)) => return fail(2, format_args!("the number of words to list: {error}")),
    };
    let mut text = String::new();
    if let Err(error) = io::stdin().read_to_string(&mut text) {
        return fail(1, format_args!("{error}"));
    }
    let counts = count(&text);
    if counts.is_empty() {
        return fail(1, format_args!("there is no word in the text"));
    }
    match io::stdout().write_all(json(&counts, most).as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, format_args!("{error}")),
    }
}

fn fail(code: u8, message: std::fmt::Arguments) -> ExitCode {
    eprintln!("wordcount: {message}");
    ExitCode::from(code)
}

/// Each word in lower case with how often it occurs: the most frequent first, equals in the order of the alphabet.
fn count(text: &str) -> Vec<(String, usize)> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    let is_between = |c: char| !c.is_alphanumeric() && c != '\'' && c != '’';
    for word in text.split(is_between).map(|word| word.trim_matches(['\'', '’'])).filter(|word| !word.is_empty()) {
        *counts.entry(word.to_lowercase()).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by(|(left, most), (right, least)| least.cmp(most).then_with(|| left.cmp(right)));
    counts
}

/// The result. A word holds letters, digits and apostrophes only, so nothing in it needs an escape.
fn json(counts: &[(String, usize)], most: usize) -> String {
    let words: usize = counts.iter().map(|(_, count)| count).sum();
    let top: Vec<_> =
        counts.iter().take(most).map(|(word, count)| format!(r#"{{"word":"{word}","count":{count}}}"#)).collect();
    format!("{{\"words\":{words},\"distinct\":{},\"top\":[{}]}}\n", counts.len(), top.join(","))
}
