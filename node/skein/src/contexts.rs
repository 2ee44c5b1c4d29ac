//! Which mesh the commands talk to: the contexts under the user's configuration directory.
//!
//! A context that `skein up` wrote is linked, not copied: the node keeps its file up to date.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Serialize;
use skein_client::Context;
use skein_proto::{ErrorCode, Failure};

use crate::{
    config::default_config_dir,
    data_dir::{io_failure, write_private},
};

/// The contexts of one user.
pub(crate) struct Contexts {
    dir: PathBuf,
}

/// A context in a listing.
#[derive(Debug, Serialize)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) is_current: bool,
    pub(crate) mesh: String,
    pub(crate) nodes: Vec<String>,
}

impl Contexts {
    pub(crate) fn of_user() -> Self {
        Self { dir: default_config_dir() }
    }

    /// The context to use: the file given (by flag or environment), else the current one.
    ///
    /// # Errors
    /// `bad-request` if there is none, or the file's own failure.
    pub(crate) fn load(&self, given: Option<&Path>) -> Result<Context, Failure> {
        let path = match given {
            Some(path) => path.to_owned(),
            None => self.path(&self.current().ok_or_else(|| {
                let message = "no context: name the file that `skein up` printed, by --context or SKEIN_CONTEXT, or choose one with `skein context use`";
                Failure::not_executed(ErrorCode::BadRequest, message)
            })?),
        };
        Ok(Context::load(&path)?)
    }

    /// All contexts that can be read, by name.
    pub(crate) fn list(&self) -> Vec<Listed> {
        let current = self.current();
        let mut names: Vec<String> = fs::read_dir(self.dir.join("contexts"))
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_suffix(".toml")?.to_owned()))
            .collect();
        names.sort();
        let listed = names.into_iter().filter_map(|name| {
            let context = Context::load(self.path(&name)).ok()?;
            Some(Listed {
                is_current: current.as_ref() == Some(&name),
                mesh: context.mesh.to_string(),
                nodes: context.nodes.iter().map(|node| node.mesh.to_string()).collect(),
                name,
            })
        });
        listed.collect()
    }

    /// Makes a context the current one.
    ///
    /// # Errors
    /// `not-found` with the known names.
    pub(crate) fn choose(&self, name: &str) -> Result<(), Failure> {
        let known: Vec<String> = self.list().into_iter().map(|listed| listed.name).collect();
        if !known.iter().any(|known| known == name) {
            let message = format!("no context `{name}`; there are: {}", known.join(", "));
            return Err(Failure::not_executed(ErrorCode::NotFound, message));
        }
        write_private(&self.dir.join("current"), name.as_bytes())
    }

    /// Copies a context file, under a name.
    ///
    /// # Errors
    /// What is wrong with the file, or with writing the copy.
    pub(crate) fn add(&self, name: &str, file: &Path) -> Result<(), Failure> {
        check_name(name)?;
        let context = Context::load(file)?;
        let path = self.prepare(name)?;
        Ok(context.save(&path)?)
    }

    /// Links the context of a node on this machine, and makes it the current one if there is none. Best effort: a node
    /// runs as well for a user without a home.
    pub(crate) fn link(&self, name: &str, file: &Path) -> Result<(), Failure> {
        let path = self.prepare(name)?;
        std::os::unix::fs::symlink(file, &path).map_err(|error| io_failure("link", &path, &error))?;
        match self.current() {
            Some(_) => Ok(()),
            None => write_private(&self.dir.join("current"), name.as_bytes()),
        }
    }

    fn prepare(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = self.path(name);
        let dir = self.dir.join("contexts");
        fs::create_dir_all(&dir).map_err(|error| io_failure("create", &dir, &error))?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_failure("replace", &path, &error)),
            _ => Ok(path),
        }
    }

    /// The current context's name, if its file is still there.
    fn current(&self) -> Option<String> {
        let name = fs::read_to_string(self.dir.join("current")).ok()?.trim().to_owned();
        self.path(&name).exists().then_some(name)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join("contexts").join(format!("{name}.toml"))
    }
}

fn check_name(name: &str) -> Result<(), Failure> {
    let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if is_plain && !name.is_empty() {
        return Ok(());
    }
    let message = format!("`{name}` is not a context name: use letters, digits, `-` and `_`");
    Err(Failure::not_executed(ErrorCode::BadRequest, message))
}
