//! Scripts as files: what `publish` and `run` make of them before they reach a node.

use std::path::Path;

use skein_proto::{ErrorCode, Failure};
use skein_script::{Bundle, BundleError};

/// True if `path` is the name of a JavaScript file.
pub(crate) fn is_script(path: &Path) -> bool {
    path.extension().and_then(|extension| extension.to_str()).is_some_and(|known| ["js", "mjs", "cjs"].contains(&known))
}

/// The artifact of the script in `folder` that begins with the file `main`.
///
/// # Errors
/// `bad-module` and `too-large`, with what is wrong with the files.
pub(crate) fn from_dir(folder: &Path, main: &str) -> Result<Vec<u8>, Failure> {
    Ok(Bundle::from_dir(folder, main).map_err(|error| failure(&error, folder))?.to_bytes())
}

/// Whether the file at `path`, whose content is `code`, is a script of its own.
///
/// # Errors
/// `bad-module` and `too-large`.
pub(crate) fn check(code: &[u8], path: &Path) -> Result<(), Failure> {
    let name = path.file_name().and_then(|name| name.to_str());
    Bundle::parse(code, name).map(drop).map_err(|error| failure(&error, path))
}

fn failure(error: &BundleError, path: &Path) -> Failure {
    let code = if matches!(error, BundleError::TooLarge { .. }) { ErrorCode::TooLarge } else { ErrorCode::BadModule };
    Failure::not_executed(code, format!("{}: {error}", path.display()))
}
