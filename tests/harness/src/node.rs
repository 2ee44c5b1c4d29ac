//! One node: a real process with a directory and ports of its own.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead, BufReader, PipeReader},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{OnceLock, mpsc},
    thread,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::{PATIENCE, until};

/// How a node is started, beyond what every node of a test gets.
#[derive(Debug, Clone, Default)]
pub struct NodeOptions {
    /// Further arguments of `skein up`.
    pub args: Vec<String>,
    /// Start it on these data, instead of a directory of its own.
    pub data: Option<PathBuf>,
    /// Start it in this network namespace, listening on this address of it.
    pub netns: Option<(String, Ipv4Addr)>,
}

/// Where a node's log goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Log {
    /// To a file, which [`Node::log`] reads.
    #[default]
    File,
    /// To a pipe whose reader is gone.
    Gone,
    /// To a pipe that nobody reads: what is written to it waits for ever once it is full.
    Unread,
    /// To a device that is always full.
    Full,
}

/// A node of a test. Killed when dropped.
pub struct Node {
    binary: PathBuf,
    home: PathBuf,
    /// Its data directory.
    pub data: PathBuf,
    /// Its name.
    pub name: String,
    netns: Option<String>,
    child: Option<Child>,
    ready: BTreeMap<String, String>,
    log: Log,
    env: BTreeMap<String, String>,
    files_max: Option<u32>,
    /// Keeps a pipe open that nobody reads.
    unread: Option<PipeReader>,
}

impl Node {
    /// Starts a node and waits until it says that it is ready.
    ///
    /// # Panics
    /// If it ends or says nothing; with the end of its log.
    pub fn start(binary: &Path, home: &Path, name: &str, options: NodeOptions) -> Self {
        let data = options.data.unwrap_or_else(|| home.join(name));
        let mut node = Self {
            binary: binary.to_owned(),
            home: home.to_owned(),
            data,
            name: name.to_owned(),
            netns: options.netns.as_ref().map(|(name, _)| name.clone()),
            child: None,
            ready: BTreeMap::new(),
            log: Log::File,
            env: BTreeMap::new(),
            files_max: None,
            unread: None,
        };
        let mut args: Vec<String> = ["--name", name].map(String::from).to_vec();
        let listen = options.netns.map_or(Ipv4Addr::LOCALHOST, |(_, address)| address);
        for flag in ["--mesh", "--http", "--admin"] {
            args.extend([flag.to_owned(), format!("{listen}:0")]);
        }
        args.extend(options.args);
        node.spawn(&args);
        node
    }

    /// Starts the node again, from its data directory alone.
    pub fn restart(&mut self) {
        self.restart_with(&[]);
    }

    /// Starts the node again with these arguments of `skein up`.
    pub fn restart_with(&mut self, args: &[&str]) {
        assert!(self.child.is_none(), "{} still runs", self.name);
        self.spawn(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>());
    }

    /// Where its log goes from its next start on.
    pub fn log_to(&mut self, log: Log) {
        self.log = log;
    }

    /// Gives it this environment variable from its next start on.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.env.insert(name.to_owned(), value.to_owned());
    }

    /// Lets it open so many files from its next start on, sockets among them.
    pub fn limit_files(&mut self, most: u32) {
        self.files_max = Some(most);
    }

    fn log_target(&mut self) -> Stdio {
        let append = |path: &Path| File::options().create(true).append(true).open(path).expect("a log file");
        match self.log {
            Log::File => append(&self.log_path()).into(),
            Log::Full => append(Path::new("/dev/full")).into(),
            Log::Gone | Log::Unread => {
                let (reader, writer) = std::io::pipe().expect("a pipe");
                self.unread = (self.log == Log::Unread).then_some(reader);
                writer.into()
            }
        }
    }

    fn spawn(&mut self, args: &[String]) {
        let log = self.log_target();
        // Each of these becomes the next, and the last one the node: the process id is the node's.
        let mut words: Vec<String> = Vec::new();
        if let Some(netns) = &self.netns {
            words.extend(["ip", "netns", "exec", netns].map(String::from));
        }
        if let Some(most) = self.files_max {
            words.extend(["sh", "-c", &format!("ulimit -n {most} && exec \"$0\" \"$@\"")].map(String::from));
        }
        words.extend(as_ordinary_user().iter().map(|word| (*word).to_owned()));
        let mut command = match words.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(&self.binary);
                command
            }
            None => Command::new(&self.binary),
        };
        let mut child = command
            .arg("up")
            .arg("--data")
            .arg(&self.data)
            .args(args)
            .env("XDG_CONFIG_HOME", self.home.join("config"))
            .envs(&self.env)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the skein binary starts");
        let stdout = child.stdout.take().expect("stdout is piped");
        let (tell, told) = mpsc::channel();
        // Ends when the process closes its stdout.
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = tell.send(line);
            }
        });
        self.child = Some(child);
        let line =
            told.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{} is not ready\n{}", self.name, self.log_tail()));
        self.ready = line
            .split(' ')
            .filter_map(|word| word.split_once('='))
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect();
        assert!(line.starts_with("ready name="), "{} said {line:?}\n{}", self.name, self.log_tail());
    }

    fn said(&self, what: &str) -> &str {
        self.ready.get(what).unwrap_or_else(|| panic!("the ready line has no {what}"))
    }

    /// Its mesh address.
    pub fn mesh(&self) -> &str {
        self.said("mesh")
    }

    /// Its gateway address.
    pub fn http(&self) -> &str {
        self.said("http")
    }

    /// Its admin address.
    pub fn admin(&self) -> &str {
        self.said("admin")
    }

    /// Its context file.
    pub fn context(&self) -> PathBuf {
        PathBuf::from(self.said("context"))
    }

    /// The key in its context file.
    pub fn key(&self) -> String {
        let text = fs::read_to_string(self.context()).expect("a context file");
        let line = text.lines().find_map(|line| line.strip_prefix("key = ")).expect("a key in the context");
        line.trim_matches(['"', '\'']).to_owned()
    }

    /// Whether its process runs.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Whether it was started and not yet waited for.
    pub fn has_process(&self) -> bool {
        self.child.is_some()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("a running node").id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).expect("a process id")).expect("a process id");
        kill_process(pid, signal).expect("the node's process is there");
    }

    /// SIGKILL, and waits for its end.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("a running node");
        child.kill().expect("the node's process is there");
        child.wait().expect("its end");
    }

    /// SIGTERM, and waits for its end.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("a running node");
        until("the node's end", || child.try_wait().expect("its state"))
    }

    fn log_path(&self) -> PathBuf {
        self.home.join(format!("{}.log", self.name))
    }

    /// The whole of its log, over all its runs.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if thread::panicking() {
            eprintln!("--- the end of {}'s log\n{}", self.name, self.log_tail());
        }
    }
}

/// What takes root's privileges from the command behind it, since that is how nodes run in life: as an ordinary user, who
/// owns the files. Empty where the tests themselves have none, and where no tool takes them.
fn as_ordinary_user() -> &'static [&'static str] {
    const WITHOUT: [&str; 3] = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
    static WORDS: OnceLock<&[&str]> = OnceLock::new();
    WORDS.get_or_init(|| {
        let tried = Command::new(WITHOUT[0]).args(&WITHOUT[1..]).arg("true").stderr(Stdio::null()).status();
        if tried.is_ok_and(|status| status.success()) { &WITHOUT } else { &[] }
    })
}
