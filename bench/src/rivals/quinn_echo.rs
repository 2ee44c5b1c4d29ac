//! The floor under a call to a peer: length-prefixed rmp-serde frames on one bare quinn stream, no lanes, deadlines,
//! cancellation or mutual authentication.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Result;
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream, ServerConfig};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

#[derive(Serialize, Deserialize)]
struct Frame {
    id: u64,
    #[serde(with = "serde_bytes")]
    body: Vec<u8>,
}

/// One connection with one stream, used by one caller at a time.
#[derive(Clone)]
pub(crate) struct Client {
    stream: Arc<Mutex<(SendStream, RecvStream)>>,
    connection: Connection,
    _endpoint: Endpoint,
}

/// Serves until the process ends, on a single-threaded runtime of its own.
pub(crate) fn serve() -> Result<(SocketAddr, rustls_pki_types::CertificateDer<'static>)> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let certificate = made.cert.der().clone();
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let server = ServerConfig::with_single_cert(vec![certificate.clone()], key.into())?;
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let endpoint = Endpoint::server(server, SocketAddr::from(([127, 0, 0, 1], 0)))?;
            tell.send(endpoint.local_addr()?)?;
            while let Some(incoming) = endpoint.accept().await {
                tokio::spawn(async move {
                    let connection = incoming.await?;
                    while let Ok((mut send, mut receive)) = connection.accept_bi().await {
                        tokio::spawn(async move {
                            while let Ok(frame) = read(&mut receive).await {
                                write(&mut send, &frame).await?;
                            }
                            anyhow::Ok(())
                        });
                    }
                    anyhow::Ok(())
                });
            }
            Ok(())
        })
    });
    Ok((told.recv()?, certificate))
}

impl Client {
    pub(crate) async fn connect(
        addr: SocketAddr,
        certificate: rustls_pki_types::CertificateDer<'static>,
    ) -> Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate)?;
        let mut endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        endpoint.set_default_client_config(ClientConfig::with_root_certificates(Arc::new(roots))?);
        let connection = endpoint.connect(addr, "localhost")?.await?;
        let stream = Arc::new(Mutex::new(connection.open_bi().await?));
        Ok(Self { stream, connection, _endpoint: endpoint })
    }

    /// Another stream of the same connection.
    pub(crate) async fn another(&self) -> Result<Self> {
        let stream = Arc::new(Mutex::new(self.connection.open_bi().await?));
        Ok(Self { stream, ..self.clone() })
    }

    pub(crate) async fn echo(&self, body: &[u8]) -> Result<usize> {
        let mut stream = self.stream.lock().await;
        let (send, receive) = &mut *stream;
        write(send, &Frame { id: 1, body: body.to_vec() }).await?;
        Ok(read(receive).await?.body.len())
    }
}

async fn write(send: &mut SendStream, frame: &Frame) -> Result<()> {
    let body = rmp_serde::to_vec_named(frame)?;
    let mut bytes = u32::try_from(body.len())?.to_be_bytes().to_vec();
    bytes.extend(body);
    Ok(send.write_all(&bytes).await?)
}

async fn read(receive: &mut RecvStream) -> Result<Frame> {
    let mut length = [0; 4];
    receive.read_exact(&mut length).await?;
    let mut body = vec![0; u32::from_be_bytes(length) as usize];
    receive.read_exact(&mut body).await?;
    Ok(rmp_serde::from_slice(&body)?)
}
