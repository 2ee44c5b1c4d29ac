//! The pool alone: jobs that wait on channels stand for guests.

use std::sync::mpsc;

use super::*;

const IDLE: Duration = Duration::from_millis(10);

fn job(work: impl FnOnce() + Send + 'static) -> Job {
    Job { stop: None, work: Box::new(work) }
}

/// A job that runs until the sender is dropped, and tells that it has begun.
fn held(began: &mpsc::Sender<()>) -> (Job, mpsc::Sender<()>) {
    let (release, released) = mpsc::channel::<()>();
    let began = began.clone();
    let work = move || {
        let _ = began.send(());
        let _ = released.recv();
    };
    (job(work), release)
}

async fn eventually(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("the condition was not met in time");
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

#[tokio::test]
async fn threads_come_with_the_work_up_to_the_limit_and_leave_when_idle() {
    let executor = Executor::new(2, IDLE);
    assert_eq!(executor.threads(), 0);
    let (began, begins) = mpsc::channel();
    let (jobs, releases): (Vec<_>, Vec<_>) = (0..3).map(|_| held(&began)).unzip();
    for job in jobs {
        executor.submit(job).unwrap();
    }
    begins.recv().unwrap();
    begins.recv().unwrap();
    assert_eq!(executor.threads(), 2, "the third job waits");
    assert!(begins.try_recv().is_err());
    drop(releases);
    begins.recv().unwrap();
    eventually(|| executor.threads() == 0).await;
    assert!(executor.shutdown(soon()).await);
}

#[tokio::test]
async fn an_idle_thread_takes_the_next_job() {
    let executor = Executor::new(8, Duration::from_secs(60));
    let (began, begins) = mpsc::channel();
    for _ in 0..3 {
        let began = began.clone();
        executor.submit(job(move || began.send(()).unwrap())).unwrap();
        begins.recv().unwrap();
        eventually(|| executor.shared.lock().idle == 1).await;
    }
    assert_eq!(executor.threads(), 1);
    assert!(executor.shutdown(soon()).await);
}

#[tokio::test]
async fn a_job_that_panics_ends_nothing_else() {
    let executor = Executor::new(1, Duration::from_secs(60));
    let (began, begins) = mpsc::channel();
    executor.submit(job(|| panic!("on purpose"))).unwrap();
    executor.submit(job(move || began.send(()).unwrap())).unwrap();
    begins.recv().unwrap();
    assert_eq!(executor.threads(), 1);
    assert!(executor.shutdown(soon()).await);
}

#[tokio::test]
async fn the_queue_is_bounded_and_shutdown_drops_it() {
    let executor = Executor::new(1, IDLE);
    let (began, begins) = mpsc::channel();
    let (running, release) = held(&began);
    executor.submit(running).unwrap();
    begins.recv().unwrap();
    let (queued, dropped) = mpsc::channel::<()>();
    for _ in 0..QUEUE_PER_THREAD {
        let queued = queued.clone();
        executor.submit(job(move || queued.send(()).unwrap())).unwrap();
    }
    assert!(executor.submit(job(|| {})).is_err(), "the queue is full");
    drop(queued);
    let shutdown = tokio::spawn({
        let executor = executor.clone();
        async move { executor.shutdown(soon()).await }
    });
    eventually(|| executor.shared.lock().is_stopping).await;
    drop(release);
    assert!(shutdown.await.unwrap());
    assert!(dropped.recv().is_err(), "no queued job ran");
    assert!(executor.submit(job(|| {})).is_err(), "nothing is taken any more");
    assert_eq!(executor.threads(), 0);
}

#[tokio::test]
async fn shutdown_says_when_a_thread_did_not_end_in_time() {
    let executor = Executor::new(1, IDLE);
    let (began, begins) = mpsc::channel();
    let (running, release) = held(&began);
    executor.submit(running).unwrap();
    begins.recv().unwrap();
    assert!(!executor.shutdown(Instant::now()).await);
    drop(release);
    assert!(executor.shutdown(soon()).await);
}
