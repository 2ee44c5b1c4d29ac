//! HTTP/1.1 by hand, for what a proper client would never send.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::fixture::SOON;

pub(crate) struct Raw(pub(crate) TcpStream);

impl Raw {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        Self(TcpStream::connect(addr).await.unwrap())
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        // The other side may have hung up already; what it said is read later.
        let _ = self.0.write_all(bytes).await;
    }

    /// Everything until the other side closes, or an end that is a reset.
    pub(crate) async fn read_to_end(&mut self) -> String {
        let mut seen = Vec::new();
        let mut piece = [0; 4096];
        loop {
            match timeout(SOON, self.0.read(&mut piece)).await.expect("the connection is closed in time") {
                Ok(0) | Err(_) => return String::from_utf8_lossy(&seen).into_owned(),
                Ok(count) => seen.extend_from_slice(&piece[..count]),
            }
        }
    }

    /// One response with a `content-length`, head and body.
    pub(crate) async fn read_response(&mut self) -> String {
        let mut seen = Vec::new();
        let mut piece = [0; 4096];
        loop {
            let text = String::from_utf8_lossy(&seen).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                    return text;
                }
            }
            let count = timeout(SOON, self.0.read(&mut piece)).await.expect("an answer in time").unwrap();
            assert!(count > 0, "closed within a response: {text}");
            seen.extend_from_slice(&piece[..count]);
        }
    }
}
