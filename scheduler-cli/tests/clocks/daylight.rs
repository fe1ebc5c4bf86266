//! Clocks go forward and back while the daemon runs.

use scheduler_core::Timestamp;

use crate::liar::{Liar, Lie, On, task};
use crate::seen::fires;

fn berlin(name: &str, cron: &str) -> String {
    task(name, &format!("cron = \"{cron}\", timezone = \"Europe/Berlin\""), "")
}

fn instants(texts: &[&str]) -> Vec<Timestamp> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

mod on_local {
    use super::On;

    #[test]
    #[ignore = "needs libfaketime: cargo xtask integration clocks"]
    fn clocks_go_forward() {
        super::clocks_go_forward(On::Local);
    }

    #[test]
    #[ignore = "needs libfaketime: cargo xtask integration clocks"]
    fn clocks_go_back() {
        super::clocks_go_back(On::Local);
    }
}

mod on_queue {
    use super::On;

    #[test]
    #[ignore = "needs libfaketime: cargo xtask integration clocks"]
    fn clocks_go_forward() {
        super::clocks_go_forward(On::Queue);
    }

    #[test]
    #[ignore = "needs libfaketime: cargo xtask integration clocks"]
    fn clocks_go_back() {
        super::clocks_go_back(On::Queue);
    }
}

fn clocks_go_forward(on: On) {
    let tasks = [
        task("beat", "every = \"1s\"", ""),
        berlin("fixed", "30 2 * * *"),
        berlin("several", "10,50 2 * * *"),
        berlin("wildcard", "*/30 * * * *"),
        berlin("lost", "*/10 2 * * *"),
    ];
    let lie = Lie::beginning("2026-03-29T00:59:53Z");
    let mut liar = Liar::start("clocks_go_forward", on, &lie, &tasks.concat());
    liar.injected("the clocks of Berlin go from 02:00 to 03:00 at 2026-03-29T01:00:00Z");
    liar.wait_for_fires(0, &[("beat", 2), ("fixed", 1), ("several", 1), ("wildcard", 1)]);
    let at = liar.seen.len();
    liar.wait_for_fires(at, &[("beat", 3)]);
    let all = liar.seen.len();
    liar.tell("all the time", 0, all, &["beat", "fixed", "several", "wildcard", "lost"]);
    liar.is_calm();

    let at_the_end = instants(&["2026-03-29T01:00:00Z"]);
    for name in ["fixed", "several", "wildcard"] {
        assert_eq!(fires(&liar.seen, name), at_the_end, "{name}\n{}", liar.told());
    }
    assert_eq!(fires(&liar.seen, "lost"), [], "{}", liar.told());
    liar.end();
}

fn clocks_go_back(on: On) {
    let tasks =
        [task("beat", "every = \"1s\"", ""), berlin("fixed", "30 2 * * *"), berlin("wildcard", "30 * * * *")];
    let lie = Lie::beginning("2026-10-25T00:29:53Z");
    let mut liar = Liar::start("clocks_go_back", on, &lie, &tasks.concat());
    liar.wait_for_fires(0, &[("beat", 2), ("fixed", 1), ("wildcard", 1)]);
    let before = liar.seen.len();
    liar.tell("the first 02:30", 0, before, &["beat", "fixed", "wildcard"]);

    liar.injected("the clocks of Berlin went from 03:00 to 02:00 at 2026-10-25T01:00:00Z");
    liar.set("2026-10-25T01:29:56Z");
    let (at, _) = liar.wait_for_step(before);
    liar.wait_for_fires(at, &[("wildcard", 1)]);
    let second = liar.seen.len();
    liar.wait_for_fires(second, &[("beat", 3)]);
    let all = liar.seen.len();
    liar.tell("the second 02:30", before, all, &["beat", "fixed", "wildcard"]);
    liar.is_calm();

    let both = instants(&["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"]);
    assert_eq!(fires(&liar.seen, "fixed"), both[..1], "{}", liar.told());
    assert_eq!(fires(&liar.seen, "wildcard"), both, "{}", liar.told());
    liar.end();
}
