//! `skein app`: apps and where their functions may run.

use skein_catalog::Binding;
use skein_gateway::api::{AppList, AppRequest, AppStatus, Done};
use skein_proto::{Failure, NodeName};

use super::admin;
use crate::{
    cli::{App, Common, Places},
    output::{emit, say, table},
};

pub(super) async fn app(common: &Common, command: App) -> Result<(), Failure> {
    let admin = admin(common)?;
    match command {
        App::Create { name, places } => {
            let request = AppRequest { name, binding: binding(places) };
            let created: AppStatus = admin.post("/v1/apps", &request).await?;
            emit(common.json, &created, || page(&created))
        }
        App::Bind { name, places, anywhere: _ } => {
            let bound: AppStatus = admin.put(&format!("/v1/apps/{name}/binding"), &binding(places)).await?;
            if bound.nodes.is_empty() {
                say(format_args!("no node is among them yet: calls of {name} are refused until one joins"));
            }
            emit(common.json, &bound, || page(&bound))
        }
        App::Show { name } => {
            let shown: AppStatus = admin.get(&format!("/v1/apps/{name}")).await?;
            emit(common.json, &shown, || page(&shown))
        }
        App::Ls => {
            let list: AppList = admin.get("/v1/apps").await?;
            emit(common.json, &list, || {
                let rows = list.apps.iter().map(|app| {
                    vec![app.name.to_string(), app.functions.to_string(), app.bound_to.clone(), names(&app.nodes)]
                });
                table(&["APP", "FUNCTIONS", "BOUND TO", "NODES NOW"], rows)
            })
        }
        App::Rm { name } => {
            let done: Done = admin.delete(&format!("/v1/apps/{name}")).await?;
            say(format_args!("removed {name}"));
            if common.json { emit(true, &done, String::new) } else { Ok(()) }
        }
    }
}

/// Without labels and names, all nodes.
fn binding(places: Places) -> Binding {
    Binding { labels: places.labels.into_iter().collect(), nodes: places.nodes.into_iter().collect() }
}

fn page(app: &AppStatus) -> String {
    let nodes = if app.nodes.is_empty() { "none".to_owned() } else { names(&app.nodes) };
    let rows = [
        ("app", app.name.to_string()),
        ("functions", app.functions.to_string()),
        ("bound to", app.bound_to.clone()),
        ("nodes now", nodes),
    ];
    rows.map(|(name, value)| format!("{name:<10} {value}")).join("\n")
}

fn names(nodes: &[NodeName]) -> String {
    nodes.iter().map(NodeName::as_str).collect::<Vec<_>>().join(", ")
}
