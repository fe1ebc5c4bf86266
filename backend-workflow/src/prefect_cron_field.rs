//! One field of a cron expression: what it names in ours, written in the plainest words that Prefect's parser has.
//!
//! What a field names is found out by asking our own cron, so there is no second reading of it here.

use std::fmt;
use std::time::Duration;

use scheduler_core::Timestamp;
use scheduler_core::cron::Cron;

/// A field of numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    Minute,
    Hour,
    DayOfMonth,
    Month,
    DayOfWeek,
}

/// What a field names.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    text: String,
    /// In order; none where that is not what the field is made of.
    numbers: Vec<u32>,
    is_restricted: bool,
    is_full: bool,
    is_special: bool,
}

impl Field {
    /// Everything.
    pub(crate) fn all() -> Self {
        Self {
            text: "*".to_owned(),
            numbers: Vec::new(),
            is_restricted: false,
            is_full: true,
            is_special: false,
        }
    }

    fn special(text: String) -> Self {
        Self { text, numbers: Vec::new(), is_restricted: true, is_full: false, is_special: true }
    }

    /// Whether it is written as anything but `*`, which is what counts where a day has two fields.
    pub(crate) fn is_restricted(&self) -> bool {
        self.is_restricted
    }

    /// Whether it names everything, however it is written.
    pub(crate) fn is_full(&self) -> bool {
        self.is_full
    }

    /// Whether it names this number.
    fn names(&self, number: u32) -> bool {
        self.is_full || self.numbers.contains(&number)
    }

    /// Whether no month that `months` names has one of these days.
    pub(crate) fn is_in_no_month(&self, months: &Self) -> bool {
        const LONGEST: [(u32, u32); 5] = [(2, 29), (4, 30), (6, 30), (9, 30), (11, 30)];
        let is_short =
            |month: u32| LONGEST.iter().find(|(short, _)| *short == month).map_or(31, |(_, days)| *days);
        let longest = (1..=12).filter(|month| months.names(*month)).map(is_short).max().unwrap_or(0);
        !self.is_special && !self.is_full && self.numbers.first().is_some_and(|day| *day > longest)
    }

    /// Whether Prefect passes over days of March: from a day of February it steps on to the next that is named,
    /// and where that is past the end of the month, it begins as many days into March as it is past.
    pub(crate) fn is_lost_after_february(&self, months: &Self) -> bool {
        let loses = |end: u32, from: u32| {
            let next = self.numbers.iter().find(|day| **day >= from && **day > end);
            let is_direct = self.numbers.iter().all(|day| *day < from || *day > end);
            is_direct && next.is_some_and(|next| self.numbers.iter().any(|day| *day < next - end))
        };
        let in_february = [28, 29].iter().any(|end| (1..=*end).any(|from| loses(*end, from)));
        months.names(2) && months.names(3) && in_february
    }

    /// Whether it names days by their place in the month.
    pub(crate) fn is_special(&self) -> bool {
        self.is_special
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_full { "*" } else { &self.text })
    }
}

/// # Errors
/// What cannot be said.
pub(crate) fn days_of_month(text: &str) -> Result<Field, String> {
    match text {
        "L" | "l" => Ok(Field::special("L".to_owned())),
        _ if text.contains(['L', 'l', 'W', 'w']) => Err(format!("the day of month `{text}`")),
        _ => number_field(text, Form::DayOfMonth),
    }
}

/// # Errors
/// What cannot be said.
pub(crate) fn days_of_week(text: &str) -> Result<Field, String> {
    let is_special = |part: &str| part.contains('#') || part.ends_with(['L', 'l']);
    if !text.split(',').any(is_special) {
        return number_field(text, Form::DayOfWeek);
    }
    let refused = || format!("the day of week `{text}`");
    let parts: Option<Vec<String>> = text.split(',').map(special_day).collect();
    parts.map(|parts| Field::special(parts.join(","))).ok_or_else(refused)
}

/// `5L` and `5#2`, whose day may be a name.
fn special_day(part: &str) -> Option<String> {
    let day = |text: &str| -> Option<u32> {
        match named(text, Form::DayOfWeek).ok()?.as_slice() {
            [day] => Some(*day),
            _ => None,
        }
    };
    if let Some((text, place)) = part.split_once('#') {
        let place: u8 = place.parse().ok().filter(|place| (1..=5).contains(place))?;
        return Some(format!("{}#{place}", day(text)?));
    }
    Some(format!("L{}", day(part.strip_suffix(['L', 'l'])?)?))
}

/// # Errors
/// What cannot be said.
pub(crate) fn number_field(text: &str, form: Form) -> Result<Field, String> {
    if matches!(text, "*" | "?") {
        return Ok(Field::all());
    }
    let named = named(text, form)?;
    let is_step = text.strip_prefix("*/").is_some_and(|step| step.bytes().all(|byte| byte.is_ascii_digit()));
    let is_full = named.len() == form.length();
    let text = if is_step { text.to_owned() } else { listed(&named) };
    Ok(Field { text, numbers: named, is_restricted: true, is_full, is_special: false })
}

/// Numbers as a list; three or more that follow each other as a range.
fn listed(numbers: &[u32]) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut rest = numbers;
    while let Some(first) = rest.first() {
        let run = rest.iter().zip(*first..).take_while(|(number, expected)| **number == *expected).count();
        let run = if run < 3 { 1 } else { run };
        let last = rest[run - 1];
        parts.push(if run == 1 { first.to_string() } else { format!("{first}-{last}") });
        rest = &rest[run..];
    }
    parts.join(",")
}

/// The numbers that our cron takes from the field.
fn named(text: &str, form: Form) -> Result<Vec<u32>, String> {
    let unread = |_| format!("`{text}`");
    let cron = Cron::parse(&form.alone(text), "UTC", "").map_err(unread)?;
    let fires = |at: Timestamp| cron.next_after(at - Duration::from_millis(1)) == Some(at);
    Ok((0..)
        .take(form.length())
        .filter(|index| fires(form.instant(*index)))
        .map(|index| index + form.first())
        .collect())
}

impl Form {
    fn length(self) -> usize {
        match self {
            Self::Minute => 60,
            Self::Hour => 24,
            Self::DayOfMonth => 31,
            Self::Month => 12,
            Self::DayOfWeek => 7,
        }
    }

    fn first(self) -> u32 {
        match self {
            Self::Minute | Self::Hour | Self::DayOfWeek => 0,
            Self::DayOfMonth | Self::Month => 1,
        }
    }

    /// An expression that only this field decides, in January 2023 or on the first of a month of it.
    fn alone(self, text: &str) -> String {
        match self {
            Self::Minute => format!("{text} 0 1 1 *"),
            Self::Hour => format!("0 {text} 1 1 *"),
            Self::DayOfMonth => format!("0 0 {text} 1 *"),
            Self::Month => format!("0 0 1 {text} *"),
            Self::DayOfWeek => format!("0 0 * * {text}"),
        }
    }

    /// The instant that stands for the number; the year began on a Sunday.
    fn instant(self, index: u32) -> Timestamp {
        const YEAR: i64 = 1_672_531_200;
        const DAYS_BEFORE: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
        let index = i64::from(index);
        let seconds = match self {
            Self::Minute => index * 60,
            Self::Hour => index * 3_600,
            Self::DayOfMonth | Self::DayOfWeek => index * 86_400,
            Self::Month => {
                usize::try_from(index).ok().and_then(|index| DAYS_BEFORE.get(index)).unwrap_or(&0) * 86_400
            }
        };
        Timestamp::from_millis((YEAR + seconds) * 1_000)
    }
}
