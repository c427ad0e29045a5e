//! The doors to usage: report, list.

use chrono::{DateTime, Datelike as _, Utc};
use chrono_tz::Tz;
use sqlx::PgConnection;
use tenure_engine::{Client, EngineError, TenantId};
use uuid::Uuid;

use super::{UsageRow, rules, store};
use crate::door::DoorError;
use crate::notice::{self, NoticeWorkflow};
use crate::{calendar, catalog, tenant};

/// What a product reports.
#[derive(Debug, Clone)]
pub struct Report {
    /// The feature's key; it need not be one that anything limits.
    pub feature: String,
    /// How much of it is used now.
    pub level: u64,
    /// Where it ends for the tenant, if it does.
    pub limit: Option<Limit>,
}

/// How much of a feature a tenant has.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// So much.
    pub limit: u64,
    /// The subscription that brings it, whose periods count; calendar months otherwise.
    pub subscription_id: Option<Uuid>,
}

/// Notes how much of a feature a tenant uses, and tells the tenant when that is much of its limit or
/// all of it. The transaction must act as the tenant.
///
/// # Errors
/// [`DoorError::NotFound`] for the tenant; [`DoorError::Malformed`] for a key that is none, or more
/// than can be counted.
pub async fn report(
    client: &Client,
    conn: &mut PgConnection,
    tenant_id: TenantId,
    report: &Report,
) -> Result<UsageRow, DoorError> {
    let malformed = |field, detail: &str| DoorError::Malformed {
        field,
        detail: detail.to_owned(),
    };
    if !catalog::is_feature(&report.feature) {
        let detail = "a key has 1 to 100 characters of a-z, 0-9, -, _ and .";
        return Err(malformed("feature", detail));
    }
    let level = i64::try_from(report.level)
        .map_err(|_| malformed("level", "it is at most 9223372036854775807"))?;
    let tenant = tenant::find(conn, tenant_id).await?;
    let (shard, feature) = (tenant.shard_id, &report.feature);
    let now = tenure_engine::tenant::now(conn, tenant_id).await?;
    let mut told = store::put(conn, tenant_id, shard, feature, level, now).await?;
    if let Some(Limit {
        limit,
        subscription_id,
    }) = report.limit
    {
        let of = match subscription_id {
            Some(id) => store::find_period(conn, id, shard).await?,
            None => None,
        };
        let period = match of {
            Some(period) => period,
            None => rules::same_month(month(now, calendar::zone(&tenant.zone)?), told),
        };
        if let Some(due) = rules::due(report.level, limit, period, told) {
            store::apply_told(conn, tenant_id, shard, feature, &due).await?;
            told = Some(due);
            tell(client, conn, tenant_id, report, due).await?;
        }
    }
    Ok(UsageRow {
        feature: feature.clone(),
        level,
        reported_at: now,
        told,
    })
}

async fn tell(
    client: &Client,
    conn: &mut PgConnection,
    tenant: TenantId,
    report: &Report,
    due: super::Told,
) -> Result<(), EngineError> {
    let (feature, limit, percent) = (&report.feature, due.limit, due.percent);
    let period = due.period.timestamp();
    let key = format!("limit/{feature}/{limit}/{percent}/{period}");
    let mail = notice::Input::Limit {
        feature: feature.clone(),
        level: report.level,
        limit,
        percent,
    };
    client
        .start::<NoticeWorkflow>(conn, tenant, &key, &mail)
        .await?;
    Ok(())
}

/// The start of the local month of an instant.
fn month(at: DateTime<Utc>, zone: Tz) -> DateTime<Utc> {
    let day = calendar::local_day(at, zone);
    calendar::start_of_day(day.with_day(1).unwrap_or(day), zone)
}

/// Lists what a tenant uses, by feature. The transaction must act as the tenant.
///
/// # Errors
/// [`DoorError::NotFound`] for the tenant.
pub async fn list(
    conn: &mut PgConnection,
    tenant_id: TenantId,
) -> Result<Vec<UsageRow>, DoorError> {
    let shard = tenant::find(conn, tenant_id).await?.shard_id;
    Ok(store::list(conn, tenant_id, shard).await?)
}
