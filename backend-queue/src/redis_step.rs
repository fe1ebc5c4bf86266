//! Deliveries on Redis: claimed and acknowledged by one script, prolonged by another, taken away by two.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use redis::Script;
use scheduler_core::{Name, Result, Run, RunId, RunState, Timestamp};
use tokio::sync::Mutex;

use crate::limits::{Limits, Pace};
use crate::redis_error::{is_out_of_memory, is_unanswered};
use crate::redis_recall::Unanswered;
use crate::redis_row::{self, Row};
use crate::redis_script;
use crate::redis_store::{MOST, RedisStore, id_of, millis};
use crate::redis_wire::{self, End};
use crate::store::{Ack, Claim, Delivery, Held, Renewed, Share, Stepped, called};

/// What is known of deliveries besides what Redis keeps.
#[derive(Debug)]
pub(crate) struct Deliveries {
    /// Who takes the steps, for Redis.
    who: String,
    /// Whether Redis had no memory left when it was last asked for work.
    is_short: AtomicBool,
    /// How long a worker that no longer answers keeps its runs.
    lease: Duration,
    /// Steps are taken one after the other.
    unanswered: Mutex<Unanswered>,
}

impl Deliveries {
    pub(crate) fn new(lease: Duration) -> Self {
        let who = RunId::manual(Timestamp::from(SystemTime::now())).to_string();
        Self { who, is_short: AtomicBool::default(), lease, unanswered: Mutex::default() }
    }
}

/// Limits as a step is told of them: nothing stands for none.
fn told(limits: &Limits) -> String {
    let number = |number: Option<i64>| number.map(|number| number.to_string()).unwrap_or_default();
    let pace = |pace: Option<&Pace>| {
        format!("{}:{}", number(pace.map(|pace| pace.interval)), number(pace.map(|pace| pace.tolerance)))
    };
    let Limits { concurrency, pace: whole, per_key } = limits;
    let by = per_key.as_ref();
    let most = number(concurrency.map(i64::from));
    let most_by_key = number(by.and_then(|by| by.concurrency).map(i64::from));
    let by_key = pace(by.and_then(|by| by.pace.as_ref()));
    let param = by.map(|by| by.param.as_str()).unwrap_or_default();
    format!("{most}:{}:{most_by_key}:{by_key}:{param}", pace(whole.as_ref()))
}

/// How many runs are taken from each queue where not as many are taken as were divided among them: its part of those.
fn within(shares: &[Share], divided: u64, taken: u64) -> Vec<u64> {
    // Each gets what its share adds to those before it, so what is left of a run is lost to nobody.
    let (mut before, mut given) = (0, 0);
    let mut part = |share: &Share| {
        before += u64::from(share.count);
        let up_to = if taken < divided { before * taken / divided } else { before };
        let count = up_to - given;
        given = up_to;
        count
    };
    shares.iter().map(&mut part).collect()
}

/// The longest time for which leases are spared after Redis was away.
const SPARED: Duration = Duration::from_secs(10);

/// What a step answers: which acknowledgements were too late, ids and runs in turn, how long until the next is
/// due or -1, whether more are ready, the time, which acknowledgements meet a cancel, with the reasons, and which
/// queues are paused.
type Step = (Vec<usize>, Vec<Vec<u8>>, i64, u8, i64, Vec<usize>, Vec<String>, Vec<String>);

/// What is remembered of a step: whether it was done, which acknowledgements were too late, ids and runs that are
/// still held in turn, the time, and which acknowledgements meet a cancel, with the reasons.
type Recalled = (u8, Vec<usize>, Vec<Vec<u8>>, i64, Vec<usize>, Vec<String>);

/// An expired lease: the run's id, the fence, the run, and why it shall be cancelled.
type Expired = (Vec<u8>, Vec<u8>, Vec<u8>, Option<String>);

