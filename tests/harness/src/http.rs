//! HTTP as a stranger's program would speak it.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

/// A client of one address.
#[derive(Debug, Clone)]
pub struct Http {
    address: String,
    key: Option<String>,
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers, in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: bytes::Bytes,
}

impl Answer {
    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The same, if it is a problem with this status and code.
    #[track_caller]
    pub fn problem(self, status: u16, code: &str) -> Self {
        assert_eq!((self.status, self.json()["code"].as_str()), (status, Some(code)), "{}", self.text());
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        self
    }
}

impl Http {
    /// A client of `address`, with this key.
    pub fn new(address: &str, key: Option<String>) -> Self {
        Self { address: address.to_owned(), key }
    }

    /// The same with another key.
    pub fn with_key(&self, key: Option<&str>) -> Self {
        Self { address: self.address.clone(), key: key.map(str::to_owned) }
    }

    /// One request.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let client =
                reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().expect("a client");
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            let mut request = client.request(method, format!("http://{}{path}", self.address)).body(body);
            if let Some(key) = &self.key {
                request = request.bearer_auth(key);
            }
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let response = request.send().await.expect("an answer");
            let status = response.status().as_u16();
            let text = |value: &reqwest::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
            let headers = response.headers().iter().map(|(name, value)| (name.as_str().to_owned(), text(value)));
            let headers = headers.collect();
            Answer { status, headers, body: response.bytes().await.expect("a body") }
        })
    }

    /// GET.
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], Vec::new())
    }

    /// POST.
    pub fn post(&self, path: &str, body: impl Into<Vec<u8>>) -> Answer {
        self.send("POST", path, &[], body.into())
    }
}
