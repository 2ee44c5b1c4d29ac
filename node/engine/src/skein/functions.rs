//! What each function of the module does.

use std::time::Duration;

use bytes::Bytes;
use skein_proto::{ErrorCode, Failure};
use wasmer::RuntimeError;
use wasmer_types::TrapCode;

use super::requests::Ask;
use crate::{HttpRequest, InvokeRequest, clock, grants, host::Host, wasi::Halt};

/// Bytes of the guest's memory: address and length.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span(pub(super) u32, pub(super) u32);

/// Longest reference and head of a request: more than any server takes.
const TEXT_BYTES_MAX: u32 = 128 << 10;
/// Longest message of a failure. The log has more room.
const MESSAGE_BYTES_MAX: u32 = 16 << 10;

impl Host {
    pub(super) fn service_log(&mut self, Span(at, length): Span) -> Result<(), RuntimeError> {
        // What does not fit is only counted, so that no more than the limit is ever copied.
        let room = self.limits.log_bytes.saturating_sub(self.written.log.len() as u64);
        let kept = u64::from(length).min(room) as usize;
        self.written.log_bytes_total += u64::from(length);
        if self.slot.append_to(&mut self.written.log, at, kept) { Ok(()) } else { Err(stray()) }
    }

    pub(super) fn service_output(&mut self, Span(at, length): Span) -> Result<(), RuntimeError> {
        if self.written.output.len() as u64 + u64::from(length) > self.limits.payload_bytes {
            return Err(RuntimeError::user(Box::new(Halt::Output)));
        }
        if !self.holds(length.into()) {
            // Out of memory, which the slot has noted: like an abort of the guest.
            return Err(wasmer_vm::Trap::lib(TrapCode::UnreachableCodeReached).into());
        }
        if self.slot.append_to(&mut self.written.output, at, length as usize) { Ok(()) } else { Err(stray()) }
    }

    /// The call ends as failed, with this message, when the guest returns.
    pub(super) fn service_fail(&mut self, Span(at, length): Span) -> Result<(), RuntimeError> {
        let text = self.bytes(Span(at, length.min(MESSAGE_BYTES_MAX)))?;
        self.written.failure = Some(String::from_utf8_lossy(&text).into_owned());
        Ok(())
    }

    pub(super) fn service_invoke(&mut self, to: Span, headers: Span, payload: Span) -> Result<i32, RuntimeError> {
        let ask = match self.within([(to, TEXT_BYTES_MAX), (headers, TEXT_BYTES_MAX)], payload) {
            Err(failure) => Err(failure),
            Ok(()) => {
                let (to, headers, payload) = (self.bytes(to)?, self.bytes(headers)?, self.bytes(payload)?);
                self.invocation(&to, &headers, payload.into())
            }
        };
        Ok(self.ask_later(ask))
    }

    fn invocation(&self, to: &[u8], headers: &[u8], payload: Bytes) -> Result<Ask, Failure> {
        let reference = text(to, "the reference")?;
        grants::invoke(&self.grants, reference)?;
        let mut request = InvokeRequest::new(reference, payload);
        request.headers = header_lines(text(headers, "the headers")?)?;
        Ok(Ask::Invoke(request))
    }

    pub(super) fn service_http(&mut self, head: Span, body: Span) -> Result<i32, RuntimeError> {
        let ask = match self.within([(head, TEXT_BYTES_MAX), (Span(0, 0), 0)], body) {
            Err(failure) => Err(failure),
            Ok(()) => {
                let (head, body) = (self.bytes(head)?, self.bytes(body)?);
                self.request(&head, body.into())
            }
        };
        Ok(self.ask_later(ask))
    }

    fn request(&self, head: &[u8], body: Bytes) -> Result<Ask, Failure> {
        let (line, headers) = text(head, "the head")?.split_once('\n').unwrap_or((text(head, "the head")?, ""));
        let Some((method, url)) = line.split_once(' ') else {
            return Err(bad("the head of a request begins with a line `METHOD URL`"));
        };
        grants::http(&self.grants, url)?;
        let mut request = HttpRequest::new(method, url, body, self.limits.payload_bytes);
        request.headers = header_lines(headers)?;
        Ok(Ask::Http(request))
    }

