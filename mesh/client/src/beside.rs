//! What a caller is told of a call that is under way at two nodes, because the first of them fell silent. Pure: it waits
//! for what it is given.

use std::pin::pin;

use skein_proto::{ErrorCode, Failure, Progress};

use crate::next::{Next, furthest, next};

/// How an attempt at one node ended, and whether its connection ended with it.
pub(crate) struct Ended<T> {
    pub(crate) answer: Result<T, Failure>,
    pub(crate) is_lost: bool,
}

/// The first answer of two attempts of a call that may run twice, or a node's word about the call, whichever comes first.
/// What speaks of a node only leaves the call to the other attempt.
pub(crate) async fn beside<T>(
    own: impl Future<Output = Ended<T>>,
    other: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let (mut own, mut other) = (pin!(own), pin!(other));
    tokio::select! {
        biased;
        own = &mut own => match own.answer {
            Err(failure) if own.is_lost || !is_word(&failure) => {
                other.await.map_err(|other| with_progress(other, failure.progress))
            }
            // Nobody knows how far the other came, which is not waited for.
            settled => settled.map_err(|failure| with_progress(failure, Progress::MaybeExecuted)),
        },
        answer = &mut other => match answer {
            Err(failure) if !is_word(&failure) => {
                let own = own.await;
                own.answer.map_err(|of_own| match own.is_lost {
                    // What a node said is worth more than that one was lost.
                    true => with_progress(failure, of_own.progress),
                    false => with_progress(of_own, failure.progress),
                })
            }
            settled => settled.map_err(|failure| with_progress(failure, Progress::MaybeExecuted)),
        },
    }
}

/// Whether a failure speaks of the call, so that no other node would say anything better. Whoever is late may be so alone;
/// and where nodes were lost, the one that has the call, too, may yet answer.
fn is_word(failure: &Failure) -> bool {
    !matches!(failure.code, ErrorCode::DeadlineExceeded | ErrorCode::PeerLost)
        && next(failure, true, true) == Next::GiveUp
}

fn with_progress(failure: Failure, progress: Progress) -> Failure {
    Failure { progress: furthest(failure.progress, progress), ..failure }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use ErrorCode::{FunctionFailed, FunctionNotFound, PeerLost, Unavailable};
    use Progress::{Executed, MaybeExecuted, NotExecuted};

    use super::*;

    type Told = (ErrorCode, Progress);

    fn ended(answer: Result<(), Failure>, is_lost: bool) -> Ended<()> {
        Ended { answer, is_lost }
    }

    async fn told(own: impl Future<Output = Ended<()>>, other: impl Future<Output = Result<(), Failure>>) -> Told {
        let failure = beside(own, other).await.unwrap_err();
        (failure.code, failure.progress)
    }

    async fn late<T>(what: T) -> T {
        tokio::task::yield_now().await;
        what
    }

    #[tokio::test]
    async fn a_word_about_the_call_is_the_end_whoever_says_it_and_the_other_is_not_waited_for() {
        let failed = || Err(Failure::executed(FunctionFailed, "exit code 3"));
        assert_eq!(told(pending(), ready(failed())).await, (FunctionFailed, Executed));
        assert_eq!(told(ready(ended(failed(), false)), pending()).await, (FunctionFailed, Executed));
        // The other one has the call, too, and may have run it.
        let missing = || Err(Failure::not_executed(FunctionNotFound, "no such function"));
        assert_eq!(told(pending(), ready(missing())).await, (FunctionNotFound, MaybeExecuted));
        assert_eq!(told(ready(ended(missing(), false)), pending()).await, (FunctionNotFound, MaybeExecuted));
        assert!(beside(pending(), ready(Ok(()))).await.is_ok());
        assert!(beside(ready(ended(Ok(()), false)), pending()).await.is_ok());
    }

    #[tokio::test]
    async fn what_speaks_of_one_node_leaves_the_call_to_the_other_and_the_outcome_is_as_uncertain_as_the_worst() {
        let lost = || Err(Failure::maybe_executed(PeerLost, "gone"));
        let unavailable = || Err(Failure::not_executed(Unavailable, "not now"));
        assert!(beside(ready(ended(lost(), true)), late(Ok(()))).await.is_ok());
        assert!(beside(late(ended(Ok(()), false)), ready(unavailable())).await.is_ok());
        assert_eq!(told(ready(ended(lost(), true)), ready(unavailable())).await, (Unavailable, MaybeExecuted));
        assert_eq!(told(late(ended(lost(), true)), ready(unavailable())).await, (Unavailable, MaybeExecuted));
        assert_eq!(told(late(ended(unavailable(), false)), ready(lost())).await, (Unavailable, MaybeExecuted));
        assert!(beside(late(ended(Ok(()), false)), ready(lost())).await.is_ok());
        let deadline = || Err(Failure::not_executed(ErrorCode::DeadlineExceeded, "late"));
        assert!(beside(late(ended(Ok(()), false)), ready(deadline())).await.is_ok());
        assert_eq!(told(late(ended(unavailable(), false)), ready(deadline())).await, (Unavailable, NotExecuted));
    }
}
