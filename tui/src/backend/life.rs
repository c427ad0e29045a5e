//! What becomes of tenants' data: the questions for its screens, and the acts on it.

use super::names::Known;
use super::{part, visible};
use crate::deeds::life::would;
use crate::event::{Answer, Around, Done, Door, LifeAct, LifeAnswer, Lines, TenantLife};
use crate::gauge;
use crate::life::Shelf;
use tenure_client::{
    BackfillFilter, BackfillRangeFilter, Client, ClientError, DataArchiveFilter, DataHoldFilter,
    Deletion, DeletionFilter, DeletionPreview, IdempotencyKey, KeepingPolicy, MigrationPlace,
    PlacementFilter, ProductMigration, RunFilter, RunStatus, RunSummary,
};
use uuid::Uuid;

/// Lines asked for at once.
const LINES: u32 = 50;
/// Ranges of a backfill asked for at once.
const RANGES: u32 = 100;
/// Migrations that are shown.
const MIGRATIONS: usize = 5;
/// Places of a migration that are shown.
const PLACES: usize = 20;
/// Archives of a tenant that are shown.
const ARCHIVES: u32 = 20;

/// A shelf, with what stands around it.
pub(super) async fn shelf(
    client: &Client,
    known: &Known,
    shelf: Shelf,
    cursor: Option<String>,
) -> Result<Answer, ClientError> {
    let limit = Some(LINES);
    let (lines, next_cursor, around) = match shelf {
        Shelf::Backfills => {
            let filter = BackfillFilter { cursor, limit };
            let page = client.list_backfills(&filter).await?;
            (
                Lines::Backfills(page.items),
                page.next_cursor,
                Around::Nothing,
            )
        }
        Shelf::Placements => {
            let filter = PlacementFilter {
                source: None,
                cursor,
                limit,
            };
            let (page, moves, migrations) = tokio::join!(
                client.list_placements(&filter),
                on_their_way(client),
                migrations(client),
            );
            let (page, moves, migrations) = (page?, part(moves)?, part(migrations)?);
            let around = Around::Moves { moves, migrations };
            (Lines::Placements(page.items), page.next_cursor, around)
        }
        Shelf::Deletions => {
            let filter = DeletionFilter {
                tenant_id: None,
                cursor,
                limit,
            };
            let page = client.list_deletions(&filter).await?;
            (
                Lines::Deletions(page.items),
                page.next_cursor,
                Around::Nothing,
            )
        }
        Shelf::Keeping => {
            let filter = RunFilter {
                filter: Some("workflow:data-retention,data-restore,data-export".to_owned()),
                cursor,
                limit,
                ..RunFilter::default()
            };
            let (page, policies) = tokio::join!(client.list_runs(&filter), policies(client));
            let page = page?;
            let around = Around::Policies(part(policies)?);
            (Lines::Jobs(page.items), page.next_cursor, around)
        }
    };
    let names = known.names(client, &tenants(&lines, &around)).await?;
    Ok(Answer::Life(Box::new(LifeAnswer {
        lines,
        around,
        names,
        next_cursor,
    })))
}

/// The tenants that a shelf names. Keys of runs for one tenant begin with its id.
fn tenants(lines: &Lines, around: &Around) -> Vec<Uuid> {
    let of_run = |run: &RunSummary| run.key.split_once('/')?.0.parse().ok();
    let mut ids: Vec<Uuid> = match lines {
        Lines::Backfills(_) => Vec::new(),
        Lines::Placements(all) => all.iter().map(|one| one.tenant_id).collect(),
        Lines::Deletions(all) => all.iter().map(|one| one.tenant_id).collect(),
        Lines::Jobs(all) => all.iter().filter_map(of_run).collect(),
    };
    if let Around::Moves { moves, migrations } = around {
        ids.extend(moves.iter().flatten().filter_map(of_run));
        let places = migrations.iter().flatten().flat_map(|(_, places)| places);
        ids.extend(places.filter_map(|place| place.tenant_id));
    }
    ids
}

