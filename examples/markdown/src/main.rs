//! Turns a useful subset of Markdown into HTML; what it does not know it shows as it is, escaped.
//! ```text
//! skein publish examples/markdown && skein invoke markdown -d '# Hello *mesh*'
//! <h1>Hello <em>mesh</em></h1>
//! ```
//! Exit code 1 with a message on stderr: a text that is not UTF-8, or a code fence that is not closed.

use std::io::{self, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let html = io::read_to_string(io::stdin()).map_err(|error| error.to_string()).and_then(|text| html(&text));
    match html.and_then(|html| io::stdout().write_all(html.as_bytes()).map_err(|error| error.to_string())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("markdown: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The blocks of a text, one after another.
fn html(text: &str) -> Result<String, String> {
    let (mut out, mut lines) = (String::new(), text.lines().enumerate().peekable());
    while let Some((number, line)) = lines.next() {
        if line.starts_with("```") {
            out += "<pre><code>";
            loop {
                let unclosed = || format!("the code fence opened in line {} is not closed", number + 1);
                match lines.next().ok_or_else(unclosed)?.1 {
                    line if line.starts_with("```") => break,
                    line => out += &(escape(line) + "\n"),
                }
            }
            out += "</code></pre>\n";
        } else if let Some((level, title)) = heading(line) {
            out += &format!("<h{level}>{}</h{level}>\n", inline(title));
        } else if let Some(first) = item(line) {
            let mut items = inline(first);
            while let Some(next) = lines.peek().and_then(|(_, line)| item(line)) {
                items += &format!("</li>\n<li>{}", inline(next));
                lines.next();
            }
            out += &format!("<ul>\n<li>{items}</li>\n</ul>\n");
        } else if is_text(line) {
            let mut text = line.trim().to_owned();
            while let Some((_, next)) = lines.next_if(|(_, line)| is_text(line)) {
                text = text + "\n" + next.trim();
            }
            out += &format!("<p>{}</p>\n", inline(&text));
        }
    }
    Ok(out)
}

fn heading(line: &str) -> Option<(usize, &str)> {
    let title = line.trim_start_matches('#');
    let level = line.len() - title.len();
    ((1..=6).contains(&level) && title.starts_with(' ')).then(|| (level, title.trim()))
}

fn item(line: &str) -> Option<&str> {
    line.strip_prefix("- ").or_else(|| line.strip_prefix("* ")).map(str::trim)
}

fn is_text(line: &str) -> bool {
    !line.trim().is_empty() && !line.starts_with("```") && heading(line).is_none() && item(line).is_none()
}

/// One run of text with its marks. Each mark found is cut off the front, so that it ends for any input.
fn inline(mut text: &str) -> String {
    let mut out = String::new();
    while let Some(at) = text.find(['`', '*', '[']) {
        out += &escape(&text[..at]);
        text = &text[at..];
        let (html, bytes) = mark(text).unwrap_or_else(|| (text[..1].to_owned(), 1));
        out += &html;
        text = &text[bytes..];
    }
    out + &escape(text)
}

/// The HTML of the mark that `text` begins with and its length in bytes, if it is closed.
fn mark(text: &str) -> Option<(String, usize)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (label, rest) = rest.split_once("](")?;
        let (url, _) = rest.split_once(')')?;
        let is_safe = !url.contains(':') || ["http:", "https:", "mailto:"].iter().any(|scheme| url.starts_with(scheme));
        let link = format!("<a href=\"{}\">{}</a>", escape(url), escape(label));
        return is_safe.then_some((link, label.len() + url.len() + 4));
    }
    let (mark, tag) = [("`", "code"), ("**", "strong"), ("*", "em")].into_iter().find(|(m, _)| text.starts_with(m))?;
    let (inner, _) = text[mark.len()..].split_once(mark).filter(|(inner, _)| !inner.is_empty())?;
    let body = if tag == "code" { escape(inner) } else { inline(inner) };
    Some((format!("<{tag}>{body}</{tag}>"), inner.len() + 2 * mark.len()))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
