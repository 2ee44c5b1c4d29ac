//! Commands on credentials: keys for the entrances, tokens for joining. Only hashes are kept.

use std::sync::Arc;

use skein_proto::ErrorCode;

use super::Catalog;
use crate::{
    KeyRecord, Outcome, Role, TokenRecord,
    refusal::{Refusal, check_id, check_length, listed},
};

impl Catalog {
    pub(super) fn create_key(&mut self, id: &str, key: &KeyRecord) -> Result<Outcome, Refusal> {
        check_id("key", id)?;
        check_length("note", &key.note, NOTE_BYTES_MAX)?;
        if self.keys.contains_key(id) {
            return Err(Refusal::conflict(format!("a key with id {id} exists already; choose another id")));
        }
        if self.keys.size() >= KEYS_MAX {
            return Err(Refusal::conflict(format!("there are {KEYS_MAX} keys, the most there may be; revoke some")));
        }
        self.keys.insert_mut(id.into(), Arc::new(key.clone()));
        Ok(Outcome::Done)
    }

    pub(super) fn revoke_key(&mut self, id: &str, at_ms: u64) -> Result<Outcome, Refusal> {
        let Some(key) = self.keys.get(id) else {
            let message = format!("no key has id {}; keys: {}", shown(id), listed(self.keys.keys()));
            return Err(Refusal::new(ErrorCode::NotFound, message));
        };
        if let Some(end) = administers_until(key).filter(|end| at_ms < *end) {
            let is_other_left =
                self.keys().any(|(other, key)| other != id && administers_until(key).is_some_and(|other| other >= end));
            if !is_other_left {
                let message = format!(
                    "{id} is the last key that may administer the mesh; create another one first that is good for as long"
                );
                return Err(Refusal::conflict(message));
            }
        }
        self.keys.remove_mut(id);
        Ok(Outcome::Done)
    }

    pub(super) fn create_token(&mut self, id: &str, token: &TokenRecord, at_ms: u64) -> Result<Outcome, Refusal> {
        check_id("token", id)?;
        if self.tokens.contains_key(id) {
            return Err(Refusal::conflict(format!("a token with id {id} exists already; choose another id")));
        }
        let is_old = |token: &TokenRecord| token.expires_ms.saturating_add(EXPIRED_TOKEN_KEPT_MS) <= at_ms;
        let old: Vec<String> = self.tokens.iter().filter(|(_, t)| is_old(t)).map(|(id, _)| id.clone()).collect();
        if self.tokens.size() - old.len() >= TOKENS_MAX {
            let message = format!("there are {TOKENS_MAX} tokens, the most there may be; wait until some expire");
            return Err(Refusal::conflict(message));
        }
        for id in &old {
            self.tokens.remove_mut(id);
        }
        self.tokens.insert_mut(id.into(), Arc::new(token.clone()));
        Ok(Outcome::Done)
    }
}

/// Until when a key administers the mesh, in milliseconds since the Unix epoch, if it does.
fn administers_until(key: &KeyRecord) -> Option<u64> {
    (key.role == Role::Admin && key.app.is_none()).then(|| key.expires_ms.unwrap_or(u64::MAX))
}

/// An id from outside, cut so that a message stays short.
fn shown(id: &str) -> String {
    id.chars().take(64).collect()
}

/// Longest remark on a key, in bytes.
const NOTE_BYTES_MAX: usize = 1_024;
/// Most keys: each takes about 200 bytes in every node's memory and in each snapshot.
const KEYS_MAX: usize = 10_000;
/// Most join tokens that have not expired for long.
const TOKENS_MAX: usize = 1_024;
/// How long an expired token is remembered, so that whoever shows it learns that it expired: a day.
const EXPIRED_TOKEN_KEPT_MS: u64 = 24 * 60 * 60 * 1_000;
