//! Refuses calls of callers that ask for more than they get, before Python is woken for them.
//!
//! Whom, and how many of its calls, Python says: each connection of such a caller has the same [`Allowance`]. Here it is
//! counted down. Nobody else is refused, and whatever is wrong here lets a call go on to Python, which looks itself.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::HeaderMap;

use crate::guards::{Count, locked};

/// How many calls of one caller may go on to Python.
#[derive(Default)]
pub struct Allowance(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    left: usize,
    /// Those that Python has not taken yet.
    untaken: usize,
    /// Until then calls are counted.
    until: Option<Instant>,
    refused: u64,
}

impl Allowance {
    /// Lets so many calls go on, of which those that Python has not taken yet are some. Returns how many were refused
    /// since this was called last.
    pub fn set(&self, calls: usize, until: Option<Instant>) -> u64 {
        let mut counts = locked(&self.0);
        counts.left = calls.saturating_sub(counts.untaken);
        counts.until = until;
        std::mem::take(&mut counts.refused)
    }

    fn enter(self: Arc<Self>, now: Instant) -> Option<Entered> {
        let mut counts = locked(&self.0);
        if counts.until.is_some_and(|until| now < until) {
            let Some(left) = counts.left.checked_sub(1) else {
                counts.refused += 1;
                return None;
            };
            counts.left = left;
        }
        counts.untaken += 1;
        drop(counts);
        Some(Entered(self))
    }
}

/// A call on its way to Python, for as long as this is kept.
pub struct Entered(Arc<Allowance>);

impl Drop for Entered {
    fn drop(&mut self) {
        locked(&self.0.0).untaken -= 1;
    }
}

/// The allowance of a connection's caller, if it has one. It may be given at any time, from any thread.
#[derive(Clone, Default)]
pub struct Allowed(Arc<Mutex<Option<Arc<Allowance>>>>);

impl Allowed {
    pub fn give(&self, allowance: Arc<Allowance>) {
        *locked(&self.0) = Some(allowance);
    }
}

/// Whether a call goes on to Python.
pub enum Door {
    /// It does; where it is counted, until Python takes it.
    Open(Option<Entered>),
    /// It is refused with these trailers.
    Shut(HeaderMap),
}

/// What all connections share.
pub struct Shedding {
    /// The paths of the methods that may be refused.
    methods: HashSet<String>,
    /// A refusal is told so much later, which slows those down who ask again as soon as they are answered.
    hold: Duration,
    /// Those of so long a time are told together, that much earlier at most.
    tick: Duration,
    /// Whoever waits shorter than that is told at once.
    hold_from: Duration,
    began: Instant,
    held: Arc<AtomicUsize>,
    refusals: Mutex<Refusals>,
}

#[derive(Default)]
struct Refusals {
    statuses: Vec<HeaderMap>,
    next: usize,
    max_held: usize,
}

impl Shedding {
    pub fn new(methods: HashSet<String>, hold: Duration, tick: Duration, hold_from: Duration) -> Self {
        let (held, refusals) = (Arc::default(), Mutex::default());
        Self { methods, hold, tick, hold_from, began: Instant::now(), held, refusals }
    }

    /// Refuses with these trailers from now on, with one after the other, and keeps back at most so many at once.
    pub fn refuse_with(&self, statuses: Vec<HeaderMap>, max_held: usize) {
        *locked(&self.refusals) = Refusals { statuses, next: 0, max_held };
    }

    pub fn door(&self, path: &str, caller: &Allowed) -> Door {
        let Some(allowance) = locked(&caller.0).clone() else { return Door::Open(None) };
        if !self.methods.contains(path) {
            return Door::Open(None);
        }
        let mut refusals = locked(&self.refusals);
        if refusals.statuses.is_empty() {
            return Door::Open(None);
        }
        match allowance.enter(Instant::now()) {
            Some(entered) => Door::Open(Some(entered)),
            None => Door::Shut(refusals.next()),
        }
    }

    /// Returns until when a refusal is kept back, if it is: its caller waits for long enough, and there is room.
    pub fn hold(&self, deadline: Option<Instant>) -> Option<(Instant, Count)> {
        let now = Instant::now();
        if deadline.is_some_and(|deadline| deadline < now + self.hold_from) {
            return None;
        }
        if self.held.load(Ordering::Relaxed) >= locked(&self.refusals).max_held {
            return None;
        }
        let ticks = (now + self.hold - self.began).as_nanos() / self.tick.as_nanos();
        Some((self.began + Duration::from_nanos((ticks * self.tick.as_nanos()) as u64), Count::of(&self.held)))
    }
}

