//! JSON in, JSON out, as a reactor that exports `handle`.

use std::io::{Read, Write};

use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Input {
    name: String,
    values: Vec<u64>,
}

#[derive(Serialize)]
struct Output {
    greeting: String,
    count: usize,
    sum: u64,
}

fn answer() -> std::io::Result<()> {
    let mut text = Vec::new();
    std::io::stdin().read_to_end(&mut text)?;
    let Input { name, values } = serde_json::from_slice(&text)?;
    let output = Output { greeting: format!("hello {name}"), count: values.len(), sum: values.iter().sum() };
    std::io::stdout().write_all(&serde_json::to_vec(&output)?)?;
    std::io::stdout().flush()
}

/// Answers one request; 0 if all went well.
#[no_mangle]
pub extern "C" fn handle() -> i32 {
    i32::from(answer().is_err())
}
