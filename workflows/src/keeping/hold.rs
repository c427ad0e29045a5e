//! Holds on a product's rows: what a case at law keeps from being deleted, whatever a policy says.
//!
//! A hold is on all that is a tenant's, on its rows of one table, or on those that have certain values
//! in certain columns: one row by its key, or a matter by what its rows share. The engine's legal hold
//! on a tenant (`tenure retention hold`) counts here, too, and so does one of kind `legal` on its
//! subscriptions (`tenure tenant hold`); one on a run does not.
//!
//! A table is held by its bare name, which is the same in each model: a tenant that moves from shared
//! tables to a schema of its own takes its holds along. A hold that could hold nothing is not placed: the
//! map has to know its table and columns, and its values are written as the columns' types print them, so
//! that what is compared is what rows have.
//!
//! Whoever deletes shares the lock of the tenant's row in `app.keeping_turn` while it does
//! ([`share_turn`]); who places a hold takes it. So a delete under way ends first, and whatever is
//! deleted after it sees the hold: when [`place`] has answered and is committed, it holds.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sqlx::PgConnection;
use tenure_engine::TenantId;
use tenure_engine::retention::{self, HoldFilter};
use uuid::Uuid;

use super::{held, rows};
use crate::data_map::DataMap;
use crate::door::{DoorError, as_control, as_tenant};
use crate::product::{self, Site, Sources, maps};
use crate::tenant;

/// The longest reason, in characters.
pub(crate) const MAX_REASON: usize = 2_000;
/// The longest name of a case, in characters.
const MAX_CASE: usize = 200;
/// The most columns that a hold compares.
const MAX_COLUMNS: usize = 16;
/// The most holds that are looked at of a tenant; the door refuses more.
pub(crate) const MAX_STANDING: i64 = 1_000;

/// What a hold is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// All that is the tenant's.
    Tenant,
    /// All of the tenant's rows in a table.
    Table(String),
    /// The rows of a table that have these values.
    Rows {
        /// As the data map names it.
        table: String,
        /// Columns and values, as JSON.
        matches: Map<String, Value>,
    },
}

impl Scope {
    /// Puts together what a caller gave.
    ///
    /// # Errors
    /// A sentence that says what does not fit.
    pub fn of(table: Option<String>, matches: Option<Map<String, Value>>) -> Result<Self, String> {
        match (table, matches) {
            (None, None) => Ok(Self::Tenant),
            (Some(table), None) => Ok(Self::Table(table)),
            (Some(table), Some(matches)) => Ok(Self::Rows { table, matches }),
            (None, Some(_)) => Err("name the table that the values are in".to_owned()),
        }
    }

    /// The table; `None` when all that is the tenant's is held.
    #[must_use]
    pub fn table(&self) -> Option<&str> {
        match self {
            Self::Tenant => None,
            Self::Table(table) | Self::Rows { table, .. } => Some(table),
        }
    }

    /// Whether rows of a table are held, all or some of them; whatever model the table is named by.
    #[must_use]
    pub fn is_on(&self, table: &str) -> bool {
        self.table().is_some_and(|held| bare(held) == bare(table))
    }

    /// The values that held rows have.
    #[must_use]
    pub const fn matches(&self) -> Option<&Map<String, Value>> {
        match self {
            Self::Tenant | Self::Table(_) => None,
            Self::Rows { matches, .. } => Some(matches),
        }
    }
}

/// A table's name without its schema.
pub(crate) fn bare(table: &str) -> &str {
    table.rsplit('.').next().unwrap_or(table)
}

/// A hold.
#[derive(Debug, Clone, PartialEq)]
pub struct DataHold {
    /// Identity.
    pub hold_id: Uuid,
    /// The tenant.
    pub tenant_id: TenantId,
    /// What it is on.
    pub scope: Scope,
    /// The case that it is for.
    pub case: String,
    /// Why, in the author's words.
    pub reason: String,
    /// Who placed it.
    pub author: String,
    /// When, in real time.
    pub placed_at: DateTime<Utc>,
    /// Until when it counts, exclusive, in real time; `None` until it is lifted.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was lifted, by whom and why.
    pub lifted: Option<(DateTime<Utc>, String, String)>,
}

/// A hold to place.
#[derive(Debug, Clone)]
pub struct NewDataHold {
    /// What it is on.
    pub scope: Scope,
    /// The case that it is for, 1 to 200 characters.
    pub case: String,
    /// Why, 1 to 2,000 characters.
    pub reason: String,
    /// Until when it counts; until it is lifted when none is given.
    pub expires_at: Option<DateTime<Utc>>,
}

