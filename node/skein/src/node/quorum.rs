//! Whether a majority of the voters answers, as operators and balancers are told: a change of leaders is no loss.

use std::time::Duration;

use skein_raft::RaftStatus;
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use super::Shared;

/// How long no majority may answer before that is said. Between two leaders there is a moment without one, at each
/// planned change too: a few tenths of a second, up to two election timeouts when votes split.
const PATIENCE: Duration = Duration::from_secs(2);

/// True while no majority answers. Begins so: a node that starts has heard of none.
pub(super) type Lost = watch::Sender<bool>;

/// Keeps it true to what the consensus says, until told to stop.
pub(super) async fn keep(shared: Shared, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = follow(shared.consensus.watch_status(), &shared.quorum_lost) => {}
    }
}

/// Ends with the consensus.
async fn follow(mut status: watch::Receiver<RaftStatus>, lost: &Lost) {
    loop {
        if status.wait_for(|status| status.is_quorum_alive).await.is_err() {
            return;
        }
        lost.send_if_modified(|lost| std::mem::replace(lost, false));
        if status.wait_for(|status| !status.is_quorum_alive).await.is_err() {
            return;
        }
        tokio::select! {
            back = status.wait_for(|status| status.is_quorum_alive) => if back.is_err() { return },
            () = sleep(PATIENCE) => {
                lost.send_replace(true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_change_of_leaders_is_no_loss_and_a_loss_is_told() {
        let (alive, status) = watch::channel(RaftStatus::default());
        let lost = Lost::new(true);
        let mut told = lost.subscribe();
        let say = |is_alive| alive.send_modify(|status| status.is_quorum_alive = is_alive);
        let events = async {
            say(true);
            assert!(!*told.wait_for(|lost| !lost).await.unwrap());
            // Nearly as long as it may take, again and again.
            for _ in 0..5 {
                say(false);
                sleep(PATIENCE - Duration::from_millis(1)).await;
                assert!(!*told.borrow());
                say(true);
                sleep(Duration::from_millis(1)).await;
            }
            say(false);
            told.wait_for(|lost| *lost).await.unwrap();
            say(true);
            told.wait_for(|lost| !lost).await.unwrap();
        };
        tokio::select! {
            () = events => {}
            () = follow(status, &lost) => panic!("the consensus goes on"),
        }
    }
}
