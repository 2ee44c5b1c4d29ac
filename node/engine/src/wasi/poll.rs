//! `poll_oneoff`: waiting for clocks, and asking what can be read and written. Streams and files are always ready.

use std::time::Duration;

use super::{
    Errno, Fault,
    files::Stream,
    process::{MONOTONIC, REALTIME, wall_ns},
    rights::Rights,
};
use crate::{clock, host::Host};

const SUBSCRIPTION_BYTES: u32 = 48;
const EVENT_BYTES: u32 = 32;
/// Most subscriptions of one call: four for each descriptor there can be. The host holds them while the guest waits.
const SUBSCRIPTIONS_MAX: u32 = 4096;

const KIND_CLOCK: u8 = 0;
const KIND_READ: u8 = 1;
const KIND_WRITE: u8 = 2;
/// The only flag of a clock: its time is a point in time, and no duration.
const ABSOLUTE: u16 = 1;
/// Flag of an event: nothing more will come.
const HANGUP: u16 = 1;

struct Subscription {
    userdata: [u8; 8],
    kind: u8,
    wait: Wait,
}

/// What there is to wait for.
enum Wait {
    Clock(Duration),
    Ready { bytes: u64, is_at_end: bool },
    Never(Errno),
}

/// What the clocks showed when the wait began.
struct Now {
    wall_ns: u64,
    monotonic_ns: u64,
}

impl Host {
    pub(super) fn poll_oneoff(&mut self, input: u32, output: u32, count: u32, result: u32) -> Result<(), Fault> {
        if count == 0 || count > SUBSCRIPTIONS_MAX {
            return Err(Errno::INVAL.into());
        }
        let is_there = self.slot.contains(input, (count * SUBSCRIPTION_BYTES) as usize)
            && self.slot.contains(output, (count * EVENT_BYTES) as usize)
            && self.slot.contains(result, 4);
        if !is_there {
            return Err(Errno::FAULT.into());
        }
        let now = Now { wall_ns: wall_ns()?, monotonic_ns: clock::monotonic_ns() };
        // All are read before an event is written: the two arrays may be one.
        let subscriptions =
            (0..count).map(|index| self.subscription(input, index, &now)).collect::<Result<Vec<_>, _>>()?;
        let first = subscriptions.iter().map(Subscription::wait).min().unwrap_or_default();
        if !first.is_zero() {
            self.sleep_until(clock::now().checked_add(first))?;
        }
        let mut events = 0;
        for subscription in subscriptions.iter().filter(|subscription| subscription.wait() <= first) {
            self.write(output + events * EVENT_BYTES, &subscription.event())?;
            events += 1;
        }
        self.write_u32(result, events)
    }

    fn subscription(&mut self, input: u32, index: u32, now: &Now) -> Result<Subscription, Fault> {
        let mut raw = [0; SUBSCRIPTION_BYTES as usize];
        self.read(input + index * SUBSCRIPTION_BYTES, &mut raw)?;
        let u32_at = |at: usize| u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
        let mut userdata = [0; 8];
        userdata.copy_from_slice(&raw[..8]);
        let kind = raw[8];
        let wait = match kind {
            KIND_CLOCK => {
                self.asked.clock = true;
                let timeout = u64::from(u32_at(24)) | u64::from(u32_at(28)) << 32;
                let flags = u16::from_le_bytes([raw[40], raw[41]]);
                if flags & !ABSOLUTE != 0 {
                    return Err(Errno::INVAL.into());
                }
                let timeout_ns = match (u32_at(16), flags == ABSOLUTE) {
                    (REALTIME, true) => Ok(timeout.saturating_sub(now.wall_ns)),
                    (MONOTONIC, true) => Ok(timeout.saturating_sub(now.monotonic_ns)),
                    (REALTIME | MONOTONIC, false) => Ok(timeout),
                    // Who sleeps uses no CPU time: such a wait would never end.
                    (2 | 3, _) => Err(Errno::NOTSUP),
                    _ => Err(Errno::INVAL),
                };
                timeout_ns.map_or_else(Wait::Never, |ns| Wait::Clock(Duration::from_nanos(ns)))
            }
            KIND_READ => self.readable(u32_at(16)).unwrap_or_else(Wait::Never),
            KIND_WRITE => self.writable(u32_at(16)).unwrap_or_else(Wait::Never),
            _ => return Err(Errno::INVAL.into()),
        };
        Ok(Subscription { userdata, kind, wait })
    }

    fn readable(&mut self, fd: u32) -> Result<Wait, Errno> {
        let descriptor = self.files.get(fd)?;
        let stream = descriptor.stream();
        if stream.is_some_and(|stream| stream != Stream::Input) {
            return Err(Errno::BADF);
        }
        descriptor.base.require(Rights::FD_READ.and(Rights::POLL_FD_READWRITE))?;
        self.asked.input = true;
        let bytes = if stream.is_some() { self.payload.len() as u64 } else { self.files.readable(fd)? };
        Ok(Wait::Ready { bytes, is_at_end: bytes == 0 })
    }

    fn writable(&mut self, fd: u32) -> Result<Wait, Errno> {
        let descriptor = self.files.get(fd)?;
        let stream = descriptor.stream();
        if stream == Some(Stream::Input) {
            return Err(Errno::BADF);
        }
        descriptor.base.require(Rights::FD_WRITE.and(Rights::POLL_FD_READWRITE))?;
        if stream.is_none() {
            self.files.writable(fd)?;
        }
        Ok(Wait::Ready { bytes: u64::from(u32::MAX), is_at_end: false })
    }
}

impl Subscription {
    /// How long until it has something to say. An error is said at once.
    fn wait(&self) -> Duration {
        if let Wait::Clock(wait) = self.wait { wait } else { Duration::ZERO }
    }

    fn event(&self) -> [u8; EVENT_BYTES as usize] {
        let mut raw = [0; EVENT_BYTES as usize];
        raw[..8].copy_from_slice(&self.userdata);
        raw[10] = self.kind;
        match self.wait {
            Wait::Clock(_) => {}
            Wait::Ready { bytes, is_at_end } => {
                raw[16..24].copy_from_slice(&bytes.to_le_bytes());
                raw[24..26].copy_from_slice(&(if is_at_end { HANGUP } else { 0 }).to_le_bytes());
            }
            Wait::Never(errno) => raw[8..10].copy_from_slice(&errno.0.to_le_bytes()),
        }
        raw
    }
}
