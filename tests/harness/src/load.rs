//! A steady stream of calls, open loop: each is sent when it is due, however long the ones before take.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

/// Calls to send.
#[derive(Debug, Clone)]
pub struct Load {
    /// The gateways to send to, in turn, as `host:port`.
    pub gateways: Vec<String>,
    /// The key to show.
    pub key: String,
    /// The path, such as `/fn/default/echo`.
    pub path: String,
    /// The body, which must come back.
    pub body: String,
    /// Calls a second, over all gateways.
    pub rate: u32,
}

/// What became of the calls.
#[derive(Debug, Default, Clone)]
pub struct LoadReport {
    /// Calls that were answered with their own body.
    pub succeeded: u64,
    /// The others, by what was answered.
    pub failed: BTreeMap<String, u64>,
    /// How long each call took, by when it was due.
    pub latencies: Vec<Duration>,
}

/// Calls under way; [`Running::stop`] ends them.
pub struct Running {
    stop: Arc<AtomicBool>,
    report: Arc<Mutex<LoadReport>>,
    thread: JoinHandle<()>,
}

impl Load {
    /// Starts sending.
    pub fn start(self) -> Running {
        let (stop, report) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(LoadReport::default())));
        let (stopped, written) = (stop.clone(), report.clone());
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(self.send(&stopped, written));
        });
        Running { stop, report, thread }
    }

    async fn send(self, stop: &AtomicBool, report: Arc<Mutex<LoadReport>>) {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().expect("a client");
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / self.rate);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
        let mut calls = tokio::task::JoinSet::new();
        let mut sent = 0;
        while !stop.load(Ordering::SeqCst) {
            let due = ticks.tick().await;
            let gateway = &self.gateways[sent % self.gateways.len()];
            sent += 1;
            let call =
                client.post(format!("http://{gateway}{}", self.path)).bearer_auth(&self.key).body(self.body.clone());
            let (report, body) = (report.clone(), self.body.clone());
            calls.spawn(async move {
                let ended = match call.send().await {
                    Ok(response) => {
                        let status = response.status().as_u16();
                        match response.text().await {
                            Ok(text) if status == 200 && text == body => Ok(()),
                            Ok(text) => Err(format!("{status}: {text}")),
                            Err(error) => Err(format!("{status}: {error:?}")),
                        }
                    }
                    Err(error) => Err(format!("{error:?}")),
                };
                let mut report = report.lock().expect("no panic in a call");
                report.latencies.push(due.elapsed());
                match ended {
                    Ok(()) => report.succeeded += 1,
                    Err(message) => *report.failed.entry(message).or_default() += 1,
                }
            });
            while calls.try_join_next().is_some() {}
        }
        calls.join_all().await;
    }
}

impl Running {
    /// What became of the calls so far.
    pub fn report(&self) -> LoadReport {
        self.report.lock().expect("no panic in a call").clone()
    }

    /// Ends the stream, waits for the calls under way.
    pub fn stop(self) -> LoadReport {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().expect("no panic in the sender");
        Arc::try_unwrap(self.report).map_or_else(
            |shared| shared.lock().expect("no panic in a call").clone(),
            |mine| mine.into_inner().expect("no panic in a call"),
        )
    }

    /// Lets the stream run for a while.
    pub fn run_for(&self, time: Duration) {
        let started = SystemTime::now();
        while let Some(left) = time.checked_sub(started.elapsed().unwrap_or_default()) {
            thread::park_timeout(left);
        }
    }
}
