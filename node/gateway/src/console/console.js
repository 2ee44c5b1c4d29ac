// The console: shows what the admin API says, every few seconds. All text goes in as text, never as markup.
"use strict";

const REFRESH_MS = 3000;
const byId = (id) => document.getElementById(id);
let timer = 0;

async function ask(path) {
  const response = await fetch(path, { headers: { authorization: `Bearer ${sessionStorage.getItem("skein-key")}` } });
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body;
  throw Object.assign(new Error(body.detail || `the node answered ${response.status}`), {
    status: response.status,
    advice: body.advice || "",
  });
}

function table(id, columns, rows) {
  const line = (tag, cells) => {
    const row = document.createElement("tr");
    for (const cell of cells) {
      const element = document.createElement(tag);
      element.textContent = String(cell);
      if (typeof cell === "number") element.className = "number";
      row.append(element);
    }
    return row;
  };
  byId(id).tHead.replaceChildren(line("th", columns));
  byId(id).tBodies[0].replaceChildren(...rows.map((row) => line("td", row)));
}

function showStatus(status) {
  const { consensus } = status;
  byId("summary").textContent =
    `${status.node} · ${consensus.has_quorum ? "quorum" : "no quorum"} · leader ${consensus.leader || "unknown"} · ` +
    `index ${status.index} · ${status.functions} functions, ${status.versions} versions`;
  byId("warnings").hidden = status.warnings.length === 0;
  byId("warnings").querySelector("ul").replaceChildren(...status.warnings.map((warning) => {
    const item = document.createElement("li");
    item.textContent = `${warning.message}: ${warning.advice}`;
    return item;
  }));
  table("nodes", ["Node", "State", "Consensus", "Applied", "Running", "Queued", "CPU %", "Memory MiB", "Calls at"],
    status.nodes.map((node) => [
      node.name, node.is_draining ? "draining" : node.state, node.consensus, node.applied_index, node.load.in_flight,
      node.load.queued, node.load.cpu_permille / 10, node.load.memory_mib, node.addresses.http,
    ]));
  table("activations", ["Function", "Version", "State", "Running", "Queued"], status.activations.map((activation) => [
    `${activation.app}/${activation.name}`, activation.version, activation.state, activation.in_flight, activation.queued,
  ]));
}

function showFunctions(list) {
  table("functions", ["Function", "State", "Newest", "Aliases", "Category", "Tags", "Description"],
    list.functions.map((item) => [
      `${item.app}/${item.name}`, item.state, item.latest,
      Object.entries(item.aliases).map(([alias, version]) => `${alias} → ${version}`).join(", "),
      item.category, item.tags.join(", "), item.description,
    ]));
  byId("more").textContent = list.next ? `${list.functions.length} of ${list.total}: narrow the search` : "";
}

async function refresh() {
  clearTimeout(timer);
  if (!sessionStorage.getItem("skein-key")) return leave();
  byId("enter").hidden = true;
  byId("leave").hidden = false;
  try {
    const query = encodeURIComponent(byId("query").value);
    const [status, functions] = await Promise.all([ask("/v1/status"), ask(`/v1/functions?limit=200&q=${query}`)]);
    showStatus(status);
    showFunctions(functions);
    byId("problem").hidden = true;
    byId("content").hidden = false;
  } catch (error) {
    byId("problem").textContent = [error.message, error.advice].filter(Boolean).join(". ");
    byId("problem").hidden = false;
    if (error.status === 401 || error.status === 403) return leave();
  }
  clearTimeout(timer);
  timer = setTimeout(refresh, REFRESH_MS);
}

function leave() {
  clearTimeout(timer);
  sessionStorage.removeItem("skein-key");
  byId("enter").hidden = false;
  byId("leave").hidden = true;
  byId("content").hidden = true;
  byId("summary").textContent = "";
}

byId("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("skein-key", byId("key").value.trim());
  byId("key").value = "";
  refresh();
});
byId("leave").addEventListener("click", () => {
  byId("problem").hidden = true;
  leave();
});
byId("query").addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(refresh, 200);
});
refresh();
