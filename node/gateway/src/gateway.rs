//! The handle: two listeners, the parts behind them, and their end.

use std::{net::SocketAddr, sync::Arc};

use skein_catalog::Propose;
use skein_proto::Invoke;
use tokio::{sync::watch, task::JoinSet, time::Instant};
use tracing::info;

use crate::{
    GatewayConfig, Operations, admin, call,
    listener::{Front, Leaving, Listener},
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
    leaving: Leaving,
    /// Calls, then the admin API: it says how the node does until the last call is answered.
    entries: [Entry; 2],
}

/// A listener that runs until it is told not to. Ends at once when dropped.
struct Entry {
    stop: watch::Sender<Option<Instant>>,
    task: JoinSet<()>,
}

impl Entry {
    fn open(listener: Listener) -> Self {
        let (stop, stopped) = watch::channel(None);
        let mut task = JoinSet::new();
        task.spawn(listener.run(stopped));
        Self { stop, task }
    }

    async fn close(&mut self, deadline: Instant) {
        self.stop.send_replace(Some(deadline));
        while self.task.join_next().await.is_some() {}
    }
}

impl Gateway {
    /// Listens at both addresses and serves until [`Gateway::shutdown`].
    ///
    /// # Errors
    /// If an address cannot be listened at.
    pub async fn serve(config: GatewayConfig, parts: Parts) -> Result<Gateway, GatewayError> {
        metrics::describe();
        let leaving = Leaving::default();
        let front = call::front(&parts, &config);
        let (http, http_addr) = Listener::bind("http", config.http, front, leaving.clone(), &config).await?;
        let front = Front { calls: None, router: admin::router(&parts, &leaving, &config) };
        let (admin, admin_addr) = Listener::bind("admin", config.admin, front, leaving.clone(), &config).await?;
        info!(http = %http_addr, admin = %admin_addr, "gateway is listening");
        let entries = [Entry::open(http), Entry::open(admin)];
        Ok(Self { http: http_addr, admin: admin_addr, leaving, entries })
    }

    /// Where calls are taken.
    pub fn http_addr(&self) -> SocketAddr {
        self.http
    }

    /// Where the admin API and the console are served.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin
    }

    /// From now on `/readyz` says that the node is leaving, and each answer over HTTP/1.1 that it is the last of its
    /// connection. Everything is still taken and answered: whoever balances over several nodes has time to notice.
    pub fn lame_duck(&self) {
        self.leaving.begin();
    }

    /// Takes no more connections, lets running requests end until `deadline`, then cuts the rest off; returns when
    /// all is over. The admin API is the last to close.
    pub async fn shutdown(mut self, deadline: Instant) {
        self.leaving.begin();
        for entry in &mut self.entries {
            entry.close(deadline).await;
        }
    }
}
