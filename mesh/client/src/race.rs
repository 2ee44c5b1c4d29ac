//! Several ways to the same thing, each begun a moment after the one before or as soon as that has failed: one that does not
//! answer costs that moment and not the whole patience.

use std::time::Duration;

use skein_proto::{ErrorCode, Failure};
use tokio::{task::JoinSet, time::sleep};

/// What the first attempt that succeeds comes to, or the last failure; none if there is no attempt. Those that are still
/// under way then are dropped.
pub(crate) async fn first<T, A>(attempts: impl IntoIterator<Item = A>) -> Option<Result<T, Failure>>
where
    T: Send + 'static,
    A: Future<Output = Result<T, Failure>> + Send + 'static,
{
    let mut waiting = attempts.into_iter().peekable();
    let (mut under_way, mut last) = (JoinSet::new(), None);
    loop {
        if let Some(attempt) = waiting.next() {
            under_way.spawn(attempt);
        }
        let has_more = waiting.peek().is_some();
        tokio::select! {
            ended = under_way.join_next() => match ended {
                Some(Ok(Ok(reached))) => return Some(Ok(reached)),
                Some(Ok(Err(failure))) => last = Some(failure),
                Some(Err(broken)) => last = Some(Failure::not_executed(ErrorCode::Internal, broken.to_string())),
                None => return last.map(Err),
            },
            () = sleep(STAGGER), if has_more => {}
        }
    }
}

/// How far apart attempts begin: some handshakes on a local network, one around the world.
const STAGGER: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use std::{future::pending, pin::Pin};

    use tokio::time::Instant;

    use super::*;

    type Attempt = Pin<Box<dyn Future<Output = Result<u32, Failure>> + Send>>;

    /// What comes of attempts that hang (0), fail (odd) or succeed (even), and when.
    async fn check(attempts: &[u32], expected: Option<Result<u32, String>>, after_ms: u64) {
        let began = Instant::now();
        let attempt = |number: u32| -> Attempt {
            match number {
                0 => Box::pin(pending()),
                _ if number.is_multiple_of(2) => Box::pin(async move { Ok(number) }),
                _ => Box::pin(async move { Err(Failure::not_executed(ErrorCode::Unreachable, number.to_string())) }),
            }
        };
        let found = first(attempts.iter().copied().map(attempt)).await;
        assert_eq!(found.map(|found| found.map_err(|failure| failure.message)), expected, "{attempts:?}");
        assert_eq!(began.elapsed(), Duration::from_millis(after_ms), "{attempts:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_hangs_costs_a_moment_and_one_that_fails_nothing() {
        check(&[], None, 0).await;
        check(&[2, 4], Some(Ok(2)), 0).await;
        check(&[1, 4], Some(Ok(4)), 0).await;
        check(&[0, 4], Some(Ok(4)), 200).await;
        check(&[0, 0, 3, 4], Some(Ok(4)), 400).await;
        check(&[1, 3], Some(Err("3".into())), 0).await;
    }
}
