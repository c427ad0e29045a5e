//! How far something is, drawn and in words.

use crate::time;
use chrono::TimeDelta;

/// A bar of so many cells for a share of a hundred. It is full only when all is done.
pub(crate) fn bar(percent: f64, cells: usize) -> String {
    let exact = percent.clamp(0.0, 100.0) * cells as f64 / 100.0;
    // Cut, not rounded: what is nearly done is not done.
    let full = exact as usize;
    format!("[{}{}]", "#".repeat(full), ".".repeat(cells - full))
}

/// A share of a hundred; none of nothing.
pub(crate) fn percent(done: i64, all: i64) -> f64 {
    if all <= 0 {
        return 0.0;
    }
    done as f64 * 100.0 / all as f64
}

/// A number that people can read: `1,234,567`.
pub(crate) fn count(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut shown = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{shown}")
}

/// Bytes in their largest unit.
pub(crate) fn bytes(number: i64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    let mut rest = number as f64;
    let mut shown = format!("{number} B");
    for unit in UNITS {
        if rest < 1_000.0 {
            break;
        }
        rest /= 1_000.0;
        shown = format!("{rest:.1} {unit}");
    }
    shown
}

/// Between when and when it ends, in words; nothing where nothing is known.
pub(crate) fn left(earliest: Option<u64>, latest: Option<u64>) -> Option<String> {
    let words = |seconds: u64| {
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX / 1_000);
        time::long(TimeDelta::seconds(seconds))
    };
    let from = words(earliest?);
    Some(match latest.map(words) {
        Some(to) if to == from => format!("{to} left"),
        Some(to) => format!("{from} to {to} left"),
        None => format!("at least {from} left"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_full_only_when_all_is_done() {
        assert_eq!(bar(0.0, 10), "[..........]");
        assert_eq!(bar(52.3, 10), "[#####.....]");
        assert_eq!(bar(99.9, 10), "[#########.]");
        assert_eq!(bar(100.0, 10), "[##########]");
        assert_eq!(bar(-3.0, 4), "[....]");
        assert_eq!(bar(250.0, 4), "[####]");
        assert_eq!((percent(1, 4), percent(3, 0)), (25.0, 0.0));
    }

    #[test]
    fn numbers_and_spans_can_be_read() {
        let numbers = [0, 999, 1_000, 1_234_567, -12_345].map(count);
        assert_eq!(numbers, ["0", "999", "1,000", "1,234,567", "-12,345"]);
        let sizes = [12, 999, 4_200_000, 3_000_000_000].map(bytes);
        assert_eq!(sizes, ["12 B", "999 B", "4.2 MB", "3.0 GB"]);
        assert_eq!(left(None, Some(3)), None);
        assert_eq!(left(Some(190), None).unwrap(), "at least 3m 10s left");
        assert_eq!(left(Some(190), Some(242)).unwrap(), "3m 10s to 4m 2s left");
        assert_eq!(left(Some(5), Some(5)).unwrap(), "5s left");
    }
}
