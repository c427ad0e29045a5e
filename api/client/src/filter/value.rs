//! What single values mean: statuses, ages, counts, times. A value of a range is the stretch that
//! it covers, from its first instant or number to the one after it.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use uuid::Uuid;

use super::FilterError;
use crate::RunStatus;

pub(super) fn status(at: usize, value: &str) -> Result<RunStatus, FilterError> {
    let name = value.replace([' ', '-'], "_").to_lowercase();
    RunStatus::parse(&name).ok_or_else(|| {
        let names = RunStatus::ALL.map(RunStatus::as_str).join(", ");
        FilterError::new(at, format!("no status \"{value}\"; there are {names}"))
    })
}

/// Reads an age in seconds: `90s`, `15m`, `2h`, `3d`, `1w`.
pub(super) fn seconds(at: usize, value: &str) -> Result<(i64, i64), FilterError> {
    let wrong = || {
        let wrong = format!("\"{value}\" is no age; a count and s, m, h, d or w, such as 3d or 2h");
        FilterError::new(at, wrong)
    };
    let unit = value.chars().last().ok_or_else(wrong)?;
    let each: i64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return Err(wrong()),
    };
    // Not more than a count of years that dates can bear.
    let count: u32 = value[..value.len() - 1].parse().map_err(|_| wrong())?;
    let seconds = i64::from(count) * each;
    if seconds > 604_800 * 52 * 1_000 {
        return Err(wrong());
    }
    Ok((seconds, seconds + 1))
}

pub(super) fn run_id(at: usize, value: &str) -> Result<Uuid, FilterError> {
    value
        .parse()
        .map_err(|_| FilterError::new(at, format!("\"{value}\" is no id of a run")))
}

pub(super) fn count(at: usize, value: &str) -> Result<(i64, i64), FilterError> {
    match value.parse::<u32>() {
        Ok(count) => Ok((i64::from(count), i64::from(count) + 1)),
        Err(_) => Err(FilterError::new(at, format!("\"{value}\" is no count"))),
    }
}

/// Reads a day in UTC, or an instant.
pub(super) fn time(at: usize, value: &str) -> Result<(DateTime<Utc>, DateTime<Utc>), FilterError> {
    let day = value.parse::<NaiveDate>().ok();
    let day = day.map(|day| {
        (
            day.and_time(chrono::NaiveTime::MIN).and_utc(),
            TimeDelta::days(1),
        )
    });
    let instant = || {
        let instant = DateTime::parse_from_rfc3339(value).ok()?;
        Some((instant.with_timezone(&Utc), TimeDelta::microseconds(1)))
    };
    day.or_else(instant)
        .and_then(|(first, length)| Some((first, first.checked_add_signed(length)?)))
        // What Postgres and RFC 3339 can both write down.
        .filter(|(first, after)| {
            (0..=9_999).contains(&chrono::Datelike::year(first)) && first < after
        })
        .ok_or_else(|| {
            let wrong = format!("\"{value}\" is no time; 2027-01-31 or 2027-01-31T09:00:00Z");
            FilterError::new(at, wrong)
        })
}
