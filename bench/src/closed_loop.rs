//! Callers that each send the next call when the last was answered.

use std::{future::Future, time::Duration};

use anyhow::Result;
use tokio::time::Instant;

use crate::report::Sample;

/// Calls made and thrown away before a round is measured.
const WARM_UP: usize = 50;

/// Runs `callers` loops of `make` for `time`. Any failed call fails the round: a figure of failures means nothing.
pub(crate) async fn run<F, Fut>(callers: usize, time: Duration, make: F) -> Result<Sample>
where
    F: Fn(usize) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    for _ in 0..WARM_UP {
        make(0).await?;
    }
    let started = Instant::now();
    let mut loops = tokio::task::JoinSet::new();
    for caller in 0..callers {
        let make = make.clone();
        loops.spawn(async move {
            let mut latencies = Vec::new();
            while started.elapsed() < time {
                let sent = Instant::now();
                make(caller).await?;
                latencies.push(sent.elapsed());
            }
            anyhow::Ok(latencies)
        });
    }
    let mut latencies = Vec::new();
    while let Some(ended) = loops.join_next().await {
        latencies.extend(ended??);
    }
    Ok(Sample::of(latencies, started.elapsed()))
}