impl RedisStore {
    pub(crate) async fn take_step(&self, acks: &[Ack], claim: &Claim) -> Result<Stepped> {
        let mut unanswered = self.deliveries.unanswered.lock().await;
        self.recall(&mut unanswered).await?;
        let wanted = claim.limit as usize;
        let surplus = unanswered.surplus(wanted);
        let mut open = unanswered.unsettled(acks);
        open.extend(&surplus);
        let (mut next_due, mut has_more, mut stopped) = (None, unanswered.undelivered() > 0, None);
        let last = open.len().saturating_sub(1) / MOST * MOST;
        for first in (0..=last).step_by(MOST) {
            let some = &open[first..open.len().min(first + MOST)];
            let limit = if first == last { wanted - unanswered.undelivered() } else { 0 };
            let number = unanswered.begin(some);
            let ends: Vec<End<'_>> = some.iter().map(|ack| End::of(ack, unanswered.middle(ack))).collect();
            let step = self.step_or_acknowledge(number, &ends, limit, claim).await;
            let (refused, claimed, wait, are_more, at, marked, reasons, paused) =
                step.inspect_err(|error| {
                    if !is_unanswered(error) {
                        unanswered.call_off();
                    }
                })?;
            unanswered.end(&refused, marked.into_iter().zip(reasons));
            next_due = u64::try_from(wait).ok().map(Duration::from_millis);
            has_more |= are_more == 1;
            stopped = (limit > 0).then_some(paused);
            let read = self.read_claimed(&claimed, Timestamp::from_millis(at), &mut unanswered).await;
            unanswered.deliver(read?);
        }
        let is_stopped = |name: &Option<Name>, names: &[String]| {
            names.iter().any(|paused| *paused == called(name.as_ref()))
        };
        let paused = stopped.map(|names| claim.queues().filter(|name| is_stopped(name, &names)).collect());
        Ok(Stepped { next_due, has_more, paused, ..unanswered.answer(acks) })
    }

    /// Asks what became of a step whose answer did not arrive.
    async fn recall(&self, unanswered: &mut Unanswered) -> Result<()> {
        let Some(number) = unanswered.open() else { return Ok(()) };
        let script = &redis_script::RECALL;
        let mut call = self.link.call(script);
        call.arg(&self.deliveries.who).arg(number);
        let (was_done, refused, held, at, marked, reasons): Recalled = self.link.send(script, &call).await?;
        if was_done == 1 {
            let read = self.read_claimed(&held, Timestamp::from_millis(at), unanswered).await?;
            unanswered.deliver(read);
            unanswered.end(&refused, marked.into_iter().zip(reasons));
        } else {
            unanswered.call_off();
        }
        Ok(())
    }

