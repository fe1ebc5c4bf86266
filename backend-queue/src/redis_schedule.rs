//! The schedules on Redis: where one stands is read, the step is decided here, and a script takes it unless the
//! schedule stands elsewhere by then. So a fire is enqueued once, however many daemons see it.

use std::time::Duration;

use scheduler_core::{CancelReason, Cursor, Entry, Live, Name, Pause, Result, Run, RunId, Timestamp};

use crate::redis_link::Link;
use crate::redis_row::{HEAD, RUNNING, Row};
use crate::redis_script;
use crate::redis_store::{MOST_TRIES, RedisStore, id_of, millis, restless};
use crate::redis_unique;
use crate::redis_wire;
use crate::store::{Cancel, Decide, Decided, Decision, Effect, Pushed, Standing, Store, called};
use crate::unique::skipped;

/// How many runs of a task are replaced by one script.
const REPLACED: usize = 1_000;
/// From this try on a step is taken although the runs of its task come and go: otherwise a busy one never fires.
const LENIENT: usize = 5;

/// A schedule, as it was read.
pub(crate) struct Stands {
    pub(crate) standing: Standing,
    revision: u64,
    now: Timestamp,
    /// Its fields as they are stored.
    fields: Vec<String>,
}

/// As [`Store::register`](crate::store::Store::register).
pub(crate) async fn register(link: &Link, task: &Name, definition: &str, lease: Duration) -> Result<u64> {
    let script = &redis_script::REGISTER;
    let at = Timestamp::from_millis(0);
    let before = at.since(Cursor::starting(at).decided);
    let mut call = link.call(script);
    call.arg(task.as_str()).arg(definition).arg(millis(before)).arg(millis(lease));
    link.send(script, &call).await
}

/// As [`Store::serve`](crate::store::Store::serve).
pub(crate) async fn serve(link: &Link, tasks: &[Name], lease: Duration) -> Result<()> {
    let script = &redis_script::SERVE;
    for some in tasks.chunks(1_000) {
        let mut call = link.call(script);
        call.arg(millis(lease));
        for task in some {
            call.arg(task.as_str());
        }
        link.send::<u64>(script, &call).await?;
    }
    Ok(())
}

/// As [`Store::pause`](crate::store::Store::pause).
pub(crate) async fn pause(link: &Link, task: &Name, pause: Option<&Pause>) -> Result<()> {
    let script = &redis_script::PAUSE;
    let mut call = link.call(script);
    call.arg(task.as_str()).arg(pause.map(stored_pause));
    link.send::<u64>(script, &call).await.map(drop)
}

fn stored_pause(pause: &Pause) -> String {
    serde_json::to_string(pause).unwrap_or_default()
}

/// Where a schedule stands, if there is one.
pub(crate) async fn stands(link: &Link, task: &Name) -> Result<Option<Stands>> {
    let script = &redis_script::STANDING;
    let mut call = link.call(script);
    call.arg(task.as_str());
    let (fields, running, queued, now): (Vec<String>, usize, usize, i64) = link.send(script, &call).await?;
    let [revision, decided, served_since, runs, finished, paused] = fields.as_slice() else {
        return Ok(None);
    };
    let Ok(revision) = revision.parse() else { return Ok(None) };
    let instant = |text: &str| text.parse().ok().map(Timestamp::from_millis);
    let now = Timestamp::from_millis(now);
    // Somebody else's doing leaves a cursor that begins now.
    let begun = Cursor::starting(now);
    let cursor = Cursor {
        decided: instant(decided).unwrap_or(begun.decided),
        served_since: instant(served_since).unwrap_or(begun.served_since),
        runs: runs.parse().unwrap_or_default(),
        finished: instant(finished),
    };
    // A pause that cannot be read is still one.
    let paused = (!paused.is_empty()).then(|| serde_json::from_str(paused).unwrap_or_default());
    let standing = Standing { cursor, paused, live: Live { running, queued } };
    Ok(Some(Stands { standing, revision, now, fields }))
}

/// As [`Store::decide`](crate::store::Store::decide).
pub(crate) async fn decide(
    store: &RedisStore,
    task: &Name,
    revision: u64,
    decide: &Decide<'_>,
) -> Result<Decided> {
    let mut ended = Vec::new();
    for attempt in 0..MOST_TRIES {
        let Some(before) = stands(&store.link, task).await? else { return Ok(Decided::Unknown) };
        if before.revision > revision {
            return Ok(Decided::Stale);
        }
        if before.revision < revision {
            // Redis has lost data, and somebody else was the first to register the task again.
            return Ok(Decided::Unknown);
        }
        let mut decision = decide(before.standing.clone(), before.now);
        let kept_out = keep_out(store, &mut decision, before.now).await?;
        let mut replaced = Replaced::default();
        if let Effect::Fire(pushed, Entry::CancelOthers) = &decision.effect {
            replaced = Replaced::read(store, task, pushed.run.queue.as_ref(), before.now).await?;
            let Live { running, queued } = before.standing.live;
            if running + queued > REPLACED && !replaced.ended.is_empty() {
                // More than one script may end: these go first, and the step is decided anew for the rest.
                ended.extend(replaced.cancel(store).await?);
                continue;
            }
        }
        let step = Step { task, before: &before, decision: &decision, is_strict: attempt < LENIENT };
        if step.changes_nothing() || step.take(store, &replaced).await? {
            ended.extend(replaced.ended.into_iter().map(|(_, _, run)| run).chain(kept_out));
            let marked = replaced.marked.into_iter().map(|(id, _)| id).collect();
            return Ok(Decided::Done { ended, marked });
        }
    }
    Err(restless(&format!("the schedule of task `{task}`")))
}

