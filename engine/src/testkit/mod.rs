//! For the tests of people who write workflows: a play on a real database, and the whole fault
//! matrix in one call.
//!
//! A [`Play`] is an engine of its own with one tenant: it starts runs, sends signals, moves the
//! engine's time, fails a step at will, and works until nothing is left to do.
//!
//! [`fault_matrix`] plays a script once undisturbed and writes down every moment at which something
//! could go wrong: before each step's effect (which is after the record of the one before it) and before
//! what was drawn for it is written, between the effect and its record, before each settlement (when the
//! last step's record is there). Then it plays the script again for each of them and breaks it there: the
//! worker crashes and another takes over once the lease has run out; the step fails once; the
//! signal comes twice; two signals whose order does not matter change places. What the script finds in
//! the end must be what it found undisturbed.
//!
//! All plays of a matrix begin at the same instant of the engine's time, the next day at nine in the morning
//! (UTC) or a little later: what hangs on the day, such as the price of the rest of a month, is the same in
//! each, also when a midnight passes while they are played.
//!
//! Where several runs are in flight the moments may come in another order from play to play; each
//! number is broken at all the same.

mod faults;
mod play;

use std::collections::BTreeSet;
use std::fmt::{self, Debug};
use std::sync::Arc;

use sqlx::postgres::PgConnectOptions;

pub use faults::Crash;
pub(crate) use faults::{Faults, Moment};
pub use play::{Play, PlayError};

use crate::error::with_causes;
use crate::registry::RegistryBuilder;

/// What one play needs.
pub struct Scene<D> {
    /// A migrated database that nobody else works on.
    pub database: PgConnectOptions,
    /// The workflows.
    pub workflows: RegistryBuilder,
    /// The outside that they reach, for the script to ask what was done to it.
    pub outside: D,
}

/// What came of a fault matrix.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Report {
    /// How often the script was played, the undisturbed play included.
    pub plays: usize,
    /// What the script found when nothing went wrong.
    pub expected: String,
    /// The workflows that had a visit when nothing went wrong, children among them: each moment of these
    /// was broken.
    pub workflows: BTreeSet<String>,
    /// The faults after which it found something else.
    pub broken: Vec<Broken>,
}

/// A fault that a workflow does not bear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// What was broken, and where.
    pub fault: String,
    /// What the script found then, or the error that it ended with.
    pub found: String,
}

impl Report {
    /// Whether every fault was borne.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.broken.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (plays, broken) = (self.plays, self.broken.len());
        writeln!(f, "{broken} of {plays} plays ended otherwise")?;
        writeln!(f, "undisturbed: {}", self.expected)?;
        for one in &self.broken {
            writeln!(f, "{}: {}", one.fault, one.found)?;
        }
        Ok(())
    }
}

/// Plays a script undisturbed, then once for every fault at every moment of it.
///
/// `set` makes the scene of one play, and `script` plays and says what it found. That should hold
/// what matters to the business (outputs, rows, what the outside did once for each key) and no times
/// or ids, which differ between plays.
///
/// # Errors
/// When the undisturbed play fails. A play that fails under a fault is part of the report.
pub async fn fault_matrix<D, T: PartialEq + Debug>(
    set: impl AsyncFn() -> Scene<D>,
    script: impl AsyncFn(&mut Play, &D) -> Result<T, PlayError>,
) -> Result<Report, PlayError> {
    let undisturbed = Arc::new(Faults::default());
    let scene = set().await;
    let mut begins_at = None;
    let stage = (scene.database, scene.workflows);
    let mut play = Play::on_stage(stage, undisturbed.clone(), &mut begins_at).await?;
    let expected = script(&mut play, &scene.outside).await?;
    play.close().await;
    let mut report = Report {
        plays: 1,
        expected: format!("{expected:?}"),
        workflows: undisturbed.workflows(),
        broken: Vec::new(),
    };
    for (fault, name) in undisturbed.possible() {
        let scene = set().await;
        let faults = Arc::new(Faults::planned(fault));
        let stage = (scene.database, scene.workflows);
        let mut play = Play::on_stage(stage, faults, &mut begins_at).await?;
        let found = match script(&mut play, &scene.outside).await {
            Ok(found) if found == expected => None,
            Ok(found) => Some(format!("{found:?}")),
            Err(error) => Some(with_causes(&*error)),
        };
        play.close().await;
        report.plays += 1;
        let broken = found.map(|found| Broken { fault: name, found });
        report.broken.extend(broken);
    }
    Ok(report)
}
