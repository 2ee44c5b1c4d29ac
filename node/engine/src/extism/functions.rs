//! The functions that are more than an access to a block: configuration, variables, log, requests.
//!
//! What a plug-in hands over as an argument is freed here, as Extism has it; what it gets back, it frees itself.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use skein_proto::{ErrorCode, Failure};

use super::plugin::Ended;
use crate::{HttpRequest, InvokeRequest, grants, host::Host, wasi::Halt};

/// How important a message is, by Extism's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    /// More than any message is.
    Off,
}

impl Level {
    /// The variable by which a version says what it wants in its log.
    const VARIABLE: &str = "EXTISM_LOG_LEVEL";
    const NAMES: [(&str, Self); 6] = [
        ("trace", Self::Trace),
        ("debug", Self::Debug),
        ("info", Self::Info),
        ("warn", Self::Warn),
        ("error", Self::Error),
        ("off", Self::Off),
    ];

    fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, level)| *level == self).map_or("", |(name, _)| name)
    }

    fn of(text: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(name, _)| text.eq_ignore_ascii_case(name)).map(|(_, level)| *level)
    }
}

/// A request, as PDKs write it.
#[derive(Deserialize)]
struct Request {
    url: String,
    #[serde(default)]
    headers: Option<BTreeMap<String, String>>,
    #[serde(default)]
    method: Option<String>,
}

/// What may go along with a call of another function.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Options {
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

impl Host {
    /// What `limits.memory` leaves for blocks, beside linear memory and what there is.
    fn room(&self) -> u64 {
        let used = self.slot.length() as u64 + self.plugin.charged();
        self.limits.memory_bytes.saturating_sub(used)
    }

    /// Leaves linear memory what blocks do not take of the limit.
    pub(crate) fn settle(&self) {
        self.slot.change_limit(self.limits.memory_bytes.saturating_sub(self.plugin.charged()));
        // No more than before, or counted before it was taken.
        self.holds(0);
    }

    /// Ends the call with `message` for the caller.
    fn give_up<T>(&mut self, code: ErrorCode, message: impl Into<String>) -> Result<T, Halt> {
        self.plugin.end(Ended::Failed(code, message.into()));
        Err(Halt::Plugin)
    }

    /// Takes the block an argument names, or ends the call.
    fn argument(&mut self, handle: u64, what: &str) -> Result<Bytes, Halt> {
        match self.plugin.free(handle) {
            Some(bytes) => Ok(bytes),
            None => self.give_up(ErrorCode::FunctionFailed, format!("{what}: there is no block at {handle}")),
        }
    }

    /// Reads the block an argument names, which stays the guest's; 0 is nothing.
    fn borrowed(&mut self, handle: u64, what: &str) -> Result<Bytes, Halt> {
        if handle == 0 {
            return Ok(Bytes::new());
        }
        match self.plugin.blocks.block(handle).map(Bytes::copy_from_slice) {
            Some(bytes) => Ok(bytes),
            None => self.give_up(ErrorCode::FunctionFailed, format!("{what}: there is no block at {handle}")),
        }
    }

    /// A block for what the guest gets back, or the end of the call if there is no room.
    fn answer(&mut self, bytes: Bytes) -> Result<u64, Halt> {
        let room = if self.holds(bytes.len() as u64) { self.room() } else { 0 };
        match self.plugin.blocks.insert(bytes, room) {
            Some(handle) => {
                self.settle();
                Ok(handle)
            }
            None => {
                self.plugin.end(Ended::Memory);
                Err(Halt::Plugin)
            }
        }
    }

    pub(super) fn extism_alloc(&mut self, length: u64) -> u64 {
        let room = self.room();
        let room = if length <= room && !self.holds(length) { 0 } else { room };
        let at = self.plugin.blocks.allocate(length, room);
        self.slot.note_refusal(at == 0 && length != 0);
        self.settle();
        at
    }

    pub(super) fn extism_free(&mut self, handle: u64) {
        self.plugin.free(handle);
        self.settle();
    }

    pub(super) fn extism_reset(&mut self) {
        self.plugin.reset();
        self.settle();
    }

