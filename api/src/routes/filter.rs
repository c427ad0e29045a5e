//! From the words of a filter to what the engine is asked: names of tenants, states and attributes
//! meet here what there is.

use sqlx::PgConnection;
use tenure_client::filter::{self, Filter, FilterError, OneOf, Span};
use tenure_client::{RunFilter, Workflow};
use tenure_engine::search::{self, AttributeTest, Bounds, Wanted};
use tenure_engine::{RunId, Status, TenantId};
use tenure_workflows::tenant;

use super::runs_view::engine_status;
use super::workflows::known;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::state::{AppState, see_as};

/// A filter in the engine's terms, and in words for what is said when nothing was found.
pub(super) struct Understood {
    pub(super) wanted: search::RunFilter,
    filter: Filter,
    workflows: Vec<Workflow>,
}

impl Understood {
    /// Refuses a filter that no run can fit because it names what no workflow has. Asked only when
    /// nothing was found, because runs may be there of a workflow that this server does not know.
    pub(super) fn check_names(&self) -> Result<(), ApiError> {
        Ok(self.filter.check_names(&self.workflows)?)
    }
}

impl From<FilterError> for ApiError {
    fn from(error: FilterError) -> Self {
        let detail = match error.code {
            "invalid_filter" => format!("filter, {error}"),
            _ => format!("{}; see /v1/workflows", error.detail),
        };
        Self::BadRequest {
            code: error.code,
            detail,
        }
    }
}

/// Understands a query: the filter, and the parameters that are short for one of its terms.
pub(super) async fn understand(
    state: &AppState,
    caller: &Caller,
    conn: &mut PgConnection,
    asked: RunFilter,
) -> Result<Understood, ApiError> {
    let mut filter = Filter::parse(asked.filter.as_deref().unwrap_or_default())?;
    also(&mut filter.workflow, asked.workflow, "workflow")?;
    also(&mut filter.status, asked.status, "status")?;
    also(&mut filter.state, asked.state, "state")?;
    let tenant = asked.tenant_id.map(|tenant| tenant.to_string());
    also(&mut filter.tenant, tenant, "tenant_id")?;
    also(&mut filter.key, asked.key, "key")?;
    let workflows = known(state.client().registry());
    filter.spell_states(&workflows);
    let attributes = filter.attributes(&workflows)?;
    let wanted = search::RunFilter {
        workflow: wanted(&filter.workflow, String::clone),
        state: wanted(&filter.state, String::clone),
        status: statuses(&filter.status),
        tenant: tenants(caller, conn, &filter.tenant).await?,
        key: wanted(&filter.key, String::clone),
        parent: wanted(&filter.parent, |run| RunId(*run)),
        age_seconds: bounds(filter.age),
        attempt: bounds(filter.attempt),
        visit: bounds(filter.visit),
        started: bounds(filter.started),
        attributes: attributes.into_iter().map(test).collect(),
    };
    Ok(Understood {
        wanted,
        filter,
        workflows,
    })
}

fn also<T>(place: &mut OneOf<T>, value: Option<T>, name: &str) -> Result<(), ApiError> {
    if value.is_some() && !place.any.is_empty() {
        return Err(ApiError::BadRequest {
            code: "invalid_query",
            detail: format!("{name} stands in the filter, too; name it once"),
        });
    }
    place.any.extend(value);
    Ok(())
}

fn wanted<T, U>(of: &OneOf<T>, one: impl Fn(&T) -> U) -> Wanted<U> {
    Wanted {
        any: (!of.any.is_empty()).then(|| of.any.iter().map(&one).collect()),
        none: of.none.iter().map(&one).collect(),
    }
}

fn statuses(of: &OneOf<tenure_client::RunStatus>) -> Wanted<Status> {
    let known = wanted(of, |status| engine_status(*status));
    Wanted {
        any: known.any.map(|any| any.into_iter().flatten().collect()),
        none: known.none.into_iter().flatten().collect(),
    }
}

fn bounds<T>(of: Span<T>) -> Bounds<T> {
    Bounds {
        from: of.from,
        before: of.before,
    }
}

fn test(test: filter::AttributeTest) -> AttributeTest {
    let (compare, value) = match test.compare {
        filter::Compare::OneOf(values) => (search::Compare::OneOf, values.into()),
        filter::Compare::Under(value) => (search::Compare::Under, value),
        filter::Compare::AtMost(value) => (search::Compare::AtMost, value),
        filter::Compare::Over(value) => (search::Compare::Over, value),
        filter::Compare::AtLeast(value) => (search::Compare::AtLeast, value),
    };
    AttributeTest {
        name: test.name,
        compare,
        value,
        negated: test.negated,
    }
}

/// Finds the tenants that are named, by id or by name, among those that the caller sees.
async fn tenants(
    caller: &Caller,
    conn: &mut PgConnection,
    of: &OneOf<String>,
) -> Result<Wanted<TenantId>, ApiError> {
    let mut found = Wanted::default();
    if of.any.is_empty() && of.none.is_empty() {
        return Ok(found);
    }
    if caller.tenant.is_none() {
        tenure_workflows::as_control(conn).await?;
    }
    for name in &of.any {
        let tenants = by_name(conn, name).await?;
        found.any.get_or_insert_default().extend(tenants);
    }
    for name in &of.none {
        found.none.extend(by_name(conn, name).await?);
    }
    see_as(conn, caller).await?;
    Ok(found)
}

/// The tenants of a name, or the one whose name or mail holds it.
async fn by_name(conn: &mut PgConnection, name: &str) -> Result<Vec<TenantId>, ApiError> {
    if let Ok(id) = name.parse() {
        return Ok(vec![TenantId(id)]);
    }
    let exact = tenant::find_named(conn, name).await?;
    if !exact.is_empty() {
        return Ok(exact);
    }
    let like = tenant::list(conn, Some(name), None, 6).await?;
    if let [only] = like.as_slice() {
        return Ok(vec![only.tenant_id]);
    }
    let names: Vec<&str> = like.iter().take(5).map(|like| like.name.as_str()).collect();
    let detail = match names.as_slice() {
        [] => format!("no tenant matches \"{name}\""),
        names => {
            let names = names.join(", ");
            format!("several tenants match \"{name}\": {names}; write more of the name, or the id")
        }
    };
    Err(ApiError::BadRequest {
        code: "unknown_tenant",
        detail,
    })
}
