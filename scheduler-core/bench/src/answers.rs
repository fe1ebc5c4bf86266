//! Counts wrong answers against the oracle of the test suite, which tries every minute.

use jiff::tz::TimeZone;

use crate::contender::{Contender, Zone};
use crate::oracle::Oracle;
use crate::timing::MIXED;

/// More of them, where engines are known to differ.
const HARD: [&str; 16] = [
    "0,30 2 * * *",
    "15 2 * * SUN",
    "*/30 * * * *",
    "*/30 2 * * *",
    "30 * * * *",
    "0 1-3 * * *",
    "0 0 13 * FRI",
    "0 0 */2 * MON",
    "0 0 LW * *",
    "0 0 1W * *",
    "0 0 31W * *",
    "0 0 * * FRI#5",
    "0 0 L 12 *",
    "0 0 31 * *",
    "0 0 * 2 SUN#L",
    "0 12 1-7 * +MON",
];

const DAY: i64 = 86_400;
/// The changes of the clock in Berlin in March and October 2026, and New Year 2026.
const STRETCHES: [(i64, i64); 3] =
    [(1_774_746_000 - 2 * DAY, 4), (1_792_890_000 - 2 * DAY, 4), (1_767_225_600, 400)];

/// One question: an expression over a stretch of time, and what is right.
#[derive(Debug)]
pub(crate) struct Question {
    expression: &'static str,
    from: i64,
    to: i64,
    right: Vec<i64>,
}

/// What a contender made of the questions.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Marks {
    pub(crate) wrong: usize,
    /// Questions whose expression it does not take.
    pub(crate) refused: usize,
}

/// All questions, in Europe/Berlin.
pub(crate) fn questions() -> Vec<Question> {
    let Ok(zone) = TimeZone::get(Zone::Berlin.name()) else { return Vec::new() };
    let mut questions = Vec::new();
    for expression in MIXED.into_iter().chain(HARD) {
        for (from, days) in STRETCHES {
            let to = from + days * DAY;
            let right = Oracle::read(expression).fires(&zone, from, to, 60);
            questions.push(Question { expression, from, to, right });
        }
    }
    questions
}

/// Asks all questions: a list of times that is not exactly right is one wrong answer.
pub(crate) fn marks<C: Contender>(questions: &[Question]) -> Marks {
    let mut marks = Marks::default();
    for question in questions {
        match C::parse(question.expression, Zone::Berlin) {
            Some(rule) if !is_right::<C>(&rule, question) => marks.wrong += 1,
            Some(_) => {}
            None => marks.refused += 1,
        }
    }
    marks
}

fn is_right<C: Contender>(rule: &C::Rule, question: &Question) -> bool {
    let mut at = question.from - 1;
    for right in &question.right {
        match C::next(rule, at) {
            Some(next) if next == *right => at = next,
            Some(_) | None => return false,
        }
    }
    C::next(rule, at).is_none_or(|next| next >= question.to)
}
