//! Archives of a deleted tenant that the law keeps: which, for how long, and their end.
//!
//! What an archive holds was taken out of the product before its time at law was over, and the tenant's
//! deletion does not end that time. So an archive stays as long as the retention policy's
//! `legal_min_days` say of its table's class; where the policy names none, as long as the data map keeps
//! the table. What was archived to be deleted (a restore window) goes, once the law lets it.
//!
//! The days of the law count from what a row's age says. An archive holds rows that were `after_days`
//! old when it was made, or older: counted from that, the youngest row's time is over when the
//! archive's is.
//!
//! A run of the system tenant waits for the end of each and destroys it, holds permitting.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::PgConnection;
use tenure_engine::{
    Context, Event, Guard, GuardNeed, Reception, StepError, TenantId, Transition, Workflow,
};
use uuid::Uuid;

use super::erase::{Reach, Trouble};
use super::rules::basis_of;
use super::store::{self, Archived};
use super::{Job, as_eraser};
use crate::archive::{Archive, ArchiveError};
use crate::data_map::{DataMap, TableRule};
use crate::door::as_control;
use crate::environment::Environment;
use crate::keeping::hold::{self, Scope};
use crate::keeping::policy::{self, Policy};
use crate::keeping::rows;
use crate::keeping::sweep::{POLICY, door_error};
use crate::product::{ProductError, maps};

/// An archive that a hold keeps is looked at again after this long.
const HELD_EVERY: TimeDelta = TimeDelta::days(1);

// Rules.

/// Why an archive outlives its tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stay {
    /// The law.
    basis: String,
    /// Until when; `None` where it names no end.
    until: Option<DateTime<Utc>>,
}

/// What is known of an archive's table.
struct Table<'a> {
    rule: &'a TableRule,
    /// The newest policy of the source, if there is one.
    policy: Option<&'a Policy>,
    /// The fewest days after which any policy let rows of it be archived.
    after_days: u32,
}

/// Whether the law keeps an archive. Pure.
fn stays(archive: &Archived, table: &Table<'_>, now: DateTime<Utc>) -> Option<Stay> {
    let class = table
        .policy
        .and_then(|policy| policy.classes.get(&table.rule.class));
    let end = |days: u32| {
        let left = TimeDelta::days(i64::from(days) - i64::from(table.after_days));
        archive.made_at + left
    };
    let by_map = || basis_of(table.rule);
    if let Some(class) = class
        && let Some(least) = class.legal_min_days
    {
        let until = end(least);
        return (until > now).then(|| Stay {
            basis: class.basis.clone().unwrap_or_else(by_map),
            until: Some(until),
        });
    }
    let is_kept = table.rule.is_kept() && archive.destroy_at.is_none();
    let most = class.and_then(|class| class.legal_max_days).map(end);
    (is_kept && most.is_none_or(|most| most > now)).then(|| Stay {
        basis: by_map(),
        until: most,
    })
}

// Looking.

/// Says of each archive whether the law keeps it.
pub(super) async fn judge(
    reach: Reach<'_>,
    subject: TenantId,
    registered: Vec<Archived>,
) -> Result<Vec<(Archived, Option<Stay>)>, Trouble> {
    if registered.is_empty() {
        return Ok(Vec::new());
    }
    let archive = reach.archive.ok_or(ArchiveError::NotConfigured)?;
    let mut tx = tenure_engine::begin(reach.engine).await?;
    as_control(&mut tx).await?;
    let now = rows::find_now(&mut tx).await?;
    let mut maps: BTreeMap<(String, i32), Source> = BTreeMap::new();
    let mut judged = Vec::new();
    for one in registered {
        let Some(place) = origin(archive, subject, &one).await? else {
            judged.push((one, None));
            continue;
        };
        if !maps.contains_key(&place) {
            let source = Source::read(&mut tx, &place).await?;
            maps.insert(place.clone(), source);
        }
        let stay = maps
            .get(&place)
            .and_then(|source| source.table(&one.table))
            .and_then(|table| stays(&one, &table, now));
        judged.push((one, stay));
    }
    Ok(judged)
}

