//! Callers that each send the next call when the last was answered, through several phases of one run: each call is kept
//! with its time, so that a phase is a window of the record.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use anyhow::Result;
use http::HeaderMap;
use skein_harness::Mesh;
use tokio::{runtime::Runtime, task::JoinSet, time::Instant};

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// One call that was answered, or not.
#[derive(Debug, Clone)]
pub(crate) struct Answered {
    /// When it ended.
    pub(crate) at: Instant,
    pub(crate) took: Duration,
    /// The node that ran it, as the answer says.
    pub(crate) node: String,
    /// The call's id, by which the mesh can be asked why it ran there.
    pub(crate) invocation: String,
    /// The version had to be started for it.
    pub(crate) is_cold: bool,
    /// What was wrong with the answer.
    pub(crate) failure: Option<String>,
}

/// Calls under way.
pub(crate) struct Callers {
    runtime: Runtime,
    callers: JoinSet<Result<()>>,
    record: Arc<Record>,
}

#[derive(Default)]
struct Record {
    is_over: AtomicBool,
    next: AtomicUsize,
    calls: Mutex<Vec<Answered>>,
}

impl Callers {
    /// Starts so many callers, spread over all gateways, that call the functions at these paths in an order that says
    /// nothing and is the same every time; each pauses so long between two calls.
    pub(crate) fn start(mesh: &Mesh, count: usize, pause: Duration, paths: &[String]) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (record, mut callers) = (Arc::new(Record::default()), JoinSet::new());
        for i in 0..count {
            let node = &mesh.nodes[i % mesh.nodes.len()];
            let urls = paths.iter().map(|path| format!("http://{}{path}", node.http())).collect::<Vec<_>>();
            let (key, record) = (node.key(), record.clone());
            callers.spawn_on(async move { record.call(&urls, &key, pause).await }, runtime.handle());
        }
        Ok(Self { runtime, callers, record })
    }

    /// The calls so far.
    pub(crate) fn so_far(&self) -> Vec<Answered> {
        self.record.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the callers and gives all their calls.
    pub(crate) fn stop(mut self) -> Result<Vec<Answered>> {
        self.record.is_over.store(true, Relaxed);
        self.runtime.block_on(async {
            while let Some(ended) = self.callers.join_next().await {
                ended??;
            }
            anyhow::Ok(())
        })?;
        Ok(self.so_far())
    }
}

impl Record {
    async fn call(&self, urls: &[String], key: &str, pause: Duration) -> Result<()> {
        let client = reqwest::Client::builder().no_proxy().tcp_nodelay(true).timeout(PATIENCE).build()?;
        while !self.is_over.load(Relaxed) {
            let url = &urls[scattered(self.next.fetch_add(1, Relaxed)) % urls.len()];
            let sent = Instant::now();
            let mut answered = answer(client.post(url).bearer_auth(key)).await;
            answered.took = answered.at - sent;
            self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(answered);
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        }
        Ok(())
    }
}

/// A number that looks like any other for each number: the finaliser of SplitMix64 (Steele et al. 2014).
fn scattered(number: usize) -> usize {
    let mut z = (number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    // On 32 bits half of them are enough.
    (z ^ (z >> 31)) as usize
}

/// One call that ends now.
async fn answer(request: reqwest::RequestBuilder) -> Answered {
    let (mut headers, mut failure) = (HeaderMap::new(), None);
    match request.send().await {
        Err(error) => failure = Some(format!("{error:?}")),
        Ok(response) => {
            let status = response.status().as_u16();
            headers = response.headers().clone();
            match response.text().await {
                Ok(_) if status == 200 => {}
                Ok(text) => failure = Some(format!("{status}: {text}")),
                Err(error) => failure = Some(format!("{status}: {error:?}")),
            }
        }
    }
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    Answered {
        at: Instant::now(),
        took: Duration::ZERO,
        node: header("skein-node"),
        invocation: header("skein-invocation"),
        is_cold: header("skein-start") == "cold",
        failure,
    }
}

/// Lets time pass while others work.
pub(crate) fn pass(time: Duration) {
    let began = Instant::now();
    while let Some(left) = time.checked_sub(began.elapsed()) {
        thread::park_timeout(left);
    }
}
