//! Business dates: periods from a stored anchor day, in the customer's zone. Pure.
//!
//! A boundary is computed from the anchor, never from the boundary before: it clamps at the end of
//! a short month and returns to the anchor in the next (Stripe, Kill Bill, Lago and Meteroid
//! agree). Periods are half-open. A boundary is the start of a local day; where a change to summer
//! time swallows midnight, the day begins at its first valid instant.

use std::fmt;
use std::str::FromStr;

use chrono::{
    DateTime, Datelike as _, Days, Months, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta,
    TimeZone, Utc,
};
use chrono_tz::Tz;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a billing period is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A local day.
    Day,
    /// Seven local days.
    Week,
    /// A calendar month.
    Month,
    /// Three calendar months.
    Quarter,
    /// Twelve calendar months.
    Year,
}

impl Unit {
    const ALL: [Self; 5] = [
        Self::Day,
        Self::Week,
        Self::Month,
        Self::Quarter,
        Self::Year,
    ];

    /// Its name, for one.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Quarter => "quarter",
            Self::Year => "year",
        }
    }
}

/// The length of a billing period: so many of a unit. Written `month` or `2 weeks`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    unit: Unit,
    count: u32,
}

/// No length of a period.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no interval (day, week, month, quarter or year, or 2 to {MOST} of them, such as \"2 weeks\")"
)]
pub struct UnknownInterval(pub String);

/// The most units that a period is made of.
const MOST: u32 = 366;

impl Interval {
    /// A calendar month.
    pub const MONTH: Self = Self {
        unit: Unit::Month,
        count: 1,
    };
    /// A calendar year.
    pub const YEAR: Self = Self {
        unit: Unit::Year,
        count: 1,
    };

    /// How many of which unit.
    #[must_use]
    pub const fn parts(self) -> (u32, Unit) {
        (self.count, self.unit)
    }

    /// Whether it is a year or longer, so that its end is easily forgotten.
    #[must_use]
    pub const fn is_long(self) -> bool {
        let days = match self.unit {
            Unit::Day => 1,
            Unit::Week => 7,
            Unit::Month => 31,
            Unit::Quarter => 92,
            Unit::Year => 366,
        };
        self.count * days >= 364
    }

    /// The day `index` periods after `anchor`, clamped to the end of a short month.
    fn after(self, anchor: NaiveDate, index: u32) -> Option<NaiveDate> {
        let count = self.count.checked_mul(index)?;
        let days = |each: u64| anchor.checked_add_days(Days::new(each * u64::from(count)));
        let months = |each: u32| anchor.checked_add_months(Months::new(each.checked_mul(count)?));
        match self.unit {
            Unit::Day => days(1),
            Unit::Week => days(7),
            Unit::Month => months(1),
            Unit::Quarter => months(3),
            Unit::Year => months(12),
        }
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            1 => f.write_str(self.unit.word()),
            count => write!(f, "{count} {}s", self.unit.word()),
        }
    }
}

impl FromStr for Interval {
    type Err = UnknownInterval;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownInterval(text.to_owned());
        let (count, unit) = text.split_once(' ').unwrap_or(("1", text));
        let count: u32 = count.parse().map_err(|_| unknown())?;
        let unit = if count == 1 {
            unit
        } else {
            unit.strip_suffix('s').ok_or_else(unknown)?
        };
        let unit = Unit::ALL.into_iter().find(|known| known.word() == unit);
        match unit {
            Some(unit) if (1..=MOST).contains(&count) => Ok(Self { unit, count }),
            _ => Err(unknown()),
        }
    }
}

