//! Cron expressions and the instants that they name, in an IANA zone. Pure.
//!
//! # What is accepted
//!
//! Five fields: minute (0-59), hour (0-23), day of month (1-31), month (1-12 or JAN-DEC), day of
//! week (0-7 or SUN-SAT, 0 and 7 are Sunday). A field is a list of `*`, `a`, `a-b`, each of the
//! first and the last with an optional `/step`. Also `@yearly`, `@annually`, `@monthly`, `@weekly`,
//! `@daily`, `@midnight`, `@hourly`. No seconds, no years, none of `?`, `L`, `W`, `#`.
//!
//! As in Vixie's cron a day must fit both day fields, unless both are restricted (neither begins
//! with `*`): then one of them is enough.
//!
//! # When the clocks change
//!
//! An entry whose hour field does not begin with `*` names times of the local day. One that a gap
//! swallows comes at the first valid instant after it; one that comes twice counts the first time.
//! An entry whose hour field begins with `*` follows the hours as they really pass: what a gap
//! swallows is not there, and an hour that comes twice counts twice. Two times that fall upon one
//! instant are one slot.
//!
//! The crates for this do something else: `cron` counts weekdays from Sunday = 1, wants both day
//! fields and loses times in a gap; `croner` takes `30 2,14 * * *` for an interval and loses it too.

use std::fmt;
use std::str::FromStr;

use chrono::{
    DateTime, Datelike, Days, MappedLocalTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta,
    TimeZone, Utc,
};
use chrono_tz::Tz;

/// How far ahead a slot is looked for: 29 February on a given weekday can be forty years away.
const HORIZON_DAYS: u64 = 366 * 41;
/// The longest gap that a zone ever made, a day and a bit, in minutes.
const LONGEST_GAP: i64 = 26 * 60;

const MONTHS: [&str; 12] = [
    "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// A cron expression, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cron {
    minutes: Field,
    hours: Field,
    days: Field,
    months: Field,
    weekdays: Field,
}

/// The values of a field as bits, and whether it begins with `*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Field {
    bits: u64,
    star: bool,
}

/// Why an expression cannot be read, in words for the person who wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CronError(String);

impl fmt::Display for CronError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CronError {}

/// What a field may hold.
struct Range {
    name: &'static str,
    first: u32,
    last: u32,
    words: &'static [&'static str],
}

const MINUTE: Range = Range::new("minute", 0, 59, &[]);
const HOUR: Range = Range::new("hour", 0, 23, &[]);
const DAY: Range = Range::new("day of month", 1, 31, &[]);
const MONTH: Range = Range::new("month", 1, 12, &MONTHS);
const WEEKDAY: Range = Range::new("day of week", 0, 7, &WEEKDAYS);

impl FromStr for Cron {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, CronError> {
        let text = match text.trim() {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            text => text,
        };
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields[..] else {
            return Err(CronError(format!(
                "{text:?} has {} fields; give five: minute, hour, day of month, month, day of week",
                fields.len()
            )));
        };
        let mut weekdays = WEEKDAY.parse(weekdays)?;
        // 7 is Sunday too.
        weekdays.bits |= weekdays.bits >> 7 & 1;
        Ok(Self {
            minutes: MINUTE.parse(minutes)?,
            hours: HOUR.parse(hours)?,
            days: DAY.parse(days)?,
            months: MONTH.parse(months)?,
            weekdays,
        })
    }
}

