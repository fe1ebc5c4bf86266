//! The configuration that `init` writes: few tasks that run at once, of jobs that this program has.

use scheduler_core::Registry;

const HEAD: &str = r#"# What runs, when, and under which policies. Try it:
#
#     scheduler check            every fault at once, with its place
#     scheduler explain hello    where a task runs, and why
#     scheduler next nightly     when it fires
#     scheduler run              all of it, until Ctrl-C
#
# `scheduler config show --defaults` adds every setting that is left out here. Editors that know the first line
# complete the keys and mark what is wrong; `scheduler config schema` prints that schema anew.

[scheduler]
timezone = "UTC"        # of every cron expression that names none
data_dir = "data"       # history and state, relative to this file
"#;

const EXEC: &str = r#"
# Every five seconds. A run that hangs is ended after the timeout, and a fire that finds it running is skipped.
[tasks.hello]
job = "exec"
args = { program = "echo", args = ["hello from the scheduler"] }
trigger = { every = "5s" }
timeout = "2s"

# Every night, tried three times.
[tasks.nightly]
job = "exec"
args = { program = "df", args = ["-h", "."] }
trigger = { cron = "30 2 * * *" }
timeout = "10m"
retry = { max_attempts = 3, initial = "1m" }
"#;

const HEALTH: &str = r#"
# Every thirty seconds: says which check fails, and for how long.
[tasks.health]
job = "health_check"
args = { checks = [{ name = "disk", kind = "disk", path = "." }, { name = "memory", kind = "memory" }] }
trigger = { every = "30s" }
timeout = "20s"
"#;

const DEAD_LETTERS: &str = r#"
# Every five minutes, once a task of yours is on the durable tier: replays dead letters that time may heal.
# [tasks.dead_letters]
# job = "dead_letter_processing"
# args = { archive = { file = "dead-letters.jsonl" } }
# trigger = { every = "5m" }
# timeout = "4m"
"#;

const GIT_POLL: &str = r#"
# Off until a repository is named: runs `nightly` once for each change of its default branch.
# [tasks.watch]
# job = "git_poll"
# args = { repositories = [{ url = "https://example.com/site.git" }], task = "nightly" }
# trigger = { every = "1m" }
"#;

const SECRETS: &str = r#"
# Every night, once there is a secret to look at: tells which are due for rotation or open to others.
# [tasks.secrets]
# job = "secret_rotation_check"
# args = { secrets = [{ name = "api_key", kind = "file", path = "/srv/app/api-key" }] }
# trigger = { cron = "0 3 * * *" }
# timeout = "10m"
"#;

const CACHE_CLEANUP: &str = r#"
# Off until a folder is named: lists what has not been used for a month, and removes it once `dry_run` is gone.
# [tasks.cleanup]
# job = "cache_cleanup"
# args = { dry_run = true, targets = [{ kind = "directory", path = "cache", max_age = "30d" }] }
# trigger = { cron = "0 * * * *" }
"#;

const METRICS: &str = r#"
# Every minute: numbers of this machine and of the scheduler, which `scheduler metrics` shows.
[tasks.metrics]
job = "metrics_collection"
trigger = { every = "1m" }
timeout = "50s"
"#;

const NO_JOB: &str = r#"
# A task names one of this program's jobs; `scheduler jobs` lists them.
# [tasks.hello]
# job = "…"
# trigger = { every = "5s" }
# timeout = "2s"
"#;

/// The text of a first configuration whose schema lies in the file `schema` beside it.
pub(crate) fn configuration(registry: &Registry, schema: &str) -> String {
    let mut text = format!("#:schema ./{schema}\n\n{HEAD}");
    let has = |job: &str| registry.job(job).is_ok();
    text.push_str(if has("exec") { EXEC } else { NO_JOB });
    if has("health_check") {
        text.push_str(HEALTH);
    }
    if has("metrics_collection") {
        text.push_str(METRICS);
    }
    if has("secret_rotation_check") {
        text.push_str(SECRETS);
    }
    if has("cache_cleanup") {
        text.push_str(CACHE_CLEANUP);
    }
    if has("dead_letter_processing") {
        text.push_str(DEAD_LETTERS);
    }
    if has("git_poll") && has("exec") {
        text.push_str(GIT_POLL);
    }
    text
}
