//! JSON in, JSON out through a template engine: a module of a few hundred KB.

use std::io::{Read, Write};

use minijinja::{context, Environment};

const TEMPLATE: &str = r#"{"greeting":"hello {{ name }}","count":{{ count }},"sum":{{ sum }}}"#;

fn answer() -> Result<(), Box<dyn std::error::Error>> {
    let mut text = Vec::new();
    std::io::stdin().read_to_end(&mut text)?;
    let input: serde_json::Value = serde_json::from_slice(&text)?;
    let values: Vec<u64> = serde_json::from_value(input["values"].clone())?;
    let (count, sum) = (values.len(), values.iter().sum::<u64>());
    let environment = Environment::new();
    let reply = environment.render_str(TEMPLATE, context! { name => input["name"].as_str(), count, sum })?;
    std::io::stdout().write_all(reply.as_bytes())?;
    Ok(std::io::stdout().flush()?)
}

/// Answers one request; 0 if all went well.
#[no_mangle]
pub extern "C" fn handle() -> i32 {
    i32::from(answer().is_err())
}
