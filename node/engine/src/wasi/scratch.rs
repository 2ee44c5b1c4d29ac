//! The private directory of one call: a file system in memory, gone when the call ends.
//!
//! It is bounded twice: what files hold, in blocks, by `limits.scratch_bytes`; and how many names there are, by that
//! and [`ENTRIES_MAX`]. It never touches the machine's files.

mod blocks;
mod listing;
mod lookup;
mod opened;

use std::time::{SystemTime, UNIX_EPOCH};

use blocks::{BLOCK_BYTES, Blocks, Budget};
use listing::Listing;
use lookup::Place;

use super::{
    Errno,
    directory::{OpenHow, Opened},
    stat::{Stat, Times},
};

/// Most names in one private directory and those below it. Each takes about half a KiB of the node's memory.
const ENTRIES_MAX: u64 = 16_384;
/// Names that even the smallest private directory may have, and how many bytes of its size allow for one more.
const ENTRIES_MIN: u64 = 16;
const BYTES_OF_ENTRY: u64 = 1024;

/// A file, directory or link by its number, which is good as long as something refers to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NodeId(u32);

/// All files of one call. Empty, and costing nothing, until the first is touched.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    nodes: Vec<Option<Node>>,
    free: Vec<u32>,
    entries: u64,
    entries_max: u64,
    budget: Budget,
}

#[derive(Debug)]
struct Node {
    content: Content,
    /// How many names it has.
    links: u32,
    /// How many descriptors have it open.
    opens: u32,
    accessed_ns: u64,
    modified_ns: u64,
    changed_ns: u64,
}

#[derive(Debug)]
enum Content {
    File(Blocks),
    Directory(Listing),
    Link(String),
}

impl Tree {
    /// The directory that all others are in.
    pub(crate) const ROOT: NodeId = NodeId(0);

    /// Forgets everything; from now on there may be as much as `bytes_max`.
    pub(crate) fn reset(&mut self, bytes_max: u64) {
        if !self.nodes.is_empty() {
            // Its room goes too: thousands of instances wait for calls that need none.
            *self = Self::default();
        }
        self.entries_max = (ENTRIES_MIN + bytes_max / BYTES_OF_ENTRY).min(ENTRIES_MAX);
        self.budget = Budget { used: 0, most: bytes_max.div_ceil(BLOCK_BYTES) };
    }

    /// Makes the root, if nothing has been touched yet.
    pub(crate) fn touch(&mut self) {
        if self.nodes.is_empty() {
            let mut root = Node::new(Content::Directory(Listing::new(Self::ROOT)));
            // No descriptor and no name keeps it.
            root.links = 1;
            self.nodes.push(Some(root));
        }
    }

    fn node(&self, id: NodeId) -> Result<&Node, Errno> {
        self.nodes.get(id.0 as usize).and_then(Option::as_ref).ok_or(Errno::BADF)
    }

    fn node_mut(&mut self, id: NodeId) -> Result<&mut Node, Errno> {
        self.nodes.get_mut(id.0 as usize).and_then(Option::as_mut).ok_or(Errno::BADF)
    }

    fn listing(&self, id: NodeId) -> Result<&Listing, Errno> {
        if let Content::Directory(listing) = &self.node(id)?.content { Ok(listing) } else { Err(Errno::NOTDIR) }
    }

    /// The names of a directory that is about to change.
    fn listing_mut(&mut self, id: NodeId) -> Result<&mut Listing, Errno> {
        let node = self.node_mut(id)?;
        node.modified_ns = now_ns();
        node.changed_ns = node.modified_ns;
        if let Content::Directory(listing) = &mut node.content { Ok(listing) } else { Err(Errno::NOTDIR) }
    }

    /// One more descriptor has it open.
    pub(crate) fn retain(&mut self, id: NodeId) {
        if let Ok(node) = self.node_mut(id) {
            node.opens += 1;
        }
    }

    /// One descriptor less has it open. What has no name any more is gone with its last descriptor.
    pub(crate) fn release(&mut self, id: NodeId) {
        if let Ok(node) = self.node_mut(id) {
            node.opens = node.opens.saturating_sub(1);
        }
        self.collect(id);
    }

    fn collect(&mut self, id: NodeId) {
        if self.node(id).is_ok_and(|node| node.links == 0 && node.opens == 0)
            && let Some(node) = self.nodes[id.0 as usize].take()
        {
            self.budget.give(node.content.blocks());
            self.free.push(id.0);
        }
    }

