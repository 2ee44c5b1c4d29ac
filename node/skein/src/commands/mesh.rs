//! `skein nodes`, `node`, `status`, `token`, `config`: the mesh itself.

use std::fmt::Write;

use skein_catalog::MemberRole;
use skein_gateway::api::{Done, MeshStatus, NodeList, NodeLoad, NodeStatus, TokenCreated, TokenRequest};
use skein_proto::{Failure, Progress};

use super::{admin, key::Keys};
use crate::{
    cli::{Common, Node, Token},
    output::{emit, say, table},
};

pub(super) async fn token(common: &Common, command: Token) -> Result<(), Failure> {
    let Token::Create { ttl, role } = command;
    let request = TokenRequest {
        ttl_ms: Some(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)),
        role: role.map(MemberRole::from),
    };
    let created: TokenCreated = admin(common)?.post("/v1/tokens", &request).await?;
    emit(common.json, &created, || created.token.clone())
}

pub(super) async fn nodes(common: &Common) -> Result<(), Failure> {
    let list: NodeList = admin(common)?.get("/v1/nodes").await?;
    emit(common.json, &list, || node_table(&list.nodes))
}

fn node_table(nodes: &[NodeStatus]) -> String {
    let rows = nodes.iter().map(|node| {
        let state = if node.is_draining { "draining" } else { node.state.as_str() };
        let load = &node.load;
        vec![
            format!("{}{}", node.name, if node.is_self { " *" } else { "" }),
            state.to_owned(),
            node.consensus.as_str().to_owned(),
            node.applied_index.to_string(),
            load.in_flight.to_string(),
            format!("{}%", load.cpu_permille / 10),
            memory(load),
            load.activations.to_string(),
            node.labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(","),
            node.addresses.mesh.clone(),
            node.addresses.http.clone(),
            node.addresses.admin.clone(),
        ]
    });
    let header =
        ["NAME", "STATE", "CONSENSUS", "INDEX", "CALLS", "CPU", "MEMORY", "ACTIVE", "LABELS", "MESH", "HTTP", "ADMIN"];
    table(&header, rows)
}

/// What a node has in use, and what it may use.
pub(super) fn memory(load: &NodeLoad) -> String {
    match load.memory_budget_mib {
        0 => format!("{} MiB", load.memory_mib),
        budget => format!("{}/{budget} MiB", load.memory_mib),
    }
}

pub(super) async fn node(common: &Common, command: Node) -> Result<(), Failure> {
    let admin = admin(common)?;
    let (done, said): (Done, String) = match command {
        Node::Drain { name, force } => {
            let nothing = serde_json::json!({});
            let path = format!("/v1/nodes/{name}/drain?force={force}");
            (admin.post(&path, &nothing).await?, format!("{name} takes no new calls"))
        }
        Node::Resume { name } => {
            let nothing = serde_json::json!({});
            (admin.post(&format!("/v1/nodes/{name}/resume"), &nothing).await?, format!("{name} takes calls again"))
        }
        Node::Remove { name, force } => {
            let keys = Keys::look(&admin).await;
            let removed = admin.delete(&format!("/v1/nodes/{name}?force={force}")).await;
            let is_gone = removed.as_ref().err().is_none_or(|failure: &Failure| failure.progress == Progress::Executed);
            // It stays good where it is the last that may administer the mesh.
            if is_gone && keys.is_of(&admin, &name) && !Keys::look(&admin).await.is_of(&admin, &name) {
                keys.warn(common, &admin, format_args!("was {name}'s own and is no longer good"));
            }
            (removed?, format!("{name} is removed"))
        }
    };
    say(&said);
    if common.json { emit(true, &done, String::new) } else { Ok(()) }
}

pub(super) async fn status(common: &Common) -> Result<(), Failure> {
    let status: MeshStatus = admin(common)?.get("/v1/status").await?;
    emit(common.json, &status, || page(&status))
}

/// Most activations on the page, the busiest: a node may have thousands. `--json` has all.
const ACTIVATIONS_SHOWN: usize = 20;

fn page(status: &MeshStatus) -> String {
    let consensus = &status.consensus;
    let names = |names: &[skein_proto::NodeName]| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut page = String::new();
    let mut line = |what: &str, says: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(page, "{what:<12} {says}");
    };
    line("mesh", status.mesh.map_or("not founded".to_owned(), |mesh| mesh.to_string()));
    line("release", format!("{} (as {} sees it)", status.release, status.node));
    let leader = consensus.leader.as_ref().map_or("none".to_owned(), ToString::to_string);
    let quorum = if consensus.has_quorum { "yes" } else { "NO" };
    line("quorum", format!("{quorum}; leader {leader}, term {}", consensus.term));
    line("voters", names(&consensus.voters));
    if !consensus.learners.is_empty() {
        line("learners", names(&consensus.learners));
    }
    line("index", format!("{} applied, {} committed", status.index, consensus.committed_index));
    line("functions", format!("{} with {} versions", status.functions, status.versions));
    line("activations", format!("{} on {}", status.activations.len(), status.node));
    let mut busiest: Vec<_> = status.activations.iter().collect();
    busiest.sort_by_key(|activation| std::cmp::Reverse((activation.in_flight, activation.queued, activation.calls)));
    for activation in busiest.into_iter().take(ACTIVATIONS_SHOWN) {
        let name = format!("{}/{}@{}", activation.app, activation.name, activation.version);
        line(
            "",
            format!("{name} {}: {} running, {} waiting", activation.state, activation.in_flight, activation.queued),
        );
    }
    let _ = write!(page, "\n{}", node_table(&status.nodes));
    for warning in &status.warnings {
        let _ = write!(page, "\nwarning: {}\n   next: {}\n", warning.message, warning.advice);
    }
    page
}

pub(super) async fn config(common: &Common) -> Result<(), Failure> {
    let config: serde_json::Value = admin(common)?.get("/v1/config").await?;
    emit(common.json, &config, || {
        let rows = config.as_object().into_iter().flatten().map(|(key, entry)| {
            let source = entry["source"].as_str().unwrap_or_default().to_owned();
            vec![key.clone(), entry["value"].to_string(), source]
        });
        table(&["SETTING", "VALUE", "SOURCE"], rows)
    })
}