impl Range {
    const fn new(
        name: &'static str,
        first: u32,
        last: u32,
        words: &'static [&'static str],
    ) -> Self {
        Self {
            name,
            first,
            last,
            words,
        }
    }

    fn parse(&self, text: &str) -> Result<Field, CronError> {
        let mut bits = 0;
        for part in text.split(',') {
            bits |= self.part(part)?;
        }
        Ok(Field {
            bits,
            star: text.starts_with('*'),
        })
    }

    fn part(&self, part: &str) -> Result<u64, CronError> {
        let (values, step) = match part.split_once('/') {
            Some((values, step)) => (values, Some(step)),
            None => (part, None),
        };
        let (from, to) = match (values, values.split_once('-')) {
            ("*", _) => (self.first, self.last),
            (_, Some((from, to))) => (self.value(from, part)?, self.value(to, part)?),
            (one, None) if step.is_none() => (self.value(one, part)?, self.value(one, part)?),
            _ => return Err(self.refuse(part, "a step needs * or a range before it")),
        };
        if from > to {
            return Err(self.refuse(part, "the range runs backwards"));
        }
        let step = match step.map(str::parse::<usize>) {
            None => 1,
            Some(Ok(step)) if step > 0 => step,
            Some(_) => return Err(self.refuse(part, "a step is a number from 1")),
        };
        Ok((from..=to)
            .step_by(step)
            .fold(0, |bits, value| bits | 1 << value))
    }

    fn value(&self, text: &str, part: &str) -> Result<u32, CronError> {
        let word = self
            .words
            .iter()
            .position(|word| word.eq_ignore_ascii_case(text));
        if let Some(at) = word {
            return Ok(self.first + u32::try_from(at).unwrap_or_default());
        }
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(value) if digits && (self.first..=self.last).contains(&value) => Ok(value),
            _ => Err(self.refuse(part, "it is out of bounds or no number")),
        }
    }

    fn refuse(&self, part: &str, why: &str) -> CronError {
        let words = match self.words {
            [first, .., last] => format!(" or {first}-{last}"),
            _ => String::new(),
        };
        CronError(format!(
            "{} {part:?}: {why}; it takes {}-{}{words}, lists (1,2), ranges (1-3) and steps (*/2)",
            self.name, self.first, self.last
        ))
    }
}

impl Field {
    fn has(self, value: u32) -> bool {
        self.bits >> value & 1 == 1
    }

    fn values(self) -> impl Iterator<Item = u32> {
        (0..64).filter(move |value| self.has(*value))
    }
}

impl Cron {
    /// The slots after an instant, in order, read in `zone`.
    #[must_use]
    pub fn slots_after(&self, after: DateTime<Utc>, zone: Tz) -> Slots {
        // The day before may reach over midnight, where a gap or a repeated hour lies there.
        let today = after.with_timezone(&zone).date_naive();
        let first = today.pred_opt().unwrap_or(today);
        Slots {
            cron: *self,
            zone,
            after,
            day: Some(first),
            last: today.checked_add_days(Days::new(HORIZON_DAYS)),
            ready: Vec::new().into_iter(),
        }
    }

    fn has_day(&self, day: NaiveDate) -> bool {
        let of_month = self.days.has(day.day());
        let of_week = self.weekdays.has(day.weekday().num_days_from_sunday());
        let fits = if self.days.star || self.weekdays.star {
            of_month && of_week
        } else {
            of_month || of_week
        };
        fits && self.months.has(day.month())
    }

    /// The slots of a local day, without hours that are over at `after`.
    fn of_day(&self, day: NaiveDate, zone: Tz, after: DateTime<Utc>) -> Vec<DateTime<Utc>> {
        let mut slots = Vec::new();
        for hour in self.hours.values() {
            // Nothing of an hour lies behind its last minute, also where part of it comes twice.
            let last = NaiveTime::from_hms_opt(hour, 59, 0).unwrap_or_default();
            let last = zone.from_local_datetime(&day.and_time(last)).latest();
            if last.is_some_and(|last| last <= after) {
                continue;
            }
            for minute in self.minutes.values() {
                let time = NaiveTime::from_hms_opt(hour, minute, 0).unwrap_or_default();
                let local = day.and_time(time);
                match zone.from_local_datetime(&local) {
                    MappedLocalTime::Single(at) => slots.push(at.to_utc()),
                    MappedLocalTime::Ambiguous(first, second) => {
                        slots.push(first.to_utc());
                        if self.hours.star {
                            slots.push(second.to_utc());
                        }
                    }
                    MappedLocalTime::None if self.hours.star => {}
                    MappedLocalTime::None => slots.extend(end_of_gap(local, zone)),
                }
            }
        }
        slots.sort_unstable();
        slots.dedup();
        slots
    }
}

/// The first valid instant after a local time that does not exist.
fn end_of_gap(local: NaiveDateTime, zone: Tz) -> Option<DateTime<Utc>> {
    (1..LONGEST_GAP)
        .filter_map(|minutes| local.checked_add_signed(TimeDelta::minutes(minutes)))
        .find_map(|later| zone.from_local_datetime(&later).earliest())
        .map(|at| at.to_utc())
}

/// The slots of an expression, in order. Ends when none follows within forty years.
#[derive(Debug, Clone)]
pub struct Slots {
    cron: Cron,
    zone: Tz,
    after: DateTime<Utc>,
    day: Option<NaiveDate>,
    last: Option<NaiveDate>,
    ready: std::vec::IntoIter<DateTime<Utc>>,
}