    /// A step; only its acknowledgements while Redis has no memory left.
    async fn step_or_acknowledge(
        &self,
        number: u64,
        ends: &[End<'_>],
        limit: usize,
        claim: &Claim,
    ) -> Result<Step> {
        let step = self.step_by(&redis_script::STEP, number, ends, limit, claim).await;
        if !step.as_ref().is_err_and(is_out_of_memory) {
            if step.is_ok() && self.deliveries.is_short.swap(false, Ordering::Relaxed) {
                tracing::info!("Redis at {} has memory again", self.link.place);
            }
            return step;
        }
        if !self.deliveries.is_short.swap(true, Ordering::Relaxed) {
            let place = &self.link.place;
            tracing::error!(
                "Redis at {place} has no memory left: what ends is written down, and nothing is taken"
            );
        }
        self.step_by(&redis_script::ACKNOWLEDGE, number, ends, 0, claim).await
    }

    async fn step_by(
        &self,
        script: &Script,
        number: u64,
        ends: &[End<'_>],
        limit: usize,
        claim: &Claim,
    ) -> Result<Step> {
        let mut call = self.link.call(script);
        let limit = limit.min(MOST);
        call.arg(millis(claim.lease)).arg(limit).arg(&self.deliveries.who).arg(number);
        call.arg(claim.from.len());
        let counts = within(&claim.from, u64::from(claim.limit), limit as u64);
        for (share, count) in claim.from.iter().zip(counts) {
            call.arg(called(share.queue.as_ref())).arg(count);
            call.arg(share.limits.as_ref().map(|limits| told(limits)).unwrap_or_default());
        }
        let places = redis_wire::add_ends(&mut call, ends);
        let mut step: Step = self.link.send(script, &call).await?;
        let named = step.0.iter_mut().chain(step.5.iter_mut());
        named.for_each(|index| *index = places.get(*index).copied().unwrap_or(*index));
        Ok(step)
    }

    /// What was claimed, sorted into what can be read and what cannot; the latter fails.
    async fn read_claimed(
        &self,
        claimed: &[Vec<u8>],
        at: Timestamp,
        unanswered: &mut Unanswered,
    ) -> Result<Stepped> {
        let (mut stepped, mut buried) = (Stepped::default(), Vec::new());
        for pair in claimed.chunks_exact(2) {
            let (Some(id), Some(row)) = (id_of(&pair[0]), Row::parse(&pair[1])) else { continue };
            let Row { fence, max_attempts, .. } = row;
            match row.open(id, &self.backend) {
                Ok(run) => {
                    unanswered.remember(id, fence, &pair[1]);
                    stepped.claimed.push(Delivery { run, fence, max_attempts });
                }
                Err(mut run) => {
                    run.finished_at = Some(at);
                    buried.push((*run, fence));
                }
            }
        }
        if !buried.is_empty() {
            let ends: Vec<End<'_>> =
                buried.iter().map(|(run, fence)| End::without_word(run, *fence, false)).collect();
            self.settle(false, &ends).await?;
        }
        stepped.undecodable = buried.into_iter().map(|(run, _)| run).collect();
        Ok(stepped)
    }

    /// Writes what becomes of deliveries; says which were none any more.
    async fn settle(&self, is_reaping: bool, ends: &[End<'_>]) -> Result<Vec<usize>> {
        let script = &redis_script::SETTLE;
        let mut call = self.link.call(script);
        call.arg(u8::from(is_reaping));
        let places = redis_wire::add_ends(&mut call, ends);
        let spared: Vec<usize> = self.link.send(script, &call).await?;
        Ok(spared.into_iter().filter_map(|index| places.get(index).copied()).collect())
    }

    pub(crate) async fn renew_leases(&self, held: &[Held], lease: Duration) -> Result<Renewed> {
        let script = &redis_script::RENEW;
        let mut renewed = Renewed::default();
        for held in held.chunks(MOST) {
            let mut call = self.link.call(script);
            call.arg(millis(lease));
            for held in held {
                call.arg(redis_row::lease_member(held.fence, held.run));
            }
            let (lost, cancelled): (Vec<usize>, Vec<String>) = self.link.send(script, &call).await?;
            renewed.lost.extend(lost.into_iter().filter_map(|index| held.get(index)).map(|held| held.run));
            for pair in cancelled.chunks_exact(2) {
                renewed.cancelled.extend(pair[0].parse().ok().map(|run| (run, pair[1].clone())));
            }
        }
        Ok(renewed)
    }

    pub(crate) async fn reap_expired(&self, limit: u32) -> Result<Vec<Run>> {
        let script = &redis_script::EXPIRED;
        let mut call = self.link.call(script);
        let lease = self.deliveries.lease;
        call.arg((limit as usize).min(MOST)).arg(millis(lease)).arg(millis(lease.min(SPARED)));
        let (at, expired): (i64, Vec<Expired>) = self.link.send(script, &call).await?;
        if expired.is_empty() {
            return Ok(Vec::new());
        }
        let mut reaped = Vec::new();
        for (id, fence, packed, told) in expired {
            let (Some(id), Ok(fence)) = (id_of(&id), fence.as_slice().try_into()) else { continue };
            let (run, is_readable) = self.reaped(id, &packed, told, Timestamp::from_millis(at));
            reaped.push((run, u64::from_be_bytes(fence), is_readable));
        }
        let ends: Vec<End<'_>> = reaped
            .iter()
            .map(|(run, fence, is_readable)| End::without_word(run, *fence, *is_readable))
            .collect();
        let spared = self.settle(true, &ends).await?;
        let is_reaped = |(index, _): &(usize, (Run, u64, bool))| !spared.contains(index);
        Ok(reaped.into_iter().enumerate().filter(is_reaped).map(|(_, (run, ..))| run).collect())
    }

    /// What a run is whose lease has expired, and whether it could be read.
    fn reaped(&self, id: RunId, packed: &[u8], told: Option<String>, at: Timestamp) -> (Run, bool) {
        let mut run = match self.read(id, packed) {
            Ok(run) => run,
            Err(mut run) => {
                run.finished_at = Some(at);
                return (*run, false);
            }
        };
        let most = Row::parse(packed).map_or(0, |row| row.max_attempts);
        run.record_failure(at, "its worker is gone: the lease expired");
        run.state = match &told {
            Some(_) => RunState::Cancelled,
            None if run.attempt >= most => RunState::Failed,
            None => RunState::Queued,
        };
        if run.state.is_end() {
            run.finished_at = Some(at);
            let spent = "its worker is gone: the lease expired, and no attempt is left";
            run.reason = Some(told.unwrap_or_else(|| spent.to_owned()));
        }
        (run, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_really_taken_is_divided_as_the_shares_are() {
        let shares = |counts: &[u32]| -> Vec<Share> {
            counts.iter().map(|count| Share { queue: None, count: *count, limits: None }).collect()
        };
        assert_eq!(within(&shares(&[6_000, 3_000, 1_000]), 10_000, 1_000), [600, 300, 100]);
        assert_eq!(within(&shares(&[2, 2, 2]), 6, 4), [1, 1, 2]);
        assert_eq!(within(&shares(&[3, 0, 1]), 4, 4), [3, 0, 1], "nothing was left away");
        assert_eq!(within(&shares(&[1, 1]), 1, 1), [1, 1], "who comes first has it");
        assert_eq!(within(&shares(&[u32::MAX, 0]), u64::from(u32::MAX), 1_000), [1_000, 0]);
        assert_eq!(within(&shares(&[5, 7]), 12, 0), [0, 0]);
        assert!(within(&[], 12, 1_000).is_empty());
    }
}