impl Refusals {
    fn next(&mut self) -> HeaderMap {
        self.next = (self.next + 1) % self.statuses.len();
        self.statuses[self.next].clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/a.Service/Method";

    fn shedding(max_held: usize) -> Shedding {
        let second = Duration::from_secs(1);
        let shedding = Shedding::new([PATH.to_owned()].into(), second, second / 50, 2 * second);
        shedding.refuse_with(["1", "2"].map(|after| crate::headers::status(8, after)).into(), max_held);
        shedding
    }

    fn flooder() -> (Arc<Allowance>, Allowed) {
        let (allowance, allowed) = (Arc::new(Allowance::default()), Allowed::default());
        allowed.give(allowance.clone());
        (allowance, allowed)
    }

    fn soon() -> Option<Instant> {
        Some(Instant::now() + Duration::from_secs(60))
    }

    fn refused(door: &Door) -> bool {
        matches!(door, Door::Shut(_))
    }

    #[test]
    fn what_is_allowed_goes_on_and_the_rest_is_refused_and_counted_once() {
        let (shedding, (allowance, flooder)) = (shedding(9), flooder());
        assert_eq!(allowance.set(2, soon()), 0);
        let doors: Vec<_> = (0..5).map(|_| shedding.door(PATH, &flooder)).collect();
        assert_eq!(doors.iter().map(refused).collect::<Vec<_>>(), [false, false, true, true, true]);
        assert_eq!(allowance.set(2, soon()), 3);
        assert_eq!(allowance.set(2, soon()), 0);
    }

    #[test]
    fn what_python_has_not_taken_yet_is_part_of_what_is_allowed() {
        let (shedding, (allowance, flooder)) = (shedding(9), flooder());
        allowance.set(2, soon());
        let untaken = [shedding.door(PATH, &flooder), shedding.door(PATH, &flooder)];
        allowance.set(3, soon());
        let last = shedding.door(PATH, &flooder);
        assert!(!refused(&last));
        assert!(refused(&shedding.door(PATH, &flooder)));
        drop((untaken, last));
        allowance.set(1, soon());
        assert!(!refused(&shedding.door(PATH, &flooder)));
    }

    #[test]
    fn an_allowance_that_ended_refuses_nobody() {
        let (shedding, (allowance, flooder)) = (shedding(9), flooder());
        allowance.set(0, Some(Instant::now()));
        assert!(!refused(&shedding.door(PATH, &flooder)));
        allowance.set(0, None);
        assert!(!refused(&shedding.door(PATH, &flooder)));
    }

    #[test]
    fn others_and_other_methods_are_never_refused() {
        let (shedding, (allowance, flooder)) = (shedding(9), flooder());
        allowance.set(0, soon());
        assert!(refused(&shedding.door(PATH, &flooder)));
        assert!(!refused(&shedding.door("/grpc.health.v1.Health/Check", &flooder)));
        assert!(!refused(&shedding.door(PATH, &Allowed::default())));
        shedding.refuse_with(Vec::new(), 9);
        assert!(!refused(&shedding.door(PATH, &flooder)), "nothing to say");
    }

    #[test]
    fn those_refused_are_told_one_status_after_the_other() {
        let (shedding, (allowance, flooder)) = (shedding(9), flooder());
        allowance.set(0, soon());
        let told = || match shedding.door(PATH, &flooder) {
            Door::Shut(trailers) => trailers["grpc-message"].clone(),
            Door::Open(_) => panic!("it is not refused"),
        };
        assert_eq!([told(), told(), told()], ["2", "1", "2"]);
    }

    #[test]
    fn a_refusal_is_kept_back_while_there_is_room_and_its_caller_waits() {
        let shedding = shedding(1);
        let began = Instant::now();
        assert!(shedding.hold(Some(began + Duration::from_secs(1))).is_none(), "it would not hear of it");
        let (until, held) = shedding.hold(None).expect("there is room");
        let kept = until - began;
        assert!(kept > Duration::from_millis(970) && kept < Duration::from_millis(1100), "{kept:?}");
        assert!(shedding.hold(None).is_none(), "there is no room");
        drop(held);
        assert!(shedding.hold(soon()).is_some());
    }
}