    /// The number of a request; -1 if there are too many that nobody took the answers of.
    fn ask_later(&mut self, ask: Result<Ask, Failure>) -> i32 {
        self.asked.input = true;
        let ask = ask.and_then(|ask| {
            if !self.requests.has_room() {
                let message = "too many calls and requests are under way at once; wait for some before you make more";
                return Err(Failure::not_executed(ErrorCode::LimitExceeded, message));
            }
            self.count_outbound()?;
            Ok(ask)
        });
        self.requests.add(ask).unwrap_or(-1)
    }

    /// Waits until a request is answered, and returns its number; 0 once the time has passed, or if none is left.
    pub(super) fn service_wait(&mut self, microseconds: i64) -> Result<i32, RuntimeError> {
        if let Some(number) = self.requests.tell() {
            return Ok(number);
        }
        let wait = u64::try_from(microseconds).ok().map(Duration::from_micros);
        let end = wait.and_then(|wait| clock::now().checked_add(wait));
        if !self.requests.has_open() {
            // Without a request there is only time to wait for.
            if wait.is_some() {
                self.asked.clock = true;
                self.sleep_until(end).map_err(|halt| RuntimeError::user(Box::new(halt)))?;
            }
            return Ok(0);
        }
        self.attend(end)?;
        Ok(self.requests.tell().unwrap_or(0))
    }

    /// Whether a request failed, in the upper half, and the length of its answer; waits for it. -1 if there is none.
    pub(super) fn service_answer(&mut self, request: i32) -> Result<i64, RuntimeError> {
        loop {
            match self.requests.answer(request) {
                None => return Ok(-1),
                Some(Some(answer)) => {
                    return Ok(i64::from(answer.is_failure) << 32 | answer.bytes.len() as i64);
                }
                Some(None) => self.attend(None)?,
            }
        }
    }

    /// Copies an answer into the guest's memory, and forgets it.
    pub(super) fn service_take(&mut self, request: i32, target: u32) -> Result<(), RuntimeError> {
        let Some(answer) = self.requests.take(request) else { return Ok(()) };
        if self.slot.write(target, &answer.bytes) { Ok(()) } else { Err(stray()) }
    }

    /// Lets the requests go on until one is answered or the time has come.
    fn attend(&mut self, end: Option<std::time::Instant>) -> Result<(), RuntimeError> {
        let Some(services) = self.services() else { return Ok(()) };
        let bytes_max = self.limits.memory_bytes;
        services.waits();
        self.requests.begin(&*services);
        let requests = &mut self.requests;
        let is_awake = self.interrupt.poll_until(end, |context| requests.poll(context, bytes_max));
        services.resumed();
        if is_awake { Ok(()) } else { Err(RuntimeError::user(Box::new(Halt::Stopped))) }
    }

    /// Whether texts and a payload are within their bounds.
    fn within(&self, texts: [(Span, u32); 2], payload: Span) -> Result<(), Failure> {
        let too_large = |message: String| Err(Failure::not_executed(ErrorCode::TooLarge, message));
        if let Some((Span(_, length), most)) = texts.into_iter().find(|(Span(_, length), most)| length > most) {
            return too_large(format!("a head of {length} bytes; at most {most} are taken"));
        }
        let most = self.limits.payload_bytes;
        if u64::from(payload.1) > most {
            return too_large(format!("a payload of {} bytes; limits.payload is {most}", payload.1));
        }
        Ok(())
    }

    fn bytes(&self, Span(at, length): Span) -> Result<Vec<u8>, RuntimeError> {
        let mut bytes = Vec::new();
        if self.slot.append_to(&mut bytes, at, length as usize) { Ok(bytes) } else { Err(stray()) }
    }
}

/// The guest named memory that it does not have: it traps, as if it had looked there itself.
fn stray() -> RuntimeError {
    wasmer_vm::Trap::lib(TrapCode::HeapAccessOutOfBounds).into()
}

fn bad(message: impl Into<String>) -> Failure {
    Failure::not_executed(ErrorCode::BadRequest, message)
}

fn text<'a>(bytes: &'a [u8], what: &str) -> Result<&'a str, Failure> {
    std::str::from_utf8(bytes).map_err(|_| bad(format!("{what} is not UTF-8")))
}

/// Headers, each a line `name: value`.
fn header_lines(text: &str) -> Result<Vec<(String, String)>, Failure> {
    let split = |line: &str| {
        let (name, value) =
            line.split_once(':').ok_or_else(|| bad(format!("the header line `{line}` has no colon")))?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    };
    text.lines().filter(|line| !line.is_empty()).map(split).collect()
}
