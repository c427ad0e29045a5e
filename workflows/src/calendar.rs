//! Business dates: periods from a stored anchor day, in the customer's zone. Pure.
//!
//! A boundary is computed from the anchor, never from the boundary before: it clamps at the end of
//! a short month and returns to the anchor in the next (Stripe, Kill Bill, Lago and Meteroid
//! agree). Periods are half-open. A boundary is the start of a local day; where a change to summer
//! time swallows midnight, the day begins at its first valid instant.

use chrono::{
    DateTime, Days, Months, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Utc,
};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

/// The length of a billing period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interval {
    /// A calendar month.
    Month,
    /// A calendar year.
    Year,
}

impl Interval {
    /// The stored spelling.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Month => "month",
            Self::Year => "year",
        }
    }

    /// Reads the stored spelling.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Month, Self::Year]
            .into_iter()
            .find(|interval| interval.word() == word)
    }

    const fn months(self) -> u32 {
        match self {
            Self::Month => 1,
            Self::Year => 12,
        }
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
    let months = Months::new(interval.months().saturating_mul(index));
    anchor.checked_add_months(months).unwrap_or(NaiveDate::MAX)
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
            .map(|index| boundary(day("2027-01-31"), Interval::Month, index).to_string())
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
            .map(|index| boundary(day("2028-02-29"), Interval::Year, index).to_string())
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
        let march = period(day("2027-03-15"), Interval::Month, 0, berlin);
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
            let this = period(day("2027-10-31"), Interval::Month, index, zone);
            let next = period(day("2027-10-31"), Interval::Month, index + 1, zone);
            assert_eq!(this.end, next.start);
            assert!(this.start < this.end);
        }
    }

    #[test]
    fn an_unknown_zone_is_refused_by_name() {
        let error = zone("Europe/Atlantis").unwrap_err().to_string();
        assert!(error.contains("Europe/Atlantis"), "{error}");
    }
}
