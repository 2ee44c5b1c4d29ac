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
        let listed = self.names().into_iter().filter_map(|name| {
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

    /// The names of all contexts, also of those that cannot be read.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.dir.join("contexts"))
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_suffix(".toml")?.to_owned()))
            .collect();
        names.sort();
        names
    }

    /// The contexts of the same mesh that hold another key than this one, and a good one.
    pub(crate) fn with_another_key(&self, context: &Context, is_good: impl Fn(&str) -> bool) -> Vec<String> {
        let is_other = |name: &String| {
            let other = Context::load(self.path(name));
            other.is_ok_and(|other| other.mesh == context.mesh && other.key != context.key && is_good(&other.key))
        };
        self.names().into_iter().filter(is_other).collect()
    }

    /// Makes a context the current one.
    ///
    /// # Errors
    /// `not-found` with the known names.
    pub(crate) fn choose(&self, name: &str) -> Result<(), Failure> {
        let known: Vec<String> = self.list().into_iter().map(|listed| listed.name).collect();
        if !known.iter().any(|known| known == name) {
            return Err(unknown(name, &known));
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

    /// Forgets a context, and says whether it was the current one; then there is none. What was linked stays where it is.
    ///
    /// # Errors
    /// `not-found` with the known names, or the system's failure.
    pub(crate) fn remove(&self, name: &str) -> Result<bool, Failure> {
        let known = self.names();
        if !known.iter().any(|known| known == name) {
            return Err(unknown(name, &known));
        }
        let remove = |path: &Path| match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_failure("remove", path, &error)),
            _ => Ok(()),
        };
        let is_current = self.chosen().as_deref() == Some(name);
        if is_current {
            remove(&self.dir.join("current"))?;
        }
        remove(&self.path(name))?;
        Ok(is_current)
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
        self.chosen().filter(|name| self.path(name).exists())
    }

    fn chosen(&self) -> Option<String> {
        Some(fs::read_to_string(self.dir.join("current")).ok()?.trim().to_owned())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join("contexts").join(format!("{name}.toml"))
    }
}

fn unknown(name: &str, known: &[String]) -> Failure {
    let there = if known.is_empty() { "there are none".to_owned() } else { format!("there are: {}", known.join(", ")) };
    Failure::not_executed(ErrorCode::NotFound, format!("no context `{name}`; {there}"))
}

fn check_name(name: &str) -> Result<(), Failure> {
    let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if is_plain && !name.is_empty() {
        return Ok(());
    }
    let message = format!("`{name}` is not a context name: use letters, digits, `-` and `_`");
    Err(Failure::not_executed(ErrorCode::BadRequest, message))
}

#[cfg(test)]
mod tests {
    use skein_client::ContextNode;

    use super::*;

    /// A context file of a mesh, with a key.
    fn file(dir: &Path, mesh: &str, key: &str) -> PathBuf {
        let addr = || "127.0.0.1:1".to_owned();
        let nodes = vec![ContextNode { name: key.to_owned(), mesh: addr(), http: addr(), admin: addr() }];
        let path = dir.join(format!("{mesh}-{key}"));
        Context { mesh: mesh.to_owned(), ca: String::new(), key: key.to_owned(), nodes }.save(&path).unwrap();
        path
    }

    #[test]
    fn a_context_that_is_removed_is_forgotten_and_what_it_was_linked_to_stays() {
        let home = tempfile::tempdir().unwrap();
        let contexts = Contexts { dir: home.path().join("config") };
        let (one, two) = (file(home.path(), "m", "one"), file(home.path(), "m", "two"));
        contexts.link("one", &one).unwrap();
        contexts.add("two", &two).unwrap();
        assert!(!contexts.remove("two").unwrap());
        assert_eq!(contexts.current().as_deref(), Some("one"));
        let failure = contexts.remove("two").unwrap_err();
        assert_eq!((failure.code, &*failure.message), (ErrorCode::NotFound, "no context `two`; there are: one"));
        assert!(contexts.remove("one").unwrap());
        assert!(contexts.list().is_empty() && contexts.current().is_none() && one.exists());
        assert_eq!(contexts.remove("../one").unwrap_err().code, ErrorCode::NotFound);
    }

    #[test]
    fn a_context_whose_file_is_gone_or_damaged_can_be_removed() {
        let home = tempfile::tempdir().unwrap();
        let contexts = Contexts { dir: home.path().join("config") };
        let (gone, damaged) = (file(home.path(), "m", "gone"), file(home.path(), "m", "damaged"));
        contexts.link("gone", &gone).unwrap();
        contexts.link("damaged", &damaged).unwrap();
        fs::remove_file(gone).unwrap();
        fs::write(damaged, "x").unwrap();
        assert!(contexts.remove("gone").unwrap(), "it was the current one");
        contexts.remove("damaged").unwrap();
        assert!(contexts.names().is_empty());
    }

    #[test]
    fn other_ways_to_a_mesh_have_another_key() {
        let home = tempfile::tempdir().unwrap();
        let contexts = Contexts { dir: home.path().join("config") };
        for (name, mesh, key) in
            [("a", "m", "one"), ("b", "m", "one"), ("c", "m", "two"), ("d", "m", "old"), ("e", "other", "three")]
        {
            contexts.add(name, &file(home.path(), mesh, key)).unwrap();
        }
        let context = contexts.load(Some(&contexts.path("a"))).unwrap();
        assert_eq!(contexts.with_another_key(&context, |key| key != "old"), ["c"]);
    }
}
