//! The doors to deletions: request, approve, take back, retry, accept, hold, show, and a look ahead.

use serde_json::Value;
use sqlx::{PgConnection, PgPool};
use tenure_engine::operator::{self, Act};
use tenure_engine::{Client, RunRef, SYSTEM_TENANT, Status, TenantId, forget, inspect};
use uuid::Uuid;

use super::erase::{self, Reach, Trouble};
use super::rules::{self, Action, Planned, Realm};
use super::{DeletionRow, DeletionWorkflow, Input, Signal, Unit, as_eraser, own, store};
use crate::archive::Archive;
use crate::certificate::Record;
use crate::door::{DoorError, as_control, as_tenant};
use crate::export::{self, NewExport, Token};
use crate::keeping::hold;
use crate::product::Sources;
use crate::tenant;

/// The longest reason, in characters.
const MAX_REASON: usize = 2_000;

/// A deletion to ask for.
#[derive(Debug, Clone)]
pub struct NewDeletion {
    /// The tenant.
    pub subject: TenantId,
    /// How long it can be taken back after it was approved, 0 to 30 days.
    pub cooling_off_days: i32,
    /// How long backups are kept, 0 to 3,650 days.
    pub backup_days: i32,
    /// Why, 1 to 2,000 characters.
    pub reason: String,
    /// For so many days after it is ready the link of an export works that the tenant takes along, 1 to
    /// 90; `None` makes none.
    pub export_link_days: Option<u32>,
}

/// What may be told to a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// The second person agrees.
    Approve,
    /// It is taken back.
    Cancel,
    /// What was named is mended, or a hold has changed.
    Retry,
    /// What was found after erasing may stay.
    Accept,
}

/// What a deletion would do.
#[derive(Debug, Clone, Default)]
pub struct Preview {
    /// Each step, with how many rows it would meet.
    pub steps: Vec<(Planned, i64)>,
    /// What stands in the way, in words.
    pub obstacles: Vec<String>,
    /// Live runs, by workflow.
    pub live: Vec<(String, i64)>,
}

fn malformed(field: &'static str, detail: &str) -> DoorError {
    DoorError::Malformed {
        field,
        detail: detail.to_owned(),
    }
}

fn check_reason(reason: &str) -> Result<(), DoorError> {
    match reason.trim().chars().count() {
        1..=MAX_REASON if !reason.contains('\0') => Ok(()),
        _ => Err(malformed(
            "reason",
            "it has 1 to 2,000 characters and no NUL",
        )),
    }
}

fn check(new: &NewDeletion) -> Result<(), DoorError> {
    check_reason(&new.reason)?;
    if !(0..=30).contains(&new.cooling_off_days) {
        return Err(malformed("cooling_off_days", "0 to 30 days"));
    }
    if !(0..=3_650).contains(&new.backup_days) {
        return Err(malformed("backup_days", "0 to 3,650 days"));
    }
    if new.subject == SYSTEM_TENANT {
        return Err(malformed("tenant_id", "the system tenant is not deleted"));
    }
    Ok(())
}

