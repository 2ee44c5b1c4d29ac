# One worker behind one socket, whose address the command line gives.
using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [(name = "main", worker = .worker)],
  sockets = [(name = "http", http = (), service = "main")],
);

const worker :Workerd.Worker = (
  modules = [
    (name = "worker.mjs", esModule = embed "worker.mjs"),
    (name = "json.mjs", esModule = embed "json.mjs"),
  ],
  compatibilityDate = "2026-11-01",
);
