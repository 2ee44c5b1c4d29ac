//! The newest record of each node. Pure: bytes in, what is believed of them out.

use std::collections::{BTreeMap, btree_map::Entry};

use bytes::Bytes;
use skein_proto::{Digest, NodeId};
use skein_transport::{AddressRecord, AddressRecordError, Identity, ReachedAt};

/// The newest record of each node that this one has heard of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records {
    newest: BTreeMap<NodeId, AddressRecord>,
}

/// What became of bytes that were told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Learnt {
    /// They are the newest of their node now.
    New,
    /// As new, or a newer one, was here; or they are of no member.
    Known,
}

impl Records {
    /// Where a node is reached, by its newest word.
    pub fn get(&self, node: NodeId) -> Option<&ReachedAt> {
        self.newest.get(&node).map(AddressRecord::reached_at)
    }

    /// What has to be kept to know the same after a restart.
    pub fn to_keep(&self) -> Vec<Bytes> {
        self.newest.values().map(|record| record.bytes().clone()).collect()
    }

    /// Takes a record if it is newer than what is known of its node, of a member, and right. No signature is checked of one
    /// that is older, or of no member: a replayed one costs nothing.
    ///
    /// A record of this node itself that is newer than its own is an earlier life's, whose clock went ahead: this node
    /// counts on from there, and says where it is now.
    pub(super) fn learn(
        &mut self,
        bytes: Bytes,
        reader: &Identity,
        is_trusted: impl Fn(NodeId, Digest) -> bool,
    ) -> Result<Learnt, AddressRecordError> {
        let (node, sequence) = AddressRecord::peek(&bytes)?;
        if self.newest.get(&node).is_some_and(|known| known.sequence() >= sequence) {
            return Ok(Learnt::Known);
        }
        // Asked of what the bytes claim: they are read only if they are signed by whom they name.
        if node != reader.node() && !is_trusted(node, AddressRecord::peek_key(&bytes)?) {
            return Ok(Learnt::Known);
        }
        let record = AddressRecord::read(bytes, reader)?;
        if node == reader.node() {
            return match self.get(node).cloned() {
                Some(here) => self.sign_own(reader, sequence + 1, here).map(|()| Learnt::New),
                None => Ok(self.insert(record)),
            };
        }
        Ok(self.insert(record))
    }

    /// The records without those of these nodes; none if there are none of theirs.
    pub(super) fn without(&self, is_gone: impl Fn(NodeId) -> bool) -> Option<Self> {
        if !self.newest.keys().any(|node| is_gone(*node)) {
            return None;
        }
        let rest = self.newest.iter().filter(|(node, _)| !is_gone(**node));
        Some(Self { newest: rest.map(|(node, record)| (*node, record.clone())).collect() })
    }

    /// Signs a record of this node's own, numbered `sequence` or, if it has signed as high a number before, one more.
    pub(super) fn sign_own(
        &mut self,
        identity: &Identity,
        sequence: u64,
        reached_at: ReachedAt,
    ) -> Result<(), AddressRecordError> {
        let before = self.newest.get(&identity.node()).map_or(0, AddressRecord::sequence);
        let sequence = sequence.clamp(1, AddressRecord::SEQUENCE_MAX);
        let sequence = if sequence > before { sequence } else { before + 1 };
        self.insert(AddressRecord::sign(identity, sequence, reached_at)?);
        Ok(())
    }

    /// The newest of both.
    pub(super) fn merge(mut self, others: &Self) -> Self {
        for record in others.newest.values() {
            self.insert(record.clone());
        }
        self
    }

    fn insert(&mut self, record: AddressRecord) -> Learnt {
        match self.newest.entry(record.node()) {
            Entry::Occupied(known) if known.get().sequence() >= record.sequence() => return Learnt::Known,
            Entry::Occupied(mut known) => {
                known.insert(record);
            }
            Entry::Vacant(place) => {
                place.insert(record);
            }
        }
        Learnt::New
    }

    /// The number of each node's newest.
    pub(super) fn numbers(&self) -> BTreeMap<NodeId, u64> {
        self.newest.iter().map(|(node, record)| (*node, record.sequence())).collect()
    }

