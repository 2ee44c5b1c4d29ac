//! How results and failures look: data on stdout, talk on stderr, one JSON document if asked for.

use std::{
    fmt::Display,
    io::{IsTerminal as _, Write},
    path::Path,
    process::ExitCode,
};

use comfy_table::{Table, presets};
use serde::Serialize;
use skein_gateway::api::Problem;
use skein_proto::{ErrorCode, Failure};

use crate::{
    data_dir::io_failure,
    terminal::{one_line, printable},
};

/// Prints a result: `value` as JSON if `json`, else what `text` says.
///
/// # Errors
/// `internal` if stdout cannot be written.
pub(crate) fn emit<T: Serialize>(json: bool, value: &T, text: impl FnOnce() -> String) -> Result<(), Failure> {
    let shown = if json {
        serde_json::to_string_pretty(value)
            .map_err(|error| Failure::executed(ErrorCode::Internal, format!("the answer has no JSON form: {error}")))?
    } else {
        text()
    };
    write_stdout(format!("{}\n", printable(shown.trim_end())).as_bytes())
}

/// Writes what a function answered to stdout: as it is, for a file or another program; for a terminal, which would obey
/// it, as text with its control characters written out.
///
/// # Errors
/// As [`write_stdout`].
pub(crate) fn write_reply(payload: &[u8]) -> Result<(), Failure> {
    match std::io::stdout().is_terminal() {
        true => write_stdout(printable(&String::from_utf8_lossy(payload)).as_bytes()),
        false => write_stdout(payload),
    }
}

/// Writes bytes to stdout as they are. A reader that has gone away is no failure of ours.
///
/// # Errors
/// The system's error if stdout cannot be written for another reason.
pub(crate) fn write_stdout(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(io_failure("write to", Path::new("standard output"), &error))
        }
        _ => Ok(()),
    }
}

/// Says something on stderr, beside the data. Nothing that is only said may stop the work: a line that cannot be written
/// is lost.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{}", printable(&line.to_string()));
}

/// A plain table; columns are parted by two spaces, as in other tools' listings.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    for row in rows {
        // Widths are those of what is shown; and nobody's text makes rows of its own.
        table.add_row(row.iter().map(|cell| one_line(cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Says on stderr what failed and what to do next, and gives the exit code.
pub(crate) fn fail(failure: &Failure, json: bool) -> ExitCode {
    if json {
        let problem = Problem::of(failure.clone());
        let _ = emit(true, &problem, String::new);
    }
    // Further lines stand back, so that none of them passes for one of ours.
    say(format_args!("error: {} [{}]", failure.message.replace('\n', "\n       "), failure.code));
    if !failure.log_tail.is_empty() {
        say(format_args!("log: {}", failure.log_tail.trim_end().replace('\n', "\n     ")));
    }
    say(format_args!("next: {}", failure.code.advice()));
    ExitCode::from(failure.code.exit_code())
}

/// A time in milliseconds since the Unix epoch, as people read it (RFC 3339, UTC).
pub(crate) fn time(ms: u64) -> String {
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(ms);
    humantime::format_rfc3339_seconds(at).to_string()
}

/// A length of time in microseconds, as people read it.
pub(crate) fn micros(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{}.{:03} ms", us / 1_000, us % 1_000),
        _ => format!("{}.{:03} s", us / 1_000_000, us / 1_000 % 1_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_one_line_of_what_can_be_shown() {
        let shown = table(&["NAME", "SAYS"], [vec!["a".to_owned(), "x\u{1b}[2J\nb  forged".to_owned()]]);
        assert_eq!(shown, "NAME  SAYS\na     x\\u001b[2J\\u000ab  forged\n");
    }

    #[test]
    fn times_have_the_unit_that_fits() {
        for (us, expected) in
            [(0, "0 µs"), (999, "999 µs"), (1_250, "1.250 ms"), (2_000_000, "2.000 s"), (61_500_000, "61.500 s")]
        {
            assert_eq!(micros(us), expected);
        }
    }
}
