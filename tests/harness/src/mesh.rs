//! Several nodes that form one mesh.

use std::{
    io::Write,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{Http, Netns, Node, NodeOptions, until};

/// A mesh of real nodes on this machine. Everything ends and goes away with it.
pub struct Mesh {
    /// The nodes, in the order they were started. Dropped before the directory that holds their logs.
    pub nodes: Vec<Node>,
    binary: PathBuf,
    home: TempDir,
    /// Dropped after the nodes that run in it.
    netns: Option<Netns>,
}

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code; -1 for a signal.
    pub code: i32,
    /// What it wrote to stdout.
    pub stdout: Vec<u8>,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Ran {
    /// Stdout as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }

    /// Stdout as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The same, if the command succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{}\n{}", self.text(), self.stderr);
        self
    }

    /// The same, if the command failed with this exit code and error code.
    #[track_caller]
    pub fn failed(self, code: i32, error: &str) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.text(), self.stderr);
        assert!(self.stderr.contains(&format!("[{error}]")), "no [{error}] in: {}", self.stderr);
        self
    }
}

impl Mesh {
    /// A mesh of `count` nodes named n1, n2, …: the first founds it, the others join by a token. Ready when every node
    /// is alive to every other and as many vote as should.
    pub fn start(binary: &str, count: usize) -> Self {
        let mut mesh = Self::found(binary);
        for _ in 1..count {
            mesh.join();
        }
        mesh.settle();
        mesh
    }

    /// A mesh of one.
    pub fn found(binary: &str) -> Self {
        Self::found_with(binary, &[])
    }

    /// The same, started with further arguments.
    pub fn found_with(binary: &str, args: &[&str]) -> Self {
        Self::found_in(binary, args, None)
    }

    /// The same as [`Mesh::start`], with a network namespace for each node.
    pub fn start_apart(binary: &str, count: u8) -> Self {
        let mut mesh = Self::found_in(binary, &[], Some(Netns::new(count)));
        for _ in 1..count {
            mesh.join();
        }
        mesh.settle();
        mesh
    }

