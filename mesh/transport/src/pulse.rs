//! Whether the node at the other end of a stranger's connection is there and stays, as this side sees it.
//!
//! An idle connection costs a packet each way a second; while requests wait for answers, silence is looked at closely.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use quinn::Connection;
use tokio::{
    sync::{Notify, watch},
    time::sleep,
};

use crate::{
    close::{CLOSE_DONE, CLOSE_SILENT},
    frame::Frame,
    stream::FrameReader,
};

/// What is known of the other end, and whether somebody waits for it.
#[derive(Default)]
pub(crate) struct Pulse {
    /// Requests that wait for their answers. Under a lock so that a connection is not ended while one begins.
    under_way: Mutex<usize>,
    /// The first of them has begun.
    began: Notify,
    /// The last of them has ended.
    ended: Notify,
    signs: watch::Sender<Signs>,
}

/// What the other end has shown.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Signs {
    /// It said that it is leaving.
    pub(crate) is_leaving: bool,
    /// A sign that it was asked for is overdue. That is not enough to send calls elsewhere.
    pub(crate) is_silent: bool,
    /// It has been silent for a while, although it was asked for a sign.
    pub(crate) is_doubted: bool,
}

/// A request that waits for its answer.
pub(crate) struct UnderWay<'a>(&'a Pulse);

impl Pulse {
    pub(crate) fn signs(&self) -> Signs {
        *self.signs.borrow()
    }

    /// Counts a request until what is returned is dropped.
    pub(crate) fn begin(&self) -> UnderWay<'_> {
        let mut under_way = self.under_way();
        *under_way += 1;
        if *under_way == 1 {
            self.began.notify_one();
        }
        UnderWay(self)
    }

    fn under_way(&self) -> MutexGuard<'_, usize> {
        // Nothing panics under the lock.
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the connection if nothing is under way; whatever begins later finds it ended, and has certainly not run.
    fn end_if_idle(&self, connection: &Connection) -> bool {
        let under_way = self.under_way();
        if *under_way == 0 {
            connection.close(CLOSE_DONE, b"the node is leaving");
        }
        *under_way == 0
    }

    /// Waits until the other end is doubted.
    pub(crate) async fn doubted(&self) {
        // It cannot end: this side of it is ours.
        let _ = self.signs.subscribe().wait_for(|signs| signs.is_doubted).await;
    }

    /// Looks at the connection, and listens to what the node says on `words`, until the connection ends; ends it when the
    /// node is silent for too long, and when it leaves and has answered everything: it waits for that.
    ///
    /// Silence is counted in looks, not by the clock, so that a process that was held up does not take its own absence
    /// for the other's: what came meanwhile is waiting to be read.
    pub(crate) async fn look(self: Arc<Self>, connection: Connection, mut words: FrameReader) {
        let (mut silence, mut heard, mut is_listening) = (Silence::default(), received(&connection), true);
        loop {
            let is_leaving = self.signs().is_leaving;
            if is_leaving && self.end_if_idle(&connection) {
                return;
            }
            let is_busy = *self.under_way() > 0;
            let period = if is_busy { LOOK } else { IDLE_LOOK };
            tokio::select! {
                biased;
                _ = connection.closed() => return,
                word = words.next(), if is_listening => {
                    let is_leaving = matches!(word, Ok(Some(Frame::Bye)));
                    is_listening = !is_leaving && matches!(word, Ok(Some(_)));
                    self.signs.send_if_modified(|signs| is_leaving && !std::mem::replace(&mut signs.is_leaving, true));
                    continue;
                }
                () = self.began.notified(), if !is_busy => continue,
                () = self.ended.notified(), if is_leaving => continue,
                () = sleep(period) => {}
            }
            let now = received(&connection);
            let next = silence.look(now != heard, period);
            heard = now;
            let (is_silent, is_doubted) = (silence.lasts >= SILENT_AFTER, silence.lasts >= DOUBTED_AFTER);
            self.signs.send_if_modified(|signs| {
                let now = Signs { is_silent, is_doubted, ..*signs };
                std::mem::replace(signs, now) != now
            });
            match next {
                Next::Nothing => {}
                // Only the newest matters; if there is no room for it, others are on their way.
                Next::Ask => {
                    let _ = connection.send_datagram(probe());
                }
                Next::GiveUp => {
                    connection.close(CLOSE_SILENT, b"nothing is heard");
                    return;
                }
            }
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut under_way = self.0.under_way();
        *under_way -= 1;
        if *under_way == 0 {
            self.0.ended.notify_one();
        }
    }
}

