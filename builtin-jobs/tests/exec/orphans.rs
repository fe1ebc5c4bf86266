//! What a killed daemon leaves behind ends when the next one starts.

use builtin_jobs::exec::{Orphan, sweep_orphans};
use scheduler_core::Name;

use crate::stage::{DAEMON, Daemon, Stage, eventually, lives, run, script};

/// Starts a member of the group and one that leaves it; each says who it is.
const FAMILY: &str = "echo $$ > $1/leader; \
    setsid sh -c 'echo $$ > $1/escapee; echo $SCHEDULER_RUN_ID > $1/run_id; exec sleep 60' sh $1 & \
    sleep 60";

#[tokio::test]
async fn a_copy_of_this_binary_plays_the_daemon() {
    if let Ok(args) = std::env::var(DAEMON) {
        let end = run(&serde_json::from_str(&args).unwrap()).await;
        assert!(matches!(end, scheduler_core::AttemptEnd::Succeeded(_)), "{end:?}");
    }
}

#[tokio::test]
async fn orphans_of_a_dead_owner_are_swept_and_those_of_a_living_one_are_not() {
    let (killed, living) = (Stage::new(), Stage::new());
    let mut killed_daemon = Daemon(killed.daemon(&script(FAMILY, &killed)).spawn().unwrap());
    let mut living_daemon = Daemon(living.daemon(&script(FAMILY, &living)).spawn().unwrap());
    let orphans = [killed.pid("leader").await, killed.pid("escapee").await];
    let others = [living.pid("leader").await, living.pid("escapee").await];
    eventually("the run says its id", || killed.word("run_id").is_some()).await;

    // It is not reaped before the sweep: a zombie owner is dead, too.
    killed_daemon.0.kill().unwrap();
    eventually("the daemon ends", || !lives(killed_daemon.0.id())).await;
    let alive_before = orphans.map(lives);
    let swept = sweep_orphans();

    assert_eq!(alive_before, [true; 2]);
    assert_eq!(orphans.map(lives), [false; 2]);
    assert_eq!(others.map(lives), [true; 2]);
    let run_id = killed.word("run_id").unwrap().trim().parse().ok();
    for pid in orphans {
        let orphan = Orphan { pid, task: Name::new("backup").ok(), run_id };
        assert!(swept.killed.contains(&orphan), "{orphan:?} is not in {swept:?}");
    }

    living_daemon.0.kill().unwrap();
    living_daemon.0.wait().unwrap();
    sweep_orphans();
    assert_eq!(others.map(lives), [false; 2]);
}