    /// Gives new content a name at a place where nothing is.
    fn add(&mut self, place: &Place, content: Content) -> Result<NodeId, Errno> {
        self.require_room(place)?;
        if self.node(place.parent)?.links == 0 {
            // The directory was removed while a descriptor had it open.
            return Err(Errno::NOENT);
        }
        self.budget.take(content.blocks())?;
        let node = Node::new(content);
        let id = match self.free.pop() {
            Some(index) => {
                self.nodes[index as usize] = Some(node);
                NodeId(index)
            }
            None => {
                self.nodes.push(Some(node));
                NodeId(u32::try_from(self.nodes.len() - 1).map_err(|_| Errno::NOSPC)?)
            }
        };
        self.name(place, id)?;
        Ok(id)
    }

    fn require_room(&self, place: &Place) -> Result<(), Errno> {
        if place.node.is_some() {
            return Err(Errno::EXIST);
        }
        if self.entries >= self.entries_max { Err(Errno::NOSPC) } else { Ok(()) }
    }

    fn name(&mut self, place: &Place, id: NodeId) -> Result<(), Errno> {
        self.listing_mut(place.parent)?.insert(&place.name, id);
        let node = self.node_mut(id)?;
        node.links += 1;
        node.changed_ns = now_ns();
        self.entries += 1;
        Ok(())
    }

    fn unname(&mut self, place: &Place, id: NodeId) -> Result<(), Errno> {
        self.listing_mut(place.parent)?.remove(&place.name);
        let node = self.node_mut(id)?;
        node.links = node.links.saturating_sub(1);
        node.changed_ns = now_ns();
        self.entries = self.entries.saturating_sub(1);
        Ok(())
    }
}

/// What is done by path.
impl Tree {
    pub(crate) fn open(&mut self, base: NodeId, path: &str, how: &OpenHow) -> Result<Opened<NodeId, NodeId>, Errno> {
        // To create and nothing else is to follow nothing: a link there is something that is there.
        let place = self.locate(base, path, how.follow && !(how.create && how.exclusive))?;
        let Some(id) = place.node else {
            if !how.create {
                return Err(Errno::NOENT);
            }
            if place.is_slashed {
                return Err(Errno::ISDIR);
            }
            return self.add(&place, Content::File(Blocks::default())).map(Opened::File);
        };
        if how.create && how.exclusive {
            return Err(Errno::EXIST);
        }
        let Self { nodes, budget, .. } = self;
        let node = nodes.get_mut(id.0 as usize).and_then(Option::as_mut).ok_or(Errno::NOENT)?;
        match &mut node.content {
            Content::Link(_) if how.directory => Err(Errno::NOTDIR),
            Content::Link(_) => Err(Errno::LOOP),
            Content::Directory(_) if how.create || how.write || how.truncate => Err(Errno::ISDIR),
            Content::Directory(_) => Ok(Opened::Directory(id)),
            Content::File(_) if how.directory => Err(Errno::NOTDIR),
            Content::File(blocks) => {
                if how.truncate {
                    blocks.set_size(0, budget)?;
                    node.modified_ns = now_ns();
                    node.changed_ns = node.modified_ns;
                }
                Ok(Opened::File(id))
            }
        }
    }

    pub(crate) fn create_directory(&mut self, base: NodeId, path: &str) -> Result<(), Errno> {
        let place = self.locate(base, unslashed(path), false)?;
        let content = Content::Directory(Listing::new(place.parent));
        self.add(&place, content).map(drop)
    }

    pub(crate) fn symlink(&mut self, target: &str, base: NodeId, path: &str) -> Result<(), Errno> {
        let place = self.locate(base, path, false)?;
        if place.node.is_none() && place.is_slashed {
            return Err(Errno::NOENT);
        }
        self.add(&place, Content::Link(target.to_owned())).map(drop)
    }

    pub(crate) fn read_link(&self, base: NodeId, path: &str) -> Result<String, Errno> {
        match &self.node(self.locate(base, path, false)?.found()?)?.content {
            Content::Link(target) => Ok(target.clone()),
            _ => Err(Errno::INVAL),
        }
    }

