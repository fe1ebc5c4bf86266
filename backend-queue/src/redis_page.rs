//! What is shown of the runs on Redis, a page at a time.

use scheduler_core::{
    DeadLetter, DeadLetterFilter, DeadLetterPage, ErrorKind, Name, Page, PageToken, Result, Run, RunFilter,
    RunId, RunState, Timestamp,
};

use crate::redis_error::{is_out_of_memory, is_unanswered};
use crate::redis_row::{Row, numbers};
use crate::redis_script;
use crate::redis_store::{LARGEST, Peeked, RedisStore, id_of};

/// Which part of an index is looked at.
struct Wanted<'a> {
    index: &'static str,
    task: Option<&'a Name>,
    states: Vec<u8>,
    after: Option<PageToken>,
    count: usize,
}

/// A page of runs.
pub(crate) async fn runs(store: &RedisStore, filter: &RunFilter) -> Result<Page> {
    if let Some(id) = filter.run {
        let (_, found) = store.peek(&[id]).await?;
        let found = found.iter().filter(|found| !found.packed.is_empty());
        return Ok(filter.page(found.map(|found| store.shown(id, &found.packed))));
    }
    let wanted = Wanted {
        index: "shown",
        task: filter.task.as_ref(),
        states: filter.states.iter().flat_map(|state| numbers(*state)).copied().collect(),
        after: filter.after,
        count: filter.page_size(),
    };
    show_all(store, wanted.states.is_empty() || filter.states.contains(&RunState::Queued)).await?;
    let (found, has_more) = look(store, &wanted).await?;
    let runs: Vec<Run> = found.iter().map(|(id, found)| store.shown(*id, &found.packed)).collect();
    let next = runs.last().filter(|_| has_more).map(PageToken::of);
    Ok(Page { runs, next })
}

/// How many runs are shown in one go: a script with them takes a few milliseconds.
const SHOWN: usize = 1_000;

/// Sees to it that the runs that are there now are shown, which most are not before somebody looks; those that are
/// fresh where they are wanted. A Redis without memory shows those that were taken, of which there are few; what one that
/// takes nothing now cannot show is left out.
async fn show_all(store: &RedisStore, mut is_fresh_wanted: bool) -> Result<()> {
    let mut has_memory = true;
    // What comes meanwhile has not been asked for.
    let mut turns = None;
    loop {
        let script = if has_memory { &redis_script::INDEX } else { &redis_script::INDEX_TAKEN };
        let mut call = store.link.call(script);
        call.arg(SHOWN).arg(u8::from(is_fresh_wanted));
        let left: usize = match store.link.send(script, &call).await {
            Ok(left) => left,
            Err(error) if is_out_of_memory(&error) && has_memory => {
                (has_memory, is_fresh_wanted) = (false, false);
                continue;
            }
            Err(error) if error.kind() == ErrorKind::Unavailable && !is_unanswered(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        let turns = turns.get_or_insert(left.div_ceil(SHOWN));
        if left == 0 || *turns == 0 {
            return Ok(());
        }
        *turns -= 1;
    }
}

/// A page of dead letters.
pub(crate) async fn letters(store: &RedisStore, filter: &DeadLetterFilter) -> Result<DeadLetterPage> {
    if let Some(id) = filter.run {
        let (_, found) = store.peek(&[id]).await?;
        let letters = found.iter().filter(|found| found.is_letter()).map(|found| letter(store, id, found));
        let letters = letters.filter(|letter| {
            filter.task.as_ref().is_none_or(|task| *task == letter.run.task)
                && filter.after.is_none_or(|after| PageToken::of(&letter.run) < after)
        });
        return Ok(DeadLetterPage { letters: letters.collect(), next: None });
    }
    let wanted = Wanted {
        index: "letters",
        task: filter.task.as_ref(),
        states: Vec::new(),
        after: filter.after,
        count: filter.page_size(),
    };
    let (found, has_more) = look(store, &wanted).await?;
    let letters: Vec<DeadLetter> = found.iter().map(|(id, found)| letter(store, *id, found)).collect();
    let next = letters.last().filter(|_| has_more).map(|letter| PageToken::of(&letter.run));
    Ok(DeadLetterPage { letters, next })
}

fn letter(store: &RedisStore, id: RunId, found: &Peeked) -> DeadLetter {
    let (run, unreadable) = match store.read(id, &found.packed) {
        Ok(run) => (run, None),
        Err(run) => (*run, Row::parse(&found.packed).map(|row| row.envelope())),
    };
    // What is held keeps the time at which it died beside the reason.
    let (died, held) = match found.held.split_once(':') {
        Some((died, reason)) => (died, Some(reason.to_owned())),
        None => (found.died.as_str(), None),
    };
    let died = died.parse().unwrap_or_default();
    let mut letter = DeadLetter::new(run, Timestamp::from_millis(died));
    letter.held = held;
    letter.unreadable = unreadable;
    letter
}

/// What an index holds, the newest fire first, and whether there is more. A look is bounded, so it may take some;
/// where runs are large it is the only one.
async fn look(store: &RedisStore, wanted: &Wanted<'_>) -> Result<(Vec<(RunId, Peeked)>, bool)> {
    let script = &redis_script::PAGE;
    let index = match wanted.task {
        Some(task) => format!("{}:{task}", wanted.index),
        None => wanted.index.to_owned(),
    };
    let mut behind =
        wanted.after.map(|after| (after.fire_time().as_millis().to_string(), after.run().to_string()));
    let (mut found, mut bytes) = (Vec::<(RunId, Peeked)>::new(), 0);
    let most = wanted.count.saturating_add(1);
    let mut is_all = false;
    while found.len() < most && (bytes < LARGEST || found.len() < 2) {
        let mut call = store.link.call(script);
        call.arg(&index).arg(&wanted.states).arg(most - found.len());
        if let Some((fire_time, id)) = &behind {
            call.arg(fire_time).arg(id);
        }
        type Found = (Vec<u8>, Vec<u8>, String, String);
        let (last, some): (Vec<String>, Vec<Found>) = store.link.send(script, &call).await?;
        let read = |(id, packed, died, held): Found| Some((id_of(&id)?, Peeked { packed, died, held }));
        bytes += some.iter().map(|(_, packed, ..)| packed.len()).sum::<usize>();
        found.extend(some.into_iter().filter_map(read));
        match <[String; 2]>::try_from(last) {
            Ok([fire_time, id]) => behind = Some((fire_time, id)),
            Err(_) => {
                is_all = true;
                break;
            }
        }
    }
    // The last one only shows that there are more.
    let has_more = found.len() > wanted.count || !is_all && found.len() > 1;
    found.truncate(found.len() - usize::from(has_more));
    Ok((found, has_more))
}
