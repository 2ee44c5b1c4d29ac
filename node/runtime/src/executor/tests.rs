//! The pool alone: jobs that wait on channels stand for guests.

use std::{sync::mpsc, time::Duration};

use skein_proto::Invocation;

use super::{pool::QUEUE_PER_SLOT, *};

const IDLE: Duration = Duration::from_millis(10);
const MINUTE: Duration = Duration::from_secs(60);

fn executor(running_max: usize, waiting_max: usize, thread_idle: Duration) -> Executor {
    Executor::new(Bounds { running_max, waiting_max, thread_idle })
}

fn job(work: impl FnOnce() + Send + 'static) -> Job {
    nested(0, work)
}

fn nested(depth: u8, work: impl FnOnce() + Send + 'static) -> Job {
    Job { stop: None, is_nested: depth > 0, work: Box::new(work) }
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
    let executor = executor(2, 1, IDLE);
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
    let executor = executor(8, 1, MINUTE);
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
    let executor = executor(1, 1, MINUTE);
    let (began, begins) = mpsc::channel();
    executor.submit(job(|| panic!("on purpose"))).unwrap();
    executor.submit(job(move || began.send(()).unwrap())).unwrap();
    begins.recv().unwrap();
    assert_eq!(executor.threads(), 1);
    assert!(executor.shutdown(soon()).await);
}

#[tokio::test]
async fn the_queue_is_bounded_and_shutdown_drops_it() {
    let executor = executor(1, 1, IDLE);
    let (began, begins) = mpsc::channel();
    let (running, release) = held(&began);
    executor.submit(running).unwrap();
    begins.recv().unwrap();
    let (queued, dropped) = mpsc::channel::<()>();
    for _ in 0..QUEUE_PER_SLOT * 3 / 4 {
        let queued = queued.clone();
        executor.submit(job(move || queued.send(()).unwrap())).unwrap();
    }
    assert!(executor.submit(job(|| {})).is_err(), "calls from outside have filled the queue");
    for _ in 0..QUEUE_PER_SLOT / 4 {
        let queued = queued.clone();
        executor.submit(nested(1, move || queued.send(()).unwrap())).unwrap();
    }
    assert!(executor.submit(nested(1, || {})).is_err(), "the queue is full");
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
    let executor = executor(1, 1, IDLE);
    let (began, begins) = mpsc::channel();
    let (running, release) = held(&began);
    executor.submit(running).unwrap();
    begins.recv().unwrap();
    assert!(!executor.shutdown(Instant::now()).await);
    drop(release);
    assert!(executor.shutdown(soon()).await);
}

#[tokio::test]
async fn a_guest_that_waits_gives_its_slot_to_the_next() {
    let executor = executor(1, 4, IDLE);
    let (told, tells) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel::<()>();
    executor
        .submit(job({
            let (executor, told) = (executor.clone(), told.clone());
            move || {
                let place = executor.wait(0).expect("there is room to wait");
                told.send("waits").unwrap();
                goes_on.recv().unwrap();
                drop(place);
                told.send("goes on").unwrap();
            }
        }))
        .unwrap();
    assert_eq!(tells.recv().unwrap(), "waits");
    assert_eq!((executor.waiting(), executor.threads()), (1, 1));
    executor.submit(job(move || told.send("runs meanwhile").unwrap())).unwrap();
    assert_eq!(tells.recv().unwrap(), "runs meanwhile");
    go_on.send(()).unwrap();
    assert_eq!(tells.recv().unwrap(), "goes on");
    eventually(|| executor.threads() == 0).await;
    assert_eq!(executor.waiting(), 0);
    assert!(executor.shutdown(soon()).await);
}

#[tokio::test]
async fn shallow_guests_cannot_take_the_last_places_and_each_depth_has_one_of_its_own() {
    let executor = executor(8, 8, IDLE);
    let mut places = Vec::new();
    let mut fill = |depth| {
        let taken = std::iter::from_fn(|| executor.wait(depth));
        let before = places.len();
        places.extend(taken);
        places.len() - before
    };
    assert_eq!(fill(0), 6, "three quarters");
    assert_eq!(fill(1), 3, "the rest, and the place that is theirs");
    assert_eq!((fill(0), fill(1), fill(2), fill(2), fill(Invocation::DEPTH_MAX)), (0, 0, 1, 0, 1));
    places.clear();
    assert_eq!(executor.waiting(), 0);
}

