//! The console: three static files that know nothing but the admin API.
//!
//! Never loads anything from elsewhere and runs no inline script; the policy below has the browser hold it to that.

use axum::response::{IntoResponse as _, Response};
use http::header;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// `GET /`.
pub(crate) async fn page() -> Response {
    file("text/html; charset=utf-8", include_str!("console/index.html"))
}

/// `GET /console.js`.
pub(crate) async fn script() -> Response {
    file("text/javascript; charset=utf-8", include_str!("console/console.js"))
}

/// `GET /console.css`.
pub(crate) async fn style() -> Response {
    file("text/css; charset=utf-8", include_str!("console/console.css"))
}

fn file(content_type: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}
