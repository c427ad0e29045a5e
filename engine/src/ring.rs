//! Rings: runs that wait for each other's end, so that none of them ever comes to one.
//!
//! A parent waits for its child. A start whose key is taken makes a child of a run that lives
//! already, and that run may be the parent itself, or wait for it over several others: such a start
//! is refused for good (`child_cycle`), because nothing could end the wait. [`Transition::watch`] is
//! not refused: who only wants to hear of an end may have other things to wait for. Where it closes a
//! ring all the same, and everybody in it waits with no deadline, `why` tells.
//!
//! A walk goes upwards, from a run to those that hear of its end, level by level. Nobody walks but a
//! settlement that starts a child whose key is taken, and `why`. Two starts that would close a ring
//! of two or three from its ends at one moment lock each other's rows, so the later one sees the
//! earlier one, or Postgres breaks the deadlock and the second try does; in a longer ring two that
//! have no row in common may both go through, and then `why` is left to tell.
//!
//! [`Transition::watch`]: crate::Transition::watch

use std::collections::HashMap;
use std::fmt;

use sqlx::PgConnection;

use crate::id::RunId;
use crate::run::RunKey;
use crate::store;
use crate::store::ring::Heard;

/// The most levels that a walk goes up.
const MAX_LEVELS: usize = 64;
/// The most runs that it looks at.
const MAX_RUNS: usize = 1_000;

/// Runs of which each waits for the next one's end, and the last for the first's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ring(Vec<Member>);

/// A run by workflow and key, as people know it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Member(String);

impl Member {
    fn of(heard: &Heard) -> Self {
        Self(format!("{} {:?}", heard.workflow, heard.key))
    }
}

impl fmt::Display for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Member(name) in &self.0 {
            write!(f, "{name} -> ")?;
        }
        f.write_str(self.0.first().map_or("", |Member(name)| name))
    }
}

/// Whether `child` waits for `parent`, directly or over others, so that the parent must not wait for
/// it; the ring that there would be, beginning with the parent.
pub(crate) async fn closed_by(
    conn: &mut PgConnection,
    parent: RunKey,
    child: RunId,
) -> sqlx::Result<Option<Ring>> {
    let heard = store::ring::list_heard(conn, &[child], parent.shard_id).await?;
    let Some(first) = heard.first().map(Member::of) else {
        return Ok(None);
    };
    if child == parent.run_id {
        return Ok(Some(Ring(vec![first])));
    }
    let way = find(conn, parent, child, |_| true).await?;
    Ok(way.map(|mut way| {
        // The way ends with the parent, which would wait for the child.
        way.rotate_right(1);
        way.insert(1, first);
        Ring(way)
    }))
}

/// The ring that a run is in, if nobody in it has anything else to wait for but a signal.
pub(crate) async fn around(conn: &mut PgConnection, run: RunKey) -> sqlx::Result<Option<Ring>> {
    let way = find(conn, run, run.run_id, |heard| heard.rests).await?;
    Ok(way.map(|mut way| {
        way.rotate_right(1);
        Ring(way)
    }))
}

/// Walks up from `start`, over runs that count, to one of whose end `top` hears; the way back down
/// from there, `start` the last.
async fn find(
    conn: &mut PgConnection,
    start: RunKey,
    top: RunId,
    counts: impl Fn(&Heard) -> bool,
) -> sqlx::Result<Option<Vec<Member>>> {
    let mut below: HashMap<RunId, Option<RunId>> = HashMap::from([(start.run_id, None)]);
    let mut known: HashMap<RunId, Member> = HashMap::new();
    let mut level = vec![start.run_id];
    for _ in 0..MAX_LEVELS {
        let heard = store::ring::list_heard(conn, &level, start.shard_id).await?;
        level.clear();
        for heard in heard.iter().filter(|heard| counts(heard)) {
            known.insert(heard.run_id, Member::of(heard));
            if heard.hearers.contains(&top) {
                return Ok(Some(down(&known, &below, heard.run_id)));
            }
            for hearer in &heard.hearers {
                if !below.contains_key(hearer) {
                    below.insert(*hearer, Some(heard.run_id));
                    level.push(*hearer);
                }
            }
        }
        if level.is_empty() || below.len() > MAX_RUNS {
            break;
        }
    }
    Ok(None)
}

/// The way down from a run to where the walk began.
fn down(
    known: &HashMap<RunId, Member>,
    below: &HashMap<RunId, Option<RunId>>,
    from: RunId,
) -> Vec<Member> {
    let steps = std::iter::successors(Some(from), |run| below.get(run).copied().flatten());
    steps.filter_map(|run| known.get(&run).cloned()).collect()
}
