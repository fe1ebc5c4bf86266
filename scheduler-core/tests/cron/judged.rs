//! Compares the engine with the oracle over a stretch of real time.

use jiff::tz::TimeZone;
use scheduler_core::Timestamp;
use scheduler_core::cron::Cron;

use crate::oracle::Oracle;

/// An expression in a zone from one second to before another, looked at every so many seconds.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) expression: String,
    pub(crate) zone: &'static str,
    pub(crate) from: i64,
    pub(crate) to: i64,
    pub(crate) step: i64,
}

/// More fires than any stretch has: a broken rule may name one for ever.
const MOST: usize = 200_000;

/// The zones that the engine is judged in.
pub(crate) const ZONES: [&str; 8] = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "America/Sao_Paulo",
    "Africa/Cairo",
    "Pacific/Apia",
    "UTC",
];

impl Case {
    /// What the engine answers otherwise than the oracle, if anything.
    pub(crate) fn difference(&self) -> Option<String> {
        self.difference_from(&self.expected())
    }

    /// What the oracle answers.
    pub(crate) fn expected(&self) -> Vec<i64> {
        let zone = TimeZone::get(self.zone).unwrap();
        Oracle::read(&self.expression).fires(&zone, self.from, self.to, self.step)
    }

    /// What the engine answers otherwise than is expected, if anything.
    pub(crate) fn difference_from(&self, expected: &[i64]) -> Option<String> {
        let zone = TimeZone::get(self.zone).unwrap();
        let found = match Cron::parse(&self.expression, self.zone, "") {
            Ok(cron) => self.of_engine(&cron),
            // Nothing fires from 1970 on, so nothing may in the oracle.
            Err(error) if error.code() == "trigger/never_fires" => Ok(Vec::new()),
            Err(error) => return Some(error.to_string()),
        };
        let found = match found {
            Ok(found) => found,
            Err(problem) => return Some(format!("{self:?}: {problem}")),
        };
        let (missed, added) = (without(expected, &found), without(&found, expected));
        (!(missed.is_empty() && added.is_empty()))
            .then(|| format!("{self:?}: it misses {} and adds {}", told(&missed, &zone), told(&added, &zone)))
    }

    /// The fires of the engine, which must be the same from both ends and match themselves.
    fn of_engine(&self, cron: &Cron) -> Result<Vec<i64>, String> {
        let (from, to) = (at(self.from), at(self.to));
        let before = Timestamp::from_millis(from.as_millis() - 1);
        let forth: Vec<Timestamp> =
            cron.fires_after(before).take(MOST).take_while(|fire| *fire < to).collect();
        if let Some(pair) = forth.windows(2).find(|pair| pair[0] >= pair[1]) {
            return Err(format!("{} comes before {}", pair[0], pair[1]));
        }
        let mut back: Vec<Timestamp> =
            cron.fires_before(to).take(MOST).take_while(|fire| *fire >= from).collect();
        back.reverse();
        if forth != back {
            return Err(format!("forwards {forth:?}, backwards {back:?}"));
        }
        if let Some(fire) = forth.iter().find(|fire| !cron.matches(**fire)) {
            return Err(format!("{fire} does not match"));
        }
        let between = |fire: &Timestamp| Timestamp::from_millis(fire.as_millis() + 1_000);
        if let Some(fire) =
            forth.iter().map(between).find(|at| cron.matches(*at) != forth.contains(at) && *at < to)
        {
            return Err(format!("whether {fire} matches"));
        }
        Ok(forth.iter().map(|fire| fire.as_millis() / 1_000).collect())
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_millis(second * 1_000)
}

fn without(fires: &[i64], others: &[i64]) -> Vec<i64> {
    fires.iter().filter(|fire| others.binary_search(fire).is_err()).copied().collect()
}

fn told(fires: &[i64], zone: &TimeZone) -> String {
    let shown = fires.iter().take(3).map(|fire| {
        jiff::Timestamp::from_second(*fire).unwrap().to_zoned(zone.clone()).strftime("%FT%T%:z").to_string()
    });
    format!("{} {:?}", fires.len(), shown.collect::<Vec<_>>())
}

/// The instants at which the clock of a zone is set, from 1970 to before 2200.
pub(crate) fn changes(zone: &str) -> Vec<i64> {
    let zone = TimeZone::get(zone).unwrap();
    let changes = zone.following(jiff::Timestamp::UNIX_EPOCH);
    let seconds = changes.map(|change| change.timestamp().as_second());
    seconds.take_while(|second| *second < 7_258_118_400).collect()
}
