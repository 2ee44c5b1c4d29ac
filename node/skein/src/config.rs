//! What a node is told: from flags, a file, what it remembers, or defaults, in this order.

use std::{
    collections::BTreeMap,
    fs, io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};
use skein_catalog::MemberRole;
use skein_proto::{ErrorCode, Failure, NodeName};
use skein_transport::Address;

use crate::data_dir::{io_failure, write_private};

/// Settings as one source gives them: any may be missing. The form of `--config FILE` and of the `node.toml` in which
/// a node remembers what it was started with.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// The node's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<NodeName>,
    /// Address of the mesh port (QUIC, UDP).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mesh: Option<Address>,
    /// Address of the gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) http: Option<Address>,
    /// Address of the admin API and console.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) admin: Option<Address>,
    /// The host, by name or IP address, that others reach this node by, where it listens on all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) advertise: Option<String>,
    /// Labels for placement.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    /// Memory the node may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Option<ByteSize>,
    /// Whether it may vote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<MemberRole>,
    /// A PEM file of authorities that functions' HTTPS requests trust, besides the built-in ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) egress_ca: Option<PathBuf>,
    /// Whether functions may reach private addresses whose hosts their grants name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) egress_private: Option<bool>,
    /// How long a node that leaves goes on taking calls while it says that it is not ready, as `2s`.
    #[serde(skip_serializing_if = "Option::is_none", default, with = "duration_text")]
    pub(crate) lame_duck: Option<Duration>,
    /// Milliseconds that a node which resumes waits for its peers before it serves by what it has. 5,000: an election, and
    /// the dials before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) catch_up_ms: Option<u64>,
}

/// Where a setting came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Source {
    Flag,
    File,
    Remembered,
    Default,
}

/// The effective configuration of a node.
#[derive(Debug, Clone)]
pub(crate) struct NodeConfig {
    pub(crate) name: NodeName,
    pub(crate) mesh: Address,
    pub(crate) http: Address,
    pub(crate) admin: Address,
    pub(crate) advertise: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) memory: ByteSize,
    pub(crate) role: MemberRole,
    pub(crate) egress_ca: Option<PathBuf>,
    pub(crate) egress_private: bool,
    pub(crate) lame_duck: Duration,
    /// How long a node that resumes waits until it is as far as its peers and reached by them, before it serves what it
    /// has. Longer keeps a node without a majority silent for longer, shorter has one serve what the mesh has overruled.
    pub(crate) catch_up: Duration,
    sources: BTreeMap<&'static str, Source>,
}

impl Settings {
    /// The settings in a file that the user wrote.
    ///
    /// # Errors
    /// `bad-request` with the place in the file, `not-found`, or the system's error.
    pub(crate) fn load(path: &Path) -> Result<Self, Failure> {
        let bytes = fs::read(path).map_err(|error| io_failure("read", path, &error))?;
        Self::parse(bytes).map_err(|error| {
            let message = format!("{} is not a valid configuration: {error}", path.display());
            Failure::not_executed(ErrorCode::BadRequest, message)
        })
    }

    /// What a node wrote down at its last start; nothing before the first.
    ///
    /// # Errors
    /// `corrupt-store` for a file that no node wrote so, with the way on; or the system's error.
    pub(crate) fn remembered(path: &Path) -> Result<Self, Failure> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(io_failure("read", path, &error)),
        };
        Self::parse(bytes).map_err(|error| {
            let message = format!(
                "{} is damaged: {error}. It holds only what the node was started with: move it away and start the node \
                 with its flags again",
                path.display()
            );
            Failure::not_executed(ErrorCode::CorruptStore, message)
        })
    }

    fn parse(bytes: Vec<u8>) -> Result<Self, String> {
        let text = String::from_utf8(bytes).map_err(|error| format!("it is not text: {error}"))?;
        toml::from_str(&text).map_err(|error| error.to_string().trim().to_owned())
    }
}

