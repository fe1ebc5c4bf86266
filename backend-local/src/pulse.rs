//! The time as the loop sees it: read once for many steps, and the ticks of its wheels.
//!
//! A tick is a millisecond of the wall clock as it was when the loop began: a fire is due at the very beginning of
//! one. Between steps of the wall clock ticks follow it, and a step is taken out, so that they never jump.

use std::time::{Duration, Instant};

use scheduler_core::{Clock, ClockStep, ClockWatch, Timestamp};

/// How long the beginning of a millisecond is waited for at most.
const GLANCE: Duration = Duration::from_millis(2);

/// The time at the last look, and how the clocks stand to each other.
#[derive(Debug)]
pub(crate) struct Pulse {
    wall: Timestamp,
    monotonic: Duration,
    /// The wall clock less the monotonic one, in microseconds, as exactly as a clock of milliseconds tells.
    offset: i64,
    /// The wall clock less the ticks, in milliseconds.
    origin: i64,
    watch: ClockWatch,
}

impl Pulse {
    pub(crate) fn new(clock: &dyn Clock) -> Self {
        let wall = clock.now();
        let monotonic = clock.monotonic();
        let watch = ClockWatch::new(wall, monotonic);
        let mut pulse = Self { wall, monotonic, offset: 0, origin: wall.as_millis(), watch };
        if clock.thread_sleep(Duration::ZERO).is_some() {
            // Where a millisecond begins, the two are compared to the microsecond.
            let began = Instant::now();
            while clock.now() == wall && began.elapsed() < GLANCE {
                std::hint::spin_loop();
            }
        }
        pulse.wall = clock.now();
        pulse.monotonic = clock.monotonic();
        pulse.offset = pulse.least_offset();
        pulse
    }

    /// The wall clock at the last look.
    pub(crate) fn wall(&self) -> Timestamp {
        self.wall
    }

    /// The monotonic clock at the last look.
    pub(crate) fn monotonic(&self) -> Duration {
        self.monotonic
    }

    /// How far intervals are ahead of the wall clock, and the fire times of a trigger.
    pub(crate) fn watch(&self) -> &ClockWatch {
        &self.watch
    }

    /// Reads the clocks; says so when the wall clock was set since the last look.
    pub(crate) fn look(&mut self, clock: &dyn Clock) -> Option<ClockStep> {
        self.wall = clock.now();
        self.monotonic = clock.monotonic();
        let step = self.watch.look(self.wall, self.monotonic);
        let least = self.least_offset();
        match &step {
            Some(step) => {
                self.offset = least;
                self.origin += step.to.as_millis() - step.from.as_millis();
            }
            // What the clocks show now leaves a millisecond of doubt; within it the better knowledge of before stays.
            None => self.offset = self.offset.clamp(least, least.saturating_add(999)),
        }
        step
    }

    /// Reads the wall clock again during a long piece of work.
    pub(crate) fn refresh(&mut self, clock: &dyn Clock) {
        self.wall = clock.now();
    }

    /// The tick of the last look.
    pub(crate) fn tick(&self) -> u64 {
        let wall = (micros(self.monotonic) + self.offset).div_euclid(1_000);
        u64::try_from(wall - self.origin).unwrap_or(0)
    }

    /// The tick at which an instant of the wall clock begins.
    pub(crate) fn tick_at(&self, at: Timestamp) -> u64 {
        u64::try_from(at.as_millis() - self.origin).unwrap_or(0)
    }

    /// The first tick that is no sooner than so long from the last look.
    pub(crate) fn tick_in(&self, wait: Duration) -> u64 {
        let whole = u64::try_from(wait.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX);
        // It begins in the middle of a tick, unless the clock is one that stands still at their beginnings.
        let begun = (micros(self.monotonic) + self.offset).rem_euclid(1_000) > 0;
        self.tick().saturating_add(whole).saturating_add(u64::from(begun))
    }

    /// When a tick begins on the monotonic clock.
    pub(crate) fn begin_of(&self, tick: u64) -> Duration {
        let wall = i64::try_from(tick).unwrap_or(i64::MAX).saturating_add(self.origin).saturating_mul(1_000);
        Duration::from_micros(u64::try_from(wall.saturating_sub(self.offset)).unwrap_or(0))
    }

    fn least_offset(&self) -> i64 {
        self.wall.as_millis() * 1_000 - micros(self.monotonic)
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Microseconds of the wall clock and of the monotonic one.
    #[derive(Debug)]
    struct Hands(Mutex<(i64, u64)>);

    impl Hands {
        fn pass(&self, micros: u64) {
            let mut hands = self.0.lock().unwrap();
            *hands = (hands.0 + micros as i64, hands.1 + micros);
        }

        fn set_wall(&self, by: i64) {
            self.0.lock().unwrap().0 += by;
        }
    }

    impl Clock for Hands {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(self.0.lock().unwrap().0.div_euclid(1_000))
        }

        fn monotonic(&self) -> Duration {
            Duration::from_micros(self.0.lock().unwrap().1)
        }

        fn sleep_until(&self, _: Duration) -> scheduler_core::BoxFuture<()> {
            Box::pin(std::future::pending())
        }
    }

    #[test]
    fn a_tick_begins_with_its_millisecond_of_the_wall_clock_once_that_has_been_seen_to_begin() {
        let hands = Hands(Mutex::new((1_000_000_700, 5_000_000)));
        let mut pulse = Pulse::new(&hands);
        for _ in 0..10 {
            hands.pass(930);
            assert_eq!(pulse.look(&hands), None);
        }
        let at = Timestamp::from_millis(pulse.wall().as_millis() + 5);
        let begins = pulse.begin_of(pulse.tick_at(at));
        let (wall, monotonic) = *hands.0.lock().unwrap();
        let exact = at.as_millis() * 1_000 - wall + monotonic as i64;
        let off = begins.as_micros() as i64 - exact;
        assert!((0..100).contains(&off), "{off} microseconds late");
    }

    #[test]
    fn ticks_do_not_jump_when_the_wall_clock_steps() {
        let hands = Hands(Mutex::new((1_000_000_000, 0)));
        let mut pulse = Pulse::new(&hands);
        hands.pass(50_000);
        assert_eq!((pulse.look(&hands), pulse.tick()), (None, 50));
        hands.set_wall(-3_600_000_000);
        hands.pass(1_000);
        let step = pulse.look(&hands).unwrap();
        assert_eq!(step.from.as_millis() - step.to.as_millis(), 3_600_000);
        assert_eq!(pulse.tick(), 51);
        assert_eq!(pulse.begin_of(pulse.tick_in(Duration::from_millis(10))), Duration::from_millis(61));
        let in_a_second = pulse.wall() + Duration::from_secs(1);
        assert_eq!(pulse.tick_at(in_a_second), 1_051);
    }
}