/// Turns a fire that another run of its kind keeps out into one that is skipped; answers its run then.
async fn keep_out(store: &RedisStore, decision: &mut Decision, now: Timestamp) -> Result<Option<Run>> {
    let Effect::Fire(pushed, _) = &decision.effect else { return Ok(None) };
    let Some(unique) = &pushed.run.unique else { return Ok(None) };
    let Some(owner) = redis_unique::owner_of(store, unique).await? else { return Ok(None) };
    let is_itself = owner == pushed.run.id;
    let run = skipped(pushed.run.clone(), owner, now);
    decision.effect = Effect::Skip(Box::new(run.clone()));
    // It has been told of before.
    Ok((!is_itself).then_some(run))
}

/// The runs of a task that make room for a new one, each with what was read of it.
#[derive(Default)]
struct Replaced {
    /// Those under way.
    marked: Vec<(RunId, Vec<u8>)>,
    /// Those that waited, as they are then.
    ended: Vec<(RunId, Vec<u8>, Run)>,
}

impl Replaced {
    async fn read(store: &RedisStore, task: &Name, queue: Option<&Name>, at: Timestamp) -> Result<Self> {
        let script = &redis_script::LIVING;
        let mut call = store.link.call(script);
        call.arg(task.as_str()).arg(REPLACED).arg(called(queue));
        let mut found: Vec<(Vec<u8>, Vec<u8>)> = store.link.send(script, &call).await?;
        found.sort_by_key(|(_, packed)| Row::parse(packed).map(|row| row.seq));
        let mut replaced = Self::default();
        for (id, packed) in found {
            let (Some(id), Some(row)) = (id_of(&id), Row::parse(&packed)) else { continue };
            if row.state == RUNNING {
                replaced.marked.push((id, packed));
            } else if !row.has_ended() {
                let run = store.cancelled(id, &packed, CancelReason::Replaced.as_str(), at);
                replaced.ended.push((id, packed, run));
            }
        }
        Ok(replaced)
    }

    /// Cancels those that wait, one by one; answers those that still waited.
    async fn cancel(self, store: &RedisStore) -> Result<Vec<Run>> {
        let mut ended = Vec::new();
        for (id, ..) in self.ended {
            if let Cancel::Ended(run) = store.cancel(id, CancelReason::Replaced.as_str()).await? {
                ended.push(*run);
            }
        }
        Ok(ended)
    }
}

/// A step that was decided.
struct Step<'a> {
    task: &'a Name,
    before: &'a Stands,
    decision: &'a Decision,
    /// Whether it counts only while as many runs live as when it was decided.
    is_strict: bool,
}

impl Step<'_> {
    fn moves_cursor(&self) -> bool {
        let Standing { cursor, paused, .. } = &self.before.standing;
        self.decision.cursor != *cursor || self.decision.paused != *paused
    }

    fn changes_nothing(&self) -> bool {
        matches!(self.decision.effect, Effect::Nothing) && !self.moves_cursor()
    }

    /// Takes it; says whether the schedule still stood where it did.
    async fn take(&self, store: &RedisStore, replaced: &Replaced) -> Result<bool> {
        let unique = match &self.decision.effect {
            Effect::Fire(pushed, _) => pushed.run.unique.as_ref().map(|unique| (pushed.run.id, unique)),
            Effect::Skip(_) | Effect::Nothing => None,
        };
        let script = if unique.is_some() { &redis_script::FIRE_UNIQUE } else { &redis_script::DECIDE };
        let mut call = store.link.call(script);
        call.arg(self.task.as_str()).arg(&self.before.fields);
        let Live { running, queued } = self.before.standing.live;
        match self.is_strict {
            true => call.arg(running).arg(queued),
            false => call.arg("").arg(""),
        };
        if self.moves_cursor() {
            let Cursor { decided, served_since, runs, finished } = &self.decision.cursor;
            call.arg(decided.as_millis()).arg(served_since.as_millis()).arg(*runs);
            call.arg(finished.map(|at| at.as_millis().to_string()).unwrap_or_default());
            call.arg(self.decision.paused.as_ref().map(stored_pause).unwrap_or_default());
        } else {
            call.arg(&["="; 5]);
        }
        call.arg(replaced.marked.len()).arg(CancelReason::Replaced.as_str());
        for (id, packed) in &replaced.marked {
            call.arg(id.to_string()).arg(&packed[..HEAD]);
        }
        call.arg(replaced.ended.len());
        for (id, packed, run) in &replaced.ended {
            let at = run.finished_at.unwrap_or(self.before.now);
            let after = Row::parse(packed).map(|row| row.head_cancelled(at)).unwrap_or_default();
            redis_wire::add_withdrawn(&mut call, *id, &packed[..HEAD], &after, run);
        }
        let note;
        let added = match &self.decision.effect {
            Effect::Fire(pushed, _) => Some(&**pushed),
            Effect::Skip(run) => {
                let (due, run) = (run.fire_time, (**run).clone());
                note = Pushed { run, due, priority: 0, max_attempts: 1, alone: false };
                Some(&note)
            }
            Effect::Nothing => None,
        };
        if let Some(pushed) = added {
            redis_wire::add_runs(&mut call, &[pushed]);
        }
        if let Some((id, unique)) = unique {
            call.arg(id.to_string());
            redis_unique::add_kind(&mut call, Some(unique));
        }
        Ok(store.link.send::<u64>(script, &call).await? == 1)
    }
}