    fn found_in(binary: &str, args: &[&str], netns: Option<Netns>) -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        let mut mesh = Self { binary: PathBuf::from(binary), home, nodes: Vec::new(), netns };
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let options = NodeOptions { args, data: None, netns: mesh.place(0) };
        mesh.nodes.push(Node::start(&mesh.binary, mesh.home.path(), "n1", options));
        mesh
    }

    /// The namespace of a node, and its address there.
    fn place(&self, node: usize) -> Option<(String, Ipv4Addr)> {
        let node = u8::try_from(node).expect("few nodes");
        self.netns.as_ref().map(|netns| (netns.name(node), netns.address(node)))
    }

    /// The network between the nodes, to be cut.
    ///
    /// # Panics
    /// For a mesh without one.
    pub fn netns(&self) -> &Netns {
        self.netns.as_ref().expect("a mesh that was started apart")
    }

    /// Lets one more node join, by a token from the first node.
    pub fn join(&mut self) {
        self.join_with(&[]);
    }

    /// Lets one more node join, started with further arguments.
    pub fn join_with(&mut self, args: &[&str]) {
        self.join_at(0, args);
    }

    /// The same, by a token from node `i`.
    pub fn join_at(&mut self, i: usize, args: &[&str]) {
        let token = self.skein(i, &["token", "create"]).ok().text();
        let name = format!("n{}", self.nodes.len() + 1);
        let mut all: Vec<String> = vec!["--token".to_owned(), token];
        all.extend(args.iter().map(|arg| (*arg).to_owned()));
        let netns = self.place(self.nodes.len());
        let options = NodeOptions { args: all, data: None, netns };
        self.nodes.push(Node::start(&self.binary, self.home.path(), &name, options));
    }

    /// Waits until the running nodes see one another alive, the consensus has grown as far as it should, and every node
    /// has applied what any of them had when the wait began.
    pub fn settle(&mut self) {
        let running: Vec<usize> = (0..self.nodes.len()).filter(|i| self.nodes[*i].is_running()).collect();
        let expected = match self.nodes.len() {
            0..3 => 1,
            3 | 4 => 3,
            _ => 5,
        };
        let indexes = running.iter().filter_map(|i| self.try_status(*i)?["index"].as_u64());
        let goal = indexes.max().unwrap_or_default();
        for i in &running {
            until("every node alive and the voters complete", || {
                let status = self.try_status(*i)?;
                let nodes = status["nodes"].as_array()?;
                let alive = nodes.iter().filter(|node| node["state"] == "alive").count();
                let voters = status["consensus"]["voters"].as_array()?.len();
                let has_quorum = status["consensus"]["has_quorum"] == true && !status["consensus"]["leader"].is_null();
                let is_caught_up = status["index"].as_u64()? >= goal;
                (alive == running.len() && voters >= expected && has_quorum && is_caught_up).then_some(())
            });
        }
    }

    /// `skein status` as node `i` answers it, if it does.
    pub fn try_status(&self, i: usize) -> Option<Value> {
        let ran = self.skein(i, &["status", "--json"]);
        (ran.code == 0).then(|| ran.json())
    }

    /// The index of the node that leads.
    pub fn leader(&self) -> usize {
        until("a leader", || {
            let status = (0..self.nodes.len()).find_map(|i| self.try_status(i))?;
            let leader = status["consensus"]["leader"].as_str()?.to_owned();
            self.nodes.iter().position(|node| node.name == leader)
        })
    }

    /// Runs a command in the context of node `i`.
    pub fn skein(&self, i: usize, args: &[&str]) -> Ran {
        self.skein_with(i, args, b"")
    }

    /// The same, with something on its stdin.
    pub fn skein_with(&self, i: usize, args: &[&str], stdin: &[u8]) -> Ran {
        run(&self.binary, self.home.path(), Some(&self.nodes[i].context()), args, stdin)
    }

    /// Runs a command with no context but what `args` say.
    pub fn skein_bare(&self, args: &[&str]) -> Ran {
        run(&self.binary, self.home.path(), None, args, b"")
    }

    /// A file of the test, to publish or send.
    pub fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.home.path().join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).expect("a directory");
        }
        std::fs::write(&path, content).expect("a file");
        path.to_str().expect("a readable path").to_owned()
    }

    /// Publishes a module given as text under a name, at node `i`.
    pub fn publish_wat(&self, i: usize, name: &str, wat: &str) -> Ran {
        let file = self.file(&format!("{name}.wat"), wat.as_bytes());
        self.skein(i, &["publish", &file, "--as", name])
    }

    /// HTTP to node `i`'s gateway, with its administrator's key.
    pub fn gateway(&self, i: usize) -> Http {
        Http::new(self.nodes[i].http(), Some(self.nodes[i].key()))
    }

    /// HTTP to node `i`'s admin API, with its administrator's key.
    pub fn admin(&self, i: usize) -> Http {
        Http::new(self.nodes[i].admin(), Some(self.nodes[i].key()))
    }

    /// The directory of the test.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The binary under test.
    pub fn binary(&self) -> &Path {
        &self.binary
    }
}

fn run(binary: &Path, home: &Path, context: Option<&Path>, args: &[&str], stdin: &[u8]) -> Ran {
    let mut command = Command::new(binary);
    command.args(args).env("XDG_CONFIG_HOME", home.join("config")).env("XDG_CACHE_HOME", home.join("cache"));
    match context {
        Some(context) => command.env("SKEIN_CONTEXT", context),
        None => command.env_remove("SKEIN_CONTEXT"),
    };
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the skein binary starts");
    let mut input = child.stdin.take().expect("stdin is piped");
    let ran = std::thread::scope(|scope| {
        // Beside the reading, or both could wait for one another; a command that reads nothing closes early.
        scope.spawn(move || {
            let _ = input.write_all(stdin);
        });
        child.wait_with_output().expect("its end")
    });
    Ran {
        code: ran.status.code().unwrap_or(-1),
        stdout: ran.stdout,
        stderr: String::from_utf8_lossy(&ran.stderr).into_owned(),
    }
}
