use std::time::Duration;

use super::*;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn uuids<const N: usize>() -> [u32; N] {
    std::array::from_fn(|n| n as u32)
}

/// Those of vm-agent's contract.
fn pauses() -> Backoff {
    Backoff::new(ms(500), 2.0, ms(28_500), 0.05)
}

/// The next instance and when it comes, at `now` or later.
fn next(queue: &mut Queue<u32>, now: Instant) -> (u32, Instant) {
    let at = queue.next_wake(now).expect("something waits");
    (queue.take(at.max(now)).expect("it may go"), at.max(now))
}

/// vm-agent case 17
#[test]
fn instances_are_reported_in_the_order_of_their_changes_and_few_at_a_time() {
    let mut queue = Queue::new(2, pauses());
    let (now, all) = (Instant::now(), uuids::<4>());
    all.iter().for_each(|uuid| queue.touch(*uuid));
    queue.touch(all[0]);
    assert_eq!([queue.take(now), queue.take(now), queue.take(now)], [Some(all[0]), Some(all[1]), None]);
    assert_eq!(queue.next_wake(now), None);
    queue.finished(all[1], Outcome::Done, now);
    assert_eq!(queue.take(now), Some(all[2]));
    queue.finished(all[0], Outcome::Done, now);
    queue.finished(all[2], Outcome::Done, now);
    assert_eq!(queue.take(now), Some(all[3]));
    queue.finished(all[3], Outcome::Done, now);
    assert!(queue.is_empty());
}

/// vm-agent case 23
#[test]
fn changes_during_a_report_make_exactly_one_more() {
    let mut queue = Queue::new(4, pauses());
    let (now, [uuid]) = (Instant::now(), uuids());
    queue.touch(uuid);
    assert_eq!(queue.take(now), Some(uuid));
    queue.touch(uuid);
    queue.touch(uuid);
    assert_eq!(queue.take(now), None, "one report of an instance at a time");
    queue.finished(uuid, Outcome::Done, now);
    assert_eq!(queue.take(now), Some(uuid));
    queue.finished(uuid, Outcome::Done, now);
    assert_eq!((queue.take(now), queue.next_wake(now)), (None, None));
}

/// vm-agent case 21, 26
#[test]
fn pauses_double_up_to_thirty_seconds_and_a_success_begins_anew() {
    let mut queue = Queue::new(4, pauses());
    let (mut now, [uuid]) = (Instant::now(), uuids());
    queue.touch(uuid);
    let mut last = Duration::ZERO;
    for attempt in 0..12 {
        let (taken, at) = next(&mut queue, now);
        assert_eq!(taken, uuid);
        let pause = at - now;
        if attempt > 0 {
            let expected = ms(500 << (attempt - 1).min(6));
            assert!(pause <= ms(30_000), "{pause:?}");
            assert!(attempt > 7 || (pause >= expected.mul_f64(0.9).min(ms(27_000)) && pause > last), "{attempt}: {pause:?}");
            last = pause;
        }
        queue.finished(uuid, Outcome::Failed, at);
        now = at;
    }
    let (_, at) = next(&mut queue, now);
    queue.finished(uuid, Outcome::Done, at);
    queue.touch(uuid);
    let (_, again) = next(&mut queue, at);
    queue.finished(uuid, Outcome::Failed, again);
    let (_, retry) = next(&mut queue, again);
    assert!(retry - again <= ms(530));
}

/// vm-agent case 22
#[test]
fn one_that_cannot_be_reported_does_not_hold_up_the_others() {
    let mut queue = Queue::new(1, pauses());
    let (now, [bad, good]) = (Instant::now(), uuids());
    queue.touch(bad);
    assert_eq!(queue.take(now), Some(bad));
    queue.finished(bad, Outcome::Failed, now);
    queue.touch(good);
    assert_eq!(queue.take(now), Some(good));
}

/// vm-agent case 27
#[test]
fn a_change_during_a_pause_is_tried_at_once_and_its_failure_leaves_the_timer_as_it_was() {
    let mut queue = Queue::new(4, pauses());
    let (now, [uuid]) = (Instant::now(), uuids());
    queue.touch(uuid);
    queue.take(now);
    queue.finished(uuid, Outcome::Failed, now);
    let due = queue.next_wake(now).unwrap();
    queue.touch(uuid);
    assert_eq!(queue.take(now + ms(100)), Some(uuid));
    queue.finished(uuid, Outcome::Failed, now + ms(110));
    assert_eq!(queue.next_wake(now + ms(110)), Some(due));
    let (_, at) = next(&mut queue, now + ms(110));
    queue.finished(uuid, Outcome::Failed, at);
    let pause = queue.next_wake(at).unwrap() - at;
    assert!(pause > ms(900) && pause < ms(1100), "{pause:?}");
}

