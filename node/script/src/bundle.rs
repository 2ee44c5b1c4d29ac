//! The files of one script, and the bytes they are published as.

use std::{collections::BTreeMap, io, path::PathBuf};

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// The files of one script. Every path is relative to the script's folder, with `/` between its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    entry: String,
    files: BTreeMap<String, ByteBuf>,
}

/// Why files are no bundle. Nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The bytes begin as an archive of ours and are none.
    #[error("the bundle is damaged: {0}")]
    Malformed(String),
    /// A single file that is no text.
    #[error("{0} is not UTF-8 text")]
    NotText(String),
    /// A path that could mean a place outside of the bundle, or that a module's name cannot have.
    #[error("'{0}' is no path of a bundle: it must be relative, without '..', at most 512 bytes of UTF-8")]
    Path(String),
    /// The entry is not among the files.
    #[error("the bundle has no '{entry}'; it has {present}")]
    Entry {
        /// What was looked for.
        entry: String,
        /// Some of what is there.
        present: String,
    },
    /// Too many bytes or files.
    #[error(
        "the bundle has {what}; at most {most} are allowed: publish what a bundler made of it (`esbuild --bundle \
         --format=esm`), or remove what the script does not import"
    )]
    TooLarge {
        /// How many of what.
        what: String,
        /// The bound.
        most: usize,
    },
    /// A link that leads out of the folder.
    #[error("{} is a link to somewhere outside of the folder; copy what it names", .0.display())]
    Outside(PathBuf),
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The archive after its first bytes.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Archive {
    entry: String,
    files: BTreeMap<String, ByteBuf>,
}

/// What an archive begins with. The NUL tells it from any text, the number is the format's.
const MAGIC: &[u8] = b"\0skein-script\x01";
/// What a single file is called whose name nobody said.
const ENTRY: &str = "index.js";

impl Bundle {
    /// Most bytes of all files and paths together: 16 MiB, since every instance holds them in its memory, of which the
    /// default is 64 MiB. The largest of the packages in our tests has half a megabyte.
    pub const BYTES_MAX: usize = 16 << 20;
    /// Most files: enough for some hundred packages that nobody bundled.
    pub const FILES_MAX: usize = 10_000;
    /// Longest path, in bytes.
    pub const PATH_BYTES_MAX: usize = 512;

    /// A bundle of files, which begins at `entry`.
    ///
    /// # Errors
    /// [`BundleError::Path`], [`BundleError::Entry`], [`BundleError::TooLarge`].
    pub fn new(entry: &str, files: BTreeMap<String, Vec<u8>>) -> Result<Self, BundleError> {
        let files = files.into_iter().map(|(path, content)| (path, ByteBuf::from(content))).collect();
        Self { entry: entry.to_owned(), files }.checked()
    }

    /// Reads what [`Bundle::to_bytes`] wrote: an archive, or the text of a single file. `entry` names the file to begin at,
    /// where it is not the one the bundle names itself; a single file gets this name, by default `index.js`.
    ///
    /// # Errors
    /// All but [`BundleError::Outside`] and [`BundleError::Io`].
    pub fn parse(bytes: &[u8], entry: Option<&str>) -> Result<Self, BundleError> {
        // Lengths inside may claim anything: none is believed beyond the bytes that are there.
        if bytes.len() > Self::BYTES_MAX + (1 << 20) {
            return Err(too_many_bytes(bytes.len()));
        }
        let Some(archive) = bytes.strip_prefix(MAGIC) else {
            let entry = entry.unwrap_or(ENTRY);
            if std::str::from_utf8(bytes).is_err() {
                return Err(BundleError::NotText(entry.to_owned()));
            }
            return Self::new(entry, BTreeMap::from([(entry.to_owned(), bytes.to_vec())]));
        };
        let archive: Archive =
            rmp_serde::from_slice(archive).map_err(|error| BundleError::Malformed(error.to_string()))?;
        let entry = entry.map_or(archive.entry, str::to_owned);
        Self { entry, files: archive.files }.checked()
    }

