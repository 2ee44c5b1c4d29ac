//! An HTTP server that writes down each request, so that a test knows how often each of its calls was executed.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

/// The ledger. Its server ends with it.
pub struct Ledger {
    addr: SocketAddr,
    entries: Arc<Mutex<BTreeMap<String, u32>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ledger {
    /// A ledger that answers each request after `pause` with its path: so long a call is in flight, and can be caught at it.
    pub fn start(pause: Duration) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket that does not block");
        let addr = listener.local_addr().expect("its address");
        let entries = Arc::new(Mutex::new(BTreeMap::new()));
        let (stop, stopped) = oneshot::channel();
        let written = entries.clone();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).expect("a listener");
                tokio::select! {
                    _ = stopped => {}
                    () = accept(listener, written, pause) => {}
                }
            });
        });
        Self { addr, entries, stop: Some(stop), thread: Some(thread) }
    }

    /// What a function has to be granted to reach it.
    pub fn origin(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// How often each path was asked for.
    pub fn entries(&self) -> BTreeMap<String, u32> {
        self.entries.lock().expect("no panic in the ledger").clone()
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, entries: Arc<Mutex<BTreeMap<String, u32>>>, pause: Duration) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream, entries.clone(), pause));
    }
}

/// Answers the requests of one connection. They have no bodies.
async fn serve(stream: TcpStream, entries: Arc<Mutex<BTreeMap<String, u32>>>, pause: Duration) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut path = None;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            let line = line.trim_end();
            path = path.or_else(|| line.split(' ').nth(1).map(str::to_owned));
            if line.is_empty() {
                break;
            }
        }
        let path = path?;
        // Before the answer: an execution whose answer is lost counts as well.
        *entries.lock().expect("no panic in the ledger").entry(path.clone()).or_default() += 1;
        // tidy: sleeps because what is in flight must last, to be moved while it is.
        tokio::time::sleep(pause).await;
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{path}", path.len());
        stream.get_mut().write_all(answer.as_bytes()).await.ok()?;
    }
}