#[test]
fn a_service_that_is_away_stops_everything_and_one_probe_finds_out_that_it_is_back() {
    let mut queue = Queue::new(4, pauses());
    let (now, all) = (Instant::now(), uuids::<6>());
    all.iter().for_each(|uuid| queue.touch(*uuid));
    let taken: Vec<_> = std::iter::from_fn(|| queue.take(now)).collect();
    assert_eq!(taken.len(), 4);
    taken.iter().for_each(|uuid| queue.finished(*uuid, Outcome::Unavailable, now));
    assert!(queue.is_gated());
    queue.touch(all[5]);
    assert_eq!(queue.take(now + ms(400)), None, "a change does not open the gate");
    let (probe, at) = next(&mut queue, now);
    assert!(at - now >= ms(470) && at - now <= ms(530), "one pause for all, not one for each failure");
    assert_eq!((queue.take(at), queue.next_wake(at)), (None, None), "one probe at a time");
    queue.finished(probe, Outcome::Unavailable, at);
    let (probe, later) = next(&mut queue, at);
    assert!(later - at > ms(900));
    queue.finished(probe, Outcome::Done, later);
    assert!(!queue.is_gated());
    assert_eq!(std::iter::from_fn(|| queue.take(later)).count(), 4);
}

#[test]
fn an_answer_about_one_instance_opens_the_gate_too() {
    let mut queue = Queue::new(4, pauses());
    let (now, [uuid, other]) = (Instant::now(), uuids());
    queue.touch(uuid);
    queue.touch(other);
    queue.take(now);
    queue.finished(uuid, Outcome::Unavailable, now);
    let (probe, at) = next(&mut queue, now);
    queue.finished(probe, Outcome::Failed, at);
    assert!(!queue.is_gated());
    assert!(queue.take(at).is_some_and(|uuid| uuid != probe));
}

#[test]
fn documents_that_change_quickly_are_gathered() {
    let mut queue = Queue::new(4, pauses());
    let (now, [uuid]) = (Instant::now(), uuids());
    queue.touch(uuid);
    queue.take(now);
    queue.finished(uuid, Outcome::Later(now + ms(900)), now);
    assert_eq!(queue.next_wake(now), Some(now + ms(900)));
    // A change may be one that is not to be gathered: it is looked at soon, and once for all that come meanwhile.
    for _ in 0..10 {
        queue.touch(uuid);
    }
    assert_eq!(queue.take(now + ms(49)), None);
    let (_, at) = next(&mut queue, now);
    assert_eq!(at, now + ms(50));
    queue.finished(uuid, Outcome::Later(now + ms(900)), at);
    let (_, at) = next(&mut queue, at);
    assert_eq!(at, now + ms(900));
    queue.finished(uuid, Outcome::Done, at);
    assert!(queue.is_empty());
}

#[test]
fn what_needs_nothing_says_nothing_of_the_service() {
    let mut queue = Queue::new(4, pauses());
    let (now, [first, second, third]) = (Instant::now(), uuids());
    [first, second, third].iter().for_each(|uuid| queue.touch(*uuid));
    assert_eq!(queue.take(now), Some(first));
    queue.finished(first, Outcome::Unavailable, now);
    let (probe, at) = next(&mut queue, now);
    queue.finished(probe, Outcome::Unavailable, at);
    // The next one turns out to need nothing: the gate stays as it is, and the one after it is let through as the probe.
    let (needless, later) = next(&mut queue, at);
    assert!(later - at >= ms(900), "the second pause");
    queue.touch(needless);
    queue.needless(&needless);
    assert!(queue.is_gated());
    let (probe, again) = next(&mut queue, later);
    assert_eq!(again, later);
    assert_ne!(probe, needless, "what changed meanwhile goes to the end of the line");
    queue.finished(probe, Outcome::Unavailable, again);
    assert!(next(&mut queue, again).1 - again >= ms(1900), "the third pause");
}
