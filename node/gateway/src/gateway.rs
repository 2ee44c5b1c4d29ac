//! The handle: two listeners, the parts behind them, and their end.

use std::{net::SocketAddr, sync::Arc};

use skein_catalog::Propose;
use skein_proto::Invoke;
use tokio::{sync::watch, task::JoinSet, time::Instant};
use tracing::info;

use crate::{
    GatewayConfig, Operations, admin, call,
    listener::{Front, Listener},
    metrics,
};

/// What the gateway is put in front of.
#[derive(Clone)]
pub struct Parts {
    /// Takes the calls: the router.
    pub invoke: Arc<dyn Invoke>,
    /// Reads and changes the catalogue.
    pub consensus: Arc<dyn Propose>,
    /// Does what only the node as a whole can do.
    pub operations: Arc<dyn Operations>,
    /// The metrics in Prometheus's text form.
    pub metrics_text: Arc<dyn Fn() -> String + Send + Sync>,
}

/// Why the gateway did not start. Nothing is left listening.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// An address is in use. Another one, or port 0, will do.
    #[error("{addr} is already in use")]
    AddressInUse {
        /// The address.
        addr: SocketAddr,
    },
    /// An address cannot be listened at.
    #[error("{addr} cannot be listened at: {error}")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// Why not.
        error: std::io::Error,
    },
}

/// The running gateway. Dropping it ends it at once, without waiting.
pub struct Gateway {
    http: SocketAddr,
    admin: SocketAddr,
    stop: watch::Sender<Option<Instant>>,
    listeners: JoinSet<()>,
}

impl Gateway {
    /// Listens at both addresses and serves until [`Gateway::shutdown`].
    ///
    /// # Errors
    /// If an address cannot be listened at.
    pub async fn serve(config: GatewayConfig, parts: Parts) -> Result<Gateway, GatewayError> {
        metrics::describe();
        let (http, http_addr) = Listener::bind("http", config.http, call::front(&parts, &config), &config).await?;
        let front = Front { calls: None, router: admin::router(&parts, &config) };
        let (admin, admin_addr) = Listener::bind("admin", config.admin, front, &config).await?;
        let (stop, stopped) = watch::channel(None);
        let mut listeners = JoinSet::new();
        listeners.spawn(http.run(stopped.clone()));
        listeners.spawn(admin.run(stopped));
        info!(http = %http_addr, admin = %admin_addr, "gateway is listening");
        Ok(Self { http: http_addr, admin: admin_addr, stop, listeners })
    }

    /// Where calls are taken.
    pub fn http_addr(&self) -> SocketAddr {
        self.http
    }

    /// Where the admin API and the console are served.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin
    }

    /// Takes no more connections, lets running requests end until `deadline`, then cuts the rest off; returns when
    /// all is over.
    pub async fn shutdown(mut self, deadline: Instant) {
        self.stop.send_replace(Some(deadline));
        while self.listeners.join_next().await.is_some() {}
    }
}