/// The source and the version of its map that an archive was made by, as its manifest says; `None` where
/// there is no archive any more.
async fn origin(
    archive: &Archive,
    subject: TenantId,
    one: &Archived,
) -> Result<Option<(String, i32)>, Trouble> {
    let place = (subject.0, one.archive_id);
    let manifest = match archive.read_manifest(place, &one.manifest_sha256).await {
        Err(ArchiveError::NotFound(_)) => return Ok(None),
        found => found?,
    };
    let told = manifest.data_map.rsplit_once(" version ");
    let told = told.and_then(|(source, version)| Some((source.to_owned(), version.parse().ok()?)));
    let unread = || ArchiveError::Damaged(format!("the manifest of {}", one.archive_id));
    Ok(Some(told.ok_or_else(unread)?))
}

/// A source as an archive knew it, and as it is now.
struct Source {
    then: DataMap,
    now: DataMap,
    policies: Vec<Policy>,
}

impl Source {
    async fn read(
        conn: &mut PgConnection,
        (source, version): &(String, i32),
    ) -> Result<Self, Trouble> {
        let then = maps::find(conn, source, *version).await?;
        let now = maps::current(conn, source).await?;
        let mut policies = Vec::new();
        let mut newest = rows::find_policy(conn, source, None).await?;
        while let Some(row) = newest {
            let policy: Result<Policy, _> = serde_json::from_value(row.document);
            let policy = policy.map_err(|error| ProductError::DoesNotFit(error.to_string()))?;
            policies.push(policy);
            newest = match row.version {
                ..=1 => None,
                version => rows::find_policy(conn, source, Some(version - 1)).await?,
            };
        }
        Ok(Self {
            then: then.map.clone(),
            now: now.map.clone(),
            policies,
        })
    }

    /// What is known of a table: by the newest map, and by the one of the archive if that names it no
    /// more.
    fn table(&self, name: &str) -> Option<Table<'_>> {
        let found = self.now.tables.get(name);
        let rule = found.or_else(|| self.then.tables.get(name))?;
        let days = self.policies.iter();
        let days = days.filter_map(|policy| policy::after_days(policy, name, &rule.class));
        Some(Table {
            rule,
            policy: self.policies.first(),
            after_days: days.min().unwrap_or(0),
        })
    }
}

/// Lets archives outlive the tenant, and binds which, why and until when to the chain. The transaction
/// must act as control, for the tenant.
pub(super) async fn keep(
    conn: &mut PgConnection,
    job: &Job,
    judged: &[(Archived, Option<Stay>)],
) -> Result<(), Trouble> {
    let mut groups: BTreeMap<(&str, &str), Vec<(&Archived, &Stay)>> = BTreeMap::new();
    for (one, stay) in judged {
        let Some(stay) = stay else {
            continue;
        };
        store::keep_archive(conn, job.subject, one.archive_id, &stay.basis, stay.until).await?;
        let group = groups.entry((&one.table, &stay.basis)).or_default();
        group.push((one, stay));
    }
    for ((table, basis), group) in groups {
        let ends = group.iter().map(|(_, stay)| stay.until);
        let last = ends.reduce(|one, other| Some(one?.max(other?))).flatten();
        let rows: i64 = group.iter().map(|(one, _)| one.rows).sum();
        let record = json!({
            "kind": "archives_kept",
            "table": table,
            "archives": group.len(),
            "rows": rows,
            "basis": basis,
            "until": last,
            "note": "rows lie there as they were when they were archived",
        });
        store::append(conn, job.deletion_id, &record).await?;
    }
    Ok(())
}

// Input and state.

/// Whose archives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// The tenant that was deleted.
    pub subject: TenantId,
}