/// Asks for a deletion; nothing is done until another person approves it. An export that the tenant takes
/// along has the link with `token`, and is written when it has cooled off, before the point of no return.
/// `signs` is whether this
/// process has a key for certificates. The transaction must act as the engine, and acts as control
/// afterwards.
///
/// # Errors
/// [`DoorError::NotFound`] for the tenant; [`DoorError::Malformed`]; [`DoorError::Conflict`] when a
/// deletion of the tenant is under way or done, or nothing could sign the certificate.
pub async fn request(
    client: &Client,
    conn: &mut PgConnection,
    new: &NewDeletion,
    signs: bool,
    (author, token): (&str, &Token),
) -> Result<DeletionRow, DoorError> {
    check(new)?;
    if !signs {
        let words = "no key for certificates is configured; set TENURE_CERTIFICATE_KEY";
        return Err(DoorError::Conflict(words.to_owned()));
    }
    let now = tenure_engine::tenant::now(conn, SYSTEM_TENANT).await?;
    let deletion_id = tenure_engine::new_uuid(tenure_engine::ShardId(0));
    let export = match new.export_link_days {
        None => None,
        Some(link_days) => {
            let wanted = NewExport {
                link_days,
                reason: "what the tenant takes along before it is deleted".to_owned(),
            };
            as_tenant(conn, new.subject).await?;
            let asked = export::ask(conn, new.subject, &wanted, token, author).await?;
            sqlx::raw_sql("set local role tenure_engine")
                .execute(&mut *conn)
                .await?;
            Some(asked.input)
        }
    };
    let input = Input {
        deletion_id,
        subject: new.subject,
        due_at: rules::due_at(now),
        export,
    };
    let key = deletion_id.to_string();
    let started = client
        .start::<DeletionWorkflow>(conn, SYSTEM_TENANT, &key, &input)
        .await?;
    as_control(conn).await?;
    tenant::find(conn, new.subject).await?;
    let row = DeletionRow {
        deletion_id,
        subject: new.subject,
        run_id: started.run_id,
        state: "requested".to_owned(),
        detail: None,
        reason: new.reason.trim().to_owned(),
        requested_by: author.to_owned(),
        requested_at: now,
        due_at: input.due_at,
        cooling_off_days: new.cooling_off_days,
        backup_days: new.backup_days,
        approved_by: None,
        approved_at: None,
        cools_until: None,
        final_at: None,
        ended_at: None,
        alerts: 0,
        export_id: input.export.map(|export| export.export_id),
        certificate: None,
    };
    if !store::insert(conn, &row).await? {
        let others = store::list(conn, None, Some(new.subject), None, 1).await?;
        let words = others.first().map_or_else(String::new, |other| {
            let (id, state) = (other.deletion_id, &other.state);
            format!("deletion {id} of this tenant is {state}; there is one at a time")
        });
        return Err(DoorError::Conflict(words));
    }
    Ok(row)
}

/// Refuses what would make new copies of a tenant's rows, or bring some back, while it is shut. The
/// transaction must act as control.
///
/// # Errors
/// [`DoorError::Conflict`] while a deletion of it cools off or goes on, and when it is done.
pub(crate) async fn refuse_shut(
    conn: &mut PgConnection,
    subject: TenantId,
) -> Result<(), DoorError> {
    match store::is_shut(conn, subject).await? {
        true => Err(DoorError::Conflict(format!(
            "tenant {subject} is being deleted; nothing new is started for it"
        ))),
        false => Ok(()),
    }
}

/// Refuses what would take a tenant's rows elsewhere, from the moment on that its deletion is asked for.
/// The transaction must act as control.
///
/// # Errors
/// [`DoorError::Conflict`].
pub(crate) async fn refuse_asked(
    conn: &mut PgConnection,
    subject: TenantId,
) -> Result<(), DoorError> {
    match store::is_asked(conn, subject).await? {
        true => Err(DoorError::Conflict(format!(
            "the deletion of tenant {subject} is asked for; its rows stay where they are until it is \
             cancelled"
        ))),
        false => Ok(()),
    }
}

/// Finds a deletion. The transaction must act as control.
///
/// # Errors
/// [`DoorError::NotFound`].
pub async fn find(conn: &mut PgConnection, deletion: Uuid) -> Result<DeletionRow, DoorError> {
    let found = store::list(conn, Some(deletion), None, None, 1).await?;
    found
        .into_iter()
        .next()
        .ok_or_else(|| DoorError::not_found("deletion", deletion))
}

