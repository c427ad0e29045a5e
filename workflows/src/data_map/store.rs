//! What a database's catalog says. Reads only; any Postgres, any schema.

use std::collections::BTreeMap;

use sqlx::{Connection as _, PgConnection};

use super::Model;
use super::snapshot::{
    Column, ForeignKey, Index, OnDelete, Partition, Policy, Security, Snapshot, Table,
};

/// What can go wrong when a catalog is read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// No such schema.
    #[error("the database has no schema {0:?} that this login can see")]
    UnknownSchema(String),
    /// The database does not answer.
    #[error("the catalog cannot be read")]
    Database(#[from] sqlx::Error),
}

/// Reads the tables of some schemas, all as of one moment. With [`Model::Schema`] a table of these
/// schemas is named without its schema.
///
/// # Errors
/// [`ReadError`].
pub async fn read(
    conn: &mut PgConnection,
    model: Model,
    schemas: &[String],
) -> Result<Snapshot, ReadError> {
    let begin = "begin isolation level repeatable read read only";
    let mut tx = conn.begin_with(begin).await?;
    let known = list_schemas(&mut tx, schemas).await?;
    if let Some(unknown) = schemas.iter().find(|schema| !known.contains(schema)) {
        return Err(ReadError::UnknownSchema(unknown.clone()));
    }
    let mut found = list_tables(&mut tx, schemas).await?;
    add_columns(&mut tx, schemas, &mut found).await?;
    add_unique(&mut tx, schemas, &mut found).await?;
    add_indexes(&mut tx, schemas, &mut found).await?;
    add_foreign_keys(&mut tx, schemas, &mut found, model).await?;
    add_policies(&mut tx, schemas, &mut found).await?;
    add_partitions(&mut tx, schemas, &mut found).await?;
    tx.commit().await?;
    let mut tables: Vec<Table> = found
        .into_values()
        .map(|found| {
            let mut table = found.table;
            table.name = name(model, schemas, &found.schema, &table.name);
            table
        })
        .collect();
    tables.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Snapshot { tables })
}

/// A table with its schema, until it is named as the map names it.
struct Found {
    schema: String,
    table: Table,
    /// How many partitions have been looked at for indexes.
    leaves: usize,
}

/// Tables by their oid.
type Tables = BTreeMap<u32, Found>;

fn name(model: Model, schemas: &[String], schema: &str, table: &str) -> String {
    if model == Model::Schema && schemas.iter().any(|one| one == schema) {
        return table.to_owned();
    }
    format!("{schema}.{table}")
}

const fn security(enabled: bool, forced: bool) -> Security {
    match (enabled, forced) {
        (false, _) => Security::Off,
        (true, false) => Security::On,
        (true, true) => Security::Forced,
    }
}

async fn list_schemas(conn: &mut PgConnection, schemas: &[String]) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        r#"
        select nspname::text as "schema!"
        from pg_catalog.pg_namespace
        where nspname = any($1)
        "#,
        schemas
    )
    .fetch_all(conn)
    .await
}

async fn list_tables(conn: &mut PgConnection, schemas: &[String]) -> sqlx::Result<Tables> {
    let rows = sqlx::query!(
        r#"
        select t.oid::int8 as "oid!", n.nspname::text as "schema!", t.relname::text as "name!",
          r.rolname::text as "owner!", (r.rolsuper or r.rolbypassrls) as "owner_bypasses!",
          t.relrowsecurity as "enabled!", t.relforcerowsecurity as "forced!",
          size.rows as "rows!", size.bytes as "bytes!"
        from pg_catalog.pg_class t
        join pg_catalog.pg_namespace n on n.oid = t.relnamespace
        join pg_catalog.pg_roles r on r.oid = t.relowner
        -- A partitioned table holds nothing itself; a table without partitions is a tree of one.
        cross join lateral (
          -- A table that nobody has analysed is taken to hold rows of a hundred bytes.
          select coalesce(sum(case
              when p.reltuples >= 0 and p.relpages > 0
              then p.reltuples * (heap.bytes / current_setting('block_size')::float8 / p.relpages)
              else heap.bytes / 100.0
            end), 0)::int8 as rows,
            coalesce(sum(pg_total_relation_size(p.oid)), 0)::int8 as bytes
          from pg_catalog.pg_class p
          cross join lateral (select pg_relation_size(p.oid)::float8 as bytes) heap
          where p.oid = t.oid and t.relkind = 'r'
             or t.relkind = 'p' and p.relkind = 'r'
                and p.oid in (select relid from pg_partition_tree(t.oid::regclass))
        ) size
        where n.nspname = any($1) and t.relkind in ('r', 'p') and not t.relispartition
        "#,
        schemas
    )
    .fetch_all(conn)
    .await?;
    let found = rows.into_iter().map(|row| {
        let table = Table {
            name: row.name,
            owner: row.owner,
            owner_bypasses: row.owner_bypasses,
            security: security(row.enabled, row.forced),
            rows: row.rows,
            bytes: row.bytes,
            ..Table::default()
        };
        (
            oid(row.oid),
            Found {
                schema: row.schema,
                table,
                leaves: 0,
            },
        )
    });
    Ok(found.collect())
}