/// The runs that make places and move tenants and have not ended.
async fn on_their_way(client: &Client) -> Result<Vec<RunSummary>, ClientError> {
    let ended = RunStatus::ALL.into_iter();
    let ended = ended.filter(|status| status.is_terminal());
    let ended: Vec<_> = ended.map(RunStatus::as_str).collect();
    let filter = format!(
        "workflow:tenant-move,tenant-provision -status:{}",
        ended.join(",")
    );
    let filter = RunFilter {
        filter: Some(filter),
        limit: Some(LINES),
        ..RunFilter::default()
    };
    Ok(client.list_runs(&filter).await?.items)
}

/// The newest migrations, with the places that refused them.
async fn migrations(
    client: &Client,
) -> Result<Vec<(ProductMigration, Vec<MigrationPlace>)>, ClientError> {
    let newest = client.list_migrations().await?.into_iter().take(MIGRATIONS);
    let asked = newest.map(|one| async move {
        let mut places = Vec::new();
        if one.refused > 0 {
            places = client.migration_places(&one.version).await?;
            let refused = usize::try_from(one.refused).unwrap_or(PLACES);
            // Those that refused it come first.
            places.truncate(refused.min(PLACES));
        }
        Ok((one, places))
    });
    futures_util::future::try_join_all(asked).await
}

/// How long each source's rows are kept, where that is said.
async fn policies(client: &Client) -> Result<Vec<(String, Option<KeepingPolicy>)>, ClientError> {
    let sources = client.list_sources().await?;
    let asked = sources.into_iter().map(|one| async move {
        let policy = visible(client.keeping_policy(&one.source).await)?;
        Ok((one.source, policy))
    });
    futures_util::future::try_join_all(asked).await
}

