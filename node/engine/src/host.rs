//! What the host functions of one instance work on: the guest's memory, and all that its call brought and left.
//!
//! The functions themselves are in [`crate::wasi`] and its neighbours, as methods of [`Host`].

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use skein_proto::{ErrorCode, Failure, Grants, Limits};

use crate::{
    Call, HttpRequest, HttpResponse, InvokeRequest, Services, clock,
    extism::Plugin,
    memory::Slot,
    skein::Requests,
    stop::Interrupt,
    wasi::{Errno, Fault, Files, Halt},
};

/// The host of one instance; [`Host::begin`] prepares it for a call.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) slot: Arc<Slot>,
    pub(crate) interrupt: Arc<Interrupt>,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    /// What the guest has not read yet of its payload.
    pub(crate) payload: Bytes,
    pub(crate) written: Written,
    pub(crate) limits: Limits,
    /// What the version may reach.
    pub(crate) grants: Arc<Grants>,
    /// What the guest has of Extism, if it is a plug-in.
    pub(crate) plugin: Plugin,
    /// True if the variables of a plug-in stay for the next call: the instance is one that serves many.
    pub(crate) keeps_variables: bool,
    /// Its calls and HTTP requests whose answers it has not taken.
    pub(crate) requests: Requests,
    /// When the call's time is over.
    pub(crate) deadline: Instant,
    /// What the guest has asked for that differs from one instance to the next.
    pub(crate) asked: Inconstant,
    services: Option<Arc<dyn Services>>,
    outbound: u32,
    /// Its descriptors, and the files behind them.
    pub(crate) files: Files,
    /// Where the content of files passes through.
    pub(crate) piece: Vec<u8>,
    /// What the thread's CPU clock showed when the call first asked for it.
    pub(crate) cpu_began_ns: Option<u64>,
}

/// What a guest wrote.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// The result.
    pub(crate) output: Vec<u8>,
    /// The log, cut at its limit.
    pub(crate) log: Vec<u8>,
    /// What it wrote to the log in all.
    pub(crate) log_bytes_total: u64,
    /// Why it failed, in its own words.
    pub(crate) failure: Option<String>,
}

/// What would make an image taken now differ from one taken at another time or place, or for another call.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Inconstant {
    /// Random bytes.
    pub(crate) random: bool,
    /// A clock.
    pub(crate) clock: bool,
    /// The environment, most of which is the call's.
    pub(crate) environment: bool,
    /// Its payload, a file, or anything outside: never in an image.
    pub(crate) input: bool,
}

impl Host {
    /// The host of an instance that has no call yet.
    pub(crate) fn new(slot: Arc<Slot>, interrupt: Arc<Interrupt>) -> Self {
        Self {
            slot,
            interrupt,
            args: Vec::new(),
            env: Vec::new(),
            payload: Bytes::new(),
            written: Written::default(),
            limits: Limits::default(),
            grants: Arc::default(),
            plugin: Plugin::default(),
            keeps_variables: false,
            requests: Requests::default(),
            deadline: clock::now(),
            asked: Inconstant::default(),
            services: None,
            outbound: 0,
            files: Files::default(),
            piece: Vec::new(),
            cpu_began_ns: None,
        }
    }

    /// Takes over what `call` brings, and forgets the call before.
    pub(crate) fn begin(&mut self, call: &Call<'_>, interrupt: Arc<Interrupt>) {
        self.interrupt = interrupt;
        self.args.clear();
        self.args.extend_from_slice(call.args);
        self.env.clear();
        self.env.extend_from_slice(call.env);
        self.payload = call.payload.clone();
        self.written = Written::default();
        self.plugin.forget(self.keeps_variables);
        self.limits = call.limits;
        self.requests = Requests::default();
        let limit = clock::now().checked_add(Duration::from_millis(call.limits.deadline_ms));
        self.deadline = limit.map_or(call.deadline.into_std(), |limit| limit.min(call.deadline.into_std()));
        self.asked = Inconstant::default();
        self.services.clone_from(&call.services);
        self.outbound = call.limits.outbound;
        self.files.begin(call);
        self.cpu_began_ns = None;
    }

    /// Makes the payload the input of a plug-in, which reads nothing from stdin. What initialised the instance left no
    /// blocks.
    pub(crate) fn begin_plugin(&mut self) {
        self.plugin.forget(true);
        let input = std::mem::take(&mut self.payload);
        self.plugin.begin(input);
        self.settle();
    }

