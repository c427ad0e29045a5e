//! When a mail is sent. Pure.

use chrono::{DateTime, Days, Timelike as _, Utc};
use chrono_tz::Tz;

use super::Input;
use crate::calendar;
use crate::dunning::policy::{Notices, Quiet};

/// The local hour of mails that are sent some days ahead of something.
const HOUR: u32 = 9;

/// What to do with a mail now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Send it.
    Now,
    /// Look again then.
    At(DateTime<Utc>),
    /// Nobody is to be told.
    Never,
}

/// Decides when a mail is sent: ahead of what it tells of, and not in quiet hours.
pub(super) fn when(about: &Input, notices: &Notices, now: DateTime<Utc>, zone: Tz) -> Verdict {
    let ahead = match about {
        Input::RenewalComing { renews_at, .. } => Some((*renews_at, notices.renewal_days)),
        Input::CardExpiring { expires_on, .. } => {
            let end = calendar::start_of_day(calendar::add_days(*expires_on, 1), zone);
            Some((end, notices.card_expiring_days))
        }
        _ => None,
    };
    if let Some((of, days)) = ahead {
        if days == 0 || of <= now {
            return Verdict::Never;
        }
        if let Some(at) = ahead_of(of, days, zone)
            && at > now
        {
            return Verdict::At(at);
        }
    }
    let quiet = notices.quiet.as_ref();
    let quiet = quiet.filter(|quiet| !quiet.except.iter().any(|kind| kind == about.kind()));
    match quiet.and_then(|quiet| quiet_until(quiet, now, zone)) {
        Some(at) => Verdict::At(at),
        None => Verdict::Now,
    }
}

/// The morning so many local days before an instant.
pub(crate) fn ahead_of(of: DateTime<Utc>, days: u32, zone: Tz) -> Option<DateTime<Utc>> {
    let day = calendar::local_day(of, zone).checked_sub_days(Days::new(u64::from(days)))?;
    Some(calendar::at_hour(day, HOUR, zone))
}

/// When the quiet hours end that an instant lies in, if it lies in some.
fn quiet_until(quiet: &Quiet, now: DateTime<Utc>, zone: Tz) -> Option<DateTime<Utc>> {
    let today = calendar::local_day(now, zone);
    let hour = now.with_timezone(&zone).hour();
    let over_midnight = quiet.from > quiet.to;
    let day = if over_midnight && hour >= quiet.from {
        calendar::add_days(today, 1)
    } else if (over_midnight && hour < quiet.to) || (quiet.from..quiet.to).contains(&hour) {
        today
    } else {
        return None;
    };
    // Where the clocks go back, the hour at which it ends can lie behind: then it has ended.
    Some(calendar::at_hour(day, quiet.to, zone)).filter(|at| *at > now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn quiet_hours_are_the_tenants_and_may_go_over_midnight() {
        let berlin = calendar::zone("Europe/Berlin").unwrap();
        let quiet = |from, to| Quiet {
            from,
            to,
            except: Vec::new(),
        };
        let night = quiet(20, 8);
        let noon = quiet(12, 14);
        let cases = [
            (&night, "2027-02-01T18:59:59Z", None),
            (&night, "2027-02-01T19:00:00Z", Some("2027-02-02T07:00:00Z")),
            (&night, "2027-02-02T06:59:59Z", Some("2027-02-02T07:00:00Z")),
            (&night, "2027-02-02T07:00:00Z", None),
            (&noon, "2027-02-01T11:30:00Z", Some("2027-02-01T13:00:00Z")),
            (&noon, "2027-02-01T13:00:00Z", None),
            // The night in which summer time begins is an hour shorter.
            (&night, "2027-03-27T23:30:00Z", Some("2027-03-28T06:00:00Z")),
        ];
        for (quiet, now, expected) in cases {
            assert_eq!(
                quiet_until(quiet, at(now), berlin),
                expected.map(at),
                "{now}"
            );
        }
    }

    #[test]
    fn a_renewal_is_told_some_days_ahead_unless_the_policy_says_never() {
        let renewal = Input::RenewalComing {
            subscription_id: Uuid::nil(),
            plan: "Team, yearly".to_owned(),
            price: crate::money::Money::zero("EUR".parse().unwrap()),
            every: crate::calendar::Interval::YEAR,
            renews_at: at("2028-06-01T00:00:00Z"),
        };
        let zone = chrono_tz::UTC;
        let mut notices = Notices::default();
        let told = |notices: &Notices, now: &str| when(&renewal, notices, at(now), zone);
        let due = at("2028-05-25T09:00:00Z");
        assert_eq!(told(&notices, "2027-06-01T00:00:00Z"), Verdict::At(due));
        assert_eq!(told(&notices, "2028-05-25T09:00:00Z"), Verdict::Now);
        assert_eq!(told(&notices, "2028-06-01T00:00:00Z"), Verdict::Never);
        notices.renewal_days = 0;
        assert_eq!(told(&notices, "2027-06-01T00:00:00Z"), Verdict::Never);
    }

    #[test]
    fn some_kinds_wait_for_no_hour() {
        let mut notices = Notices::default();
        let zone = chrono_tz::UTC;
        let night = at("2027-02-01T22:00:00Z");
        notices.quiet = Some(Quiet {
            from: 20,
            to: 8,
            except: vec!["final_notice".to_owned()],
        });
        let told = |about: &Input| when(about, &notices, night, zone);
        let currency = None;
        assert_eq!(
            told(&Input::Recovered {
                currency,
                since: None,
                subscription_id: None,
            }),
            Verdict::At(at("2027-02-02T08:00:00Z"))
        );
        let last = Input::Final {
            currency,
            ends: true,
            subscription_id: None,
        };
        assert_eq!(told(&last), Verdict::Now);
    }
}
