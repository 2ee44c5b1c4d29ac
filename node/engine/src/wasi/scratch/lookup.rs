//! Finding a file by its path. A path never leads above the directory it starts from, by whatever detour.

use super::{Content, NodeId, Tree};
use crate::wasi::Errno;

/// Most symbolic links on the way to a file, as Linux has it.
const LINKS_MAX: u32 = 40;

/// Where a path leads.
#[derive(Debug)]
pub(super) struct Place {
    /// The directory that has it, or would have it.
    pub(super) parent: NodeId,
    /// Its name there; empty if the path ends in `.` or `..`, which name no entry.
    pub(super) name: String,
    /// What is there.
    pub(super) node: Option<NodeId>,
    /// True if the path wants a directory, by a slash at its end.
    pub(super) is_slashed: bool,
}

impl Place {
    /// What is there; `ENOENT` if nothing is.
    pub(super) fn found(&self) -> Result<NodeId, Errno> {
        self.node.ok_or(Errno::NOENT)
    }
}

impl Tree {
    /// Follows `path` from `base`. A link at its end is followed if `follow`, or if a slash comes after it.
    pub(super) fn locate(&self, base: NodeId, path: &str, follow: bool) -> Result<Place, Errno> {
        if path.starts_with('/') {
            return Err(Errno::PERM);
        }
        let mut is_slashed = path.ends_with('/');
        let mut links = 0;
        let mut walked = vec![base];
        let mut ahead: Vec<String> = components(path).map(str::to_owned).collect();
        while let Some(name) = ahead.pop() {
            match name.as_str() {
                "." => continue,
                ".." => {
                    walked.pop();
                    if walked.is_empty() {
                        return Err(Errno::PERM);
                    }
                    continue;
                }
                _ => {}
            }
            let parent = walked[walked.len() - 1];
            let is_last = ahead.is_empty();
            let node = self.listing(parent)?.get(&name);
            let Some(id) = node else {
                return if is_last { Ok(Place { parent, name, node, is_slashed }) } else { Err(Errno::NOENT) };
            };
            match &self.node(id)?.content {
                Content::Link(target) if !is_last || follow || is_slashed => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(Errno::LOOP);
                    }
                    if target.starts_with('/') {
                        return Err(Errno::PERM);
                    }
                    is_slashed |= is_last && target.ends_with('/');
                    ahead.extend(components(target).map(str::to_owned));
                }
                Content::Directory(_) if !is_last => walked.push(id),
                Content::Directory(_) => return Ok(Place { parent, name, node, is_slashed }),
                _ if is_last && !is_slashed => return Ok(Place { parent, name, node, is_slashed }),
                _ => return Err(Errno::NOTDIR),
            }
        }
        let here = walked[walked.len() - 1];
        Ok(Place { parent: here, name: String::new(), node: Some(here), is_slashed })
    }
}

/// The parts of a path, the last one first.
fn components(path: &str) -> impl Iterator<Item = &str> {
    path.rsplit('/').filter(|part| !part.is_empty())
}