/// Lists deletions, newest first; `after` is the last one of the page before. The transaction must
/// act as control.
///
/// # Errors
/// When the database does not answer.
pub async fn list(
    conn: &mut PgConnection,
    subject: Option<TenantId>,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<DeletionRow>, DoorError> {
    Ok(store::list(conn, None, subject, after, limit).await?)
}

/// The steps of a deletion, and the chain of what was done. The transaction must act as control.
///
/// # Errors
/// When the database does not answer.
pub async fn progress(
    conn: &mut PgConnection,
    deletion: Uuid,
) -> Result<(Vec<Unit>, Vec<Record>), DoorError> {
    let units = store::list_units(conn, deletion).await?;
    Ok((units, store::list_records(conn, deletion).await?))
}

/// The signed certificate. The transaction must act as control.
///
/// # Errors
/// [`DoorError::NotFound`]; [`DoorError::Conflict`] while there is none.
pub async fn certificate(conn: &mut PgConnection, deletion: Uuid) -> Result<Value, DoorError> {
    let row = find(conn, deletion).await?;
    let none = || DoorError::Conflict(format!("deletion {deletion} is {}", row.state));
    row.certificate.clone().ok_or_else(none)
}

/// Tells a deletion something. The transaction must act as control, and acts as the engine afterwards.
///
/// # Errors
/// [`DoorError::NotFound`]; [`DoorError::Malformed`] for a bad reason; [`DoorError::Conflict`] when it
/// makes no sense where the deletion is, or the second person is the first.
pub async fn tell(
    client: &Client,
    conn: &mut PgConnection,
    deletion: Uuid,
    verb: Verb,
    (by, reason): (&str, &str),
) -> Result<DeletionRow, DoorError> {
    check_reason(reason)?;
    let row = find(conn, deletion).await?;
    if verb == Verb::Retry && try_again(client, conn, &row, (by, reason)).await? {
        return Ok(row);
    }
    if let Some(why_not) = refusal(&row, verb, by) {
        return Err(DoorError::Conflict(why_not));
    }
    let (by, reason) = (by.to_owned(), reason.trim().to_owned());
    let signal = match verb {
        Verb::Approve => Signal::Approve { by },
        Verb::Cancel => Signal::Cancel { by, reason },
        Verb::Retry => Signal::Retry { by },
        Verb::Accept => Signal::Accept { by, reason },
    };
    let id = tenure_engine::random_uuid().to_string();
    let run = RunRef::Id(row.run_id);
    sqlx::raw_sql("set local role tenure_engine")
        .execute(&mut *conn)
        .await?;
    client
        .signal::<DeletionWorkflow>(conn, SYSTEM_TENANT, run, &id, &signal)
        .await?;
    Ok(row)
}

/// Lets the run of a deletion try again that is stuck, so that its state says nothing of it; whether it
/// was. The transaction acts as control afterwards.
async fn try_again(
    client: &Client,
    conn: &mut PgConnection,
    row: &DeletionRow,
    (by, reason): (&str, &str),
) -> Result<bool, DoorError> {
    sqlx::raw_sql("set local role tenure_engine")
        .execute(&mut *conn)
        .await?;
    let registry = client.registry();
    let found = inspect::detail(conn, registry, row.run_id).await?;
    let is_stuck = found.summary.status == Status::Stuck;
    if is_stuck {
        let act = Act {
            actor: by.to_owned(),
            role: "operator".to_owned(),
            reason: reason.to_owned(),
            revision: found.summary.revision(),
        };
        operator::intervene(conn, registry, row.run_id, &operator::Verb::Retry, &act).await?;
    }
    as_control(conn).await?;
    Ok(is_stuck)
}

/// Why a verb makes no sense, in words.
fn refusal(row: &DeletionRow, verb: Verb, by: &str) -> Option<String> {
    let state = row.state.as_str();
    let is_over = row.ended_at.is_some();
    match verb {
        _ if is_over => Some(format!("it is {state}")),
        Verb::Approve if state != "requested" => {
            Some(format!("it is {state}, and waits for no approval"))
        }
        Verb::Approve if row.requested_by == by => Some(format!(
            "{by} asked for it; a second person has to approve it"
        )),
        Verb::Cancel if row.final_at.is_some() => {
            Some(format!("it is {state}: the point of no return has passed"))
        }
        Verb::Retry if !matches!(state, "failed_step" | "held") => Some(format!(
            "it is {state}: nothing has failed, and nothing holds it"
        )),
        Verb::Accept if state != "failed_step" => Some(format!(
            "it is {state}: nothing was found that could be accepted"
        )),
        Verb::Accept
            if !row
                .detail
                .as_deref()
                .is_some_and(|it| it.starts_with("leftovers")) =>
        {
            Some("what failed is no leftover: mend it, then retry".to_owned())
        }
        Verb::Approve | Verb::Cancel | Verb::Retry | Verb::Accept => None,
    }
}

/// What a deletion of a tenant would do, and what stands in its way. Changes nothing.
///
/// # Errors
/// [`DoorError::NotFound`].
pub async fn preview(
    engine: &PgPool,
    products: &Sources,
    archive: Option<&Archive>,
    subject: TenantId,
) -> Result<Preview, DoorError> {
    let reach = Reach {
        engine,
        products,
        archive,
    };
    let mut preview = Preview::default();
    let mut tx = tenure_engine::begin(engine).await?;
    as_control(&mut tx).await?;
    tenant::find(&mut tx, subject).await?;
    tx.rollback().await?;
    match product_steps(reach, subject).await {
        Ok((steps, obstacles)) => {
            preview.steps = steps;
            preview.obstacles.extend(obstacles);
        }
        Err(Trouble::Named { code, message }) => {
            preview.obstacles.push(format!("{code}: {message}"));
        }
        Err(Trouble::Held(reason)) => preview.obstacles.push(reason),
        Err(Trouble::Passing(error)) => preview.obstacles.push(error.to_string()),
    }
    let mut tx = tenure_engine::begin(engine).await?;
    preview.live = forget::live(&mut tx, subject).await?;
    if let Some(reason) = forget::held(&mut tx, subject).await? {
        preview
            .obstacles
            .push(format!("a hold in law stands: {reason}"));
    }
    let counts = forget::count(&mut tx, subject).await?;
    as_tenant(&mut tx, subject).await?;
    if let Some(standing) = hold::is_held(&mut tx, subject).await? {
        let case = standing.case;
        preview
            .obstacles
            .push(format!("a hold in law stands: {case}"));
    }
    as_eraser(&mut tx, subject).await?;
    for planned in rules::plan_tenure() {
        if planned.realm == Realm::Tenure {
            let rows = own_rows(&mut tx, &planned.name, subject).await?;
            preview.steps.push((planned, rows));
        }
    }
    let engine_steps = counts.into_iter().map(|(name, rows)| {
        let planned = Planned {
            realm: Realm::Engine,
            name,
            action: Action::Delete,
            basis: None,
        };
        (planned, rows)
    });
    preview.steps.extend(engine_steps);
    Ok(preview)
}

async fn own_rows(
    conn: &mut PgConnection,
    name: &str,
    subject: TenantId,
) -> Result<i64, DoorError> {
    let Some(table) = own::TABLES.iter().find(|table| table.name == name) else {
        return Ok(0);
    };
    let rows = erase::store::Rows {
        table: format!("app.{}", table.name),
        own: table.own.to_owned(),
    };
    Ok(erase::store::count(conn, &rows, Some(subject.0)).await?)
}

async fn product_steps(
    reach: Reach<'_>,
    subject: TenantId,
) -> Result<(Vec<(Planned, i64)>, Vec<String>), Trouble> {
    let Some(place) = erase::find_place(reach, subject).await? else {
        return Ok((Vec::new(), Vec::new()));
    };
    let ground = erase::open(reach, subject, &place, None).await?;
    let counts = ground.counts().await?;
    let plan = rules::plan_product(&ground.map.map, &ground.snapshot).into_iter();
    let steps = plan.map(|planned| {
        let rows = counts.get(&planned.name).copied().unwrap_or(0);
        (planned, rows)
    });
    let findings = ground.findings();
    let told = findings
        .iter()
        .map(|one| format!("{}: {}", one.table, one.detail));
    let mut obstacles: Vec<String> = told.collect();
    match ground.refuse_what_crawls().await {
        Ok(()) => {}
        Err(Trouble::Named { code, message }) => obstacles.push(format!("{code}: {message}")),
        Err(trouble) => return Err(trouble),
    }
    Ok((steps.collect(), obstacles))
}