    /// Those that somebody lacks who has these numbers.
    pub(super) fn newer_than(&self, has: &BTreeMap<NodeId, u64>) -> Vec<Bytes> {
        let lacks = |record: &&AddressRecord| has.get(&record.node()).is_none_or(|number| *number < record.sequence());
        self.newest.values().filter(lacks).map(|record| record.bytes().clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::addresses::tests::{Bench, at};

    fn anybody(_: NodeId, _: Digest) -> bool {
        true
    }

    #[test]
    fn a_replay_of_an_older_record_is_refused() {
        let bench = Bench::new();
        let (one, two) = (bench.identity(1), bench.identity(2));
        let sign = |sequence, port| AddressRecord::sign(&two, sequence, at(port)).unwrap().bytes().clone();
        let (old, new) = (sign(5, 1_000), sign(6, 2_000));
        let mut records = Records::default();
        assert_eq!(records.learn(old.clone(), &one, anybody), Ok(Learnt::New));
        assert_eq!(records.learn(new.clone(), &one, anybody), Ok(Learnt::New));
        for _ in 0..2 {
            assert_eq!(records.learn(old.clone(), &one, anybody), Ok(Learnt::Known));
        }
        assert_eq!(records.get(NodeId(2)), Some(&at(2_000)));
        // Another one under the same number says nothing new either.
        assert_eq!(records.learn(sign(6, 3_000), &one, anybody), Ok(Learnt::Known));
        assert_eq!(records.to_keep(), [new]);
    }

    #[test]
    fn who_is_no_member_is_not_noted() {
        let bench = Bench::new();
        let (one, two) = (bench.identity(1), bench.identity(2));
        let record = AddressRecord::sign(&two, 5, at(1_000)).unwrap();
        let mut records = Records::default();
        assert_eq!(records.learn(record.bytes().clone(), &one, |_, _| false), Ok(Learnt::Known));
        assert_eq!(records, Records::default());
    }

    #[test]
    fn no_signature_is_checked_of_who_is_no_member() {
        let one = Bench::new().identity(1);
        let of_another_mesh = AddressRecord::sign(&Bench::new().identity(2), 5, at(1_000)).unwrap();
        let mut records = Records::default();
        assert_eq!(records.learn(of_another_mesh.bytes().clone(), &one, |_, _| false), Ok(Learnt::Known));
        assert!(records.learn(of_another_mesh.bytes().clone(), &one, anybody).is_err());
        assert_eq!(records, Records::default());
    }

    #[test]
    fn a_node_whose_clock_went_back_counts_on_from_what_others_know_of_it() {
        let bench = Bench::new();
        let (one, two) = (bench.identity(1), bench.identity(2));
        let past = AddressRecord::sign(&one, 9_000, at(1_000)).unwrap();
        let mut records = Records::default();
        records.sign_own(&one, 50, at(2_000)).unwrap();
        assert_eq!(records.learn(past.bytes().clone(), &one, anybody), Ok(Learnt::New));
        let now = records.to_keep().remove(0);
        let read = AddressRecord::read(now, &two).unwrap();
        assert_eq!((read.sequence(), read.reached_at()), (9_001, &at(2_000)));
        // Kept from before, they are counted on from as well.
        let mut next = Records::default();
        next.learn(past.bytes().clone(), &one, anybody).unwrap();
        next.sign_own(&one, 50, at(3_000)).unwrap();
        assert_eq!(next.numbers(), BTreeMap::from([(NodeId(1), 9_001)]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn in_whatever_order_and_however_often_the_newest_wins(
            order in proptest::collection::vec((0..3_u64, 1..6_u64), 1..40)
        ) {
            let bench = Bench::new();
            let (reader, signers) = (bench.identity(9), [bench.identity(1), bench.identity(2), bench.identity(3)]);
            let mut records = Records::default();
            let mut newest = BTreeMap::new();
            for (signer, sequence) in order {
                let port = 1_000 + u16::try_from(sequence).unwrap();
                let signed = AddressRecord::sign(&signers[signer as usize], sequence, at(port)).unwrap();
                records.learn(signed.bytes().clone(), &reader, anybody).unwrap();
                let known = newest.entry(NodeId(signer + 1)).or_insert(0);
                *known = sequence.max(*known);
            }
            prop_assert_eq!(records.numbers(), newest);
        }

        #[test]
        fn any_bytes_are_refused_and_change_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut records = Records::default();
            prop_assert!(records.learn(Bytes::from(bytes), &Bench::new().identity(1), anybody).is_err());
            prop_assert_eq!(records, Records::default());
        }
    }
}
