//! A network of its own for each node of a test, so that the way between two nodes can be cut, in one direction or both.
//!
//! Linux network namespaces on one bridge (ip-netns(8), veth(4)). What a node sends to another is lost without a word, as
//! on a broken wire, when it knows the other by a wrong hardware address: no packet filter is needed.

use std::{
    net::Ipv4Addr,
    process::Command,
    sync::atomic::{AtomicU8, Ordering},
};

/// A bridge with a namespace for each node. Gone when dropped.
pub struct Netns {
    id: String,
    subnet: [u8; 3],
    count: u8,
}

/// Bridges of this process.
static MADE: AtomicU8 = AtomicU8::new(0);

/// An address that nobody has: of the range for local use, and not one that the system gives.
const NOBODY: &str = "02:00:00:00:00:01";

impl Netns {
    /// Namespaces for so many nodes.
    ///
    /// # Panics
    /// Where that is not possible: without root, without the program `ip`, or in a sandbox that forbids it. It says what to
    /// do about it.
    pub fn new(count: u8) -> Self {
        let made = MADE.fetch_add(1, Ordering::SeqCst);
        let process = std::process::id();
        // From the addresses that are for tests between networks (RFC 2544), by process so that two tests do not meet.
        let subnet = [198, 18 + (process >> 8 & 1) as u8, (process.wrapping_add(u32::from(made) * 101) & 255) as u8];
        let this = Self { id: format!("sk{:x}{made:x}", process & 0xff_ffff), subnet, count };
        this.ip(&format!("link add {} type bridge", this.id));
        this.ip(&format!("addr add {}/24 dev {}", this.at(254), this.id));
        this.ip(&format!("link set {} up", this.id));
        for node in 0..count {
            let (name, near, far) = (this.name(node), this.near(node), this.far(node));
            this.ip(&format!("netns add {name}"));
            this.ip(&format!("link add {near} type veth peer name {far}"));
            this.ip(&format!("link set {far} netns {name}"));
            this.ip(&format!("link set {near} master {} up", this.id));
            this.ip(&format!("-n {name} addr add {}/24 dev {far}", this.address(node)));
            this.ip(&format!("-n {name} link set {far} up"));
            this.ip(&format!("-n {name} link set lo up"));
        }
        this
    }

    /// The name of a node's namespace.
    pub fn name(&self, node: u8) -> String {
        format!("{}n{node}", self.id)
    }

    /// A node's address.
    pub fn address(&self, node: u8) -> Ipv4Addr {
        self.at(node + 1)
    }

    /// From now on nothing that `from` sends reaches `to`.
    pub fn cut(&self, from: u8, to: u8) {
        let (name, far) = (self.name(from), self.far(from));
        self.ip(&format!("-n {name} neigh replace {} lladdr {NOBODY} dev {far} nud permanent", self.address(to)));
    }

    /// From now on it does again.
    pub fn heal(&self, from: u8, to: u8) {
        let (name, far) = (self.name(from), self.far(from));
        self.ip(&format!("-n {name} neigh del {} dev {far}", self.address(to)));
    }

    /// Whether a packet from one reaches the other and the answer comes back.
    pub fn is_open(&self, from: u8, to: u8) -> bool {
        let known = run(&format!("-n {} neigh show {}", self.name(from), self.address(to)));
        known.is_ok_and(|text| !text.contains(NOBODY))
    }

    fn at(&self, last: u8) -> Ipv4Addr {
        let [a, b, c] = self.subnet;
        Ipv4Addr::new(a, b, c, last)
    }

    fn near(&self, node: u8) -> String {
        format!("{}h{node}", self.id)
    }

    fn far(&self, node: u8) -> String {
        format!("{}e{node}", self.id)
    }

    fn ip(&self, command: &str) {
        if let Err(error) = run(command) {
            panic!(
                "this test cuts the network between nodes, for which it makes network namespaces, and that failed:\n  {error}\n\
                 It needs root (or CAP_NET_ADMIN and CAP_SYS_ADMIN) and the program `ip`: `apt-get install iproute2`. In a \
                 container that forbids it, allow it (with Docker: `--privileged`)."
            );
        }
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        for node in 0..self.count {
            let _ = run(&format!("netns del {}", self.name(node)));
            let _ = run(&format!("link del {}", self.near(node)));
        }
        let _ = run(&format!("link del {}", self.id));
    }
}

fn run(command: &str) -> Result<String, String> {
    let ran = Command::new("ip").args(command.split(' ')).output().map_err(|error| format!("ip {command}: {error}"))?;
    if ran.status.success() {
        return Ok(String::from_utf8_lossy(&ran.stdout).into_owned());
    }
    Err(format!("ip {command}: {}", String::from_utf8_lossy(&ran.stderr).trim()))
}