/// An oid as Postgres counts: 32 bits without a sign.
fn oid(number: i64) -> u32 {
    u32::try_from(number).unwrap_or_default()
}

async fn add_columns(
    conn: &mut PgConnection,
    schemas: &[String],
    tables: &mut Tables,
) -> sqlx::Result<()> {
    let rows = sqlx::query!(
        r#"
        select t.oid::int8 as "oid!", c.attname::text as "name!",
          format_type(c.atttypid, c.atttypmod) as "data_type!", not c.attnotnull as "nullable!",
          (c.attgenerated <> '' or c.attidentity = 'a') as "generated!"
        from pg_catalog.pg_attribute c
        join pg_catalog.pg_class t on t.oid = c.attrelid
        join pg_catalog.pg_namespace n on n.oid = t.relnamespace
        where n.nspname = any($1) and t.relkind in ('r', 'p') and not t.relispartition
          and c.attnum > 0 and not c.attisdropped
        order by t.oid, c.attnum
        "#,
        schemas
    )
    .fetch_all(conn)
    .await?;
    for row in rows {
        if let Some(found) = tables.get_mut(&oid(row.oid)) {
            found.table.columns.push(Column {
                name: row.name,
                data_type: row.data_type,
                nullable: row.nullable,
                generated: row.generated,
            });
        }
    }
    Ok(())
}

async fn add_unique(
    conn: &mut PgConnection,
    schemas: &[String],
    tables: &mut Tables,
) -> sqlx::Result<()> {
    let rows = sqlx::query!(
        r#"
        select t.oid::int8 as "oid!", i.indisprimary as "primary!",
          array(
            -- An expression counts for each column that it reads.
            select distinct c.attname::text
            from pg_catalog.pg_attribute c
            where c.attrelid = t.oid and c.attnum > 0
              and (exists (
                     select
                     from unnest(i.indkey::int2[]) with ordinality as part (attnum, place)
                     where part.attnum = c.attnum and part.place <= i.indnkeyatts
                   )
                   or exists (
                     select
                     from pg_catalog.pg_depend d
                     where d.classid = 'pg_class'::regclass and d.objid = i.indexrelid
                       and d.refclassid = 'pg_class'::regclass and d.refobjid = t.oid
                       and d.refobjsubid = c.attnum and i.indexprs is not null
                   ))
          ) as "columns!"
        from pg_catalog.pg_index i
        join pg_catalog.pg_class t on t.oid = i.indrelid
        join pg_catalog.pg_namespace n on n.oid = t.relnamespace
        where n.nspname = any($1) and i.indisunique and not t.relispartition
        order by i.indexrelid
        "#,
        schemas
    )
    .fetch_all(conn)
    .await?;
    for row in rows {
        if let Some(found) = tables.get_mut(&oid(row.oid)) {
            if row.primary {
                found.table.primary_key = row.columns;
            } else {
                found.table.unique.push(row.columns);
            }
        }
    }
    Ok(())
}

async fn add_indexes(
    conn: &mut PgConnection,
    schemas: &[String],
    tables: &mut Tables,
) -> sqlx::Result<()> {
    let rows = sqlx::query!(
        r#"
        select t.oid::int8 as "oid!", leaf.oid::int8 as "leaf!",
          array(
            select coalesce(c.attname::text, '')
            from unnest(i.indkey::int2[]) with ordinality as part (attnum, place)
            left join pg_catalog.pg_attribute c
              on c.attrelid = leaf.oid and c.attnum = part.attnum and part.attnum > 0
            where part.place <= i.indnkeyatts
            order by part.place
          ) as "columns!",
          pg_get_expr(i.indpred, leaf.oid) as predicate
        from pg_catalog.pg_class t
        join pg_catalog.pg_namespace n on n.oid = t.relnamespace
        cross join lateral (
          select p.relid::oid as oid
          from pg_partition_tree(t.oid::regclass) p
          where p.isleaf
          union
          select t.oid
          where not exists (select from pg_partition_tree(t.oid::regclass) p where p.isleaf)
        ) leaf
        left join (
          select i.indexrelid, i.indrelid, i.indkey, i.indnkeyatts, i.indpred
          from pg_catalog.pg_index i
          join pg_catalog.pg_class c on c.oid = i.indexrelid
          join pg_catalog.pg_am a on a.oid = c.relam and a.amname in ('btree', 'hash')
          where i.indisvalid and i.indisready
        ) i on i.indrelid = leaf.oid
        where n.nspname = any($1) and t.relkind in ('r', 'p') and not t.relispartition
        order by t.oid, leaf.oid, i.indexrelid
        "#,
        schemas
    )
    .fetch_all(conn)
    .await?;
    let mut leaves: BTreeMap<(u32, i64), Vec<Index>> = BTreeMap::new();
    for row in rows {
        let is_column = |name: &String| !name.is_empty();
        let index = Index {
            columns: row.columns.into_iter().take_while(is_column).collect(),
            predicate: row.predicate,
        };
        leaves
            .entry((oid(row.oid), row.leaf))
            .or_default()
            .push(index);
    }
    for ((table, _), indexes) in leaves {
        let Some(found) = tables.get_mut(&table) else {
            continue;
        };
        match found.leaves {
            0 => found.table.indexes = indexes,
            _ => found.table.indexes.retain(|one| indexes.contains(one)),
        }
        found.leaves += 1;
    }
    for found in tables.values_mut() {
        found.table.indexes.retain(|one| !one.columns.is_empty());
    }
    Ok(())
}