    /// Takes what the guest wrote, and lets go of what its call brought.
    pub(crate) fn end(&mut self) -> Written {
        self.requests = Requests::default();
        self.services = None;
        self.payload = Bytes::new();
        self.plugin.forget(self.keeps_variables);
        self.files.end();
        std::mem::take(&mut self.written)
    }

    /// Counts `more` bytes that are to be kept for the guest besides its memory; false if the node has not as much left.
    /// A little is nobody's to count: most calls have no more.
    pub(crate) fn holds(&self, more: u64) -> bool {
        const UNCOUNTED_BYTES: u64 = 64 << 10;
        let all = self.written.output.len() as u64 + self.plugin.charged() + more;
        all <= UNCOUNTED_BYTES || self.slot.hold(all)
    }

    /// Appends to the log what fits its limit, and counts the rest: a guest does not fail for talking too much.
    pub(crate) fn log(&mut self, text: &[u8]) {
        self.written.log_bytes_total += text.len() as u64;
        let room = self.limits.log_bytes.saturating_sub(self.written.log.len() as u64);
        let kept = text.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        self.written.log.extend_from_slice(&text[..kept]);
    }

    /// Calls another function for the guest and waits. The outer error ends the guest; the inner one is its to handle.
    pub(crate) fn invoke(&mut self, request: InvokeRequest) -> Result<Result<Bytes, Failure>, Halt> {
        self.ask(|services| services.invoke(request))
    }

    /// Sends an HTTP request for the guest and waits, as [`Host::invoke`] does.
    pub(crate) fn http(&mut self, request: HttpRequest) -> Result<Result<HttpResponse, Failure>, Halt> {
        self.ask(|services| services.http(request))
    }

    fn ask<T>(
        &mut self,
        ask: impl FnOnce(&dyn Services) -> crate::services::Asked<T>,
    ) -> Result<Result<T, Failure>, Halt> {
        let services = match self.count_outbound() {
            Ok(services) => services,
            Err(failure) => return Ok(Err(failure)),
        };
        self.asked.input = true;
        services.waits();
        let answer = self.interrupt.wait_for(ask(&*services));
        services.resumed();
        answer.ok_or(Halt::Stopped)
    }

    /// Who answers the guest's outward requests, if anybody does.
    pub(crate) fn services(&self) -> Option<Arc<dyn Services>> {
        self.services.clone()
    }

    /// Counts one outward request.
    ///
    /// # Errors
    /// `not-granted` if the version has no outward grant, `limit-exceeded` if the call has made all it may.
    pub(crate) fn count_outbound(&mut self) -> Result<Arc<dyn Services>, Failure> {
        let Some(services) = self.services() else {
            let message = "this version has no outward grant; name what it may reach in `[grants]` of function.toml";
            return Err(Failure::not_executed(ErrorCode::NotGranted, message));
        };
        let Some(left) = self.outbound.checked_sub(1) else {
            let message = format!("one call makes at most {} others (limits.outbound)", self.limits.outbound);
            return Err(Failure::not_executed(ErrorCode::LimitExceeded, message));
        };
        self.outbound = left;
        Ok(services)
    }

    /// Sleeps until `end`, or for ever if that is too far to say, or until the guest is stopped.
    pub(crate) fn sleep_until(&self, end: Option<Instant>) -> Result<(), Halt> {
        let sleep = || if self.interrupt.sleep_until(end) { Ok(()) } else { Err(Halt::Stopped) };
        let Some(services) = &self.services else { return sleep() };
        // A guest that sleeps needs no core.
        services.waits();
        let slept = sleep();
        services.resumed();
        slept
    }

    pub(crate) fn read_u32(&self, at: u32) -> Result<u32, Fault> {
        let mut bytes = [0; 4];
        self.read(at, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    pub(crate) fn read(&self, at: u32, target: &mut [u8]) -> Result<(), Fault> {
        if self.slot.read(at, target) { Ok(()) } else { Err(Errno::FAULT.into()) }
    }

    pub(crate) fn write(&self, at: u32, source: &[u8]) -> Result<(), Fault> {
        if self.slot.write(at, source) { Ok(()) } else { Err(Errno::FAULT.into()) }
    }

    pub(crate) fn write_u32(&self, at: u32, value: u32) -> Result<(), Fault> {
        self.write(at, &value.to_le_bytes())
    }

    pub(crate) fn write_u64(&self, at: u32, value: u64) -> Result<(), Fault> {
        self.write(at, &value.to_le_bytes())
    }
}