/// A backfill, with a page of its ranges.
pub(super) async fn backfill(
    client: &Client,
    known: &Known,
    backfill_id: Uuid,
    (status, cursor): (Option<&'static str>, Option<String>),
) -> Result<Answer, ClientError> {
    let name = backfill_id.to_string();
    let filter = BackfillRangeFilter {
        status: status.map(str::to_owned),
        cursor,
        limit: Some(RANGES),
    };
    let (of, ranges) = tokio::try_join!(
        client.backfill(&name),
        client.list_backfill_ranges(&name, &filter)
    )?;
    let tenants: Vec<_> = ranges.items.iter().map(|one| one.tenant_id).collect();
    let names = known.names(client, &tenants).await?;
    Ok(Answer::Backfill(Box::new(of), ranges, names))
}

/// A deletion, and its certificate once there is one.
pub(super) async fn deletion(
    client: &Client,
    known: &Known,
    deletion_id: Uuid,
) -> Result<Answer, ClientError> {
    let detail = client.deletion(deletion_id).await?;
    let certificate = match detail.deletion.state.as_str() {
        "certified" => visible(client.deletion_certificate(deletion_id).await)?,
        _ => None,
    };
    let names = known.names(client, &[detail.deletion.tenant_id]).await?;
    Ok(Answer::Deletion(
        Box::new(detail),
        certificate.map(Box::new),
        names,
    ))
}

/// What becomes of a tenant's data, each part by a question of its own.
pub(super) async fn of_tenant(client: &Client, tenant: Uuid) -> Result<TenantLife, ClientError> {
    let archives = DataArchiveFilter {
        limit: Some(ARCHIVES),
        ..DataArchiveFilter::default()
    };
    let deletions = DeletionFilter {
        tenant_id: Some(tenant),
        ..DeletionFilter::default()
    };
    let holds = DataHoldFilter::default();
    let (placement, holds, exports, archives, deletions) = tokio::join!(
        client.placement(tenant),
        client.list_data_holds(tenant, &holds),
        client.list_exports(tenant),
        client.list_data_archives(tenant, &archives),
        client.list_deletions(&deletions),
    );
    Ok(TenantLife {
        placement: Ok(visible(placement)?),
        holds: part(holds)?,
        exports: part(exports)?,
        archives: part(archives.map(|page| page.items))?,
        deletions: part(deletions.map(|page| page.items))?,
    })
}

/// Carries out an act, or asks what it would come to.
pub(super) async fn act(
    client: &Client,
    act: LifeAct,
    dry_run: bool,
    key: &IdempotencyKey,
) -> Result<Done, ClientError> {
    Ok(match act {
        LifeAct::Backfill(id, verb, body) => {
            let name = id.to_string();
            let of = client.act_on_backfill(&name, &verb, &body, key).await?;
            match dry_run {
                true => Done::Told(would(&verb, &body, &of)),
                false => Done::Did(format!("{} has been told: {verb}.", of.name)),
            }
        }
        LifeAct::Range(backfill, range, verb, body) => {
            let name = backfill.to_string();
            client
                .act_on_backfill_range(&name, range, &verb, &body, key)
                .await?;
            Done::Did(format!("The range has been told: {verb}."))
        }
        LifeAct::Move(tenant, body) => {
            let moved = client.move_placement(tenant, &body, key).await?;
            begun("The tenant is on its way.", moved.run_id)
        }
        LifeAct::BackOut(tenant, body) => {
            client.back_out_placement(tenant, &body, key).await?;
            Done::Did("It backs out; the tenant stays where it is.".to_owned())
        }
        LifeAct::RequestDeletion(body) if dry_run => {
            let found = client.preview_deletion(body.tenant_id).await?;
            Done::Told(foreseen(&found, body.cooling_off_days))
        }
        LifeAct::RequestDeletion(body) => {
            let made = client.request_deletion(&body, key).await?;
            let words = "It is asked for; another admin has to approve it.".to_owned();
            let link = made.export_link.clone();
            Done::Opens(words, Door::Deletion(Box::new(made), link))
        }
        LifeAct::Deletion(id, verb, body) => {
            let of = client.act_on_deletion(id, &verb, &body, key).await?;
            Done::Did(told(&verb, &of))
        }
        LifeAct::Export(tenant, body) => {
            let made = client.start_export(tenant, &body, key).await?;
            let words = "The export is being written.".to_owned();
            Done::Opens(
                words,
                Door::Export(tenant, Box::new(made.export), made.link),
            )
        }
        LifeAct::Sweep(tenant, body) => {
            let job = client.start_sweep(tenant, &body, key).await?;
            begun("The sweep begins.", Some(job.run_id))
        }
        LifeAct::Restore(tenant, body) => {
            let job = client.start_restore(tenant, &body, key).await?;
            begun("The restore begins.", Some(job.run_id))
        }
        LifeAct::PlaceHold(tenant, body) => {
            let hold = client.place_data_hold(tenant, &body, key).await?;
            Done::Did(format!("The hold for {} stands.", hold.case))
        }
        LifeAct::LiftHold(tenant, hold, body) => {
            let hold = client.lift_data_hold(tenant, hold, &body, key).await?;
            Done::Did(format!("The hold for {} is lifted.", hold.case))
        }
    })
}

/// Said of a job that has begun, which its run tells more of.
fn begun(words: &str, run: Option<Uuid>) -> Done {
    match run {
        Some(run) => Done::Opens(words.to_owned(), Door::Run(run)),
        None => Done::Did(words.to_owned()),
    }
}

fn told(verb: &str, of: &Deletion) -> String {
    let state = of.state.replace('_', " ");
    format!("The deletion, which was {state}, has been told: {verb}.")
}

/// What a deletion would do, in words.
fn foreseen(found: &DeletionPreview, cooling_off_days: i32) -> Vec<String> {
    let rows = |kept: bool| -> i64 {
        let steps = found.steps.iter();
        let stays = |action: &str| matches!(action, "mask" | "keep");
        let steps = steps.filter(|step| stays(&step.action) == kept);
        // Keys are nulled in rows that another step deletes.
        let steps = steps.filter(|step| step.action != "null_keys" && step.action != "shred");
        steps.map(|step| step.rows).sum()
    };
    let mut words = vec![
        format!(
            "{} rows would be erased, {} stay, masked or with a basis; {} steps in all.",
            gauge::count(rows(false)),
            gauge::count(rows(true)),
            found.steps.len()
        ),
        format!("Live runs of it that would be ended: {}.", found.live_runs),
        match cooling_off_days {
            0 => "Once another admin approves, there is no way back.".to_owned(),
            days => {
                format!("Once another admin approves, it can be taken back for {days} days.")
            }
        },
    ];
    let obstacles = found.obstacles.iter();
    words.extend(obstacles.map(|obstacle| format!("In the way: {obstacle}")));
    words
}
