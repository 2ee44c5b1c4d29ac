//! openraft's view of the log: what its bytes mean.

use std::{
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
};

use bytes::Bytes;
use openraft::{
    LogState, OptionalSend, RaftLogReader,
    entry::RaftEntry,
    storage::{IOFlushed, RaftLogStorage},
};
use serde::{Serialize, de::DeserializeOwned};
use skein_proto::codec;

use crate::{
    log::Log,
    types::{Entry, LogId, Types, Vote},
};

/// The log as openraft writes and reads it. Clones are the same log.
#[derive(Clone)]
pub(crate) struct Storage {
    pub(crate) log: Log,
    /// Bytes of entries that one message to a follower carries at most, unless a single entry is larger.
    pub(crate) message_bytes: usize,
}

impl RaftLogReader<Types> for Storage {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        let (_, entries) = self.log.read(start..end).await?;
        entries.iter().map(|entry| decode(entry)).collect()
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        self.log.vote().map(|vote| decode(&vote)).transpose()
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        let (_, entries) = self.log.read(start..end).await?;
        let mut bytes = 0;
        let fitting = entries.iter().enumerate().take_while(|(at, entry)| {
            bytes += entry.len();
            *at == 0 || bytes <= self.message_bytes
        });
        fitting.map(|(_, entry)| decode(entry)).collect()
    }
}

impl RaftLogStorage<Types> for Storage {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let last_purged_log_id = self.log.purged().map(|id| decode::<LogId>(&id)).transpose()?;
        let range = self.log.range();
        let last = match range.end.checked_sub(1).filter(|last| *last >= range.start) {
            Some(last) => self.try_get_log_entries(last..=last).await?.pop(),
            None => None,
        };
        let last_log_id = last.map(|entry| entry.log_id()).or(last_purged_log_id);
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.log.save_vote(encode(vote)?).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        match committed {
            Some(committed) => self.log.save_committed(encode(&committed)?).await,
            None => Ok(()),
        }
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        let committed = self.log.committed().map(|id| decode::<LogId>(&id)).transpose()?;
        // A hint may speak of entries that were lost unacknowledged with the end of the log.
        let next = self.log.range().end;
        Ok(committed.filter(|committed| committed.index < next))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut first = None;
        let mut encoded = Vec::new();
        for entry in entries {
            first.get_or_insert(entry.index());
            encoded.push(encode(&entry)?);
        }
        let Some(first) = first else {
            callback.io_completed(Ok(()));
            return Ok(());
        };
        self.log.append(first, encoded, |result| callback.io_completed(result)).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        self.log.truncate(last.map_or(0, |last| last.index + 1)).await
    }

    async fn purge(&mut self, last: LogId) -> io::Result<()> {
        self.log.purge(last.index + 1, encode(&last)?).await
    }
}

/// `value` as the log keeps it.
fn encode(value: &impl Serialize) -> io::Result<Bytes> {
    codec::encode(value).map_err(io::Error::other)
}

/// The value that the log kept. Its checksum was right, so what does not decode was written by another release.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    codec::decode(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
