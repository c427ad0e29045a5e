//! `tenure placement`: where tenants' rows are, and what is done with that, through the API.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tenure_client::{
    ApplyMigration, BackOutPlacement, IdempotencyKey, MigrationOutcome, MovePlacement, Place,
    Placement, PlacementFilter, PlacementStatus, ProductMigration, ProvisionPlacement,
    SetPlacement, TenancyModel,
};
use uuid::Uuid;

use super::run::{ApiArgs, print};

/// What to do with placements.
#[derive(Debug, clap::Subcommand)]
pub(super) enum PlacementCommand {
    /// List the product's databases that the server knows.
    Sources {
        #[command(flatten)]
        api: ApiArgs,
    },
    /// List where tenants' rows are.
    List {
        #[command(flatten)]
        api: ApiArgs,
        /// Those that this source is part of.
        #[arg(long)]
        source: Option<String>,
        /// The cursor of the page before.
        #[arg(long)]
        cursor: Option<String>,
    },
    /// Show where a tenant's rows are.
    Show {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        tenant: Uuid,
    },
    /// Say where a tenant's rows are already. Nothing is made or moved.
    Set {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        tenant: Uuid,
        #[command(flatten)]
        place: PlaceArgs,
        /// Why; kept in the audit.
        #[arg(long)]
        reason: String,
    },
    /// Make a place for a tenant that has none, or take one that is there once it is as its data
    /// map says.
    Provision {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        tenant: Uuid,
        #[command(flatten)]
        place: PlaceArgs,
        /// The product's SQL that makes what a tenant needs; left out, the place is there.
        #[arg(long, value_name = "FILE")]
        sql: Option<PathBuf>,
        /// Why; kept in the audit.
        #[arg(long)]
        reason: String,
    },
    /// Begin to move a tenant to another place, while it works.
    Move {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        tenant: Uuid,
        #[command(flatten)]
        place: PlaceArgs,
        /// The product's SQL that makes the new place; left out, it is there and empty.
        #[arg(long, value_name = "FILE")]
        sql: Option<PathBuf>,
        /// For how many hours the old rows stay after the switch.
        #[arg(long, default_value_t = 24)]
        keep_hours: u32,
        /// How many rows are copied at a time.
        #[arg(long, default_value_t = 500)]
        batch: u32,
        /// Why; kept with the run.
        #[arg(long)]
        reason: String,
    },
    /// Ask a move to leave the tenant where it is. It can be, until it has switched.
    BackOut {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        tenant: Uuid,
        /// Why; kept in the audit.
        #[arg(long)]
        reason: String,
    },
    /// Begin to apply a migration of the product at every place, some at a time. Asked for again, it
    /// is applied where it is not.
    Migrate {
        #[command(flatten)]
        api: ApiArgs,
        /// The SQL, which is run at each place in one transaction.
        file: PathBuf,
        /// The product's own name of the migration, such as its version.
        #[arg(long)]
        name: String,
        /// A source whose places it is for; may be given several times. All, if none is.
        #[arg(long = "source")]
        sources: Vec<String>,
        /// How many places at a time.
        #[arg(long, default_value_t = 8)]
        at_most: u32,
        /// Why; kept with the migration.
        #[arg(long)]
        reason: String,
    },
    /// List migrations; or, of one, what came of it at each place.
    Migrations {
        #[command(flatten)]
        api: ApiArgs,
        /// The migration.
        name: Option<String>,
    },
}

/// A place.
#[derive(Debug, clap::Args)]
pub(super) struct PlaceArgs {
    /// The product's database, by its name in the server's configuration.
    #[arg(long)]
    source: String,
    /// How the tenant is kept apart there.
    #[arg(long, value_parser = ["shared", "schema", "database"])]
    model: String,
    /// The tenant's schema, with `schema`.
    #[arg(long)]
    schema: Option<String>,
    /// A database beside the source's own, with `database`.
    #[arg(long)]
    database: Option<String>,
    /// What the product's tenant column says of the tenant; the tenant's id, if it is left out.
    #[arg(long)]
    key: Option<String>,
}

impl PlaceArgs {
    fn place(self, tenant: Uuid) -> Place {
        Place {
            model: match self.model.as_str() {
                "schema" => TenancyModel::Schema,
                "database" => TenancyModel::Database,
                _ => TenancyModel::Shared,
            },
            source: self.source,
            database: self.database,
            schema: self.schema,
            key: self.key.unwrap_or_else(|| tenant.to_string()),
        }
    }
}