/// A hold that counts now, of whichever kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Identity.
    pub hold_id: Uuid,
    /// What it is on.
    pub scope: Scope,
    /// The case, or the reason where no case was named.
    pub case: String,
}

/// Places a hold; how many rows it holds now, where it names a table and that can be told within seconds.
/// The transaction must act as the tenant.
///
/// # Errors
/// [`DoorError::NotFound`] for the tenant; [`DoorError::Malformed`], also for a table, a column or a value
/// that the tenant's rows cannot have; [`DoorError::Conflict`] when the tenant has a thousand holds that
/// count, or no place; [`DoorError::Product`].
pub async fn place(
    conn: &mut PgConnection,
    products: &Sources,
    tenant_id: TenantId,
    new: &NewDataHold,
    author: &str,
) -> Result<(DataHold, Option<i64>), DoorError> {
    let tenant = tenant::find(conn, tenant_id).await?;
    let now = rows::take_turn(conn, tenant_id, tenant.shard_id).await?;
    check(new, now)?;
    let standing = rows::list_standing(conn, tenant_id, tenant.shard_id, MAX_STANDING).await?;
    if standing.len() as i64 >= MAX_STANDING {
        return Err(DoorError::Conflict(
            "a thousand holds count for this tenant; hold the table, or all that is the tenant's"
                .to_owned(),
        ));
    }
    let (scope, held) = match new.scope.table() {
        None => (Scope::Tenant, None),
        Some(table) => {
            let site = site(conn, products, tenant_id).await?;
            let found = held::find(&site, table, new.scope.matches()).await?;
            (found.scope, found.rows)
        }
    };
    let hold = DataHold {
        hold_id: tenure_engine::new_uuid(tenant.shard_id),
        tenant_id,
        scope,
        case: new.case.trim().to_owned(),
        reason: new.reason.trim().to_owned(),
        author: author.to_owned(),
        placed_at: now,
        expires_at: new.expires_at,
        lifted: None,
    };
    rows::insert_hold(conn, tenant.shard_id, &hold).await?;
    Ok((hold, held))
}

/// The tenant's place under the newest map. The transaction acts as the tenant again afterwards.
async fn site(
    conn: &mut PgConnection,
    products: &Sources,
    tenant_id: TenantId,
) -> Result<Site, DoorError> {
    as_control(conn).await?;
    let placement = match product::door::find(conn, tenant_id).await {
        Err(DoorError::NotFound { .. }) => {
            let words = "the tenant has no place in the product, so no table of it is known; hold all \
                         that is the tenant's";
            return Err(DoorError::Conflict(words.to_owned()));
        }
        found => found?,
    };
    let map = maps::current(conn, &placement.place.source).await?;
    as_tenant(conn, tenant_id).await?;
    Ok(Site::open(products, &placement, &map).await?)
}

/// Refuses a move to where a hold that counts would hold nothing. The transaction must act as the
/// tenant.
///
/// # Errors
/// [`DoorError::Conflict`].
pub(crate) async fn refuse_loss(
    conn: &mut PgConnection,
    tenant_id: TenantId,
    to: &DataMap,
) -> Result<(), DoorError> {
    for hold in standing(conn, tenant_id).await? {
        let Some(table) = hold.scope.table() else {
            continue;
        };
        let known = held::known(to, table, hold.scope.matches());
        known.map_err(|why| {
            let (id, case) = (hold.hold_id, &hold.case);
            DoorError::Conflict(format!(
                "data hold {id} ({case}) would hold nothing there: {why}; lift it, or place another"
            ))
        })?;
    }
    Ok(())
}

fn check(new: &NewDataHold, now: DateTime<Utc>) -> Result<(), DoorError> {
    check_text("reason", &new.reason, MAX_REASON)?;
    check_text("case", &new.case, MAX_CASE)?;
    if let Some(table) = new.scope.table() {
        check_text("table", table, MAX_CASE)?;
    }
    if let Some(matches) = new.scope.matches() {
        let plain = |value: &Value| !matches!(value, Value::Array(_) | Value::Object(_));
        if matches.is_empty() || matches.len() > MAX_COLUMNS || !matches.values().all(plain) {
            return Err(malformed(
                "match",
                "one to sixteen columns, each with a plain value as its row has it in JSON",
            ));
        }
    }
    if new.expires_at.is_some_and(|expires| expires <= now) {
        return Err(malformed("expires_at", "it lies after now"));
    }
    Ok(())
}