impl NodeConfig {
    /// Composes the sources; each is asked in turn for each setting.
    pub(crate) fn compose(flags: &Settings, file: &Settings, remembered: &Settings, free_name: NodeName) -> Self {
        let sources = [(Source::Flag, flags), (Source::File, file), (Source::Remembered, remembered)];
        let mut chosen = BTreeMap::new();
        macro_rules! pick {
            ($field:ident, $default:expr) => {{
                let found = sources.iter().find_map(|(source, settings)| Some((*source, settings.$field.clone()?)));
                let (source, value) = found.unwrap_or_else(|| (Source::Default, $default));
                chosen.insert(stringify!($field), source);
                value
            }};
        }
        macro_rules! pick_optional {
            ($field:ident) => {{
                let found = sources.iter().find_map(|(source, settings)| Some((*source, settings.$field.clone()?)));
                chosen.insert(stringify!($field), found.as_ref().map_or(Source::Default, |(source, _)| *source));
                found.map(|(_, value)| value)
            }};
        }
        let labels = sources.iter().find(|(_, settings)| !settings.labels.is_empty());
        chosen.insert("labels", labels.map_or(Source::Default, |(source, _)| *source));
        Self {
            name: pick!(name, free_name),
            mesh: pick!(mesh, loopback(7070)),
            http: pick!(http, loopback(7080)),
            admin: pick!(admin, loopback(7090)),
            advertise: pick_optional!(advertise),
            labels: labels.map(|(_, settings)| settings.labels.clone()).unwrap_or_default(),
            memory: pick!(memory, ByteSize::gib(1)),
            role: pick!(role, MemberRole::Auto),
            egress_ca: pick_optional!(egress_ca),
            egress_private: pick!(egress_private, true),
            lame_duck: pick!(lame_duck, LAME_DUCK),
            catch_up: Duration::from_millis(pick!(catch_up_ms, 5_000)),
            sources: chosen,
        }
    }

    /// Whether the numbers are such that a node can live by them. What an earlier run remembers nobody asked for now: it is
    /// brought within its bound.
    ///
    /// # Errors
    /// `bad-request` with the bound and how it is written.
    pub(crate) fn check(&mut self) -> Result<(), Failure> {
        let refuse = |message: String| Err(Failure::not_executed(ErrorCode::BadRequest, message));
        if self.memory < MEMORY_LEAST && self.sources.get("memory") == Some(&Source::Remembered) {
            tracing::warn!(remembered = %self.memory, least = %MEMORY_LEAST, "a node needs more memory: takes the least");
            self.memory = MEMORY_LEAST;
        }
        if self.lame_duck > LAME_DUCK_MAX && self.sources.get("lame_duck") == Some(&Source::Remembered) {
            tracing::warn!(remembered = ?self.lame_duck, most = ?LAME_DUCK_MAX, "lame_duck is bounded: takes the most");
            self.lame_duck = LAME_DUCK_MAX;
        }
        if self.memory < MEMORY_LEAST {
            return refuse(format!(
                "memory is {}; a node needs at least {MEMORY_LEAST}. A size has a unit, as in `--memory 512MiB` or `2GiB`: \
                 a number alone counts bytes",
                self.memory
            ));
        }
        if self.lame_duck > LAME_DUCK_MAX {
            let [most, given] = [LAME_DUCK_MAX, self.lame_duck].map(humantime::format_duration);
            return refuse(format!(
                "lame_duck is {given}; it may be at most {most}, half of what a node may take to leave"
            ));
        }
        Ok(())
    }

    /// Takes over the name and the role that the node has in its mesh, which are for good, refused or not.
    ///
    /// # Errors
    /// `conflict` where this start asks for others.
    pub(crate) fn keep_to(&mut self, name: &NodeName, role: MemberRole) -> Result<(), Failure> {
        let [by_name, by_role] = ["name", "role"].map(|setting| self.asked_by(setting));
        let refuse = |asked: &str, wanted: &dyn std::fmt::Display, has: &dyn std::fmt::Display| {
            Err(Failure::not_executed(
                ErrorCode::Conflict,
                format!(
                    "{asked} is `{wanted}`, and this node is in its mesh with `{has}` for good: leave it out; to change it, \
                     run `skein node remove {name}` and let the node join anew with an empty data directory"
                ),
            ))
        };
        let is_other_role = self.role != role;
        let refused = match (by_name, by_role) {
            (Some(asked), _) if self.name != *name => refuse(asked, &self.name, name),
            // `auto` asks for none, so that one command line serves a node's first start and all others.
            (_, Some(asked)) if self.role != MemberRole::Auto && is_other_role => {
                refuse(asked, &role_text(self.role), &role_text(role))
            }
            _ => Ok(()),
        };
        // Refused or not: what is written down is what it has.
        if self.name != *name {
            self.name = name.clone();
            self.sources.insert("name", Source::Remembered);
        }
        if is_other_role {
            self.role = role;
            self.sources.insert("role", Source::Remembered);
        }
        refused
    }

