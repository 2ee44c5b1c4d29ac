//! What is done with a file or directory that was found: reading, writing, and what is known about it.

use super::{
    Content, NodeId, Tree,
    blocks::{Blocks, Budget},
    inode, now_ns,
};
use crate::wasi::{
    Errno,
    directory::Entry,
    stat::{FileType, Stat, Time, Times},
};

impl Tree {
    pub(crate) fn stat(&self, id: NodeId) -> Result<Stat, Errno> {
        let node = self.node(id)?;
        let (kind, size) = match &node.content {
            Content::File(blocks) => (FileType::Regular, blocks.size()),
            Content::Directory(_) => (FileType::Directory, 0),
            Content::Link(target) => (FileType::Link, target.len() as u64),
        };
        Ok(Stat {
            device: 0,
            inode: inode(id),
            kind,
            links: node.links.into(),
            size,
            accessed_ns: node.accessed_ns,
            modified_ns: node.modified_ns,
            changed_ns: node.changed_ns,
        })
    }

    pub(crate) fn set_times(&mut self, id: NodeId, times: Times) -> Result<(), Errno> {
        let now = now_ns();
        let at = |time| if let Time::At(ns) = time { ns } else { now };
        let node = self.node_mut(id)?;
        node.accessed_ns = times.accessed.map_or(node.accessed_ns, at);
        node.modified_ns = times.modified.map_or(node.modified_ns, at);
        node.changed_ns = now;
        Ok(())
    }

    /// The entries of a directory from `cookie` on, until `take` wants no more.
    pub(crate) fn entries(
        &self,
        id: NodeId,
        cookie: u64,
        take: &mut dyn FnMut(&Entry<'_>) -> bool,
    ) -> Result<(), Errno> {
        for (order, name, child) in self.listing(id)?.from(cookie) {
            let kind = match &self.node(child)?.content {
                Content::File(_) => FileType::Regular,
                Content::Directory(_) => FileType::Directory,
                Content::Link(_) => FileType::Link,
            };
            if !take(&Entry { next: order + 1, inode: inode(child), kind, name: name.as_bytes() }) {
                break;
            }
        }
        Ok(())
    }

    pub(crate) fn read(&mut self, id: NodeId, offset: u64, target: &mut [u8]) -> Result<usize, Errno> {
        let node = self.node_mut(id)?;
        node.accessed_ns = now_ns();
        if let Content::File(blocks) = &node.content { Ok(blocks.read(offset, target)) } else { Err(Errno::ISDIR) }
    }

    pub(crate) fn write(&mut self, id: NodeId, offset: u64, source: &[u8]) -> Result<usize, Errno> {
        self.change(id, |blocks, budget| blocks.write(offset, source, budget))
    }

    pub(crate) fn set_size(&mut self, id: NodeId, size: u64) -> Result<(), Errno> {
        self.change(id, |blocks, budget| blocks.set_size(size, budget))
    }

    pub(crate) fn allocate(&mut self, id: NodeId, offset: u64, length: u64) -> Result<(), Errno> {
        self.change(id, |blocks, budget| blocks.allocate(offset, length, budget))
    }

    pub(crate) fn size(&self, id: NodeId) -> Result<u64, Errno> {
        if let Content::File(blocks) = &self.node(id)?.content { Ok(blocks.size()) } else { Err(Errno::ISDIR) }
    }

    fn change<T>(
        &mut self,
        id: NodeId,
        change: impl FnOnce(&mut Blocks, &mut Budget) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let Self { nodes, budget, .. } = self;
        let node = nodes.get_mut(id.0 as usize).and_then(Option::as_mut).ok_or(Errno::BADF)?;
        let Content::File(blocks) = &mut node.content else { return Err(Errno::ISDIR) };
        let changed = change(blocks, budget)?;
        node.modified_ns = now_ns();
        node.changed_ns = node.modified_ns;
        Ok(changed)
    }
}