impl Serialize for Interval {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Interval {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// The zone's name is not in the IANA database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no IANA time zone (such as Europe/Berlin)")]
pub struct UnknownZone(pub String);

/// Reads an IANA zone.
///
/// # Errors
/// [`UnknownZone`].
pub fn zone(name: &str) -> Result<Tz, UnknownZone> {
    name.parse().map_err(|_| UnknownZone(name.to_owned()))
}

/// The local day of an instant.
#[must_use]
pub fn local_day(at: DateTime<Utc>, zone: Tz) -> NaiveDate {
    at.with_timezone(&zone).date_naive()
}

/// The first instant of a local day.
#[must_use]
pub fn start_of_day(day: NaiveDate, zone: Tz) -> DateTime<Utc> {
    at_local(day.and_time(NaiveTime::MIN), zone)
}

/// A local hour of a local day; the first valid instant after it where a gap swallows it, and the
/// earlier of two where it comes twice.
#[must_use]
pub fn at_hour(day: NaiveDate, hour: u32, zone: Tz) -> DateTime<Utc> {
    let time = NaiveTime::from_hms_opt(hour.min(23), 0, 0).unwrap_or(NaiveTime::MIN);
    at_local(day.and_time(time), zone)
}

fn at_local(local: NaiveDateTime, zone: Tz) -> DateTime<Utc> {
    if let Some(found) = zone.from_local_datetime(&local).earliest() {
        return found.with_timezone(&Utc);
    }
    // In a gap: the zone's clocks jump over this time. The widest jump on record is a day.
    let before = local - TimeDelta::days(2);
    let mut low = zone.from_utc_datetime(&before).with_timezone(&Utc);
    let mut high = low + TimeDelta::days(5);
    // The first instant whose local time is not before the wanted one.
    while high - low > TimeDelta::seconds(1) {
        let middle = low + (high - low) / 2;
        if middle.with_timezone(&zone).naive_local() < local {
            low = middle;
        } else {
            high = middle;
        }
    }
    DateTime::from_timestamp(high.timestamp(), 0).unwrap_or(high)
}

/// The day `count` local days after `day`.
#[must_use]
pub fn add_days(day: NaiveDate, count: u32) -> NaiveDate {
    day.checked_add_days(Days::new(u64::from(count)))
        .unwrap_or(NaiveDate::MAX)
}

/// The boundary at which period `index` begins, counted from the anchor.
#[must_use]
pub fn boundary(anchor: NaiveDate, interval: Interval, index: u32) -> NaiveDate {
    interval.after(anchor, index).unwrap_or(NaiveDate::MAX)
}

/// The index of the period that holds `day`; `None` before the anchor.
#[must_use]
pub fn index_of(anchor: NaiveDate, interval: Interval, day: NaiveDate) -> Option<u32> {
    if day < anchor {
        return None;
    }
    // The first index whose boundary lies behind the day, by halving.
    let (mut low, mut high) = (0_u32, 1_u32);
    while boundary(anchor, interval, high) <= day && high < u32::MAX / 2 {
        high *= 2;
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if boundary(anchor, interval, middle) <= day {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some(low)
}

/// The last day up to `until` that is the day `day` of its month. Periods that are counted from it
/// clamp in short months and return to it; `None` unless `day` is 1 to 31.
#[must_use]
pub fn anchor_before(until: NaiveDate, day: u32) -> Option<NaiveDate> {
    let first = until.with_day(1)?;
    (0..3)
        .filter_map(|months| first.checked_sub_months(Months::new(months))?.with_day(day))
        .find(|found| *found <= until)
}

/// A half-open period: it holds its start and not its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Period {
    /// Counts from 0.
    pub index: u32,
    /// Inclusive.
    pub start: DateTime<Utc>,
    /// Exclusive.
    pub end: DateTime<Utc>,
}

/// Period `index` after the anchor, in the zone.
#[must_use]
pub fn period(anchor: NaiveDate, interval: Interval, index: u32, zone: Tz) -> Period {
    Period {
        index,
        start: start_of_day(boundary(anchor, interval, index), zone),
        end: start_of_day(boundary(anchor, interval, index + 1), zone),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    #[test]
    fn a_boundary_clamps_at_the_months_end_and_returns_to_the_anchor() {
        let days: Vec<String> = (0..6)
            .map(|index| boundary(day("2027-01-31"), Interval::MONTH, index).to_string())
            .collect();
        assert_eq!(
            days,
            [
                "2027-01-31",
                "2027-02-28",
                "2027-03-31",
                "2027-04-30",
                "2027-05-31",
                "2027-06-30"
            ]
        );
    }

    #[test]
    fn a_leap_day_comes_back_in_leap_years() {
        let days: Vec<String> = (0..5)
            .map(|index| boundary(day("2028-02-29"), Interval::YEAR, index).to_string())
            .collect();
        assert_eq!(
            days,
            [
                "2028-02-29",
                "2029-02-28",
                "2030-02-28",
                "2031-02-28",
                "2032-02-29"
            ]
        );
    }

    #[test]
    fn a_period_begins_at_local_midnight_on_both_sides_of_summer_time() {
        let berlin = zone("Europe/Berlin").unwrap();
        let march = period(day("2027-03-15"), Interval::MONTH, 0, berlin);
        assert_eq!(march.start.to_rfc3339(), "2027-03-14T23:00:00+00:00");
        assert_eq!(march.end.to_rfc3339(), "2027-04-14T22:00:00+00:00");
    }

    #[test]
    fn a_swallowed_midnight_becomes_the_first_valid_instant() {
        // In Beirut clocks went from 00:00 to 01:00 on 2021-03-28.
        let beirut = zone("Asia/Beirut").unwrap();
        let start = start_of_day(day("2021-03-28"), beirut);
        assert_eq!(start.to_rfc3339(), "2021-03-27T22:00:00+00:00");
        assert_eq!(
            start.with_timezone(&beirut).naive_local().to_string(),
            "2021-03-28 01:00:00"
        );
        // Samoa skipped 2011-12-30 altogether.
        let apia = zone("Pacific/Apia").unwrap();
        let skipped = start_of_day(day("2011-12-30"), apia);
        assert_eq!(skipped, start_of_day(day("2011-12-31"), apia));
    }

    #[test]
    fn an_hour_that_comes_twice_is_the_earlier_one() {
        let berlin = zone("Europe/Berlin").unwrap();
        let at = at_hour(day("2027-10-31"), 2, berlin);
        assert_eq!(at.to_rfc3339(), "2027-10-31T00:00:00+00:00");
    }

    #[test]
    fn periods_are_half_open_and_leave_no_gap() {
        let zone = zone("America/New_York").unwrap();
        for index in 0..48 {
            let this = period(day("2027-10-31"), Interval::MONTH, index, zone);
            let next = period(day("2027-10-31"), Interval::MONTH, index + 1, zone);
            assert_eq!(this.end, next.start);
            assert!(this.start < this.end);
        }
    }

    #[test]
    fn an_unknown_zone_is_refused_by_name() {
        let error = zone("Europe/Atlantis").unwrap_err().to_string();
        assert!(error.contains("Europe/Atlantis"), "{error}");
    }
    #[test]
    fn an_interval_is_read_as_it_is_written() {
        for text in [
            "day",
            "week",
            "month",
            "quarter",
            "year",
            "2 weeks",
            "18 months",
        ] {
            let interval: Interval = text.parse().unwrap();
            assert_eq!(interval.to_string(), text);
        }
        let wrong = [
            "",
            "months",
            "0 months",
            "-1 months",
            "2 month",
            "367 days",
            "2  weeks",
            "eon",
        ];
        for text in wrong {
            assert_eq!(
                text.parse::<Interval>(),
                Err(UnknownInterval(text.to_owned()))
            );
        }
    }

    #[test]
    fn days_weeks_and_quarters_are_counted_from_the_anchor() {
        let second = |interval: &str| {
            let interval = interval.parse().unwrap();
            boundary(day("2027-11-30"), interval, 1).to_string()
        };
        assert_eq!(second("day"), "2027-12-01");
        assert_eq!(second("2 weeks"), "2027-12-14");
        assert_eq!(second("quarter"), "2028-02-29");
        assert_eq!(second("2 years"), "2029-11-30");
    }

    #[test]
    fn a_day_lies_in_the_period_that_its_boundary_begins() {
        let anchor = day("2027-01-31");
        for (text, index) in [
            ("2027-01-30", None),
            ("2027-01-31", Some(0)),
            ("2027-02-27", Some(0)),
            ("2027-02-28", Some(1)),
            ("2027-03-30", Some(1)),
            ("2029-01-31", Some(24)),
        ] {
            assert_eq!(
                index_of(anchor, Interval::MONTH, day(text)),
                index,
                "{text}"
            );
        }
    }

    #[test]
    fn an_anchor_is_a_day_that_its_month_has() {
        let anchor = |until: &str, of| anchor_before(day(until), of).map(|day| day.to_string());
        assert_eq!(anchor("2027-02-10", 31).unwrap(), "2027-01-31");
        assert_eq!(anchor("2027-03-05", 30).unwrap(), "2027-01-30");
        assert_eq!(anchor("2027-01-15", 15).unwrap(), "2027-01-15");
        assert_eq!(anchor("2027-01-14", 15).unwrap(), "2026-12-15");
        assert_eq!(anchor("2027-01-14", 32), None);
    }
}
