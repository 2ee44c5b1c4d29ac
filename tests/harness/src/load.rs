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

/// Calls to send that are not all the same.
#[derive(Clone)]
pub struct Calls {
    /// The gateways to send to, in turn, as `host:port`.
    pub gateways: Vec<String>,
    /// The key to show.
    pub key: String,
    /// Calls a second, over all gateways.
    pub rate: u32,
    /// The call with this number, counted from 0.
    pub call: Arc<dyn Fn(u64) -> Call + Send + Sync>,
}

/// One call.
#[derive(Debug, Clone)]
pub struct Call {
    /// The path, such as `/fn/default/echo`.
    pub path: String,
    /// The body.
    pub body: String,
    /// The answer it must have.
    pub answer: Expected,
}

/// What an answer must be, with status 200.
#[derive(Debug, Clone)]
pub enum Expected {
    /// This text.
    Exactly(String),
    /// A text that has this in it.
    Containing(String),
}

/// What became of the calls.
#[derive(Debug, Default, Clone)]
pub struct LoadReport {
    /// Calls that were answered as they should be.
    pub succeeded: u64,
    /// The others, by what was answered.
    pub failed: BTreeMap<String, u64>,
    /// How long each call took, by when it was due.
    pub latencies: Vec<Duration>,
    /// Each call, in the order of their ends.
    pub samples: Vec<Sample>,
}

/// One call that ended.
#[derive(Debug, Clone)]
pub struct Sample {
    /// When it was due.
    pub due: SystemTime,
    /// How long it took from then on.
    pub took: Duration,
    /// The node that ran it, as its answer says.
    pub node: Option<String>,
    /// What was wrong with its answer.
    pub failure: Option<String>,
    /// When to come back, in seconds, as the header `Retry-After` says.
    pub retry_after_s: Option<u64>,
}

/// What became of a call, but for its times.
#[derive(Default)]
struct Outcome {
    node: Option<String>,
    failure: Option<String>,
    retry_after_s: Option<u64>,
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
        let Load { gateways, key, path, body, rate } = self;
        let answer = Expected::Exactly(body.clone());
        let call = Call { path, body, answer };
        Calls { gateways, key, rate, call: Arc::new(move |_| call.clone()) }.start()
    }
}

impl Expected {
    fn is_met(&self, text: &str) -> bool {
        match self {
            Self::Exactly(expected) => text == expected,
            Self::Containing(part) => text.contains(part),
        }
    }
}

impl Calls {
    /// Starts sending.
    pub fn start(self) -> Running {
        let (stop, report) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(LoadReport::default())));
        let (stopped, written) = (stop.clone(), report.clone());
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(self.send(&stopped, &written));
        });
        Running { stop, report, thread }
    }

    async fn send(self, stop: &AtomicBool, report: &Arc<Mutex<LoadReport>>) {
        let client = reqwest::Client::builder().no_proxy().timeout(ANSWER_PATIENCE).build().expect("a client");
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / self.rate);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
        let mut calls = tokio::task::JoinSet::new();
        let mut sent = 0;
        while !stop.load(Ordering::SeqCst) {
            let due = ticks.tick().await;
            let gateway = &self.gateways[sent % self.gateways.len()];
            let Call { path, body, answer } = (self.call)(sent as u64);
            sent += 1;
            let request = client.post(format!("http://{gateway}{path}")).bearer_auth(&self.key).body(body);
            let report = report.clone();
            calls.spawn(async move {
                let Outcome { node, failure, retry_after_s } = outcome(request, &answer).await;
                let took = due.elapsed();
                report.lock().expect("no panic in a call").add(Sample {
                    due: SystemTime::now() - took,
                    took,
                    node,
                    failure,
                    retry_after_s,
                });
            });
            while calls.try_join_next().is_some() {}
        }
        calls.join_all().await;
    }
}

async fn outcome(request: reqwest::RequestBuilder, expected: &Expected) -> Outcome {
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) => return Outcome { failure: Some(format!("{error:?}")), ..Outcome::default() },
    };
    let status = response.status().as_u16();
    let header = |name: &str| response.headers().get(name).and_then(|value| Some(value.to_str().ok()?.to_owned()));
    let (node, retry_after_s) = (header("skein-node"), header("retry-after").and_then(|text| text.parse().ok()));
    let failure = match response.text().await {
        Ok(text) if status == 200 && expected.is_met(&text) => None,
        Ok(text) => Some(format!("{status}: {text}")),
        Err(error) => Some(format!("{status}: {error:?}")),
    };
    Outcome { node, failure, retry_after_s }
}

impl LoadReport {
    fn add(&mut self, sample: Sample) {
        self.latencies.push(sample.took);
        match &sample.failure {
            None => self.succeeded += 1,
            Some(message) => *self.failed.entry(message.clone()).or_default() += 1,
        }
        self.samples.push(sample);
    }

    /// The latency that this share of the calls had at most, in thousandths.
    pub fn quantile(&self, permille: usize) -> Duration {
        let mut latencies = self.latencies.clone();
        latencies.sort();
        let at = (latencies.len() * permille / 1_000).min(latencies.len().saturating_sub(1));
        latencies.get(at).copied().unwrap_or_default()
    }

    /// The same calls, but only those that were due at this time or later.
    pub fn since(&self, time: SystemTime) -> Self {
        let mut report = Self::default();
        self.samples.iter().filter(|sample| sample.due >= time).for_each(|sample| report.add(sample.clone()));
        report
    }
}

/// Longest wait for an answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

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
