//! `skein context`: choose the mesh the commands talk to.

use skein_proto::Failure;

use crate::{
    cli::{Common, Context},
    contexts::Contexts,
    output::{emit, say, table},
};

pub(super) fn context(common: &Common, command: Context) -> Result<(), Failure> {
    let contexts = Contexts::of_user();
    match command {
        Context::Ls => {
            let listed = contexts.list();
            emit(common.json, &listed, || {
                let rows = listed.iter().map(|context| {
                    let mark = if context.is_current { "*" } else { "" };
                    vec![mark.to_owned(), context.name.clone(), context.mesh.clone(), context.nodes.join(",")]
                });
                table(&["", "NAME", "MESH", "NODES"], rows)
            })
        }
        Context::Use { name } => {
            contexts.choose(&name)?;
            say(format_args!("using {name}"));
            changed(common, &name, true)
        }
        Context::Add { name, file } => {
            contexts.add(&name, &file)?;
            say(format_args!("added {name}; `skein context use {name}` makes it the current one"));
            changed(common, &name, contexts.list().iter().any(|context| context.is_current && context.name == name))
        }
        Context::Rm { name } => {
            let was_current = contexts.remove(&name)?;
            let next = if was_current { "; it was the current one: `skein context use` chooses another" } else { "" };
            say(format_args!("removed {name}{next}"));
            changed(common, &name, false)
        }
    }
}

/// What was done is said; a program is told which context it was, and whether that is the current one now.
fn changed(common: &Common, name: &str, is_current: bool) -> Result<(), Failure> {
    if !common.json {
        return Ok(());
    }
    emit(true, &serde_json::json!({ "name": name, "is_current": is_current }), String::new)
}
