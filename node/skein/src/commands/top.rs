//! `skein top`: the nodes and the busiest functions of the whole mesh, looked at again and again.
//!
//! Every node that is up is asked for what runs on it; one that does not answer in time shows with what the others know
//! of it. Rates are what was counted between two looks.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    time::Duration,
};

use console::{Term, truncate_str};
use serde::Serialize;
use skein_client::{Context, ContextNode};
use skein_gateway::api::{ActivationSummary, MeshStatus, NodeState, NodeStatus, Warning};
use skein_proto::{Failure, NodeName};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::mesh;
use crate::{
    admin_client::AdminClient,
    cli::Common,
    contexts::Contexts,
    output::{emit, table},
    terminal::printable,
};

/// Longest wait for one node's answer: a page that is late is worth less than one without a node.
const ANSWER_WITHIN: Duration = Duration::from_millis(800);
/// Shortest time between two looks: each is a request to every node.
const EVERY_MIN: Duration = Duration::from_millis(200);
/// Most functions on a page that nothing bounds, such as a pipe.
const FUNCTIONS_MAX: usize = 40;

/// Shows the mesh until it is interrupted; one page if `once`, or if the answer is to be JSON.
///
/// # Errors
/// What asking the first node failed with. Later failures are shown, and asked again.
pub(super) async fn top(common: &Common, every: Duration, once: bool) -> Result<(), Failure> {
    let context = Contexts::of_user().load(common.context.as_deref())?;
    let mut before = Look::take(&context).await?;
    let mut ticks = interval(every.max(EVERY_MIN));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let term = Term::stdout();
    let is_live = term.is_term() && !once && !common.json;
    let _cursor = is_live.then(|| HiddenCursor::hide(&term));
    loop {
        let interrupted = tokio::select! {
            _ = ticks.tick() => false,
            _ = tokio::signal::ctrl_c() => true,
        };
        if interrupted {
            return Ok(());
        }
        let now = match Look::take(&context).await {
            Ok(now) => now,
            Err(failure) if is_live => {
                show(&term, &format!("{failure}\nasked again every {every:?}\n"));
                continue;
            }
            Err(failure) => return Err(failure),
        };
        let page = Page::between(&before, &now);
        if !is_live {
            return emit(common.json, &page, || page.text(FUNCTIONS_MAX));
        }
        show(&term, &page.text(usize::from(term.size().0)));
        before = now;
    }
}

/// Writes a page over the last one. What does not fit is left out: a line that wraps would push the rest down.
fn show(term: &Term, text: &str) {
    let (rows, columns) = term.size();
    let text = printable(text);
    let lines = text.lines().take(usize::from(rows).saturating_sub(1));
    let fitting = lines.fold(String::new(), |mut page, line| {
        let _ = writeln!(page, "{}", truncate_str(line, usize::from(columns), "…"));
        page
    });
    // A terminal that is gone ends the command by its signal.
    let _ = term.clear_screen().and_then(|()| term.write_str(&fitting));
}

/// Hides the cursor while pages change under it.
struct HiddenCursor(Term);

impl HiddenCursor {
    fn hide(term: &Term) -> Self {
        let _ = term.hide_cursor();
        Self(term.clone())
    }
}

impl Drop for HiddenCursor {
    fn drop(&mut self) {
        let _ = self.0.show_cursor();
    }
}

/// What the nodes said at one time.
struct Look {
    at: Instant,
    /// The first node's view of the mesh.
    mesh: MeshStatus,
    /// What is live on each node that answered.
    activations: BTreeMap<NodeName, Vec<ActivationSummary>>,
}

impl Look {
    async fn take(context: &Context) -> Result<Self, Failure> {
        let mesh: MeshStatus = AdminClient::new(context.clone())?.get("/v1/status").await?;
        let others = mesh.nodes.iter().filter(|node| node.name != mesh.node && node.state != NodeState::Down);
        let asked = others.map(|node| activations_of(context, node));
        let answers = futures_util::future::join_all(asked).await;
        let mut activations: BTreeMap<_, _> = answers.into_iter().flatten().collect();
        activations.insert(mesh.node.clone(), mesh.activations.clone());
        Ok(Self { at: Instant::now(), mesh, activations })
    }
}

