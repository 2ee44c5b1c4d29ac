//! A call to a peer, beside the same framing on a bare quinn stream and a tonic unary call.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use async_trait::async_trait;
use bytes::Bytes;
use skein_proto::{Digest, Failure, MeshId, NodeId};
use skein_transport::{
    Authority, Caller, Identity, Network, NetworkConfig, NodeKey, Serve, Service, Transport, Validity,
};
use tokio::time::Instant;

use crate::{
    closed_loop,
    report::{Row, table},
    rivals::{quinn_echo, tonic_echo},
};

const ROUND: Duration = Duration::from_secs(2);
const DEADLINE: Duration = Duration::from_secs(10);

struct Echo;

#[async_trait]
impl Serve for Echo {
    async fn call(&self, _: Caller, body: Bytes, _: Instant) -> Result<Bytes, Failure> {
        Ok(body)
    }
}

/// One node's network, on a runtime of its own, as in a process of its own.
fn node(authority: &Authority, id: u64) -> Result<Network> {
    let key = NodeKey::generate()?;
    let certificate = authority.sign(&key.request()?, NodeId(id), Validity::of_a_node())?;
    let identity = Identity::new(key, &certificate, authority.certificate())?;
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || -> Result<()> {
        tokio::runtime::Runtime::new()?.block_on(async {
            let trust = Arc::new(|_: NodeId, _: Digest| true);
            let network = Network::bind(NetworkConfig::new(([127, 0, 0, 1], 0).into()), identity, trust).await?;
            network.handle(Service::Invoke, Arc::new(Echo));
            network.start();
            tell.send(network)?;
            std::future::pending().await
        })
    });
    Ok(told.recv()?)
}

pub(crate) fn run(rounds: usize) -> Result<()> {
    let authority = Authority::found(MeshId::random())?;
    let (here, there) = (node(&authority, 1)?, node(&authority, 2)?);
    here.set_address(NodeId(2), there.local_addr());
    let (quinn_addr, certificate) = quinn_echo::serve()?;
    let tonic_addr = tonic_echo::serve()?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let bare = quinn_echo::Client::connect(quinn_addr, certificate).await?;
        let grpc = tonic_echo::Client::connect(tonic_addr).await?;
        let subjects = Subjects { bare, here, grpc };
        for (size, callers) in [(100, 1), (100, 64), (64 << 10, 1), (64 << 10, 16)] {
            measure(rounds, size, callers, &subjects).await?;
        }
        Ok(())
    })
}

/// What is measured, connected.
struct Subjects {
    bare: quinn_echo::Client,
    here: Network,
    grpc: tonic_echo::Client,
}

async fn measure(rounds: usize, size: usize, callers: usize, subjects: &Subjects) -> Result<()> {
    let Subjects { bare, here, grpc } = subjects;
    let mut rows = [
        Row::new("bare quinn stream, same framing"),
        Row::new("Skein call (mutual TLS)"),
        Row::new("tonic unary (clear text)"),
    ];
    let body = Bytes::from(vec![7; size]);
    let mut streams = Vec::new();
    for _ in 0..callers {
        streams.push(bare.another().await?);
    }
    for _ in 0..rounds {
        let (streams, sent) = (streams.clone(), body.clone());
        let sample = closed_loop::run(callers, ROUND, move |caller| {
            let (stream, sent) = (streams[caller].clone(), sent.clone());
            async move { check(stream.echo(&sent).await?, size) }
        });
        rows[0].samples.push(sample.await?);
        let (network, sent) = (here.clone(), body.clone());
        let sample = closed_loop::run(callers, ROUND, move |_| {
            let (network, sent) = (network.clone(), sent.clone());
            async move {
                let answer = network.call(NodeId(2), Service::Invoke, sent, Instant::now() + DEADLINE).await?;
                check(answer.len(), size)
            }
        });
        rows[1].samples.push(sample.await?);
        let (grpc, sent) = (grpc.clone(), body.clone());
        let sample = closed_loop::run(callers, ROUND, move |_| {
            let (grpc, sent) = (grpc.clone(), sent.clone());
            async move { check(grpc.echo(sent).await?, size) }
        });
        rows[2].samples.push(sample.await?);
    }
    table(&format!("call to a peer, {size} B, {callers} callers"), &rows);
    Ok(())
}

fn check(got: usize, sent: usize) -> Result<()> {
    ensure!(got == sent, "{got} bytes came back of {sent}");
    Ok(())
}
