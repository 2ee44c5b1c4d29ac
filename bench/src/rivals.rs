//! What Skein is measured against: a bare axum echo, `wasmtime serve`, a bare quinn stream with the same framing, a tonic
//! unary echo.

pub(crate) mod axum_echo;
pub(crate) mod quinn_echo;
pub(crate) mod tonic_echo;
pub(crate) mod wasmtime_serve;
