//! The command line: what can be asked, and its help. What happens then is in `commands`.

mod app;

use std::{path::PathBuf, time::Duration};

use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand, ValueEnum};
use skein_catalog::MemberRole;
use skein_gateway::api::TOKEN_TTL_MAX;
use skein_proto::{AppName, FunctionRef, InvocationId, NodeName};
use skein_transport::{Address, AddressError};

pub(crate) use app::{App, Places};

use crate::{config::host_at, function_toml::parse_duration};

/// A peer-to-peer mesh for functions: publish once, call from anywhere by name.
#[derive(Debug, Parser)]
#[command(name = "skein", version, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Common {
    /// Context file: how to reach a mesh, and a key for it
    #[arg(long, global = true, env = "SKEIN_CONTEXT", value_name = "FILE")]
    pub(crate) context: Option<PathBuf>,
    /// Print one JSON document instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a node in the foreground: found a mesh, join one, or resume
    Up(Up),
    /// Three nodes on this machine, with the example functions, in one command
    Demo(Demo),
    /// Join tokens
    #[command(subcommand)]
    Token(Token),
    /// List the nodes: who is in, alive, leading, how loaded
    Nodes,
    /// Drain, resume or remove a node
    #[command(subcommand)]
    Node(Node),
    /// One page on the state of the mesh, with warnings and what to do
    Status,
    /// The nodes and the busiest functions, live; Ctrl-C ends it
    Top {
        /// Between two looks
        #[arg(long, default_value = "1s", value_parser = parse_duration)]
        every: Duration,
        /// One page only, after two looks
        #[arg(long)]
        once: bool,
    },
    /// Publish a function from a .wasm or .wat file, or a directory with function.toml
    Publish(Publish),
    /// Call a function
    Invoke(Invoke),
    /// List or search the functions
    Functions(Functions),
    /// Show, move or delete a function
    #[command(subcommand)]
    Function(Function),
    /// List a function's versions
    Versions {
        /// The function: [app/]name
        reference: FunctionRef,
    },
    /// Move an alias
    #[command(subcommand)]
    Alias(Alias),
    /// Return an alias to the version it pointed at before
    Rollback {
        #[arg(help = "The function and alias: [app/]name[:alias]")]
        reference: FunctionRef,
        /// Return to this version
        #[arg(long, value_name = "N")]
        to: Option<u64>,
    },
    /// Call a function once on this machine, with no mesh
    Run(Run),
    /// Apps: where their functions may run
    #[command(subcommand)]
    App(App),
    /// Say where a recent call went, why there, cold or warm, and where its time went
    Why {
        /// Its id, as `skein invoke -v` and the header `skein-invocation` show it
        #[arg(value_name = "INVOCATION")]
        invocation: InvocationId,
    },
    /// Keys for the entrances
    #[command(subcommand)]
    Key(Key),
    /// Say what an error code means and what to do
    Explain {
        /// The code, as in `code` of an error; none lists all
        code: Option<String>,
    },
    /// Show the effective configuration of the node behind the context, with its sources
    Config,
    /// Contexts: which mesh the commands talk to
    #[command(subcommand)]
    Context(Context),
    /// Compile one module for the node that started this process
    #[command(hide = true)]
    CompileWorker,
    /// Print a completion script
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Up {
    /// Data directory [default: the user's state directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Name of the node, unique in its mesh [default: node- and four random characters]
    #[arg(long)]
    pub(crate) name: Option<NodeName>,
    /// Mesh address (QUIC, UDP); port 0 picks a free one [default: 127.0.0.1:7070]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub(crate) mesh: Option<Address>,
    /// Gateway address; port 0 picks a free one [default: 127.0.0.1:7080]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub(crate) http: Option<Address>,
    /// Admin API and console address; port 0 picks a free one [default: 127.0.0.1:7090]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub(crate) admin: Option<Address>,
    /// Host, by name or IP address, that others reach this node by, if it listens on all
    #[arg(long, value_name = "HOST", value_parser = advertised_host)]
    pub(crate) advertise: Option<String>,
    /// Mesh address where a node of the mesh may be; may be repeated. To join it is asked before those in the token;
    /// with a used data directory it is a hint where peers may be
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub(crate) join: Vec<Address>,
    /// Join token, from `skein token create`
    #[arg(long, env = "SKEIN_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// Label that apps may be bound by; may be repeated
    #[arg(long = "label", value_name = "K=V", value_parser = key_value)]
    pub(crate) labels: Vec<(String, String)>,
    /// Memory the node may use, at least 128MiB [default: 1GiB]
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<ByteSize>,
    /// Whether the node may vote [default: auto]
    #[arg(long, value_enum)]
    pub(crate) role: Option<RoleArg>,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleArg {
    Voter,
    Worker,
    Auto,
}

impl From<RoleArg> for MemberRole {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Voter => Self::Voter,
            RoleArg::Worker => Self::Worker,
            RoleArg::Auto => Self::Auto,
        }
    }
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Demo {
    /// Directory of the examples
    #[arg(long, default_value = "examples", value_name = "DIR")]
    pub(crate) examples: PathBuf,
    /// Build only what needs nothing to be installed
    #[arg(long)]
    pub(crate) no_install: bool,
    /// Stop when everything was shown, instead of staying up
    #[arg(long)]
    pub(crate) once: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make a join token
    Create {
        /// How long it is good for, 7 days at most
        #[arg(long, default_value = "1h", value_parser = token_ttl)]
        ttl: Duration,
        /// Role of the nodes that come with it
        #[arg(long, value_enum)]
        role: Option<RoleArg>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Node {
    /// Take no new calls, finish the running ones, hand over leadership
    Drain {
        /// The node
        name: NodeName,
        /// Also if apps are left without a node, or code with too few copies
        #[arg(long)]
        force: bool,
    },
    /// Take calls again
    Resume {
        /// The node
        name: NodeName,
    },
    /// Take a node off the mesh for good
    Remove {
        /// The node
        name: NodeName,
        /// Also if code is left with too few copies, or none
        #[arg(long)]
        force: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// A .wasm or .wat file, or a directory with function.toml
    pub(crate) path: PathBuf,
    /// Publish under this name: [app/]name
    #[arg(long = "as", value_name = "REF", value_parser = whole_function)]
    pub(crate) reference: Option<FunctionRef>,
    /// Alias to move to the new version
    #[arg(long, default_value = "live")]
    pub(crate) alias: skein_proto::AliasName,
    /// Move no alias
    #[arg(long, conflicts_with = "alias")]
    pub(crate) no_alias: bool,
    /// A remark to keep with the version
    #[arg(long, default_value = "", value_name = "TEXT")]
    pub(crate) note: String,
    /// Return when it is committed, before the nodes serve it
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// How long to wait for the nodes
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    pub(crate) deadline: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct Invoke {
    #[arg(help = "The function: [app/]name[@version|:alias]")]
    pub(crate) reference: FunctionRef,
    /// The payload
    #[arg(short, long, value_name = "DATA")]
    pub(crate) data: Option<String>,
    /// A file with the payload; - for standard input
    #[arg(short, long, value_name = "FILE", conflicts_with = "data")]
    pub(crate) file: Option<PathBuf>,
    /// - takes the payload from standard input
    #[arg(value_parser = ["-"], conflicts_with_all = ["data", "file"])]
    pub(crate) stdin: Option<String>,
    /// A header for the function; may be repeated
    #[arg(short = 'H', long = "header", value_name = "K=V", value_parser = key_value)]
    pub(crate) headers: Vec<(String, String)>,
    /// How long to wait
    #[arg(long, value_parser = parse_duration)]
    pub(crate) deadline: Option<Duration>,
    /// Marks the call as safe to repeat
    #[arg(long, value_name = "K")]
    pub(crate) idempotency_key: Option<String>,
    /// Print where and how it ran, on stderr
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Functions {
    /// Words that the name, app, category, tags or description must contain
    pub(crate) query: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Function {
    /// Versions, aliases, limits
    Show {
        /// The function: [app/]name
        reference: FunctionRef,
    },
    /// Remove a function with all its versions
    Delete {
        /// The function: [app/]name
        #[arg(value_parser = whole_function)]
        reference: FunctionRef,
    },
    /// Move a live version from one node to another; no call fails
    Move {
        #[arg(help = "The function: [app/]name[@version|:alias]")]
        reference: FunctionRef,
        /// The node that it leaves
        #[arg(long, value_name = "NODE")]
        from: NodeName,
        /// The node that it goes to
        #[arg(long, value_name = "NODE")]
        to: NodeName,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Alias {
    /// Point an alias at a version
    Set {
        /// The function and alias: [app/]name:alias
        reference: FunctionRef,
        /// The version
        #[arg(value_name = "VERSION")]
        number: u64,
        /// Refuse unless it points at this version now
        #[arg(long, value_name = "N")]
        expected: Option<u64>,
    },
}

/// A directory of this machine that a function is run with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SharedDir {
    pub(crate) host: PathBuf,
    pub(crate) guest: String,
    pub(crate) is_read_only: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// A .wasm or .wat file, or a directory with function.toml
    pub(crate) path: PathBuf,
    /// The payload [default: standard input, if it is no terminal]
    #[arg(short, long, value_name = "DATA")]
    pub(crate) data: Option<String>,
    /// A file with the payload; - for standard input
    #[arg(short, long, value_name = "FILE", conflicts_with = "data")]
    pub(crate) file: Option<PathBuf>,
    /// An environment variable for the function; may be repeated
    #[arg(long = "env", value_name = "K=V", value_parser = key_value)]
    pub(crate) env: Vec<(String, String)>,
    /// A directory of this machine for the function, by the name it has there; `:ro` lets it only read; may be repeated
    #[arg(long = "dir", value_name = "HOST::GUEST[:ro]", value_parser = directory)]
    pub(crate) dirs: Vec<SharedDir>,
    /// How long it may run
    #[arg(long, value_parser = parse_duration)]
    pub(crate) deadline: Option<Duration>,
    /// Arguments for the function
    #[arg(last = true)]
    pub(crate) args: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Make a key; its secret is shown once
    Create {
        /// What it allows; each role includes the ones before
        #[arg(long, value_enum, default_value = "invoke")]
        role: KeyRole,
        /// The app it is good for [default: all]
        #[arg(long)]
        app: Option<AppName>,
        /// How long it is good for [default: until revoked]
        #[arg(long, value_parser = ttl)]
        ttl: Option<Duration>,
        /// A remark to keep with it
        #[arg(long, default_value = "")]
        note: String,
    },
    /// List the keys
    Ls,
    /// Make a key worthless
    Revoke {
        /// Its id
        id: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum KeyRole {
    Invoke,
    Read,
    Publish,
    Admin,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Context {
    /// List the contexts; the current one is marked
    Ls,
    /// Make a context the current one
    Use {
        /// Its name
        name: String,
    },
    /// Copy a context file into the user's configuration
    Add {
        /// The name to give it
        name: String,
        /// The file, as `skein up` writes it
        file: PathBuf,
    },
    /// Forget a context; a node's own file stays
    Rm {
        /// Its name
        name: String,
    },
}

/// A function as a whole: who names a version or an alias means less than what would happen.
fn whole_function(text: &str) -> Result<FunctionRef, String> {
    let reference: FunctionRef = text.parse().map_err(|error| format!("{error}"))?;
    if text.contains(['@', ':']) {
        return Err(format!("name the whole function, as in `{}`: no version and no alias", reference.function()));
    }
    Ok(reference)
}

fn address(text: &str) -> Result<Address, String> {
    text.parse().map_err(|error: AddressError| error.to_string())
}

/// How long something lasts, which is counted in milliseconds.
fn ttl(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        ttl if ttl.as_millis() == 0 => Err("it must be at least 1ms".to_owned()),
        ttl => Ok(ttl),
    }
}

fn token_ttl(text: &str) -> Result<Duration, String> {
    match ttl(text)? {
        ttl if ttl > TOKEN_TTL_MAX => Err(format!("it must be at most {}", humantime::format_duration(TOKEN_TTL_MAX))),
        ttl => Ok(ttl),
    }
}

fn advertised_host(text: &str) -> Result<String, String> {
    match host_at(text, 1) {
        Some(_) => Ok(text.to_owned()),
        None => Err("expected a host without a port, as in skein-0.example, 10.0.0.1 or ::1".to_owned()),
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

/// `HOST::GUEST`, or `HOST` for the same name on both sides; each may end in `:ro`.
fn directory(text: &str) -> Result<SharedDir, String> {
    let (names, is_read_only) = text.strip_suffix(":ro").map_or((text, false), |names| (names, true));
    let (host, guest) = names.split_once("::").unwrap_or((names, names));
    if host.is_empty() || guest.is_empty() {
        return Err("expected HOST::GUEST or HOST::GUEST:ro, as in ./data::/data:ro".to_owned());
    }
    Ok(SharedDir { host: host.into(), guest: guest.to_owned(), is_read_only })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_concerns_a_whole_function_takes_no_version_and_no_alias() {
        assert!(whole_function("shop/price").is_ok());
        for reference in ["price@1", "shop/price:beta", "price:live"] {
            assert!(whole_function(reference).unwrap_err().contains("whole function"), "{reference}");
        }
    }

    #[test]
    fn how_long_a_token_or_a_key_is_good_for_is_refused_by_the_flag_that_says_it() {
        let refused = |args: &[&str], says: &str| {
            let error = Cli::try_parse_from(args).unwrap_err().to_string();
            assert!(error.contains("--ttl") && error.contains(says), "{error}");
        };
        refused(&["skein", "token", "create", "--ttl", "0s"], "at least 1ms");
        refused(&["skein", "token", "create", "--ttl", "8d"], "at most 7days");
        refused(&["skein", "key", "create", "--ttl", "10us"], "at least 1ms");
        Cli::try_parse_from(["skein", "token", "create", "--ttl", "7d"]).unwrap();
        Cli::try_parse_from(["skein", "key", "create", "--ttl", "30d"]).unwrap();
    }

    #[test]
    fn directories_have_a_name_on_each_side() {
        let dir = |host: &str, guest: &str, is_read_only| {
            Ok(SharedDir { host: host.into(), guest: guest.to_owned(), is_read_only })
        };
        assert_eq!(directory("./data::/data"), dir("./data", "/data", false));
        assert_eq!(directory("./data::/data:ro"), dir("./data", "/data", true));
        assert_eq!(directory("/tmp"), dir("/tmp", "/tmp", false));
        assert_eq!(directory("/tmp:ro"), dir("/tmp", "/tmp", true));
        for text in ["", "::", "a::", "::b", ":ro"] {
            assert!(directory(text).is_err(), "{text}");
        }
    }
}