async fn add_foreign_keys(
    conn: &mut PgConnection,
    schemas: &[String],
    tables: &mut Tables,
    model: Model,
) -> sqlx::Result<()> {
    let rows = sqlx::query!(
        r#"
        select t.oid::int8 as "oid!", k.conname::text as "name!", pn.nspname::text as "parent_schema!",
          p.relname::text as "parent!", k.confdeltype::text as "on_delete!",
          k.confmatchtype = 'f' as "match_full!",
          array(
            select c.attname::text
            from unnest(k.conkey) with ordinality as part (attnum, place)
            join pg_catalog.pg_attribute c on c.attrelid = t.oid and c.attnum = part.attnum
            order by part.place
          ) as "columns!",
          array(
            select c.attname::text
            from unnest(k.confkey) with ordinality as part (attnum, place)
            join pg_catalog.pg_attribute c on c.attrelid = p.oid and c.attnum = part.attnum
            order by part.place
          ) as "parent_columns!"
        from pg_catalog.pg_constraint k
        join pg_catalog.pg_class t on t.oid = k.conrelid
        join pg_catalog.pg_namespace n on n.oid = t.relnamespace
        join pg_catalog.pg_class p on p.oid = k.confrelid
        join pg_catalog.pg_namespace pn on pn.oid = p.relnamespace
        -- A key to a partitioned table has a copy per partition: those have a parent.
        where n.nspname = any($1) and k.contype = 'f' and k.conparentid = 0 and not t.relispartition
        order by t.oid, k.conname
        "#,
        schemas
    )
    .fetch_all(conn)
    .await?;
    for row in rows {
        if let Some(found) = tables.get_mut(&oid(row.oid)) {
            found.table.foreign_keys.push(ForeignKey {
                name: row.name,
                columns: row.columns,
                parent: name(model, schemas, &row.parent_schema, &row.parent),
                parent_columns: row.parent_columns,
                on_delete: match row.on_delete.as_str() {
                    "c" => OnDelete::Cascade,
                    "n" | "d" => OnDelete::Set,
                    _ => OnDelete::Refuse,
                },
                match_full: row.match_full,
            });
        }
    }
    Ok(())
}

async fn add_policies(
    conn: &mut PgConnection,
    schemas: &[String],
    tables: &mut Tables,
) -> sqlx::Result<()> {
    let rows = sqlx::query!(
        r#"
        select t.oid::int8 as "oid!", p.polname::text as "name!",
          array_remove(array[
            pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)
          ], null) as "conditions!"
        from pg_catalog.pg_policy p
        join pg_catalog.pg_class t on t.oid = p.polrelid
        join pg_catalog.pg_namespace n on n.oid = t.relnamespace
        where n.nspname = any($1) and p.polpermissive
        order by t.oid, p.polname
        "#,
        schemas
    )
    .fetch_all(conn)
    .await?;
    for row in rows {
        if let Some(found) = tables.get_mut(&oid(row.oid)) {
            found.table.policies.push(Policy {
                name: row.name,
                conditions: row.conditions,
            });
        }
    }
    Ok(())
}

async fn add_partitions(
    conn: &mut PgConnection,
    schemas: &[String],
    tables: &mut Tables,
) -> sqlx::Result<()> {
    let rows = sqlx::query!(
        r#"
        select t.oid::int8 as "oid!", pn.nspname || '.' || p.relname as "name!",
          p.relrowsecurity as "enabled!", p.relforcerowsecurity as "forced!", part.isleaf as "is_leaf!"
        from pg_catalog.pg_class t
        join pg_catalog.pg_namespace n on n.oid = t.relnamespace
        cross join lateral pg_partition_tree(t.oid::regclass) part
        join pg_catalog.pg_class p on p.oid = part.relid and p.oid <> t.oid
        join pg_catalog.pg_namespace pn on pn.oid = p.relnamespace
        where n.nspname = any($1) and t.relkind = 'p' and not t.relispartition
        order by 1, 2
        "#,
        schemas
    )
    .fetch_all(conn)
    .await?;
    for row in rows {
        if let Some(found) = tables.get_mut(&oid(row.oid)) {
            found.table.partitions.push(Partition {
                name: row.name,
                security: security(row.enabled, row.forced),
                is_leaf: row.is_leaf,
            });
        }
    }
    Ok(())
}