/// What is live on `node`; none if it does not say so in time.
async fn activations_of(context: &Context, node: &NodeStatus) -> Option<(NodeName, Vec<ActivationSummary>)> {
    let addresses = &node.addresses;
    let only = ContextNode {
        name: node.name.to_string(),
        mesh: addresses.mesh.clone(),
        http: addresses.http.clone(),
        admin: addresses.admin.clone(),
    };
    let client = AdminClient::new(Context { nodes: vec![only], ..context.clone() }).ok()?.timeout(ANSWER_WITHIN);
    let asked = tokio::time::timeout(ANSWER_WITHIN, client.get::<MeshStatus>("/v1/status")).await;
    asked.ok()?.ok().map(|status| (node.name.clone(), status.activations))
}

/// One page.
#[derive(Debug, Serialize)]
struct Page {
    mesh: Option<String>,
    leader: Option<NodeName>,
    has_quorum: bool,
    index: u64,
    nodes: Vec<NodeLine>,
    /// The busiest first.
    functions: Vec<FunctionLine>,
    warnings: Vec<Warning>,
}

#[derive(Debug, Serialize)]
struct NodeLine {
    name: NodeName,
    state: &'static str,
    consensus: &'static str,
    /// False if it did not answer in time: what runs on it is then not on the page.
    has_answered: bool,
    cpu_permille: u16,
    memory: String,
    in_flight: u32,
    queued: u32,
    activations: u32,
}

#[derive(Debug, Default, Serialize)]
struct FunctionLine {
    version: String,
    nodes: Vec<NodeName>,
    in_flight: u32,
    queued: u32,
    calls_per_second: f64,
}

impl Page {
    fn between(before: &Look, now: &Look) -> Self {
        let mesh = &now.mesh;
        Self {
            mesh: mesh.mesh.map(|mesh| mesh.to_string()),
            leader: mesh.consensus.leader.clone(),
            has_quorum: mesh.consensus.has_quorum,
            index: mesh.index,
            nodes: mesh.nodes.iter().map(|node| NodeLine::of(node, now)).collect(),
            functions: functions(before, now),
            warnings: mesh.warnings.clone(),
        }
    }

    fn text(&self, rows: usize) -> String {
        let leader = self.leader.as_ref().map_or("none", |leader| leader.as_str());
        let quorum = if self.has_quorum { "quorum" } else { "NO QUORUM" };
        let mesh = self.mesh.as_deref().unwrap_or("not founded");
        let mut page = format!("mesh {mesh}  {quorum}, leader {leader}  index {}\n\n", self.index);
        page += &table(
            &["NODE", "STATE", "CONSENSUS", "CPU", "MEMORY", "RUNNING", "WAITING", "ACTIVE"],
            self.nodes.iter().map(NodeLine::cells),
        );
        for warning in &self.warnings {
            let _ = writeln!(page, "\nwarning: {}\n   next: {}", warning.message, warning.advice);
        }
        page.push('\n');
        let left = rows.saturating_sub(page.lines().count() + 2).max(1);
        page += &table(
            &["FUNCTION", "CALLS/S", "RUNNING", "WAITING", "NODES"],
            self.functions.iter().take(left).map(FunctionLine::cells),
        );
        page
    }
}

impl NodeLine {
    fn of(node: &NodeStatus, look: &Look) -> Self {
        Self {
            name: node.name.clone(),
            state: if node.is_draining { "draining" } else { node.state.as_str() },
            consensus: node.consensus.as_str(),
            has_answered: look.activations.contains_key(&node.name),
            cpu_permille: node.load.cpu_permille,
            memory: mesh::memory(&node.load),
            in_flight: node.load.in_flight,
            queued: node.load.queued,
            activations: node.load.activations,
        }
    }