/// Where it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum State {
    /// The next one's time is waited for.
    Keeping {
        /// Whose archives.
        of: Input,
        /// How many were destroyed.
        destroyed: u64,
        /// When it is looked next, where a hold keeps what is due.
        #[serde(default)]
        again: Option<DateTime<Utc>>,
    },
}

/// It is told nothing: their time at law is what it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Signal {}

/// What it leaves behind.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Output {
    /// Archives that were destroyed when their time was over.
    pub destroyed: u64,
}

/// The workflow.
pub struct KeptArchivesWorkflow {
    environment: Environment,
}

impl KeptArchivesWorkflow {
    /// With the outside that it reaches.
    #[must_use]
    pub fn new(environment: &Environment) -> Self {
        Self {
            environment: environment.clone(),
        }
    }
}

/// What ends the wait.
const KEPT: &str =
    "the end of what the law keeps, on the days that the deletion's certificate names";

const LOOK: &str = "look";
const NEXT: &str = "find-next";
const CONDEMN: &str = "condemn";
const DESTROY: &str = "destroy";

// Handle.

impl Workflow for KeptArchivesWorkflow {
    const NAME: &'static str = "kept-archives";
    const VERSION: i32 = 1;
    const GUARD: Guard = Guard {
        start: GuardNeed::Door("the deletion of a tenant"),
        verbs: GuardNeed::Door(KEPT),
        // Archives that nobody waits for would be kept for ever.
        ends: GuardNeed::Door(KEPT),
        ..Guard::OPEN
    };
    type Input = Input;
    type State = State;
    type Signal = Signal;
    type Output = Output;

    fn start(&self, of: Input) -> State {
        State::Keeping {
            of,
            destroyed: 0,
            again: None,
        }
    }

    fn receive(&self, _state: &State, signal: &Signal) -> Reception {
        match *signal {}
    }

    async fn handle(
        &self,
        cx: &Context,
        state: State,
        event: Event<Signal>,
    ) -> Result<Transition<Self>, StepError> {
        match (state, event) {
            (
                State::Keeping {
                    of,
                    destroyed,
                    again,
                },
                Event::Entered,
            ) => self.wait(cx, of, destroyed, again).await,
            (State::Keeping { of, destroyed, .. }, Event::Deadline(_)) => {
                self.end_some(cx, of, destroyed).await
            }
            // Whoever ends it would leave archives that nobody destroys.
            (
                state,
                Event::CancelRequested
                | Event::Signal(_)
                | Event::RunFinished(_)
                | Event::Joined(_)
                | Event::RunDeadline,
            ) => Ok(Transition::stay(state)),
        }
    }
}

// Steps.

impl KeptArchivesWorkflow {
    async fn wait(
        &self,
        cx: &Context,
        of: Input,
        destroyed: u64,
        again: Option<DateTime<Utc>>,
    ) -> Result<Transition<Self>, StepError> {
        let next: Option<DateTime<Utc>> = cx
            .step(NEXT, &POLICY, async |_| {
                let mut tx = tenure_engine::begin(self.environment.engine()).await?;
                as_eraser(&mut tx, of.subject).await?;
                Ok(store::find_kept_until(&mut tx, of.subject).await?)
            })
            .await?;
        let Some(next) = next else {
            return Ok(Transition::complete(Output { destroyed }));
        };
        let at = again.map_or(next, |again| again.max(next));
        let state = State::Keeping {
            of,
            destroyed,
            again,
        };
        Ok(Transition::stay(state).at(LOOK, at))
    }

    /// Destroys what is due. It is condemned first: from that commit on there is no way back.
    async fn end_some(
        &self,
        cx: &Context,
        of: Input,
        destroyed: u64,
    ) -> Result<Transition<Self>, StepError> {
        let (subject, now) = (of.subject, cx.now());
        let gone: Vec<Uuid> = cx
            .step(CONDEMN, &POLICY, async |_| self.condemn(subject, now).await)
            .await?;
        for archive_id in &gone {
            let destroy = async |_| {
                let archive = self.environment.archive().map_err(|error| error.step())?;
                let destroyed = archive.destroy((subject.0, *archive_id)).await;
                destroyed.map_err(|error| error.step())
            };
            cx.step(DESTROY, &POLICY, destroy).await?;
        }
        Ok(Transition::go(State::Keeping {
            of,
            destroyed: destroyed + gone.len() as u64,
            again: Some(now + HELD_EVERY),
        }))
    }

