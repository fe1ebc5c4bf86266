//! However a run ends, what it started ends with it.

use std::time::{Duration, Instant};

use scheduler_core::{AttemptEnd, CancelReason, RunContext, attempt};
use serde_json::{Value, json};

use crate::stage::{Stage, context, eventually, exec, kill, lives, output, script, state};

/// Cancels the run when `ready` holds, and returns how the attempt ended.
async fn cancelled_when(ready: impl Future, args: &Value, ctx: &RunContext) -> AttemptEnd {
    let job = exec(args);
    let (end, ()) = tokio::join!(attempt(&*job, ctx, None), async {
        ready.await;
        ctx.cancel(CancelReason::Requested);
    });
    end
}

fn with_grace(mut args: Value, grace: &str) -> Value {
    args["grace"] = json!(grace);
    args
}

#[tokio::test]
async fn a_grandchild_that_ignores_term_is_gone_after_a_timeout() {
    let stage = Stage::new();
    let text = r#"sh -c 'trap "" TERM; echo $$ > $1/pid; while :; do sleep 1; done' sh $1 & wait"#;
    let job = exec(&with_grace(script(text, &stage), "100ms"));

    let end = attempt(&*job, &context(), Some(Duration::from_secs(1))).await;

    assert!(matches!(end, AttemptEnd::TimedOut { .. }), "{end:?}");
    assert!(!lives(stage.pid("pid").await));
}

#[tokio::test]
async fn dropping_the_run_kills_the_group_and_leaves_no_zombie() {
    let stage = Stage::new();
    let text = "echo $$ > $1/leader; (trap '' TERM; sleep 60 & echo $! > $1/member; wait) & wait";
    let (job, ctx) = (exec(&script(text, &stage)), context());

    let pids = tokio::select! {
        end = attempt(&*job, &ctx, None) => panic!("{end:?}"),
        pids = async { (stage.pid("leader").await, stage.pid("member").await) } => pids,
    };

    eventually("the member ends", || !lives(pids.1)).await;
    eventually("the leader is reaped", || state(pids.0).is_none()).await;
}

#[tokio::test]
async fn dropping_the_run_kills_an_escapee_by_setsid() {
    let stage = Stage::new();
    let text = "setsid sh -c 'echo $$ > $1/pid; exec sleep 60' sh $1 & wait";
    let (job, ctx) = (exec(&script(text, &stage)), context());

    let pid = tokio::select! {
        end = attempt(&*job, &ctx, None) => panic!("{end:?}"),
        pid = stage.pid("pid") => pid,
    };

    eventually("the escapee ends", || !lives(pid)).await;
}

#[tokio::test]
async fn an_escapee_by_setsid_dies_with_a_cancelled_run() {
    let stage = Stage::new();
    let text = "setsid sh -c 'trap \"\" TERM; echo $$ > $1/pid; exec sleep 60' sh $1 & sleep 60";

    let end = cancelled_when(stage.pid("pid"), &script(text, &stage), &context()).await;

    assert!(matches!(end, AttemptEnd::Cancelled { reason: CancelReason::Requested, .. }), "{end:?}");
    assert!(!lives(stage.pid("pid").await));
}

#[tokio::test]
async fn a_cancelled_run_spares_the_escapees_of_other_runs() {
    let stage = Stage::new();
    let text = "setsid sh -c 'echo $$ > $1/other; exec sleep 60' sh $1 & \
                while [ ! -s $1/other ]; do sleep 0.01; done";
    output(&script(text, &stage)).await;
    let other = stage.pid("other").await;

    let text = "echo $$ > $1/pid; sleep 60";
    cancelled_when(stage.pid("pid"), &script(text, &stage), &context()).await;

    assert!(lives(other));
    kill(other);
}

#[tokio::test]
async fn a_grandchild_that_keeps_the_pipe_does_not_delay_the_run() {
    let stage = Stage::new();
    let text = "setsid sh -c 'echo $$ > $1/pid; exec sleep 60' sh $1 & \
                while [ ! -s $1/pid ]; do sleep 0.01; done; echo done";
    let began = Instant::now();

    let output = output(&script(text, &stage)).await;

    assert_eq!(output["stdout"], "done\n");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    // It left the group and its run ended by itself, so nobody may touch it.
    let pid = stage.pid("pid").await;
    assert!(lives(pid));
    kill(pid);
}

#[tokio::test]
async fn what_a_program_leaves_in_its_group_is_killed_and_nothing_is_left_to_reap() {
    let stage = Stage::new();
    let text = "echo $$ > $1/leader; sleep 60 & echo $! > $1/left";

    output(&script(text, &stage)).await;

    let left = stage.pid("left").await;
    eventually("what was left ends", || !lives(left)).await;
    assert_eq!(state(stage.pid("leader").await), None);
}

#[tokio::test]
async fn a_group_may_use_the_grace_after_its_leader_has_died() {
    let stage = Stage::new();
    let text = "sh -c 'trap \"sleep 0.3; echo clean > $1/word; exit\" TERM; echo $$ > $1/pid; \
                while :; do sleep 0.05; done' sh $1 & wait";
    let args = with_grace(script(text, &stage), "30s");
    let began = Instant::now();

    cancelled_when(stage.pid("pid"), &args, &context()).await;

    assert_eq!(stage.word("word").as_deref(), Some("clean\n"));
    assert!(began.elapsed() < Duration::from_secs(20), "it did not end with its last member");
}

#[tokio::test]
async fn a_stopped_program_hears_that_it_shall_end() {
    let stage = Stage::new();
    let text = "trap 'echo heard > $1/word; exit' TERM; echo $$ > $1/pid; kill -STOP $$; sleep 60";
    let args = with_grace(script(text, &stage), "30s");
    let stopped = async {
        let pid = stage.pid("pid").await;
        eventually("the program stops", || state(pid) == Some('T')).await;
    };

    cancelled_when(stopped, &args, &context()).await;

    assert_eq!(stage.word("word").as_deref(), Some("heard\n"));
}

#[tokio::test]
async fn a_program_that_prints_without_end_can_be_cancelled() {
    let stage = Stage::new();
    let args = with_grace(script("trap '' TERM; echo $$ > $1/pid; yes", &stage), "100ms");

    let end = cancelled_when(stage.pid("pid"), &args, &context()).await;

    assert!(matches!(end, AttemptEnd::Cancelled { .. }), "{end:?}");
    assert!(!lives(stage.pid("pid").await));
}

#[tokio::test]
async fn a_run_that_was_cancelled_before_it_began_starts_nothing() {
    let stage = Stage::new();
    let (job, ctx) = (exec(&script("trap '' TERM; echo ran > $1/word", &stage)), context());
    ctx.cancel(CancelReason::Shutdown);

    let end = attempt(&*job, &ctx, None).await;

    assert!(matches!(end, AttemptEnd::Cancelled { reason: CancelReason::Shutdown, .. }), "{end:?}");
    assert_eq!(stage.word("word"), None);
}

#[test]
fn the_time_to_wind_down_covers_the_grace() {
    let job = exec(&json!({"program": "true", "grace": "1m30s"}));
    assert_eq!(job.wind_down(), Duration::from_secs(92));
}
