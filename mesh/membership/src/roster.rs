//! Whom the catalogue has named, and the codec that hears of nobody else.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::{Buf, BufMut};
use foca::{Header, Member, State};
use skein_proto::NodeId;
use tokio::sync::watch;

use crate::identity::{INCARNATION_MAX, Identity};

/// The members by the catalogue's word, this node among them.
pub(crate) type Roster = BTreeSet<NodeId>;

/// A SWIM message that could not be written or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CodecError {
    /// No room left in the datagram.
    #[error("message could not be encoded: {0}")]
    Encode(#[from] rmp_serde::encode::Error),
    /// Not a message.
    #[error("message could not be decoded: {0}")]
    Decode(#[from] rmp_serde::decode::Error),
    /// TLS proved one sender, the message claims another.
    #[error("node {sender} sent a message in the name of {claimed}")]
    Forged { sender: NodeId, claimed: NodeId },
    /// A number that no clock gives.
    #[error("incarnation {0} is not one")]
    Incarnation(u64),
}

/// MessagePack with named fields, as everywhere; and the place where gossip about strangers ends.
pub(crate) struct Codec {
    roster: watch::Receiver<Roster>,
    /// Who sent what is decoded next, by TLS's word. Shared with `Swim`, since foca keeps the codec to itself.
    sender: Arc<AtomicU64>,
    /// The source of the header decoded last.
    source: Option<Identity>,
}

impl Codec {
    pub(crate) fn new(roster: watch::Receiver<Roster>, sender: Arc<AtomicU64>) -> Self {
        Self { roster, sender, source: None }
    }
}

impl foca::Codec<Identity> for Codec {
    type Error = CodecError;

    fn encode_header(&mut self, header: &Header<Identity>, buf: impl BufMut) -> Result<(), CodecError> {
        Ok(rmp_serde::encode::write_named(&mut buf.writer(), header)?)
    }

    fn decode_header(&mut self, buf: impl Buf) -> Result<Header<Identity>, CodecError> {
        let header: Header<Identity> = rmp_serde::from_read(buf.reader())?;
        let (sender, claimed) = (NodeId(self.sender.load(Ordering::Relaxed)), header.src.node);
        if sender != claimed {
            return Err(CodecError::Forged { sender, claimed });
        }
        self.source = Some(checked(header.src)?);
        Ok(header)
    }

    fn encode_member(&mut self, member: &Member<Identity>, buf: impl BufMut) -> Result<(), CodecError> {
        Ok(rmp_serde::encode::write_named(&mut buf.writer(), member)?)
    }

    fn decode_member(&mut self, buf: impl Buf) -> Result<Member<Identity>, CodecError> {
        let member: Member<Identity> = rmp_serde::from_read(buf.reader())?;
        checked(*member.id())?;
        let is_known = self.roster.borrow().contains(&member.id().node);
        match self.source {
            // Something must be returned: that the sender lives, which its message has just shown, changes nothing.
            Some(source) if !is_known => Ok(Member::new(source, 0, State::Alive)),
            _ => Ok(member),
        }
    }
}

/// Who a message says it is from. Nothing else of it is read, or checked.
pub(crate) fn source(message: &[u8]) -> Option<Identity> {
    #[derive(serde::Deserialize)]
    struct Source {
        src: Identity,
    }
    rmp_serde::from_read(message).ok().map(|source: Source| source.src)
}

fn checked(identity: Identity) -> Result<Identity, CodecError> {
    if identity.incarnation > INCARNATION_MAX {
        return Err(CodecError::Incarnation(identity.incarnation));
    }
    Ok(identity)
}
