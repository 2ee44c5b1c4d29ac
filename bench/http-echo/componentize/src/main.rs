//! Makes a component of a core module that says in a custom section which world it is for: `componentize IN OUT`.

use std::{env, error::Error, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let mut paths = env::args().skip(1);
    let (Some(input), Some(output)) = (paths.next(), paths.next()) else {
        return Err("usage: componentize IN OUT".into());
    };
    let component = wit_component::ComponentEncoder::default().validate(true).module(&fs::read(input)?)?.encode()?;
    Ok(fs::write(output, component)?)
}
