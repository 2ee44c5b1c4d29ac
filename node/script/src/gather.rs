//! Takes a script's files from a folder.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use crate::{Bundle, BundleError};

/// What a script can import; everything else in the folder stays there.
const EXTENSIONS: &[&str] = &["js", "mjs", "cjs", "json"];
/// Deepest nesting of folders: packages inside of packages have some ten.
const DEPTH_MAX: usize = 32;

struct Gathering {
    root: PathBuf,
    files: BTreeMap<String, Vec<u8>>,
    bytes: usize,
}

impl Bundle {
    /// All that the script whose entry is `main`, a path inside of `folder`, may import: every `.js`, `.mjs`, `.cjs` and
    /// `.json` file of the folder and those below it, `node_modules` among them, hidden ones left out.
    ///
    /// # Errors
    /// Every [`BundleError`] but [`BundleError::Malformed`].
    pub fn from_dir(folder: &Path, main: &str) -> Result<Self, BundleError> {
        let root = folder.canonicalize().map_err(|source| unreadable(folder, source))?;
        let mut gathering = Gathering { root, files: BTreeMap::new(), bytes: 0 };
        gathering.folder(folder, "", 0)?;
        Self::new(main.trim_start_matches("./"), gathering.files)
    }
}

impl Gathering {
    fn folder(&mut self, folder: &Path, prefix: &str, depth: usize) -> Result<(), BundleError> {
        if depth > DEPTH_MAX {
            return Err(BundleError::TooLarge { what: format!("folders in folders at {prefix}"), most: DEPTH_MAX });
        }
        for entry in fs::read_dir(folder).map_err(|source| unreadable(folder, source))? {
            let entry = entry.map_err(|source| unreadable(folder, source))?;
            let path = entry.path();
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if name.starts_with('.') {
                continue;
            }
            let Some(is_folder) = self.kind(&path)? else { continue };
            let inside = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
            if is_folder {
                self.folder(&path, &inside, depth + 1)?;
            } else if path.extension().is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known)) {
                self.file(&path, inside)?;
            }
        }
        Ok(())
    }

    /// Whether `path` is a folder; none for what is neither that nor a file. Links are followed inside of the root.
    fn kind(&self, path: &Path) -> Result<Option<bool>, BundleError> {
        let link = fs::symlink_metadata(path).map_err(|source| unreadable(path, source))?;
        if !link.is_symlink() {
            return Ok((link.is_dir() || link.is_file()).then_some(link.is_dir()));
        }
        // A link to nowhere is nothing that a script could import.
        let Ok(target) = path.canonicalize() else { return Ok(None) };
        if !target.starts_with(&self.root) {
            return Err(BundleError::Outside(path.to_owned()));
        }
        let metadata = fs::metadata(&target).map_err(|source| unreadable(path, source))?;
        Ok((metadata.is_dir() || metadata.is_file()).then_some(metadata.is_dir()))
    }

    fn file(&mut self, path: &Path, inside: String) -> Result<(), BundleError> {
        if self.files.len() >= Bundle::FILES_MAX {
            let what = format!("more than {} files", Bundle::FILES_MAX);
            return Err(BundleError::TooLarge { what, most: Bundle::FILES_MAX });
        }
        let size = fs::metadata(path).map_err(|source| unreadable(path, source))?.len();
        self.bytes = self.bytes.saturating_add(usize::try_from(size).unwrap_or(usize::MAX));
        if self.bytes > Bundle::BYTES_MAX {
            let what = format!("more than {} bytes of scripts, with {inside}", Bundle::BYTES_MAX);
            return Err(BundleError::TooLarge { what, most: Bundle::BYTES_MAX });
        }
        let content = fs::read(path).map_err(|source| unreadable(path, source))?;
        self.files.insert(inside, content);
        Ok(())
    }
}

fn unreadable(path: &Path, source: io::Error) -> BundleError {
    BundleError::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("index.js", "1"),
            ("lib/a.mjs", "2"),
            ("node_modules/x/package.json", "{}"),
            ("node_modules/.bin/x.js", "3"),
            ("readme.md", "4"),
        ] {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    #[test]
    fn scripts_and_packages_are_taken_and_nothing_else() {
        let folder = folder();
        symlink("lib", folder.path().join("linked")).unwrap();
        let bundle = Bundle::from_dir(folder.path(), "./index.js").unwrap();
        let paths: Vec<&str> = bundle.files().map(|(path, _)| path).collect();
        assert_eq!(paths, ["index.js", "lib/a.mjs", "linked/a.mjs", "node_modules/x/package.json"]);
    }

    #[test]
    fn links_out_of_the_folder_are_refused_and_circles_end() {
        let folder = folder();
        symlink("..", folder.path().join("lib/up")).unwrap();
        assert!(matches!(Bundle::from_dir(folder.path(), "index.js"), Err(BundleError::TooLarge { .. })));
        fs::remove_file(folder.path().join("lib/up")).unwrap();
        symlink("/etc", folder.path().join("lib/etc")).unwrap();
        assert!(matches!(Bundle::from_dir(folder.path(), "index.js"), Err(BundleError::Outside(_))));
    }
}