    /// How this start asks for a setting, if it does.
    fn asked_by(&self, setting: &'static str) -> Option<&'static str> {
        match (self.sources.get(setting)?, setting) {
            (Source::Flag, "name") => Some("--name"),
            (Source::Flag, "role") => Some("--role"),
            (Source::File, "name") => Some("`name` in the configuration file"),
            (Source::File, "role") => Some("`role` in the configuration file"),
            _ => None,
        }
    }

    /// The address that others are told for one this node listens on.
    ///
    /// # Errors
    /// `bad-request` when it listens on all addresses and was not told by which one it is reached.
    pub(crate) fn advertised(&self, bound: &Address) -> Result<Address, Failure> {
        let refuse = |message: String| Err(Failure::not_executed(ErrorCode::BadRequest, message));
        match &self.advertise {
            Some(host) => match host_at(host, bound.port()) {
                Some(address) => Ok(address),
                None => refuse(format!("`{host}` cannot be advertised: it is no host name and no IP address")),
            },
            None if bound.ip().is_some_and(|ip| ip.is_unspecified()) => refuse(format!(
                "{bound} means every address of this machine; add `--advertise HOST` to tell the others which one \
                 reaches it"
            )),
            None => Ok(bound.clone()),
        }
    }

    /// Writes down what this run uses, with the ports it was really given, so that a restart needs no flag. A file that
    /// says so already is left alone: a node starts on a full disk.
    ///
    /// # Errors
    /// `disk-full` or `internal`. The node can serve all the same; a restart would then need the flags of this one.
    pub(crate) fn remember(&self, path: &Path) -> Result<(), Failure> {
        let settings = Settings {
            name: Some(self.name.clone()),
            mesh: Some(self.mesh.clone()),
            http: Some(self.http.clone()),
            admin: Some(self.admin.clone()),
            advertise: self.advertise.clone(),
            labels: self.labels.clone(),
            memory: Some(self.memory),
            role: Some(self.role),
            egress_ca: self.egress_ca.clone(),
            egress_private: Some(self.egress_private),
            lame_duck: Some(self.lame_duck),
            catch_up_ms: u64::try_from(self.catch_up.as_millis()).ok(),
        };
        let text = toml::to_string(&settings).map_err(|error| {
            Failure::not_executed(ErrorCode::Internal, format!("settings have no text form: {error}"))
        })?;
        let text = format!("# Written by skein: what a restart without flags uses.\n{text}");
        if fs::read(path).is_ok_and(|present| present == text.as_bytes()) {
            return Ok(());
        }
        write_private(path, text.as_bytes())
    }

    /// The effective settings with their sources, as `skein config` shows them.
    pub(crate) fn describe(&self) -> serde_json::Value {
        let source = |field: &str| self.sources.get(field).copied().unwrap_or(Source::Default);
        serde_json::json!({
            "name": { "value": self.name, "source": source("name") },
            "mesh": { "value": self.mesh, "source": source("mesh") },
            "http": { "value": self.http, "source": source("http") },
            "admin": { "value": self.admin, "source": source("admin") },
            "advertise": { "value": self.advertise, "source": source("advertise") },
            "labels": { "value": self.labels, "source": source("labels") },
            "memory": { "value": self.memory.as_u64(), "source": source("memory") },
            "role": { "value": self.role, "source": source("role") },
            "egress_ca": { "value": self.egress_ca, "source": source("egress_ca") },
            "egress_private": { "value": self.egress_private, "source": source("egress_private") },
            "lame_duck": {
                "value": humantime::format_duration(self.lame_duck).to_string(),
                "source": source("lame_duck"),
            },
            "catch_up_ms": { "value": self.catch_up.as_millis() as u64, "source": source("catch_up_ms") },
        })
    }
}

/// A balancer that asks every second whether the node is ready has heard twice that it is not.
const LAME_DUCK: Duration = Duration::from_secs(2);

/// Half of what a node may take to leave in all.
const LAME_DUCK_MAX: Duration = Duration::from_secs(10);

/// With less, nothing that a function asks for finds room beside what a node holds when nobody calls it: about half of this.
const MEMORY_LEAST: ByteSize = ByteSize::mib(128);

/// A role as the command line and the configuration file have it.
pub(crate) fn role_text(role: MemberRole) -> &'static str {
    match role {
        MemberRole::Voter => "voter",
        MemberRole::Worker => "worker",
        MemberRole::Auto => "auto",
    }
}

/// Durations as people write them.
mod duration_text {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use crate::function_toml::parse_duration;

    pub(super) fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => serializer.collect_str(&humantime::format_duration(*duration)),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        parse_duration(&String::deserialize(deserializer)?).map(Some).map_err(D::Error::custom)
    }
}

fn loopback(port: u16) -> Address {
    SocketAddr::from(([127, 0, 0, 1], port)).into()
}

