//! Who gets a place, who leaves for it, and who has to wait, at each limit.

use tokio::time::advance;

use super::*;

const IDLE: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(20);

fn places(connections: usize, of_one_address: usize) -> Arc<Places> {
    Places::new("test", Room { connections, of_one_address, idle: IDLE, patience: PATIENCE, unread_bytes: 100 })
}

/// Takes a place for 10.0.0.`host`, if there is one without waiting.
fn take(places: &Arc<Places>, host: u8) -> Option<Place> {
    match places.look(origin(IpAddr::from([10, 0, 0, host])), Instant::now()) {
        Found::Place(place) => Some(place),
        Found::Soon | Found::Never => None,
    }
}

fn has_to_end(place: &Place) -> bool {
    place.seat.end.is_cancelled()
}

#[tokio::test(start_paused = true)]
async fn the_longest_idle_leaves_when_all_places_are_taken() {
    let places = places(2, 2);
    let first = take(&places, 1).unwrap();
    advance(Duration::from_millis(1)).await;
    let second = take(&places, 2).unwrap();
    assert!(take(&places, 3).is_none() && has_to_end(&first) && !has_to_end(&second));
    assert!(take(&places, 3).is_none() && !has_to_end(&second), "one leaves for one");
    drop(first);
    assert!(take(&places, 3).is_some());
}

#[tokio::test(start_paused = true)]
async fn who_has_shown_no_key_leaves_before_who_has() {
    let places = places(2, 2);
    let known = take(&places, 1).unwrap();
    known.here().let_in();
    advance(IDLE_KNOWN).await;
    let stranger = take(&places, 2).unwrap();
    assert!(take(&places, 3).is_none() && has_to_end(&stranger) && !has_to_end(&known));
}

#[tokio::test(start_paused = true)]
async fn who_has_shown_a_key_leaves_once_it_was_idle_for_a_while() {
    let places = places(1, 1);
    let known = take(&places, 1).unwrap();
    known.here().let_in();
    advance(IDLE_KNOWN - Duration::from_millis(1)).await;
    assert!(take(&places, 2).is_none() && !has_to_end(&known));
    advance(Duration::from_millis(1)).await;
    assert!(take(&places, 2).is_none() && has_to_end(&known));
}

