//! `poll_oneoff`: waiting for clocks. The three streams are always ready.

use std::time::Duration;

use super::{Errno, Fault, Halt, process::clock_now};
use crate::{clock, host::Host};

const SUBSCRIPTION_BYTES: u32 = 48;
const EVENT_BYTES: u32 = 32;
/// Most subscriptions of one call. A guest has three streams; the rest are clocks.
const SUBSCRIPTIONS_MAX: u32 = 256;

const KIND_CLOCK: u8 = 0;
const KIND_READ: u8 = 1;
const KIND_WRITE: u8 = 2;

struct Subscription {
    userdata: [u8; 8],
    kind: u8,
    wait: Wait,
}

/// What there is to wait for.
enum Wait {
    Clock(Duration),
    Ready { bytes: u64 },
    Never(Errno),
}

impl Host {
    pub(super) fn poll_oneoff(&mut self, input: u32, output: u32, count: u32, result: u32) -> Result<(), Fault> {
        if count == 0 || count > SUBSCRIPTIONS_MAX {
            return Err(Errno::INVAL.into());
        }
        if !self.slot.contains(output, (count * EVENT_BYTES) as usize) {
            return Err(Errno::FAULT.into());
        }
        let subscriptions = (0..count).map(|index| self.subscription(input, index)).collect::<Result<Vec<_>, _>>()?;
        let first = subscriptions.iter().map(Subscription::wait).min().unwrap_or_default();
        if !first.is_zero() && !self.interrupt.sleep_until(clock::now().checked_add(first)) {
            return Err(Halt::Stopped.into());
        }
        let mut events = 0;
        for subscription in subscriptions.iter().filter(|subscription| subscription.wait() <= first) {
            self.write(output + events * EVENT_BYTES, &subscription.event())?;
            events += 1;
        }
        self.write_u32(result, events)
    }

    fn subscription(&self, input: u32, index: u32) -> Result<Subscription, Fault> {
        let mut raw = [0; SUBSCRIPTION_BYTES as usize];
        self.read(input.checked_add(index * SUBSCRIPTION_BYTES).ok_or(Errno::FAULT)?, &mut raw)?;
        let u32_at = |at: usize| u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
        let mut userdata = [0; 8];
        userdata.copy_from_slice(&raw[..8]);
        let kind = raw[8];
        let wait = match kind {
            KIND_CLOCK => {
                let timeout = u64::from(u32_at(24)) | u64::from(u32_at(28)) << 32;
                let is_absolute = raw[40] & 1 == 1;
                match clock_now(u32_at(16)) {
                    Ok(now) if is_absolute => Wait::Clock(Duration::from_nanos(timeout.saturating_sub(now))),
                    Ok(_) => Wait::Clock(Duration::from_nanos(timeout)),
                    Err(errno) => Wait::Never(errno),
                }
            }
            KIND_READ | KIND_WRITE => match self.stream(u32_at(16)) {
                Ok(0) if kind == KIND_READ => Wait::Ready { bytes: self.payload.len() as u64 },
                Ok(1 | 2) if kind == KIND_WRITE => Wait::Ready { bytes: u64::from(u32::MAX) },
                _ => Wait::Never(Errno::BADF),
            },
            _ => return Err(Errno::INVAL.into()),
        };
        Ok(Subscription { userdata, kind, wait })
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
            Wait::Ready { bytes } => raw[16..24].copy_from_slice(&bytes.to_le_bytes()),
            Wait::Never(errno) => raw[8..10].copy_from_slice(&errno.0.to_le_bytes()),
        }
        raw
    }
}