pub(super) async fn run(command: PlacementCommand) -> anyhow::Result<()> {
    match command {
        PlacementCommand::Sources { api } => {
            let sources = api.client()?.list_sources().await?;
            print(&api, &sources, || {
                for one in &sources {
                    let model = one.model.map_or("no data map yet", TenancyModel::as_str);
                    let version = one
                        .map_version
                        .map(|version| format!("  version {version}"));
                    outln!("{}  {model}{}", one.source, version.unwrap_or_default());
                }
            })
        }
        PlacementCommand::List {
            api,
            source,
            cursor,
        } => {
            let filter = PlacementFilter {
                source,
                cursor,
                limit: None,
            };
            let page = api.client()?.list_placements(&filter).await?;
            print(&api, &page, || {
                page.items.iter().for_each(print_placement);
                if let Some(cursor) = &page.next_cursor {
                    outln!("more: --cursor {cursor}");
                }
            })
        }
        PlacementCommand::Show { api, tenant } => {
            let placement = api.client()?.placement(tenant).await?;
            print(&api, &placement, || print_placement(&placement))
        }
        PlacementCommand::Set {
            api,
            tenant,
            place,
            reason,
        } => {
            let (client, key) = (api.client()?, IdempotencyKey::generate());
            let place = place.place(tenant);
            let set = SetPlacement { place, reason };
            let placement = client.set_placement(tenant, &set, &key).await?;
            print(&api, &placement, || print_placement(&placement))
        }
        PlacementCommand::BackOut {
            api,
            tenant,
            reason,
        } => {
            let (client, key) = (api.client()?, IdempotencyKey::generate());
            let back_out = BackOutPlacement { reason };
            let placement = client.back_out_placement(tenant, &back_out, &key).await?;
            print(&api, &placement, || print_placement(&placement))
        }
        PlacementCommand::Migrations { api, name } => migrations(&api, name).await,
        other => change(other).await,
    }
}

/// The commands that bring SQL along.
async fn change(command: PlacementCommand) -> anyhow::Result<()> {
    let key = IdempotencyKey::generate();
    match command {
        PlacementCommand::Provision {
            api,
            tenant,
            place,
            sql,
            reason,
        } => {
            let provision = ProvisionPlacement {
                place: place.place(tenant),
                sql: sql.as_deref().map(read).transpose()?,
                reason,
            };
            let client = api.client()?;
            let placement = client.provision_placement(tenant, &provision, &key).await?;
            print(&api, &placement, || print_placement(&placement))
        }
        PlacementCommand::Move {
            api,
            tenant,
            place,
            sql,
            keep_hours,
            batch,
            reason,
        } => {
            let wanted = MovePlacement {
                to: place.place(tenant),
                sql: sql.as_deref().map(read).transpose()?,
                keep_hours: Some(keep_hours),
                batch: Some(batch),
                reason,
            };
            let client = api.client()?;
            let placement = client.move_placement(tenant, &wanted, &key).await?;
            print(&api, &placement, || print_placement(&placement))
        }
        PlacementCommand::Migrate {
            api,
            file,
            name,
            sources,
            at_most,
            reason,
        } => {
            let migration = ApplyMigration {
                version: name,
                sql: read(&file)?,
                sources,
                at_most: Some(at_most),
                reason,
            };
            let begun = api.client()?.apply_migration(&migration, &key).await?;
            print(&api, &begun, || print_migration(&begun))
        }
        PlacementCommand::Sources { .. }
        | PlacementCommand::List { .. }
        | PlacementCommand::Show { .. }
        | PlacementCommand::Set { .. }
        | PlacementCommand::BackOut { .. }
        | PlacementCommand::Migrations { .. } => Ok(()),
    }
}

async fn migrations(api: &ApiArgs, version: Option<String>) -> anyhow::Result<()> {
    let client = api.client()?;
    let Some(version) = version else {
        let all = client.list_migrations().await?;
        return print(api, &all, || all.iter().for_each(print_migration));
    };
    let places = client.migration_places(&version).await?;
    print(api, &places, || {
        for one in &places {
            let outcome = match one.outcome {
                MigrationOutcome::Pending => "pending",
                MigrationOutcome::Applied => "applied",
                MigrationOutcome::Refused => "refused",
                MigrationOutcome::Unknown => "unknown",
            };
            let tenant = one.tenant_id.map(|tenant| format!("  {tenant}"));
            let detail = one.detail.as_ref().map(|detail| format!("  {detail}"));
            let (tenant, detail) = (tenant.unwrap_or_default(), detail.unwrap_or_default());
            outln!("{outcome:<8} {} {}{tenant}{detail}", one.source, one.place);
        }
    })
}

fn read(file: impl AsRef<Path>) -> anyhow::Result<String> {
    let file = file.as_ref();
    std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

fn told(place: &Place) -> String {
    let model = place.model.as_str();
    let name = place.schema.as_ref().or(place.database.as_ref());
    let name = name.map(|name| format!(" {name}")).unwrap_or_default();
    format!("{} {model}{name} as {}", place.source, place.key)
}

fn print_placement(one: &Placement) {
    let (status, leads) = match one.status {
        PlacementStatus::Provisioning => ("provisioning", ""),
        PlacementStatus::Active => ("active", ""),
        PlacementStatus::Moving => ("moving", "to"),
        PlacementStatus::Frozen => ("frozen", "to"),
        PlacementStatus::Cleaning => ("cleaning", "from"),
        PlacementStatus::Unknown => ("unknown", "and"),
    };
    let other = one
        .other
        .as_ref()
        .map(|other| format!(", {leads} {}", told(other)));
    let run = one.run_id.map(|run| format!("  run {run}"));
    let (other, run) = (other.unwrap_or_default(), run.unwrap_or_default());
    outln!(
        "{}  {status:<12} {}{other}{run}",
        one.tenant_id,
        told(&one.place)
    );
}

fn print_migration(one: &ProductMigration) {
    let ProductMigration {
        version,
        pending,
        applied,
        refused,
        run_id,
        ..
    } = one;
    outln!("{version}  applied {applied}, pending {pending}, refused {refused}  run {run_id}");
}