    pub(super) fn extism_output_set(&mut self, at: u64, length: u64) -> Result<(), Halt> {
        if length > self.limits.payload_bytes {
            return Err(Halt::Output);
        }
        if self.plugin.set_output(at, length) {
            return Ok(());
        }
        if self.slot.was_refused() {
            self.plugin.end(Ended::Memory);
            return Err(Halt::Plugin);
        }
        self.give_up(ErrorCode::FunctionFailed, format!("output_set: {length} bytes at {at} are in no block"))
    }

    pub(super) fn extism_config_get(&mut self, key: u64) -> Result<u64, Halt> {
        self.asked.input = true;
        let key = self.argument(key, "config_get: the key")?;
        let value = std::str::from_utf8(&key).ok().and_then(|key| self.variable_of_environment(key));
        let value = value.map(|value| Bytes::copy_from_slice(value.as_bytes()));
        value.map_or(Ok(0), |value| self.answer(value))
    }

    /// The last counts, as for a program that reads its environment into a map.
    fn variable_of_environment(&self, name: &str) -> Option<&str> {
        self.env.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn extism_var_get(&mut self, key: u64) -> Result<u64, Halt> {
        self.asked.input = true;
        let key = self.argument(key, "var_get: the key")?;
        let value = self.plugin.variable(&String::from_utf8_lossy(&key));
        value.map_or(Ok(0), |value| self.answer(value))
    }

    pub(super) fn extism_var_set(&mut self, key: u64, value: u64) -> Result<(), Halt> {
        self.asked.input = true;
        let key = self.argument(key, "var_set: the key")?;
        let key = String::from_utf8_lossy(&key);
        if value == 0 {
            self.plugin.remove_variable(&key);
            return Ok(());
        }
        let value = self.argument(value, "var_set: the value")?;
        let room = self.room();
        if self.plugin.set_variable(&key, &value, room) {
            return Ok(());
        }
        let message = "var_set: the variables are over 1 MiB in all, or over what limits.memory leaves";
        self.give_up(ErrorCode::LimitExceeded, message)
    }

    fn log_level(&self) -> Level {
        self.variable_of_environment(Level::VARIABLE).and_then(Level::of).unwrap_or(Level::Info)
    }

    pub(super) fn extism_get_log_level(&mut self) -> i32 {
        self.asked.input = true;
        match self.log_level() {
            Level::Off => i32::MAX,
            level => level as i32,
        }
    }

    pub(super) fn extism_log(&mut self, level: Level, text: u64) -> Result<(), Halt> {
        // It is told which levels are wanted.
        self.asked.environment = true;
        if level < self.log_level() {
            self.plugin.free(text);
            return Ok(());
        }
        // No text needs no block.
        let text = if text == 0 { Bytes::new() } else { self.argument(text, "log: the text")? };
        self.log(b"[");
        self.log(level.name().as_bytes());
        self.log(b"] ");
        self.log(&text);
        self.log(b"\n");
        Ok(())
    }

    pub(super) fn extism_http_request(&mut self, request: u64, body: u64) -> Result<u64, Halt> {
        self.plugin.response = None;
        let request = self.argument(request, "http_request: the request")?;
        let body = if body == 0 { Bytes::new() } else { self.argument(body, "http_request: the body")? };
        let request = match serde_json::from_slice::<Request>(&request) {
            Ok(request) => request,
            Err(error) => {
                let message = format!("http_request: the request is not the JSON that Extism describes: {error}");
                return self.give_up(ErrorCode::FunctionFailed, message);
            }
        };
        // What was checked is what is sent: the URL as it was read, not the text it was read from.
        let (url, _) = match grants::http(&self.grants, &request.url) {
            Ok(granted) => granted,
            Err(failure) => return self.give_up_by(failure),
        };
        let method = request.method.as_deref().unwrap_or("GET").to_ascii_uppercase();
        let room = self.room().saturating_sub(super::blocks::Blocks::OVERHEAD);
        let mut asked = HttpRequest::new(method, url, body, room);
        asked.headers = request.headers.unwrap_or_default().into_iter().collect();
        let response = match self.http(asked)? {
            Ok(response) => response,
            Err(failure) => return self.give_up_by(failure),
        };
        let headers = serde_json::to_vec(&joined(response.headers)).unwrap_or_default();
        self.plugin.response = Some((response.status, headers.into()));
        self.answer(response.body)
    }

    /// Ends the call for what a request outward came to: Extism has no way to tell the guest.
    fn give_up_by<T>(&mut self, failure: Failure) -> Result<T, Halt> {
        let code = match failure.code {
            code @ (ErrorCode::NotGranted | ErrorCode::LimitExceeded) => code,
            _ => ErrorCode::FunctionFailed,
        };
        self.give_up(code, format!("http_request: {}", failure.message))
    }

    pub(super) fn extism_http_status_code(&self) -> i32 {
        self.plugin.response.as_ref().map_or(0, |(status, _)| i32::from(*status))
    }

    pub(super) fn extism_http_headers(&mut self) -> Result<u64, Halt> {
        let headers = self.plugin.response.as_ref().map(|(_, headers)| headers.clone());
        headers.map_or(Ok(0), |headers| self.answer(headers))
    }

    pub(super) fn skein_invoke(&mut self, reference: u64, payload: u64, options: u64) -> Result<u64, Halt> {
        self.plugin.failure = None;
        let reference = self.borrowed(reference, "skein_invoke: the reference")?;
        let payload = self.borrowed(payload, "skein_invoke: the payload")?;
        let options = self.borrowed(options, "skein_invoke_with: the options")?;
        let answer = match self.invoke_request(&reference, payload, &options) {
            Ok(request) => self.invoke(request)?,
            Err(failure) => Err(failure),
        };
        match answer {
            Ok(output) => self.answer(output),
            Err(failure) => {
                self.plugin.failure = Some(failure);
                Ok(0)
            }
        }
    }

    fn invoke_request(&self, reference: &[u8], payload: Bytes, options: &[u8]) -> Result<InvokeRequest, Failure> {
        let refuse = |message: String| Failure::not_executed(ErrorCode::BadRequest, message);
        let reference = grants::invoke(&self.grants, &String::from_utf8_lossy(reference))?;
        let mut request = InvokeRequest::new(reference.to_string(), payload);
        if !options.is_empty() {
            let options: Options = serde_json::from_slice(options).map_err(|error| {
                refuse(format!("the options are not JSON of the form {{\"headers\": {{}}}}: {error}"))
            })?;
            request.headers = options.headers.into_iter().collect();
        }
        Ok(request)
    }

    pub(super) fn skein_error(&mut self) -> Result<u64, Halt> {
        let Some(failure) = &self.plugin.failure else { return Ok(0) };
        let text = serde_json::json!({
            "code": failure.code.as_str(),
            "message": failure.message,
            "progress": failure.progress.as_str(),
            "retry_after_ms": failure.retry_after_ms,
        });
        self.answer(text.to_string().into())
    }
}

/// Headers as PDKs read them: one value for each name, those of several joined as HTTP allows.
fn joined(headers: Vec<(String, String)>) -> BTreeMap<String, String> {
    let mut map = BTreeMap::<String, String>::new();
    for (name, value) in headers {
        map.entry(name.to_ascii_lowercase())
            .and_modify(|all| {
                all.push_str(", ");
                all.push_str(&value);
            })
            .or_insert(value);
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_the_numbers_that_plug_ins_know() {
        let numbers = ["trace", "Debug", "INFO", "warn", "error"].map(|name| Level::of(name).map(|level| level as i32));
        assert_eq!(numbers, [0, 1, 2, 3, 4].map(Some));
        assert_eq!((Level::of("loud"), Level::Warn.name()), (None, "warn"));
    }

    #[test]
    fn headers_of_one_name_are_joined_in_order() {
        let headers =
            [("Vary", "a"), ("x", "1"), ("vary", "b")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let expected = [("vary", "a, b"), ("x", "1")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(joined(headers.to_vec()), BTreeMap::from(expected));
    }
}
