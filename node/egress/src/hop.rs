//! One request to one origin, and the one that a redirect makes of it. Pure.

use bytes::Bytes;
use reqwest::{
    Method, StatusCode,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};
use skein_engine::{HttpRequest, grants::HttpLeave};
use skein_proto::{ErrorCode, Failure, Limits};
use url::Url;

/// What is sent.
#[derive(Debug, Clone)]
pub(crate) struct Hop {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Whether a grant names the host itself.
    pub(crate) is_named: bool,
}

/// Fields that are the connection's and not the guest's. `host` is among them: behind one address there may be hosts
/// that were not granted.
const DROPPED: [HeaderName; 9] = [
    header::HOST,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::EXPECT,
    HeaderName::from_static("keep-alive"),
];

/// What another origin must not learn by a redirect.
const SECRET: [HeaderName; 2] = [header::AUTHORIZATION, header::COOKIE];

impl Hop {
    /// The guest's own request.
    ///
    /// # Errors
    /// `bad-request` or `too-large`, not executed.
    pub(crate) fn first(request: HttpRequest, url: Url, leave: HttpLeave) -> Result<Self, Failure> {
        let refuse = |message: String| Failure::not_executed(ErrorCode::BadRequest, message);
        let method = Method::from_bytes(request.method.as_bytes())
            .map_err(|_| refuse(format!("`{}` is not an HTTP method", request.method.escape_debug())))?;
        if matches!(method, Method::CONNECT | Method::TRACE) {
            return Err(refuse(format!("functions send no {method} requests")));
        }
        let (bytes, bytes_max) = (request.body.len() as u64, Limits::PAYLOAD_BYTES_MAX);
        if bytes > bytes_max {
            let message = format!("the body has {bytes} bytes; a request takes {bytes_max} at most");
            return Err(Failure::not_executed(ErrorCode::TooLarge, message));
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &request.headers {
            let name = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| refuse(format!("`{}` is not the name of a header", name.escape_debug())))?;
            let value = HeaderValue::from_str(value)
                .map_err(|_| refuse(format!("the value of `{name}` has characters that no header has")))?;
            if !DROPPED.contains(&name) && !name.as_str().starts_with("proxy-") {
                headers.append(name, value);
            }
        }
        Ok(Self { method, url, headers, body: request.body, is_named: leave.is_named })
    }

    /// Where an answer sends the request on to; none if it is the answer.
    ///
    /// # Errors
    /// `malformed`, executed, if that is no URL.
    pub(crate) fn redirected_to(&self, status: StatusCode, headers: &HeaderMap) -> Result<Option<Url>, Failure> {
        let is_redirect = matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308);
        let Some(location) = headers.get(header::LOCATION).filter(|_| is_redirect) else { return Ok(None) };
        let joined = std::str::from_utf8(location.as_bytes()).ok().and_then(|text| self.url.join(text).ok());
        let message = || format!("{} redirects to what is no URL", self.origin());
        joined.map(Some).ok_or_else(|| Failure::executed(ErrorCode::Malformed, message()))
    }

    /// The request that follows a redirect (RFC 9110, section 15.4; the Fetch standard for what happens to POST).
    pub(crate) fn next(mut self, status: StatusCode, url: Url, leave: HttpLeave) -> Self {
        let is_read = matches!(self.method, Method::GET | Method::HEAD);
        let becomes_get = match status.as_u16() {
            303 => !is_read,
            301 | 302 => self.method == Method::POST,
            _ => false,
        };
        if becomes_get {
            self.method = Method::GET;
            self.body = Bytes::new();
            let of_body: Vec<_> =
                self.headers.keys().filter(|name| name.as_str().starts_with("content-")).cloned().collect();
            for name in of_body {
                self.headers.remove(name);
            }
        }
        if self.url.origin() != url.origin() {
            for name in SECRET {
                self.headers.remove(name);
            }
        }
        Self { url, is_named: leave.is_named, ..self }
    }

    /// Where it goes, for messages: without path and query, which may hold secrets.
    pub(crate) fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, headers: &[(&str, &str)]) -> Result<Hop, Failure> {
        let mut request = HttpRequest::new(method, "https://a.example/x", Bytes::from_static(b"body"), 1);
        request.headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Hop::first(request, "https://a.example/x".parse().unwrap(), HttpLeave { is_named: true })
    }

    fn shown(hop: &Hop) -> String {
        let headers: Vec<_> = hop.headers.iter().map(|(n, v)| format!("{n}={}", v.to_str().unwrap())).collect();
        format!("{} {} [{}] {}", hop.method, hop.url, headers.join(","), hop.body.len())
    }

    #[test]
    fn what_is_the_connections_is_dropped_and_what_is_no_header_refused() {
        let hop =
            request("post", &[("Host", "evil"), ("X-A", "1"), ("Proxy-Authorization", "p"), ("x-a", "2")]).unwrap();
        assert_eq!(shown(&hop), "post https://a.example/x [x-a=1,x-a=2] 4");
        for (method, name, value) in
            [("G T", "a", "b"), ("CONNECT", "a", "b"), ("GET", "a b", "c"), ("GET", "a", "b\r\nc: d")]
        {
            assert_eq!(request(method, &[(name, value)]).unwrap_err().code, ErrorCode::BadRequest, "{method} {name}");
        }
    }

    #[test]
    fn a_redirect_keeps_or_drops_the_body_as_browsers_do() {
        let check = |method: &str, status: u16, expected: &str| {
            let hop = request(method, &[("content-type", "text/plain"), ("x-a", "1")]).unwrap();
            let hop = hop.next(
                StatusCode::from_u16(status).unwrap(),
                "https://a.example/y".parse().unwrap(),
                HttpLeave { is_named: true },
            );
            assert_eq!(shown(&hop), expected, "{method} {status}");
        };
        let kept = "https://a.example/y [content-type=text/plain,x-a=1] 4";
        check("POST", 302, "GET https://a.example/y [x-a=1] 0");
        check("PUT", 302, &format!("PUT {kept}"));
        check("PUT", 303, "GET https://a.example/y [x-a=1] 0");
        check("POST", 308, &format!("POST {kept}"));
        check("GET", 301, &format!("GET {kept}"));
    }

    #[test]
    fn another_origin_gets_no_credentials() {
        let check = |to: &str, expected: &str| {
            let hop = request("GET", &[("authorization", "Bearer k"), ("cookie", "c"), ("x-a", "1")]).unwrap();
            let url =
                hop.redirected_to(StatusCode::FOUND, &HeaderMap::from_iter([(header::LOCATION, to.parse().unwrap())]));
            let hop = hop.next(StatusCode::FOUND, url.unwrap().unwrap(), HttpLeave { is_named: true });
            assert_eq!(shown(&hop), expected);
        };
        check("/y", "GET https://a.example/y [authorization=Bearer k,cookie=c,x-a=1] 4");
        check("https://b.example/y", "GET https://b.example/y [x-a=1] 4");
        check("http://a.example/y", "GET http://a.example/y [x-a=1] 4");
    }
}
