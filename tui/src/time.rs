//! Times in words: how long, how far away, and when in UTC.

use chrono::{DateTime, Datelike, TimeDelta, Utc};

/// A span in its largest unit: `12s`, `41m`, `5h`, `3d`.
pub fn short(span: TimeDelta) -> String {
    let (first, _) = units(span);
    first
}

/// A span in its two largest units: `3d 6h`.
pub fn long(span: TimeDelta) -> String {
    match units(span) {
        (first, Some(second)) => format!("{first} {second}"),
        (first, None) => first,
    }
}

/// How far `at` is from `now`: `in 3d 6h`, `now`, `12s ago`.
pub fn relative(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let distance = at - now;
    match distance.num_seconds() {
        0 => "now".to_owned(),
        seconds if seconds > 0 => format!("in {}", long(distance)),
        _ => format!("{} ago", long(distance.abs())),
    }
}

/// A date with the time of day, or with the year where that tells more.
pub fn absolute(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let near = (at - now).num_days().abs() < 300 || at.year() == now.year();
    at.format(if near { "%d %b %H:%M" } else { "%d %b %Y" })
        .to_string()
}

/// A date and time to the second, for logs.
pub fn stamp(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}

fn units(span: TimeDelta) -> (String, Option<String>) {
    let seconds = span.num_seconds().max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let second = |amount: i64, unit: &str| (amount > 0).then(|| format!("{amount}{unit}"));
    if days >= 730 {
        (format!("{}y", days / 365), second(days % 365, "d"))
    } else if days > 0 {
        (format!("{days}d"), second(hours % 24, "h"))
    } else if hours > 0 {
        (format!("{hours}h"), second(minutes % 60, "m"))
    } else if minutes > 0 {
        (format!("{minutes}m"), second(seconds % 60, "s"))
    } else {
        (format!("{seconds}s"), None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_in_their_largest_units() {
        assert_eq!(short(TimeDelta::seconds(59)), "59s");
        assert_eq!(long(TimeDelta::seconds(61)), "1m 1s");
        assert_eq!(long(TimeDelta::hours(78)), "3d 6h");
        assert_eq!(long(TimeDelta::days(800)), "2y 70d");
        assert_eq!(short(TimeDelta::seconds(-5)), "0s");
    }

    #[test]
    fn distances_name_their_direction() {
        let now = DateTime::UNIX_EPOCH;
        assert_eq!(relative(now + TimeDelta::minutes(90), now), "in 1h 30m");
        assert_eq!(relative(now, now), "now");
        assert_eq!(relative(now - TimeDelta::days(2), now), "2d ago");
    }
}
