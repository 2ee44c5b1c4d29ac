//! The calls of a soak: an open loop over the gateways that are open at the moment.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Result, anyhow};
use tokio::{task::JoinSet, time::Instant};

/// Longest wait for an answer: more than any deadline of the functions that are called.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a call asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// The same text again.
    Echo { payload: String },
    /// The number of the version.
    Versioned,
    /// Much memory.
    Hog,
    /// An echo by a key that is revoked some time.
    Doomed { key: usize },
}

/// A call that ended.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    pub(super) asked: Asked,
    pub(super) gateway: usize,
    pub(super) due: Instant,
    pub(super) end: Instant,
    /// 0 when there was no answer; then the body says why.
    pub(super) status: u16,
    pub(super) body: String,
}

/// Whom to call, and by which key.
#[derive(Debug, Default)]
pub(super) struct Table(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    gateways: BTreeMap<usize, String>,
    key: String,
    doomed: Option<(usize, String)>,
}

impl Table {
    pub(super) fn open(&self, node: usize, address: &str) {
        self.entries().gateways.insert(node, address.to_owned());
    }

    pub(super) fn close(&self, node: usize) {
        self.entries().gateways.remove(&node);
    }

    pub(super) fn open_nodes(&self) -> Vec<usize> {
        self.entries().gateways.keys().copied().collect()
    }

    pub(super) fn set_key(&self, key: String) {
        self.entries().key = key;
    }

    pub(super) fn set_doomed(&self, key: usize, text: &str) {
        self.entries().doomed = Some((key, text.to_owned()));
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The call with this number: gateway, address, key, and what it asks.
    fn call(&self, number: u64) -> Option<(usize, String, String, Asked)> {
        let entries = self.entries();
        // Shifted each round, so that each kind of call comes to each gateway.
        let at = usize::try_from(number + number / 12).ok()? % entries.gateways.len().max(1);
        let (gateway, address) = entries.gateways.iter().nth(at)?;
        let (mut key, mut asked) = (entries.key.clone(), Asked::Echo { payload: format!("payload-{number}") });
        match number % 12 {
            0..3 => asked = Asked::Versioned,
            3 => asked = Asked::Hog,
            4 => {
                if let Some((which, text)) = &entries.doomed {
                    (key, asked) = (text.clone(), Asked::Doomed { key: *which });
                }
            }
            _ => {}
        }
        Some((*gateway, address.clone(), key, asked))
    }
}

/// Calls under way.
pub(super) struct Traffic {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Ended>>>,
}

impl Traffic {
    pub(super) fn start(table: Arc<Table>, rate: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(send(&table, rate, &stopped))
        });
        Self { stop, thread }
    }

    /// Ends the stream, waits for the calls under way, and gives all.
    pub(super) fn stop(self) -> Result<Vec<Ended>> {
        self.stop.store(true, Relaxed);
        self.thread.join().map_err(|_| anyhow!("the sender of calls panicked"))?
    }
}

async fn send(table: &Table, rate: u32, stop: &AtomicBool) -> Result<Vec<Ended>> {
    let client = reqwest::Client::builder().no_proxy().tcp_nodelay(true).timeout(PATIENCE).build()?;
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate.max(1));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let (mut calls, mut ended, mut number) = (JoinSet::new(), Vec::new(), 0);
    while !stop.load(Relaxed) {
        let due = ticks.tick().await;
        number += 1;
        let Some((gateway, address, key, asked)) = table.call(number) else { continue };
        let (path, body) = match &asked {
            Asked::Echo { payload } => ("echo", payload.clone()),
            Asked::Doomed { .. } => ("echo", "doomed".to_owned()),
            Asked::Versioned => ("versioned", String::new()),
            Asked::Hog => ("hog", String::new()),
        };
        let request = client.post(format!("http://{address}/fn/default/{path}")).bearer_auth(key).body(body);
        calls.spawn(async move {
            let (status, body) = answer(request).await;
            Ended { asked, gateway, due, end: Instant::now(), status, body }
        });
        while let Some(call) = calls.try_join_next() {
            ended.push(call?);
        }
    }
    while let Some(call) = calls.join_next().await {
        ended.push(call?);
    }
    Ok(ended)
}

async fn answer(request: reqwest::RequestBuilder) -> (u16, String) {
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) => return (0, format!("{error:?}")),
    };
    let status = response.status().as_u16();
    match response.text().await {
        Ok(text) => (status, text),
        Err(error) => (0, format!("{status}, but its body broke off: {error:?}")),
    }
}
