//! Masks the e-mail addresses in a text: an Extism plug-in, made with Extism's kit for Rust and nothing of Skein's.
//!
//! `[grants] env` is its configuration: `MASK` is written in place of each address.

use extism_pdk::{config, info, plugin_fn, Error, FnResult};

/// Called by Skein because `entry` says so; the name is the plug-in's choice.
#[plugin_fn]
pub fn redact(text: String) -> FnResult<String> {
    if text.trim().is_empty() {
        return Err(Error::msg("there is no text to redact").into());
    }
    let mask = config::get("MASK")?.unwrap_or_else(|| "***".to_owned());
    let mut masked = 0;
    let mut result = String::with_capacity(text.len());
    for piece in text.split_inclusive(char::is_whitespace) {
        let word = piece.trim_matches(|letter: char| !letter.is_alphanumeric());
        if is_address(word) {
            masked += 1;
            result.push_str(&piece.replacen(word, &mask, 1));
        } else {
            result.push_str(piece);
        }
    }
    info!("masked {masked}");
    Ok(result)
}

fn is_address(word: &str) -> bool {
    let Some((user, domain)) = word.split_once('@') else { return false };
    !user.is_empty() && !domain.contains('@') && domain.split('.').count() > 1 && domain.split('.').all(|label| !label.is_empty())
}