    pub(crate) fn link(&mut self, old: (NodeId, &str), follow: bool, new: (NodeId, &str)) -> Result<(), Errno> {
        let id = self.locate(old.0, old.1, follow)?.found()?;
        let place = self.locate(new.0, new.1, false)?;
        self.require_room(&place)?;
        if matches!(self.node(id)?.content, Content::Directory(_)) {
            return Err(Errno::PERM);
        }
        if place.is_slashed || self.node(place.parent)?.links == 0 {
            return Err(Errno::NOENT);
        }
        if self.node(id)?.links == u32::MAX {
            return Err(Errno::MLINK);
        }
        self.name(&place, id)
    }

    pub(crate) fn unlink(&mut self, base: NodeId, path: &str) -> Result<(), Errno> {
        let place = self.locate(base, path, false)?;
        let id = place.found()?;
        if matches!(self.node(id)?.content, Content::Directory(_)) {
            return Err(Errno::ISDIR);
        }
        self.unname(&place, id)?;
        self.collect(id);
        Ok(())
    }

    pub(crate) fn remove_directory(&mut self, base: NodeId, path: &str) -> Result<(), Errno> {
        let place = self.locate(base, path, false)?;
        let id = place.found()?;
        if !self.listing(id)?.is_empty() {
            return Err(Errno::NOTEMPTY);
        }
        if place.name.is_empty() {
            return Err(Errno::INVAL);
        }
        self.unname(&place, id)?;
        self.collect(id);
        Ok(())
    }

    pub(crate) fn rename(&mut self, old: (NodeId, &str), new: (NodeId, &str)) -> Result<(), Errno> {
        let from = self.locate(old.0, unslashed(old.1), false)?;
        let id = from.found()?;
        let to = self.locate(new.0, unslashed(new.1), false)?;
        if from.name.is_empty() || to.name.is_empty() {
            return Err(Errno::BUSY);
        }
        if to.node == Some(id) {
            return Ok(());
        }
        let is_directory = matches!(self.node(id)?.content, Content::Directory(_));
        if !is_directory && old.1.ends_with('/') {
            return Err(Errno::NOTDIR);
        }
        if self.node(to.parent)?.links == 0 {
            return Err(Errno::NOENT);
        }
        if is_directory && self.is_inside(to.parent, id)? {
            return Err(Errno::INVAL);
        }
        if let Some(other) = to.node {
            match &self.node(other)?.content {
                Content::Directory(_) if !is_directory => return Err(Errno::ISDIR),
                Content::Directory(listing) if !listing.is_empty() => return Err(Errno::NOTEMPTY),
                Content::Directory(_) => {}
                _ if is_directory => return Err(Errno::NOTDIR),
                _ => {}
            }
            self.unname(&to, other)?;
            self.collect(other);
        }
        self.unname(&from, id)?;
        self.name(&to, id)?;
        if let Content::Directory(listing) = &mut self.node_mut(id)?.content {
            listing.parent = to.parent;
        }
        Ok(())
    }

    /// True if `inner` is `outer`, or somewhere below it.
    fn is_inside(&self, mut inner: NodeId, outer: NodeId) -> Result<bool, Errno> {
        while inner != outer {
            if inner == Self::ROOT {
                return Ok(false);
            }
            inner = self.listing(inner)?.parent;
        }
        Ok(true)
    }

    pub(crate) fn stat_path(&self, base: NodeId, path: &str, follow: bool) -> Result<Stat, Errno> {
        self.stat(self.locate(base, path, follow)?.found()?)
    }

    pub(crate) fn set_times_path(&mut self, base: NodeId, path: &str, follow: bool, times: Times) -> Result<(), Errno> {
        let id = self.locate(base, path, follow)?.found()?;
        self.set_times(id, times)
    }
}

impl Node {
    fn new(content: Content) -> Self {
        let now = now_ns();
        Self { content, links: 0, opens: 0, accessed_ns: now, modified_ns: now, changed_ns: now }
    }
}

impl Content {
    /// What it takes of the budget. A link's target is at most a block long.
    fn blocks(&self) -> u64 {
        match self {
            Self::File(blocks) => blocks.count(),
            Self::Directory(_) => 0,
            Self::Link(_) => 1,
        }
    }
}

/// A path without the slash at its end: what makes or moves a directory does not follow a link there.
fn unslashed(path: &str) -> &str {
    path.trim_end_matches('/')
}

/// Numbers from one on, as other file systems have them.
fn inode(id: NodeId) -> u64 {
    u64::from(id.0) + 1
}

fn now_ns() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