    async fn condemn(&self, subject: TenantId, now: DateTime<Utc>) -> Result<Vec<Uuid>, StepError> {
        let mut tx = tenure_engine::begin_for(self.environment.engine(), subject).await?;
        let turn = hold::share_turn(&mut tx, subject).await;
        turn.map_err(door_error)?;
        let holds = hold::standing(&mut tx, subject).await.map_err(door_error)?;
        if holds.iter().any(|hold| hold.scope == Scope::Tenant) {
            return Ok(Vec::new());
        }
        let held = holds.iter().filter_map(|hold| hold.scope.table());
        let held: Vec<String> = held.map(|table| hold::bare(table).to_owned()).collect();
        as_eraser(&mut tx, subject).await?;
        let gone = store::condemn_kept(&mut tx, subject, now, &held).await?;
        tx.commit().await?;
        Ok(gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_map;

    const MAP: &str = r#"
version = 1
model = "shared"
schemas = ["work"]

[tables."work.invoice"]
tenant = "org_id"
class = "books"
order = 1
basis = "§ 14b UStG"
[tables."work.invoice".columns]
org_id = { kind = "operational", erase = "keep" }

[tables."work.comment"]
tenant = "org_id"
class = "content"
order = 2
[tables."work.comment".columns]
org_id = { kind = "operational", erase = "delete" }
"#;

    #[test]
    fn an_archive_stays_as_long_as_its_youngest_row_has_to_by_the_policy_or_else_by_the_map() {
        let map = data_map::parse(MAP).unwrap();
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let archive = |destroy_at: Option<&str>| Archived {
            archive_id: Uuid::nil(),
            table: String::new(),
            manifest_sha256: String::new(),
            rows: 1,
            made_at: at("2027-01-01T00:00:00Z"),
            destroy_at: destroy_at.map(at),
        };
        let policy = |class: serde_json::Value| -> Policy {
            let classes = json!({ "books": class, "content": { "action": "keep" } });
            serde_json::from_value(json!({ "classes": classes })).unwrap()
        };
        let stays = |name: &str, policy: &Policy, archive: &Archived, now: &str| {
            let table = Table {
                rule: &map.tables[name],
                policy: Some(policy),
                after_days: 1_100,
            };
            stays(archive, &table, at(now))
        };
        let law = policy(json!({
            "action": "archive", "after_days": 1_100, "age": "issued_on", "legal_min_days": 3_650,
            "basis": "§ 147 AO",
        }));
        let whole = archive(None);
        let stay = stays("work.invoice", &law, &whole, "2027-02-01T00:00:00Z").unwrap();
        assert_eq!(stay.basis, "§ 147 AO");
        assert_eq!(stay.until, Some(at("2033-12-25T00:00:00Z")), "2,550 days");
        assert_eq!(
            stays("work.invoice", &law, &whole, "2033-12-25T00:00:00Z"),
            None
        );

        let silent =
            policy(json!({ "action": "archive", "after_days": 1_100, "age": "issued_on" }));
        let stay = stays("work.invoice", &silent, &whole, "2050-01-01T00:00:00Z").unwrap();
        assert_eq!((stay.basis.as_str(), stay.until), ("§ 14b UStG", None));
        let window = archive(Some("2027-01-31T00:00:00Z"));
        assert_eq!(
            stays("work.invoice", &silent, &window, "2027-01-02T00:00:00Z"),
            None
        );
        assert_eq!(
            stays("work.comment", &silent, &whole, "2027-01-02T00:00:00Z"),
            None
        );
    }
}