    fn cells(&self) -> Vec<String> {
        let silent = if self.has_answered { "" } else { ", silent" };
        vec![
            self.name.to_string(),
            format!("{}{silent}", self.state),
            self.consensus.to_owned(),
            format!("{}%", self.cpu_permille / 10),
            self.memory.clone(),
            self.in_flight.to_string(),
            self.queued.to_string(),
            self.activations.to_string(),
        ]
    }
}

impl FunctionLine {
    fn cells(&self) -> Vec<String> {
        let nodes = self.nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        vec![
            self.version.clone(),
            format!("{:.1}", self.calls_per_second),
            self.in_flight.to_string(),
            self.queued.to_string(),
            nodes,
        ]
    }
}

/// The versions that are live anywhere, the busiest first.
fn functions(before: &Look, now: &Look) -> Vec<FunctionLine> {
    let seconds = now.at.saturating_duration_since(before.at).as_secs_f64().max(f64::EPSILON);
    let name =
        |activation: &ActivationSummary| format!("{}/{}@{}", activation.app, activation.name, activation.version);
    let counted: HashMap<_, _> = before
        .activations
        .iter()
        .flat_map(|(node, all)| all.iter().map(move |activation| ((node, name(activation)), activation.calls)))
        .collect();
    let mut lines: BTreeMap<String, FunctionLine> = BTreeMap::new();
    for (node, activation) in now.activations.iter().flat_map(|(node, all)| all.iter().map(move |one| (node, one))) {
        let version = name(activation);
        // One that began since, or began anew, counts from nothing.
        let known = counted.get(&(node, version.clone())).copied().filter(|known| *known <= activation.calls);
        let line = lines.entry(version.clone()).or_default();
        line.version = version;
        line.nodes.push(node.clone());
        line.in_flight += activation.in_flight;
        line.queued += activation.queued;
        line.calls_per_second += (activation.calls - known.unwrap_or(0)) as f64 / seconds;
    }
    let mut lines: Vec<_> = lines.into_values().collect();
    lines.sort_by(|one, other| {
        let busy = |line: &FunctionLine| line.calls_per_second + f64::from(line.in_flight + line.queued);
        busy(other).total_cmp(&busy(one))
    });
    lines
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;

    fn look(at: Instant, activations: &[(&str, &str, u64)]) -> Look {
        let mesh = serde_json::json!({
            "node": "one", "release": "1", "index": 7, "functions": 1, "versions": 1,
            "consensus": { "has_quorum": true, "leader": "one", "term": 1, "committed_index": 7 }, "nodes": [],
        });
        let mut all: BTreeMap<NodeName, Vec<ActivationSummary>> = BTreeMap::new();
        for (node, name, calls) in activations {
            all.entry(node.parse().unwrap()).or_default().push(ActivationSummary {
                app: "shop".parse().unwrap(),
                name: name.parse().unwrap(),
                version: 1,
                state: "ready".to_owned(),
                in_flight: 1,
                queued: 0,
                calls: *calls,
            });
        }
        Look { at, mesh: serde_json::from_value(mesh).unwrap(), activations: all }
    }

    #[test]
    fn a_rate_is_what_was_counted_on_all_nodes_between_two_looks() {
        let begin = Instant::now();
        let before = look(begin, &[("one", "price", 100), ("two", "price", 50), ("one", "tax", 9)]);
        let after = begin + Duration::from_secs(2);
        // On node two it began anew, and `stock` is new.
        let now = look(after, &[("one", "price", 140), ("two", "price", 10), ("one", "tax", 9), ("two", "stock", 1)]);
        let lines = functions(&before, &now);
        let shown = |line: &FunctionLine| (line.version.clone(), line.calls_per_second, line.nodes.len());
        let expected = [("shop/price@1", 25.0, 2), ("shop/stock@1", 0.5, 1), ("shop/tax@1", 0.0, 1)];
        let expected = expected.map(|(version, rate, nodes)| (version.to_owned(), rate, nodes));
        assert_eq!(lines.iter().map(shown).collect::<Vec<_>>(), expected);
        let page = Page::between(&before, &now).text(FUNCTIONS_MAX);
        assert!(page.contains("quorum, leader one  index 7") && page.contains("shop/price@1"), "{page}");
    }
}
