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
            Ok(())
        }
        Context::Add { name, file } => {
            contexts.add(&name, &file)?;
            say(format_args!("added {name}; `skein context use {name}` makes it the current one"));
            Ok(())
        }
    }
}