/// How long the other end has been silent. Pure: it is told what each look shows.
#[derive(Debug, Default)]
struct Silence {
    /// It was asked for a sign.
    has_asked: bool,
    lasts: Duration,
}

/// What to do after a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Nothing,
    Ask,
    GiveUp,
}

impl Silence {
    /// Takes a look's result: whether anything was heard since the one before, a `period` ago.
    fn look(&mut self, is_heard: bool, period: Duration) -> Next {
        if is_heard {
            *self = Self::default();
            return Next::Nothing;
        }
        // Before it was asked it had no reason to speak.
        if self.has_asked {
            // One idle look is no better a reason to give a node up than a few close ones.
            self.lasts += period.min(DOUBTED_AFTER);
        }
        self.has_asked = true;
        if self.lasts >= GIVEN_UP_AFTER { Next::GiveUp } else { Next::Ask }
    }
}

/// Asks the other end for a sign of life, and waits for one for as long as a node is not doubted; whether there was any.
/// Counted in looks, as all silence is.
pub(crate) async fn is_heard(connection: &Connection) -> bool {
    let before = received(connection);
    let mut looks = 0;
    while received(connection) == before {
        if connection.close_reason().is_some() || looks >= SIGN_LOOKS_MAX {
            return false;
        }
        if looks % SIGN_LOOKS_EACH == 0 {
            let _ = connection.send_datagram(probe());
        }
        looks += 1;
        sleep(SIGN_LOOK).await;
    }
    true
}

/// Packets that have come.
fn received(connection: &Connection) -> u64 {
    connection.stats().udp_rx.datagrams
}

fn probe() -> Bytes {
    let mut bytes = BytesMut::with_capacity(16);
    Frame::Probe.write_bare(&mut bytes);
    bytes.freeze()
}

/// Between two looks while requests wait: more than a round trip around the world takes is doubtful after three, as with
/// peers, and no request waits for a node that is gone for longer than ten of them.
const LOOK: Duration = Duration::from_millis(150);

/// Between two looks at a connection that nobody uses: so old the news of a dead node is when the next call comes.
const IDLE_LOOK: Duration = Duration::from_secs(1);

/// How long a node that was asked may be silent until a sign is overdue, until new calls go elsewhere, and until those under
/// way are given up.
const SILENT_AFTER: Duration = Duration::from_millis(300);
const DOUBTED_AFTER: Duration = Duration::from_millis(450);
const GIVEN_UP_AFTER: Duration = Duration::from_millis(1_350);

/// Between two looks for a sign that a caller waits for; how many make as long as [`DOUBTED_AFTER`], and after how many it is
/// asked for again, since what asked for it may have been lost.
const SIGN_LOOK: Duration = Duration::from_millis(5);
const SIGN_LOOKS_MAX: u32 = 90;
const SIGN_LOOKS_EACH: u32 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    /// What follows so many looks at which nothing was heard.
    fn after(looks: usize, period: Duration) -> (Next, bool, Silence) {
        let mut silence = Silence::default();
        let next = (0..looks).map(|_| silence.look(false, period)).last().unwrap();
        (next, silence.lasts >= DOUBTED_AFTER, silence)
    }

    #[test]
    fn a_silent_node_is_asked_then_doubted_then_given_up() {
        assert!(matches!(after(1, LOOK), (Next::Ask, false, _)));
        assert!(matches!(after(3, LOOK), (Next::Ask, false, _)));
        assert!(matches!(after(4, LOOK), (Next::Ask, true, _)));
        assert!(matches!(after(9, LOOK), (Next::Ask, true, _)));
        assert!(matches!(after(10, LOOK), (Next::GiveUp, true, _)));
        assert!(matches!(after(1, IDLE_LOOK), (Next::Ask, false, _)), "it was not asked before");
        assert!(matches!(after(2, IDLE_LOOK), (Next::Ask, true, _)));
        assert!(matches!(after(4, IDLE_LOOK), (Next::GiveUp, true, _)));
    }

    #[test]
    fn a_node_that_speaks_again_is_as_good_as_before() {
        let (_, _, mut silence) = after(9, LOOK);
        assert_eq!(silence.look(true, LOOK), Next::Nothing);
        assert!(silence.lasts < SILENT_AFTER);
        assert_eq!((0..9).map(|_| silence.look(false, LOOK)).last(), Some(Next::Ask));
    }
}