/// A host, by name or by a bare IP address of either kind, at a port.
pub(crate) fn host_at(host: &str, port: u16) -> Option<Address> {
    match host.parse::<IpAddr>() {
        Ok(ip) => Some(SocketAddr::new(ip, port).into()),
        Err(_) => format!("{host}:{port}").parse().ok(),
    }
}

/// Where data goes unless `--data` says otherwise: the user's state directory (XDG base directory specification).
pub(crate) fn default_data_dir() -> PathBuf {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    state.unwrap_or_else(|| home().join(".local/state")).join("skein")
}

/// Where contexts are kept: the user's configuration directory (XDG base directory specification).
pub(crate) fn default_config_dir() -> PathBuf {
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    config.unwrap_or_else(|| home().join(".config")).join("skein")
}

fn home() -> PathBuf {
    std::env::var_os("HOME").map_or_else(|| PathBuf::from("."), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Settings {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_what_is_remembered() {
        let flags = settings("http = '127.0.0.1:1'");
        let file = settings("http = '127.0.0.1:2'\nadmin = '127.0.0.1:2'");
        let remembered = settings("http = '127.0.0.1:3'\nadmin = '127.0.0.1:3'\nmesh = '127.0.0.1:3'");
        let config = NodeConfig::compose(&flags, &file, &remembered, "free".parse().unwrap());
        assert_eq!([config.http.port(), config.admin.port(), config.mesh.port()], [1, 2, 3]);
        assert_eq!(config.describe()["admin"]["source"], "file");
        assert_eq!(config.describe()["name"]["source"], "default");
    }

    #[test]
    fn every_setting_that_is_remembered_is_shown_with_its_source() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.toml");
        let (none, name): (_, NodeName) = (Settings::default(), "n".parse().unwrap());
        let flags = settings("advertise = 'n1.example'\negress_ca = '/ca.pem'\nlabels = { zone = 'a' }");
        let config = NodeConfig::compose(&flags, &none, &none, name.clone());
        config.remember(&path).unwrap();
        let (remembered, shown) = (fs::read_to_string(&path).unwrap(), config.describe());
        for key in toml::from_str::<toml::Table>(&remembered).unwrap().keys() {
            assert!(!shown[key]["value"].is_null() && shown[key]["source"].is_string(), "{key}: {shown}");
        }
        assert_eq!(
            (&shown["egress_ca"]["source"], &shown["advertise"]["value"]),
            (&"flag".into(), &"n1.example".into())
        );
        let plain = NodeConfig::compose(&none, &none, &none, name).describe();
        assert_eq!(plain["advertise"], serde_json::json!({ "value": null, "source": "default" }));
    }

    #[test]
    fn what_is_remembered_already_is_not_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.toml");
        let none = Settings::default();
        let mut config = NodeConfig::compose(&none, &none, &none, "n".parse().unwrap());
        config.remember(&path).unwrap();
        // With a directory where the new file would first be written, every writing fails.
        fs::create_dir(path.with_extension("tmp")).unwrap();
        config.remember(&path).unwrap();
        config.mesh = loopback(7071);
        config.remember(&path).unwrap_err();
    }

    #[test]
    fn the_lame_ducks_time_is_written_as_people_do_and_is_bounded() {
        let none = Settings::default();
        let lame_duck = |file: &str| NodeConfig::compose(&none, &settings(file), &none, "n".parse().unwrap()).lame_duck;
        assert_eq!(lame_duck(""), Duration::from_secs(2));
        assert_eq!(lame_duck("lame_duck = '250ms'"), Duration::from_millis(250));
        assert!(toml::from_str::<Settings>("lame_duck = 'soon'").is_err());
        let written = toml::to_string(&settings("lame_duck = '1500ms'")).unwrap();
        assert_eq!(settings(&written).lame_duck, Some(Duration::from_millis(1_500)));
    }

    #[test]
    fn numbers_that_no_node_can_live_by_are_refused_with_their_bound() {
        let none = Settings::default();
        let check = |file: &str, bound: &str| {
            let mut config = NodeConfig::compose(&none, &settings(file), &none, "n".parse().unwrap());
            match config.check() {
                Ok(()) => assert_eq!(bound, "", "{file}"),
                Err(failure) => {
                    assert_eq!(failure.code, ErrorCode::BadRequest);
                    assert!(!bound.is_empty() && failure.message.contains(bound), "{file}: {failure}");
                }
            }
        };
        check("", "");
        check("lame_duck = '10s'", "");
        check("lame_duck = '30s'", "lame_duck is 30s; it may be at most 10s");
        check("memory = '128MiB'", "");
        check("memory = 1", "memory is 1 B; a node needs at least 128.0 MiB");
        check("memory = '1GB'", "");
        check("memory = '127MiB'", "`--memory 512MiB`");
    }

    #[test]
    fn what_an_earlier_run_remembers_is_brought_within_the_bounds_of_now() {
        let (none, remembered) = (Settings::default(), settings("memory = '112MiB'\nlame_duck = '30s'"));
        let mut config = NodeConfig::compose(&none, &none, &remembered, "n".parse().unwrap());
        config.check().unwrap();
        assert_eq!((config.memory, config.lame_duck), (MEMORY_LEAST, LAME_DUCK_MAX));
    }

    #[test]
    fn name_and_role_are_those_that_the_node_has_in_its_mesh() {
        let none = Settings::default();
        let (name, worker): (NodeName, _) = ("n1".parse().unwrap(), MemberRole::Worker);
        let kept = |flags: &str, file: &str, remembered: &str| {
            let (flags, file, remembered) = (settings(flags), settings(file), settings(remembered));
            let mut config = NodeConfig::compose(&flags, &file, &remembered, "free".parse().unwrap());
            config.keep_to(&name, worker).map(|()| config)
        };
        for (flags, file) in [
            ("", ""),
            ("name = 'n1'\nrole = 'worker'", ""),
            ("", "name = 'n1'"),
            ("role = 'auto'", ""),
            ("", "role = 'auto'"),
        ] {
            let config = kept(flags, file, "name = 'typo'\nrole = 'auto'").unwrap();
            assert_eq!((&config.name, config.role), (&name, worker), "{flags} {file}");
        }
        for (flags, file, asked) in [
            ("name = 'x'", "", "--name is `x`"),
            ("", "name = 'x'", "`name` in the configuration file is `x`"),
            ("name = 'n1'\nrole = 'voter'", "", "--role is `voter`, and this node is in its mesh with `worker`"),
            ("", "role = 'voter'", "`role` in the configuration file is `voter`"),
        ] {
            let failure = kept(flags, file, "name = 'n1'\nrole = 'worker'").unwrap_err();
            assert_eq!(failure.code, ErrorCode::Conflict);
            assert!(failure.message.contains(asked), "{failure}");
            assert!(failure.message.contains("skein node remove n1"), "{failure}");
        }
        let mut fresh = NodeConfig::compose(&none, &none, &none, "free".parse().unwrap());
        fresh.keep_to(&name, worker).unwrap();
        assert_eq!(fresh.describe()["name"]["source"], "remembered");
    }

    #[test]
    fn an_unknown_key_is_refused() {
        assert!(toml::from_str::<Settings>("htp = '127.0.0.1:1'").unwrap_err().to_string().contains("htp"));
    }

    #[test]
    fn listening_everywhere_needs_an_address_to_tell() {
        let all = settings("mesh = '0.0.0.0:7070'");
        let at = |config: &NodeConfig| config.advertised(&config.mesh).map(|address| address.to_string());
        let none = Settings::default();
        let config = NodeConfig::compose(&all, &none, &none, "n".parse().unwrap());
        assert_eq!(at(&config).unwrap_err().code, ErrorCode::BadRequest);
        for (host, address) in [("10.0.0.1", "10.0.0.1:7070"), ("::1", "[::1]:7070"), ("n1.example", "n1.example:7070")]
        {
            let told = Settings { advertise: Some(host.to_owned()), ..all.clone() };
            let config = NodeConfig::compose(&told, &none, &none, "n".parse().unwrap());
            assert_eq!(at(&config).unwrap(), address);
        }
        let wrong = Settings { advertise: Some("a b".to_owned()), ..all };
        let config = NodeConfig::compose(&wrong, &none, &none, "n".parse().unwrap());
        assert_eq!(at(&config).unwrap_err().code, ErrorCode::BadRequest);
    }

    #[test]
    fn what_a_node_wrote_down_is_found_damaged_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.toml");
        assert_eq!(Settings::remembered(&path).unwrap(), Settings::default());
        for damage in [&b"http = '127.0.0.1:1'\n\x01"[..], b"\xff", b"htp = '127.0.0.1:1'"] {
            fs::write(&path, damage).unwrap();
            let failure = Settings::remembered(&path).unwrap_err();
            assert_eq!(failure.code, ErrorCode::CorruptStore);
            assert!(failure.message.contains("node.toml is damaged"), "{}", failure.message);
            assert_eq!(
                Settings::load(&path).unwrap_err().code,
                ErrorCode::BadRequest,
                "the user's own file is the user's"
            );
        }
    }
}
