//! What of a level the tenant is told. Pure.

use chrono::{DateTime, TimeDelta, Utc};

use super::Told;

/// The shares of a limit that a tenant is told of, in per cent, the greatest first.
const SHARES: [u32; 2] = [100, 80];

/// Whether a level is so many per cent of a limit, or more.
pub(crate) fn reaches(level: u64, limit: u64, percent: u32) -> bool {
    u128::from(level) * 100 >= u128::from(limit) * u128::from(percent)
}

/// What the tenant is to be told of a level, if anything: the greatest share that it reaches, unless
/// that or a greater one was told of this limit in this period. Nothing of a limit of 0: that is
/// something the tenant does not have.
pub(super) fn due(
    level: u64,
    limit: u64,
    period: DateTime<Utc>,
    told: Option<Told>,
) -> Option<Told> {
    if limit == 0 {
        return None;
    }
    let percent = SHARES
        .into_iter()
        .find(|share| reaches(level, limit, *share))?;
    let same = told.filter(|told| told.limit == limit && told.period == period);
    let news = same.is_none_or(|told| told.percent < percent);
    news.then_some(Told {
        percent,
        limit,
        period,
    })
}

/// The start of a month, as it was told of if it was: a tenant that has moved to another zone is in the
/// same month still. Zones differ by 26 hours at most.
pub(super) fn same_month(start: DateTime<Utc>, told: Option<Told>) -> DateTime<Utc> {
    let same = |told: &Told| (told.period - start).abs() <= TimeDelta::hours(26);
    told.filter(same).map_or(start, |told| told.period)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_the_same_in_another_zone() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let told = Told {
            percent: 80,
            limit: 10,
            period: at("2027-02-28T23:00:00Z"),
        };
        let new_york = at("2027-03-01T05:00:00Z");
        assert_eq!(same_month(new_york, Some(told)), told.period);
        assert_eq!(same_month(new_york, None), new_york);
        let april = at("2027-04-01T04:00:00Z");
        assert_eq!(same_month(april, Some(told)), april);
    }

    #[test]
    fn each_share_is_told_once_in_a_period_and_of_a_limit() {
        let first = DateTime::from_timestamp(0, 0).unwrap();
        let second = DateTime::from_timestamp(1_000, 0).unwrap();
        let told = |percent, limit, period| {
            Some(Told {
                percent,
                limit,
                period,
            })
        };
        let cases = [
            (7, 10, None, None),
            (8, 10, None, Some(80)),
            (10, 10, None, Some(100)),
            (25, 10, None, Some(100)),
            (9, 10, told(80, 10, first), None),
            (10, 10, told(80, 10, first), Some(100)),
            (9, 10, told(100, 10, first), None),
            (9, 10, told(100, 10, second), Some(80)),
            (18, 20, told(100, 10, first), Some(80)),
            (5, 0, None, None),
            (0, 10, None, None),
            (u64::MAX, u64::MAX, None, Some(100)),
            (4, 5, None, Some(80)),
            (79, 99, None, None),
        ];
        for (level, limit, told, percent) in cases {
            let due = due(level, limit, first, told);
            assert_eq!(due.map(|due| due.percent), percent, "{level} of {limit}");
        }
    }
}