#[tokio::test(start_paused = true)]
async fn who_is_busy_stays_and_who_comes_waits_for_it() {
    let places = places(1, 1);
    let busy = take(&places, 1).unwrap();
    let request = busy.here().begin();
    advance(IDLE * 2).await;
    assert!(take(&places, 2).is_none() && !has_to_end(&busy));
    drop(request);
    busy.seat.is_writing.store(true, Ordering::Relaxed);
    assert!(take(&places, 2).is_none() && !has_to_end(&busy));
    let coming = tokio::spawn({
        let places = places.clone();
        async move { places.take(IpAddr::from([10, 0, 0, 2])).await.is_some() }
    });
    advance(LOOK_AGAIN * 3).await;
    assert!(!coming.is_finished());
    drop(busy);
    assert!(coming.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn one_address_has_its_part_and_makes_way_for_itself() {
    let places = places(4, 2);
    let own = [take(&places, 1).unwrap(), take(&places, 1).unwrap()];
    let requests = [own[0].here().begin(), own[1].here().begin()];
    assert!(matches!(places.look(IpAddr::from([10, 0, 0, 1]), Instant::now()), Found::Never));
    let other = take(&places, 2).unwrap();
    drop(requests);
    assert!(take(&places, 1).is_none() && !has_to_end(&other));
    assert_eq!(own.iter().filter(|place| has_to_end(place)).count(), 1);
    drop((own, other));
    assert!(places.table().by_origin.is_empty() && places.table().seats.is_empty());
}

#[test]
fn an_address_is_a_host_of_version_4_or_a_network_of_64_bits() {
    let same = |a: &str, b: &str| origin(a.parse().unwrap()) == origin(b.parse().unwrap());
    assert!(same("2001:db8::1", "2001:db8::ffff:1") && !same("2001:db8::1", "2001:db8:0:1::1"));
    assert!(same("10.0.0.1", "::ffff:10.0.0.1") && !same("10.0.0.1", "10.0.0.2"));
}

#[tokio::test(start_paused = true)]
async fn of_many_strangers_some_make_way_beforehand() {
    let most = 2 * PLACES_PER_SPARE;
    let places = places(most, most);
    let taken: Vec<Place> = (0..most).map(|_| take(&places, 1).unwrap()).collect();
    assert!(take(&places, 2).is_none());
    assert_eq!(taken.iter().filter(|place| has_to_end(place)).count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_request_ends_softly_after_its_time() {
    let places = places(2, 2);
    let (idle, busy) = (take(&places, 1).unwrap(), take(&places, 1).unwrap());
    let request = busy.here().begin();
    advance(IDLE - Duration::from_millis(1)).await;
    places.sweep(Instant::now());
    assert!(!idle.seat.leaves());
    advance(Duration::from_millis(1)).await;
    places.sweep(Instant::now());
    assert!(idle.seat.end_softly.is_cancelled() && !has_to_end(&idle) && !busy.seat.leaves());
    drop(request);
    places.sweep(Instant::now());
    assert!(!busy.seat.leaves(), "its time begins when it is answered");
}

#[tokio::test(start_paused = true)]
async fn answers_that_take_no_step_end_their_connection() {
    let places = places(2, 2);
    let (stuck, reading) = (take(&places, 1).unwrap(), take(&places, 1).unwrap());
    let (mut first, mut second) = (stuck.here().begin(), reading.here().begin());
    first.answered(10);
    second.answered(10);
    advance(PATIENCE - Duration::from_millis(1)).await;
    second.stepped();
    places.sweep(Instant::now());
    assert!(!has_to_end(&stuck));
    advance(Duration::from_millis(1)).await;
    places.sweep(Instant::now());
    assert!(has_to_end(&stuck));
    assert!(has_to_end(&reading), "each answer has its time, too, whatever steps it takes");
}

#[tokio::test(start_paused = true)]
async fn a_large_answer_has_a_second_more_for_each_64_kib() {
    let room = Room { connections: 1, of_one_address: 1, idle: IDLE, patience: PATIENCE, unread_bytes: usize::MAX };
    let places = Places::new("test", room);
    let place = take(&places, 1).unwrap();
    let mut request = place.here().begin();
    request.answered(128 << 10);
    for _ in 0..21 {
        advance(Duration::from_secs(1)).await;
        request.stepped();
        places.sweep(Instant::now());
        assert!(!has_to_end(&place));
    }
    advance(Duration::from_secs(1)).await;
    request.stepped();
    places.sweep(Instant::now());
    assert!(has_to_end(&place));
}

#[tokio::test(start_paused = true)]
async fn over_the_limit_of_memory_those_leave_that_do_not_read_and_hold_most() {
    let places = places(4, 4);
    let taken: Vec<Place> = (0..3).map(|_| take(&places, 1).unwrap()).collect();
    let mut answers: Vec<Busy> = taken.iter().map(|place| place.here().begin()).collect();
    answers[0].answered(30);
    answers[1].answered(60);
    answers[2].answered(9);
    assert!(places.has_room_for_answers(Instant::now()), "99 of 100");
    let mut more = taken[2].here().begin();
    more.answered(1);
    assert!(!places.has_room_for_answers(Instant::now()), "nobody is slow yet");
    advance(UNREAD_PATIENCE).await;
    answers[2].stepped();
    assert!(!places.has_room_for_answers(Instant::now()), "who leaves has not left yet");
    assert_eq!(taken.iter().map(has_to_end).collect::<Vec<_>>(), [false, true, false]);
    answers.remove(1);
    assert!(places.has_room_for_answers(Instant::now()));
    drop((answers, more));
    assert_eq!(places.unread(), 0);
}
