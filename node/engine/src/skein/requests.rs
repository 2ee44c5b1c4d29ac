//! The outward requests of one call: asked for, under way, answered.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{BufMut as _, Bytes, BytesMut};
use skein_proto::Failure;

use crate::{HttpRequest, HttpResponse, InvokeRequest, Services};

/// The requests that a guest has not taken the answers of, by the numbers that it knows them by.
#[derive(Default)]
pub(crate) struct Requests {
    requests: BTreeMap<i32, Request>,
    last: i32,
    held_bytes: u64,
}

/// What a guest asks for.
#[derive(Debug)]
pub(crate) enum Ask {
    Invoke(InvokeRequest),
    Http(HttpRequest),
}

/// What it gets.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) is_failure: bool,
    pub(crate) bytes: Bytes,
}

enum Request {
    /// Nothing was done yet: what it waits for begins with the wait.
    Asked(Ask),
    UnderWay(Pin<Box<dyn Future<Output = Answer> + Send>>),
    Answered {
        answer: Answer,
        /// True once a wait has returned its number.
        is_told: bool,
    },
}

impl Requests {
    /// Most requests that are not answered at a time: what one call may keep busy elsewhere.
    const OPEN_MAX: usize = 64;
    /// Most whose answers were not taken: a guest that takes none holds no more of the host's memory than this.
    const MAX: usize = 1_024;

    /// The number of a new request, whose answer may be there already; `None` if there are too many.
    pub(crate) fn add(&mut self, ask: Result<Ask, Failure>) -> Option<i32> {
        if self.requests.len() >= Self::MAX {
            return None;
        }
        let request = match ask {
            Ok(ask) => Request::Asked(ask),
            Err(failure) => self.answered(Answer::failure(&failure)),
        };
        // Wraps only after two thousand million requests, and never reaches what is still in the list.
        self.last = self.last.checked_add(1).unwrap_or(1);
        self.requests.insert(self.last, request);
        Some(self.last)
    }

    /// True if one more may be under way.
    pub(crate) fn has_room(&self) -> bool {
        self.requests.values().filter(|request| !matches!(request, Request::Answered { .. })).count() < Self::OPEN_MAX
    }

    /// True if an answer may still come.
    pub(crate) fn has_open(&self) -> bool {
        self.requests.values().any(|request| !matches!(request, Request::Answered { .. }))
    }

    /// The next request that is answered and that no wait has told of.
    pub(crate) fn tell(&mut self) -> Option<i32> {
        self.requests.iter_mut().find_map(|(number, request)| match request {
            Request::Answered { is_told, .. } if !*is_told => {
                *is_told = true;
                Some(*number)
            }
            _ => None,
        })
    }

    /// The answer to a request, if it is there; the outer `None` if there is no such request.
    pub(crate) fn answer(&mut self, number: i32) -> Option<Option<&Answer>> {
        self.requests.get_mut(&number).map(|request| match request {
            Request::Answered { answer, is_told } => {
                *is_told = true;
                Some(&*answer)
            }
            _ => None,
        })
    }

    /// Takes a request back, whatever has become of it.
    pub(crate) fn cancel(&mut self, number: i32) {
        if let Some(Request::Answered { answer, .. }) = self.requests.remove(&number) {
            self.held_bytes -= answer.bytes.len() as u64;
        }
    }

    /// The answer to a request, which is forgotten.
    pub(crate) fn take(&mut self, number: i32) -> Option<Answer> {
        let answer = self.answer(number)??.clone();
        self.cancel(number);
        Some(answer)
    }

    /// Begins what was asked for.
    pub(crate) fn begin(&mut self, services: &dyn Services) {
        for request in self.requests.values_mut() {
            if matches!(request, Request::Asked(_))
                && let Request::Asked(ask) =
                    std::mem::replace(request, Request::Answered { answer: Answer::none(), is_told: true })
            {
                *request = Request::UnderWay(ask.begin(services));
            }
        }
    }

    /// Ready when one that is under way has been answered, all that are being looked at. `bytes_max` bounds the answers
    /// that are held together.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>, bytes_max: u64) -> Poll<()> {
        let mut is_ready = false;
        for number in self.requests.keys().copied().collect::<Vec<_>>() {
            let Some(Request::UnderWay(future)) = self.requests.get_mut(&number) else { continue };
            let Poll::Ready(mut answer) = future.as_mut().poll(context) else { continue };
            if self.held_bytes + answer.bytes.len() as u64 > bytes_max {
                let message = format!("the answers that wait to be taken are over {bytes_max} bytes (limits.memory)");
                answer = Answer::failure(&Failure::executed(skein_proto::ErrorCode::LimitExceeded, message));
            }
            let answered = self.answered(answer);
            self.requests.insert(number, answered);
            is_ready = true;
        }
        if is_ready { Poll::Ready(()) } else { Poll::Pending }
    }

    fn answered(&mut self, answer: Answer) -> Request {
        self.held_bytes += answer.bytes.len() as u64;
        Request::Answered { answer, is_told: false }
    }
}

impl Ask {
    fn begin(self, services: &dyn Services) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        match self {
            Self::Invoke(request) => {
                let asked = services.invoke(request);
                Box::pin(async move { asked.await.map_or_else(|failure| Answer::failure(&failure), Answer::success) })
            }
            Self::Http(request) => {
                let asked = services.http(request);
                Box::pin(async move { asked.await.map_or_else(|failure| Answer::failure(&failure), Answer::response) })
            }
        }
    }
}

impl Answer {
    fn none() -> Self {
        Self { is_failure: true, bytes: Bytes::new() }
    }

    fn success(bytes: Bytes) -> Self {
        Self { is_failure: false, bytes }
    }

    /// `{"code":…,"message":…,"progress":…}`.
    pub(crate) fn failure(failure: &Failure) -> Self {
        let text = serde_json::json!({
            "code": failure.code.as_str(),
            "message": failure.message,
            "progress": failure.progress,
        });
        Self { is_failure: true, bytes: text.to_string().into() }
    }

    /// The status, a line for each header, an empty line, the body.
    fn response(response: HttpResponse) -> Self {
        let mut bytes = BytesMut::with_capacity(64 * (1 + response.headers.len()) + response.body.len());
        bytes.put_slice(format!("{}\n", response.status).as_bytes());
        for (name, value) in &response.headers {
            // No header has a line break, so that none can pass for another.
            let is_plain = |text: &str| !text.contains(['\n', '\r', '\0']);
            if is_plain(name) && is_plain(value) {
                bytes.put_slice(format!("{name}: {value}\n").as_bytes());
            }
        }
        bytes.put_u8(b'\n');
        bytes.put_slice(&response.body);
        Self::success(bytes.freeze())
    }
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests").field("count", &self.requests.len()).finish_non_exhaustive()
    }
}
