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

use crate::data_dir::write_private;

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
    pub(crate) mesh: Option<SocketAddr>,
    /// Address of the gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) http: Option<SocketAddr>,
    /// Address of the admin API and console.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) admin: Option<SocketAddr>,
    /// The address that others reach this node by, where it listens on all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) advertise: Option<IpAddr>,
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
    pub(crate) mesh: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) advertise: Option<IpAddr>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) memory: ByteSize,
    pub(crate) role: MemberRole,
    pub(crate) egress_ca: Option<PathBuf>,
    pub(crate) egress_private: bool,
    pub(crate) lame_duck: Duration,
    sources: BTreeMap<&'static str, Source>,
}

impl Settings {
    /// The settings in a file, or none if there is no such file and it `may_be_missing`.
    ///
    /// # Errors
    /// `bad-request` with the place in the file, `not-found`, or the system's error.
    pub(crate) fn load(path: &Path, may_be_missing: bool) -> Result<Self, Failure> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if may_be_missing && error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(crate::data_dir::io_failure("read", path, &error)),
        };
        toml::from_str(&text).map_err(|error| {
            let message = format!("{} is not a valid configuration: {}", path.display(), error.to_string().trim());
            Failure::not_executed(ErrorCode::BadRequest, message)
        })
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
        let labels = sources.iter().find(|(_, settings)| !settings.labels.is_empty());
        chosen.insert("labels", labels.map_or(Source::Default, |(source, _)| *source));
        Self {
            name: pick!(name, free_name),
            mesh: pick!(mesh, loopback(7070)),
            http: pick!(http, loopback(7080)),
            admin: pick!(admin, loopback(7090)),
            advertise: sources.iter().find_map(|(_, settings)| settings.advertise),
            labels: labels.map(|(_, settings)| settings.labels.clone()).unwrap_or_default(),
            memory: pick!(memory, ByteSize::gib(1)),
            role: pick!(role, MemberRole::Auto),
            egress_ca: sources.iter().find_map(|(_, settings)| settings.egress_ca.clone()),
            egress_private: pick!(egress_private, true),
            lame_duck: pick!(lame_duck, LAME_DUCK).min(LAME_DUCK_MAX),
            sources: chosen,
        }
    }

    /// The address that others are told for one this node listens on.
    ///
    /// # Errors
    /// `bad-request` when it listens on all addresses and was not told by which one it is reached.
    pub(crate) fn advertised(&self, bound: SocketAddr) -> Result<SocketAddr, Failure> {
        match self.advertise {
            Some(ip) => Ok(SocketAddr::new(ip, bound.port())),
            None if bound.ip().is_unspecified() => {
                let message = format!(
                    "{bound} means every address of this machine; add `--advertise IP` to tell the others which one reaches it"
                );
                Err(Failure::not_executed(ErrorCode::BadRequest, message))
            }
            None => Ok(bound),
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
            mesh: Some(self.mesh),
            http: Some(self.http),
            admin: Some(self.admin),
            advertise: self.advertise,
            labels: self.labels.clone(),
            memory: Some(self.memory),
            role: Some(self.role),
            egress_ca: self.egress_ca.clone(),
            egress_private: Some(self.egress_private),
            lame_duck: Some(self.lame_duck),
        };
        let text = toml::to_string(&settings).map_err(|error| {
            Failure::not_executed(ErrorCode::Internal, format!("settings have no text form: {error}"))
        })?;
        let text = format!("# Written by skein: what a restart without flags uses.\n{text}");
        if fs::read_to_string(path).is_ok_and(|present| present == text) {
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
            "labels": { "value": self.labels, "source": source("labels") },
            "memory": { "value": self.memory.as_u64(), "source": source("memory") },
            "role": { "value": self.role, "source": source("role") },
            "egress_private": { "value": self.egress_private, "source": source("egress_private") },
            "lame_duck": {
                "value": humantime::format_duration(self.lame_duck).to_string(),
                "source": source("lame_duck"),
            },
        })
    }
}

/// A balancer that asks every second whether the node is ready has heard twice that it is not.
const LAME_DUCK: Duration = Duration::from_secs(2);

/// Half of what a node may take to leave in all.
const LAME_DUCK_MAX: Duration = Duration::from_secs(10);

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

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
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
        assert_eq!(lame_duck("lame_duck = '1h'"), Duration::from_secs(10));
        assert!(toml::from_str::<Settings>("lame_duck = 'soon'").is_err());
        let written = toml::to_string(&settings("lame_duck = '1500ms'")).unwrap();
        assert_eq!(settings(&written).lame_duck, Some(Duration::from_millis(1_500)));
    }

    #[test]
    fn an_unknown_key_is_refused() {
        assert!(toml::from_str::<Settings>("htp = '127.0.0.1:1'").unwrap_err().to_string().contains("htp"));
    }

    #[test]
    fn listening_everywhere_needs_an_address_to_tell() {
        let all = settings("mesh = '0.0.0.0:7070'");
        let none = Settings::default();
        let config = NodeConfig::compose(&all, &none, &none, "n".parse().unwrap());
        assert_eq!(config.advertised(config.mesh).unwrap_err().code, ErrorCode::BadRequest);
        let told = Settings { advertise: Some([10, 0, 0, 1].into()), ..all };
        let config = NodeConfig::compose(&told, &none, &none, "n".parse().unwrap());
        assert_eq!(config.advertised(config.mesh).unwrap(), SocketAddr::from(([10, 0, 0, 1], 7070)));
    }
}