/// Calls itself until it is deep enough, as a guest does: it waits while the next one runs.
fn descend(executor: Executor, depth: u8, told: mpsc::Sender<Result<(), &'static str>>) -> Job {
    nested(depth, move || {
        let ended = if depth == 8 {
            Ok(())
        } else if let Some(_place) = executor.wait(depth) {
            let (done, ends) = mpsc::channel();
            let next = executor.submit(descend(executor.clone(), depth + 1, done));
            next.map_err(|_| "no slot").and_then(|_| ends.recv().unwrap_or(Err("dropped")))
        } else {
            Err("no place")
        };
        let _ = told.send(ended);
    })
}

#[tokio::test]
async fn chains_of_calls_never_lock_up_however_small_the_pool() {
    for (running_max, waiting_max) in [(1, 1), (1, 4), (2, 8), (4, 64)] {
        let executor = executor(running_max, waiting_max, IDLE);
        let (told, tells) = mpsc::channel();
        let mut ended = Vec::new();
        for _ in 0..64 {
            // As much at a time as the queue takes; the rest a little later.
            while executor.submit(descend(executor.clone(), 0, told.clone())).is_err() {
                ended.push(tells.recv_timeout(MINUTE).expect("nothing locks up"));
            }
        }
        drop(told);
        ended.extend(std::iter::from_fn(|| tells.recv_timeout(MINUTE).ok()));
        assert_eq!(ended.len(), 64, "every call has ended");
        assert!(ended.iter().any(Result::is_ok), "one chain can always go down: {ended:?}");
        assert!(ended.iter().flat_map(|ended| ended.err()).all(|why| why.starts_with("no ")), "{ended:?}");
        eventually(|| executor.threads() == 0).await;
        assert_eq!(executor.waiting(), 0);
        assert!(executor.shutdown(soon()).await);
    }
}

#[tokio::test]
async fn what_others_wait_for_goes_first() {
    let executor = executor(1, 4, IDLE);
    let (began, begins) = mpsc::channel();
    let (running, release) = held(&began);
    executor.submit(running).unwrap();
    begins.recv().unwrap();
    let (told, tells) = mpsc::channel();
    for (depth, name) in [(0, "outer"), (1, "nested"), (2, "deeper")] {
        let told = told.clone();
        executor.submit(nested(depth, move || told.send(name).unwrap())).unwrap();
    }
    drop(release);
    let order: Vec<_> = (0..3).map(|_| tells.recv().unwrap()).collect();
    assert_eq!(order, ["nested", "deeper", "outer"]);
    assert!(executor.shutdown(soon()).await);
}

#[tokio::test]
async fn a_job_that_is_withdrawn_gives_back_its_place_and_what_it_holds_before_a_thread_is_free() {
    let executor = executor(1, 1, IDLE);
    let (began, begins) = mpsc::channel();
    let (running, release) = held(&began);
    let first = executor.submit(running).unwrap();
    begins.recv().unwrap();
    let held = Arc::new(());
    let tickets: Vec<_> = (0..2_u8)
        .map(|depth| {
            let held = held.clone();
            executor.submit(nested(depth, move || drop(held))).unwrap()
        })
        .collect();
    assert!(Arc::strong_count(&held) > 1 && executor.shared.lock().queued() > 0);
    tickets.iter().for_each(|ticket| executor.withdraw(ticket));
    assert_eq!((Arc::strong_count(&held), executor.shared.lock().queued()), (1, 0));
    executor.withdraw(&first);
    drop(release);
    executor.submit(job(move || began.send(()).unwrap())).unwrap();
    begins.recv().unwrap();
    assert!(executor.shutdown(soon()).await);
}

#[tokio::test]
async fn nested_work_does_not_keep_what_comes_from_outside_waiting_for_ever() {
    const NESTED: u32 = pool::NESTED_ROW_MAX + 4;
    let executor = executor(8, 1, IDLE);
    let (began, begins) = mpsc::channel();
    // All slots but none of the queue.
    let (jobs, releases): (Vec<_>, Vec<_>) = (0..8).map(|_| held(&began)).unzip();
    for job in jobs {
        executor.submit(job).unwrap();
    }
    (0..8).for_each(|_| begins.recv().unwrap());
    let (told, tells) = mpsc::channel();
    let tell = |name: &'static str| {
        let told = told.clone();
        move || told.send(name).unwrap()
    };
    executor.submit(job(tell("outer"))).unwrap();
    for _ in 0..NESTED {
        executor.submit(nested(1, tell("nested"))).unwrap();
    }
    // One slot, so that the order is told.
    let mut releases = releases.into_iter();
    drop(releases.next());
    let order: Vec<_> = (0..=NESTED).map(|_| tells.recv().unwrap()).collect();
    assert_eq!(order.iter().position(|name| *name == "outer"), Some(pool::NESTED_ROW_MAX as usize));
    drop(releases);
    assert!(executor.shutdown(soon()).await);
}