pub(crate) fn check_text(field: &'static str, text: &str, most: usize) -> Result<(), DoorError> {
    let length = text.trim().chars().count();
    if length == 0 || length > most || text.contains('\0') {
        return Err(malformed(
            field,
            &format!("it has 1 to {most} characters and no NUL"),
        ));
    }
    Ok(())
}

pub(crate) fn malformed(field: &'static str, detail: &str) -> DoorError {
    DoorError::Malformed {
        field,
        detail: detail.to_owned(),
    }
}

/// Lifts a hold. The transaction must act as the tenant.
///
/// # Errors
/// [`DoorError::NotFound`]; [`DoorError::Conflict`] when it was lifted before;
/// [`DoorError::Malformed`] for a bad reason.
pub async fn lift(
    conn: &mut PgConnection,
    tenant_id: TenantId,
    hold_id: Uuid,
    author: &str,
    reason: &str,
) -> Result<DataHold, DoorError> {
    check_text("reason", reason, MAX_REASON)?;
    let shard = tenant::find(conn, tenant_id).await?.shard_id;
    let lifted = rows::lift_hold(conn, hold_id, shard, author, reason.trim()).await?;
    let found = rows::list_holds(conn, tenant_id, shard, true, Some(hold_id)).await?;
    let hold = found.into_iter().next();
    let hold = hold.ok_or_else(|| DoorError::not_found("data hold", hold_id))?;
    if !lifted {
        let by = hold.lifted.map(|(_, by, _)| by).unwrap_or_default();
        return Err(DoorError::Conflict(format!(
            "{by} lifted data hold {hold_id} before"
        )));
    }
    Ok(hold)
}

/// Lists a tenant's holds, newest first; with `past` those that were lifted or have expired, too. The
/// transaction must act as the tenant.
///
/// # Errors
/// [`DoorError::NotFound`] for the tenant.
pub async fn list(
    conn: &mut PgConnection,
    tenant_id: TenantId,
    past: bool,
) -> Result<Vec<DataHold>, DoorError> {
    let shard = tenant::find(conn, tenant_id).await?.shard_id;
    Ok(rows::list_holds(conn, tenant_id, shard, past, None).await?)
}

/// The holds that count now on a tenant's data, those in law on the tenant and its subscriptions
/// included. The transaction
/// must act as the tenant.
///
/// # Errors
/// When the database does not answer.
pub async fn standing(
    conn: &mut PgConnection,
    tenant_id: TenantId,
) -> Result<Vec<Standing>, DoorError> {
    let shard = tenant::find(conn, tenant_id).await?.shard_id;
    let mut all = rows::list_standing(conn, tenant_id, shard, MAX_STANDING).await?;
    let now = tenure_engine::tenant::now(conn, tenant_id).await?;
    all.extend(rows::list_legal(conn, tenant_id, shard, now).await?);
    let filter = HoldFilter {
        tenant_id: Some(tenant_id),
        run_id: None,
    };
    let mut after = None;
    loop {
        let page = retention::holds(conn, &filter, after, 200).await?;
        let of_tenant = page.iter().filter(|hold| hold.run_id.is_none());
        all.extend(of_tenant.map(|hold| Standing {
            hold_id: hold.hold_id,
            scope: Scope::Tenant,
            case: hold.reason.clone(),
        }));
        match page.last() {
            Some(last) if page.len() == 200 => after = Some(last.hold_id),
            _ => return Ok(all),
        }
    }
}

/// Whether anything of a tenant's data is held now: then its deletion has to wait. The transaction must
/// act as the tenant.
///
/// # Errors
/// As [`standing`].
pub async fn is_held(
    conn: &mut PgConnection,
    tenant_id: TenantId,
) -> Result<Option<Standing>, DoorError> {
    Ok(standing(conn, tenant_id).await?.into_iter().next())
}

/// Shares the lock that who places a hold takes, until the transaction ends: delete while it is open,
/// and ask [`standing`] after this. The transaction must act as the tenant.
///
/// # Errors
/// When the database does not answer.
pub async fn share_turn(conn: &mut PgConnection, tenant_id: TenantId) -> Result<(), DoorError> {
    let shard = tenant::find(conn, tenant_id).await?.shard_id;
    Ok(rows::share_turn(conn, tenant_id, shard).await?)
}
