//! Turns at what there is little of, given out fairly: by app, within an app by function, within a function by arrival.
//!
//! Whoever starts a thousand things at once has them started one after another, and whoever wants one gets the next turn
//! or the one after. So no app's burst of cold starts keeps another app's waiting, and no function's its neighbour's.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use skein_proto::{AppName, ErrorCode, Failure, FunctionName, Manifest};
use tokio::sync::oneshot;

/// Turns. A handle: clones share them.
#[derive(Clone)]
pub(crate) struct Turns {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
}

struct State {
    free: usize,
    waiting: usize,
    line: Line<AppName, Line<FunctionName, VecDeque<oneshot::Sender<Turn>>>>,
}

/// Leave to do it. Dropping it passes it on.
pub(crate) struct Turn(Option<Arc<Shared>>);

/// Several lines, served in turn.
#[derive(Debug)]
struct Line<K, L> {
    order: VecDeque<K>,
    lines: HashMap<K, L>,
}

/// Something that things are taken from one after another.
trait Next {
    type Item;
    fn next(&mut self) -> Option<Self::Item>;
    fn is_empty(&self) -> bool;
}

impl Turns {
    /// So many at a time.
    pub(crate) fn new(parallel: usize) -> Self {
        let state = State { free: parallel.max(1), waiting: 0, line: Line::default() };
        Self { shared: Arc::new(Shared { state: Mutex::new(state) }) }
    }

    /// The next turn of this function's.
    ///
    /// # Errors
    /// `overloaded` if too many wait.
    pub(crate) async fn take(&self, manifest: &Manifest) -> Result<Turn, Failure> {
        let turn = {
            let mut state = self.shared.lock();
            if state.free > 0 {
                state.free -= 1;
                return Ok(Turn(Some(self.shared.clone())));
            }
            if state.waiting >= WAITING_MAX {
                let message = "too many versions wait to be started on this node";
                return Err(Failure::not_executed(ErrorCode::Overloaded, message));
            }
            let (give, turn) = oneshot::channel();
            state.waiting += 1;
            state.line.of(&manifest.app).of(&manifest.name).push_back(give);
            turn
        };
        turn.await.map_err(|_| Failure::not_executed(ErrorCode::Internal, "a turn got lost"))
    }
}

impl Shared {
    /// Gives a turn to whoever is next and still wants it.
    fn pass_on(self: &Arc<Self>) {
        let mut state = self.lock();
        while let Some(next) = state.line.next() {
            state.waiting -= 1;
            match next.send(Turn(Some(self.clone()))) {
                Ok(()) => return,
                // Gone; the turn stays here, and must not be passed on by itself.
                Err(mut turn) => turn.0 = None,
            }
        }
        state.free += 1;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(shared) = self.0.take() {
            shared.pass_on();
        }
    }
}

impl<K, L> Default for Line<K, L> {
    fn default() -> Self {
        Self { order: VecDeque::new(), lines: HashMap::new() }
    }
}

impl<K: Eq + Hash + Clone, L: Default> Line<K, L> {
    /// The line of `key`, which is served after those that are there.
    fn of(&mut self, key: &K) -> &mut L {
        self.lines.entry(key.clone()).or_insert_with(|| {
            self.order.push_back(key.clone());
            L::default()
        })
    }
}

impl<K: Eq + Hash + Clone, L: Next> Next for Line<K, L> {
    type Item = L::Item;

    fn next(&mut self) -> Option<L::Item> {
        let key = self.order.pop_front()?;
        let line = self.lines.get_mut(&key)?;
        let item = line.next();
        if line.is_empty() {
            self.lines.remove(&key);
        } else {
            self.order.push_back(key);
        }
        item
    }

    fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

impl<T> Next for VecDeque<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.pop_front()
    }

    fn is_empty(&self) -> bool {
        VecDeque::is_empty(self)
    }
}

/// Most that wait for a turn: a start each, whose calls wait as well.
const WAITING_MAX: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::manifest;

    /// What `arrivals` (such as `a1 a1 b1`: app and function) get when they arrive in this order.
    fn served(arrivals: &str) -> String {
        let mut line = Line::<char, Line<char, VecDeque<&str>>>::default();
        for arrival in arrivals.split(' ') {
            let mut letters = arrival.chars();
            let (app, function) = (letters.next().unwrap(), letters.next().unwrap());
            line.of(&app).of(&function).push_back(arrival);
        }
        let served: Vec<_> = std::iter::from_fn(|| line.next()).collect();
        assert!(line.is_empty() && line.lines.is_empty());
        served.join(" ")
    }

    #[test]
    fn a_burst_of_one_app_keeps_no_other_waiting() {
        assert_eq!(served("a1 a2 a3 a4 b1"), "a1 b1 a2 a3 a4");
        assert_eq!(served("a1 a2 a3 b1 c1 b2"), "a1 b1 c1 a2 b2 a3");
    }

    #[test]
    fn a_burst_of_one_function_keeps_no_neighbour_waiting() {
        assert_eq!(served("a1 a1 a1 a2"), "a1 a2 a1 a1");
        assert_eq!(served("a1 a1 a1 a2 b1"), "a1 b1 a2 a1 a1");
    }

    #[tokio::test]
    async fn a_turn_goes_to_the_next_and_past_those_that_gave_up() {
        let turns = Turns::new(1);
        let of = |name: &str| {
            let (turns, manifest) = (turns.clone(), manifest(name));
            tokio::spawn(async move { turns.take(&manifest).await })
        };
        let first = turns.take(&manifest("first")).await.unwrap();
        let gone = of("gone");
        while turns.shared.lock().waiting < 1 {
            tokio::task::yield_now().await;
        }
        let waits = of("waits");
        while turns.shared.lock().waiting < 2 {
            tokio::task::yield_now().await;
        }
        gone.abort();
        assert!(gone.await.is_err());
        drop(first);
        drop(waits.await.unwrap().unwrap());
        let state = turns.shared.lock();
        assert_eq!((state.free, state.waiting), (1, 0));
    }
}