impl Iterator for Slots {
    type Item = DateTime<Utc>;

    fn next(&mut self) -> Option<DateTime<Utc>> {
        loop {
            for slot in self.ready.by_ref() {
                if slot > self.after {
                    self.after = slot;
                    return Some(slot);
                }
            }
            let day = self.day.filter(|day| Some(*day) <= self.last)?;
            self.day = day.succ_opt();
            if self.cron.has_day(day) {
                self.ready = self.cron.of_day(day, self.zone, self.after).into_iter();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(cron: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let cron: Cron = cron.parse().unwrap();
        let zone: Tz = zone.parse().unwrap();
        cron.slots_after(after.parse().unwrap(), zone)
            .take(count)
            .map(|at| {
                let local = at.with_timezone(&zone).format("%m-%d %H:%M %z");
                let utc = at.format("%Y-%m-%dT%H:%MZ");
                format!("{utc} = {local}")
            })
            .collect()
    }

    fn local(cron: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let lines = slots(cron, zone, after, count);
        let local = lines.iter().map(|line| line.split(" = ").nth(1).unwrap());
        local.map(str::to_owned).collect()
    }

    #[test]
    fn a_fixed_time_in_a_gap_comes_at_its_end_and_once() {
        // Berlin: 2027-03-28 02:00 becomes 03:00.
        assert_eq!(
            slots("30 2 * * *", "Europe/Berlin", "2027-03-26T12:00:00Z", 3),
            [
                "2027-03-27T01:30Z = 03-27 02:30 +0100",
                "2027-03-28T01:00Z = 03-28 03:00 +0200",
                "2027-03-29T00:30Z = 03-29 02:30 +0200",
            ]
        );
        // A list of hours is fixed too, and two times upon one instant are one slot.
        assert_eq!(
            local("0,30 2,3 * * *", "Europe/Berlin", "2027-03-28T00:00:00Z", 3),
            [
                "03-28 03:00 +0200",
                "03-28 03:30 +0200",
                "03-29 02:00 +0200"
            ]
        );
    }

    #[test]
    fn a_fixed_time_that_comes_twice_counts_the_first_time() {
        // Berlin: 2027-10-31 03:00 becomes 02:00. New York: 2027-11-07 02:00 becomes 01:00.
        assert_eq!(
            slots("30 2 * * *", "Europe/Berlin", "2027-10-30T12:00:00Z", 2),
            [
                "2027-10-31T00:30Z = 10-31 02:30 +0200",
                "2027-11-01T01:30Z = 11-01 02:30 +0100",
            ]
        );
        assert_eq!(
            local("30 1 * * *", "America/New_York", "2027-11-07T04:00:00Z", 2),
            ["11-07 01:30 -0400", "11-08 01:30 -0500"]
        );
        // Looked for from within the second pass, the first pass is over.
        assert_eq!(
            local("45 1 * * *", "America/New_York", "2027-11-07T06:10:00Z", 1),
            ["11-08 01:45 -0500"]
        );
    }

    #[test]
    fn a_wildcard_hour_follows_the_hours_that_pass() {
        assert_eq!(
            local("30 * * * *", "Europe/Berlin", "2027-03-28T00:00:00Z", 3),
            [
                "03-28 01:30 +0100",
                "03-28 03:30 +0200",
                "03-28 04:30 +0200"
            ]
        );
        assert_eq!(
            local("30 * * * *", "Europe/Berlin", "2027-10-30T23:45:00Z", 3),
            [
                "10-31 02:30 +0200",
                "10-31 02:30 +0100",
                "10-31 03:30 +0100"
            ]
        );
        assert_eq!(
            local("0 */2 * * *", "America/New_York", "2027-03-14T04:30:00Z", 2),
            ["03-14 00:00 -0500", "03-14 04:00 -0400"]
        );
    }

    #[test]
    fn half_an_hour_of_summer_time_is_met_too() {
        // Lord Howe: 2027-10-03 02:00 becomes 02:30; 2027-04-04 02:00 becomes 01:30.
        let zone = "Australia/Lord_Howe";
        assert_eq!(
            local("15 2 * * *", zone, "2027-10-01T16:00:00Z", 2),
            ["10-03 02:30 +1100", "10-04 02:15 +1100"]
        );
        assert_eq!(
            local("45 1 * * *", zone, "2027-04-03T14:00:00Z", 2),
            ["04-04 01:45 +1100", "04-05 01:45 +1030"]
        );
        assert_eq!(
            local("*/15 * * * *", zone, "2027-04-03T14:20:00Z", 6),
            [
                "04-04 01:30 +1100",
                "04-04 01:45 +1100",
                "04-04 01:30 +1030",
                "04-04 01:45 +1030",
                "04-04 02:00 +1030",
                "04-04 02:15 +1030",
            ]
        );
    }

    #[test]
    fn a_leap_day_is_found_and_a_day_that_never_comes_is_not() {
        assert_eq!(
            local("0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", 1),
            ["02-29 00:00 +0000"]
        );
        assert_eq!(
            slots("0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", 1),
            ["2104-02-29T00:00Z = 02-29 00:00 +0000"]
        );
        assert!(slots("0 0 30 2 *", "UTC", "2027-01-01T00:00:00Z", 1).is_empty());
    }

    #[test]
    fn both_day_fields_restricted_mean_either_one_star_means_both() {
        // 13 August 2027 is a Friday.
        assert_eq!(
            local("0 0 13 * FRI", "UTC", "2027-08-10T00:00:00Z", 3),
            [
                "08-13 00:00 +0000",
                "08-20 00:00 +0000",
                "08-27 00:00 +0000"
            ]
        );
        assert_eq!(
            local("0 0 */2 * 1", "UTC", "2027-08-01T00:00:00Z", 2),
            ["08-09 00:00 +0000", "08-23 00:00 +0000"]
        );
        assert_eq!(
            local("0 0 * * 7", "UTC", "2027-08-01T12:00:00Z", 1),
            local("0 0 * * sun", "UTC", "2027-08-01T12:00:00Z", 1)
        );
        assert_eq!(
            local("@monthly", "UTC", "2027-08-01T00:00:00Z", 1),
            ["09-01 00:00 +0000"]
        );
        assert_eq!(
            local("5-15/5,50 8 1 jan-mar *", "UTC", "2027-01-01T08:06:00Z", 4),
            [
                "01-01 08:10 +0000",
                "01-01 08:15 +0000",
                "01-01 08:50 +0000",
                "02-01 08:05 +0000"
            ]
        );
    }

    #[test]
    fn slots_never_repeat_and_never_go_back() {
        for zone in [
            "Europe/Berlin",
            "America/New_York",
            "Australia/Lord_Howe",
            "Africa/Casablanca",
            "America/Santiago",
            "Pacific/Apia",
        ] {
            for cron in ["*/20 * * * *", "15,45 0-5 * * *", "0 0 * * *"] {
                let cron: Cron = cron.parse().unwrap();
                let zone: Tz = zone.parse().unwrap();
                let start: DateTime<Utc> = "2027-01-01T00:00:00Z".parse().unwrap();
                let year = cron
                    .slots_after(start, zone)
                    .take_while(|at| *at < start + TimeDelta::days(366));
                let all: Vec<_> = year.collect();
                assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "{zone}");
                // From any slot on, the same slots follow.
                for at in all
                    .iter()
                    .step_by(97)
                    .take_while(|at| **at < all[all.len() - 1])
                {
                    let next = cron.slots_after(*at, zone).next();
                    assert_eq!(next, all.iter().find(|slot| *slot > at).copied(), "{zone}");
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let cases = [
            ("", "has 0 fields"),
            ("* * * *", "has 4 fields"),
            ("0 * * * * *", "has 6 fields"),
            ("60 * * * *", "minute \"60\""),
            ("* 24 * * *", "hour \"24\""),
            ("* * 0 * *", "day of month \"0\""),
            ("* * * 13 *", "month \"13\""),
            ("* * * FEBR *", "month \"FEBR\""),
            ("* * * * 8", "day of week \"8\""),
            ("* * * * FRI-MON", "runs backwards"),
            ("*/0 * * * *", "a step is a number from 1"),
            ("5/15 * * * *", "a step needs * or a range"),
            ("1,,2 * * * *", "minute \"\""),
            ("+1 * * * *", "minute \"+1\""),
            ("* * ? * *", "day of month \"?\""),
            ("* * L * *", "day of month \"L\""),
            ("99999999999 * * * *", "minute"),
        ];
        for (text, expected) in cases {
            let error = text.parse::<Cron>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }
}
