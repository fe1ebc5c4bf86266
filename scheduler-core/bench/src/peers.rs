//! The peers, each asked in its own way.

use chrono::{DateTime, TimeZone as _};
use jiff::tz::TimeZone;

use crate::contender::{Contender, Zone};

#[derive(Debug)]
pub(crate) struct Croner;
#[derive(Debug)]
pub(crate) struct CronCrate;
#[derive(Debug)]
pub(crate) struct Cronexpr;

impl Contender for Croner {
    const NAME: &'static str = "croner";
    const VERSION: &'static str = "4.0.3";
    type Rule = (croner::Cron, TimeZone);

    fn parse(expression: &str, zone: Zone) -> Option<Self::Rule> {
        Some((expression.parse().ok()?, TimeZone::get(zone.name()).ok()?))
    }

    fn next((cron, zone): &Self::Rule, after: i64) -> Option<i64> {
        let after = jiff::Timestamp::from_second(after).ok()?.to_zoned(zone.clone());
        Some(cron.find_next_occurrence(&after, false).ok()?.timestamp().as_second())
    }
}

impl Contender for CronCrate {
    const NAME: &'static str = "cron";
    const VERSION: &'static str = "0.17.0";
    type Rule = (cron::Schedule, chrono_tz::Tz);

    /// It wants a field of seconds, and counts weekdays otherwise, so expressions name them.
    fn parse(expression: &str, zone: Zone) -> Option<Self::Rule> {
        Some((format!("0 {expression}").parse().ok()?, zone.name().parse().ok()?))
    }

    fn next((schedule, zone): &Self::Rule, after: i64) -> Option<i64> {
        let after: DateTime<chrono_tz::Tz> = zone.timestamp_opt(after, 0).single()?;
        Some(schedule.after(&after).next()?.timestamp())
    }
}

impl Contender for Cronexpr {
    const NAME: &'static str = "cronexpr";
    const VERSION: &'static str = "1.7.0";
    type Rule = cronexpr::Crontab;

    /// The zone stands at the end of the expression.
    fn parse(expression: &str, zone: Zone) -> Option<cronexpr::Crontab> {
        cronexpr::parse_crontab(&format!("{expression} {}", zone.name())).ok()
    }

    fn next(crontab: &cronexpr::Crontab, after: i64) -> Option<i64> {
        let after = cronexpr::MakeTimestamp::from_second(after).ok()?;
        Some(crontab.find_next(after).ok()?.timestamp().as_second())
    }
}