    /// The bytes to publish: the text itself of a single file, an archive of several. The same files give the same bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let only = self.files.first_key_value().filter(|_| self.files.len() == 1);
        if let Some((_, content)) = only
            && std::str::from_utf8(content).is_ok()
            && !content.starts_with(MAGIC)
        {
            return content.to_vec();
        }
        let archive = Archive { entry: self.entry.clone(), files: self.files.clone() };
        let packed = rmp_serde::to_vec_named(&archive).expect("maps of texts and bytes are always written");
        [MAGIC, &packed].concat()
    }

    /// The path at which the script begins.
    pub fn entry(&self) -> &str {
        &self.entry
    }

    /// Paths and contents, in the order of the paths.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files.iter().map(|(path, content)| (path.as_str(), content.as_slice()))
    }

    /// True if `bytes` are an archive of several files.
    pub fn is_archive(bytes: &[u8]) -> bool {
        bytes.starts_with(MAGIC)
    }

    fn checked(self) -> Result<Self, BundleError> {
        if let Some(path) = self.files.keys().find(|path| !is_path(path)) {
            return Err(BundleError::Path(path.chars().take(80).collect()));
        }
        if self.files.len() > Self::FILES_MAX {
            return Err(BundleError::TooLarge { what: format!("{} files", self.files.len()), most: Self::FILES_MAX });
        }
        let bytes = self.files().map(|(path, content)| path.len() + content.len()).sum();
        if bytes > Self::BYTES_MAX {
            return Err(too_many_bytes(bytes));
        }
        if !self.files.contains_key(&self.entry) {
            let some: Vec<&str> = self.files.keys().map(String::as_str).take(5).collect();
            let dots = if self.files.len() > some.len() { ", …" } else { "" };
            return Err(BundleError::Entry { entry: self.entry, present: some.join(", ") + dots });
        }
        Ok(self)
    }
}

fn too_many_bytes(bytes: usize) -> BundleError {
    BundleError::TooLarge { what: format!("{bytes} bytes"), most: Bundle::BYTES_MAX }
}

fn is_path(path: &str) -> bool {
    let is_part = |part: &str| !matches!(part, "" | "." | "..");
    path.len() <= Bundle::PATH_BYTES_MAX
        && !path.contains(|letter: char| letter == '\\' || letter.is_control())
        && path.split('/').all(is_part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(bytes: &[u8], entry: Option<&str>, expected: &str) {
        let shown = match Bundle::parse(bytes, entry) {
            Ok(bundle) => format!("{} of {:?}", bundle.entry(), bundle.files.keys().collect::<Vec<_>>()),
            Err(error) => error.to_string(),
        };
        assert!(shown.contains(expected), "{shown}");
    }

    fn two() -> Bundle {
        let files = [("a.js", "1"), ("lib/b.json", "{}")];
        Bundle::new("a.js", files.map(|(path, text)| (path.to_owned(), text.into())).into()).unwrap()
    }

    #[test]
    fn a_single_file_is_its_own_text() {
        check(b"x", None, r#"index.js of ["index.js"]"#);
        check(b"x", Some("fn.js"), r#"fn.js of ["fn.js"]"#);
        assert_eq!(Bundle::parse(b"x", Some("fn.js")).unwrap().to_bytes(), b"x");
        check(b"\xff", Some("fn.js"), "fn.js is not UTF-8 text");
    }

    #[test]
    fn several_files_come_back_as_they_went() {
        let bytes = two().to_bytes();
        assert!(Bundle::is_archive(&bytes));
        assert_eq!(Bundle::parse(&bytes, None).unwrap(), two());
        check(&bytes, Some("lib/b.json"), "lib/b.json of");
        check(&bytes, Some("c.js"), "the bundle has no 'c.js'; it has a.js, lib/b.json");
        check(&bytes[..20], None, "the bundle is damaged");
    }

    #[test]
    fn no_path_leads_out_of_a_bundle() {
        for path in ["../a.js", "/a.js", "a//b.js", "a/./b.js", "a\\b.js", "", "a\0.js"] {
            assert!(matches!(Bundle::parse(b"1", Some(path)), Err(BundleError::Path(_))), "{path:?}");
        }
    }

    #[test]
    fn what_is_too_large_says_what_to_do() {
        check(
            &vec![b' '; Bundle::BYTES_MAX + 1],
            None,
            "at most 16777216 are allowed: publish what a bundler made of it",
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Bundle::parse(&bytes, None);
            let _ = Bundle::parse(&[MAGIC, &bytes].concat(), None);
        }

        #[test]
        fn any_files_come_back(files in proptest::collection::btree_map("[a-z]{1,4}(/[a-z]{1,4}){0,2}", "\\PC{0,20}", 1..5)) {
            let entry = files.keys().next().unwrap().clone();
            let files: BTreeMap<_, _> = files.into_iter().map(|(path, text)| (path, text.into_bytes())).collect();
            let bundle = Bundle::new(&entry, files).unwrap();
            prop_assert_eq!(Bundle::parse(&bundle.to_bytes(), Some(&entry)).unwrap(), bundle);
        }
    }
}
