//! The time-zone database changes under the daemon.

use scheduler_core::Timestamp;

use crate::liar::{Liar, Lie, On, task};
use crate::seen::fires;
use crate::zone_file;

#[test]
#[ignore = "needs libfaketime: cargo xtask integration clocks"]
fn the_database_changes_on_local() {
    the_database_changes(On::Local);
}

#[test]
#[ignore = "needs libfaketime: cargo xtask integration clocks"]
fn the_database_changes_on_queue() {
    the_database_changes(On::Queue);
}

fn the_database_changes(on: On) {
    let zones = tempfile::tempdir().unwrap();
    let clock = zones.path().join("Test/Clock");
    zone_file::write(&clock, 1);
    // All clocks lie, towards the future since none may be before the machine's start; so a jump is time that passes: the database is read anew after five minutes.
    let begin = "2096-06-15T09:53:30Z";
    let lie = Lie { is_whole: true, zones: Some(zones.path().to_owned()), ..Lie::beginning(begin) };
    let tasks = [
        task("beat", "every = \"1s\"", ""),
        task("noon", "cron = \"0 12 * * *\", timezone = \"Test/Clock\"", ""),
    ];
    let mut liar = Liar::start("the_database_changes", on, &lie, &tasks.concat());
    liar.wait_for_fires(0, &[("beat", 2)]);
    let before = liar.seen.len();
    liar.tell("before", 0, before, &["beat", "noon"]);

    liar.injected(
        "Test/Clock is two hours ahead of UTC from now on, not one: its noon is at 10:00, not at 11:00",
    );
    zone_file::write(&clock, 2);
    liar.injected("six minutes pass");
    liar.step(360);
    liar.wait_for_fires(before, &[("beat", 3), ("noon", 1)]);
    let after = liar.seen.len();
    liar.tell("after", before, after, &["beat", "noon"]);
    liar.is_calm();

    let noon: Timestamp = "2096-06-15T10:00:00Z".parse().unwrap();
    assert_eq!(fires(&liar.seen, "noon"), [noon], "{}", liar.told());
    liar.end();
}
