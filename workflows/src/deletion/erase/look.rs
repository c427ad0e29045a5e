//! Looking through a table a chunk at a time: to count what stays, what a table has before it is
//! dropped, and where known values are left. No statement of it grows with the table.
//!
//! A table with a primary key is walked along it. One without is walked by the places of its pages, all
//! its partitions at once.

use std::time::Instant;

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use super::store::{self, KeyColumn, Rows};
use super::{CHUNK_LIMIT, Ground, LOCK_LIMIT_MS, ROW_LIMIT, Trouble, is_cancelled};
use crate::deletion::rules::{self, FIRST_CHUNK};
use crate::product::ProductError;

/// So many rows a page may have, for how many pages are a chunk.
const ROWS_OF_PAGE: i64 = 20;

/// Where the next chunk begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Cursor {
    /// Behind this key.
    Key(Vec<String>),
    /// At this page.
    Page(i64),
    /// All rows were seen.
    End,
}

impl Cursor {
    /// What a step has stored; `None` where it begins.
    pub(super) fn read(after: Option<&str>) -> Option<Self> {
        after.and_then(|after| serde_json::from_str(after).ok())
    }

    pub(super) fn print(&self) -> Option<String> {
        serde_json::to_string(self).ok()
    }
}

/// The values that are looked for, and in what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sought<'a> {
    pub(super) values: &'a [String],
    /// In these columns or, without any, anywhere.
    pub(super) columns: Option<&'a [String]>,
}

/// A chunk that was looked through.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    pub(super) rows: i64,
    /// Rows that hold one of the values.
    pub(super) holding: i64,
}

/// A table to look through.
#[derive(Debug, Clone)]
pub(super) struct Looked {
    /// For people.
    pub(super) name: String,
    pub(super) rows: Rows,
    /// Its primary key; empty where it has none.
    pub(super) key: Vec<KeyColumn>,
}

/// Looks through one chunk; what it saw, and where the next one begins.
pub(super) async fn look(
    conn: &mut PgConnection,
    table: &Looked,
    sought: Option<Sought<'_>>,
    from: Option<&Cursor>,
    limit: i64,
) -> sqlx::Result<(Seen, Cursor)> {
    if !table.key.is_empty() {
        let after = match from {
            Some(Cursor::Key(key)) => Some(key.as_slice()),
            _ => None,
        };
        let (seen, last) =
            store::look_along(conn, &table.rows, &table.key, sought, after, limit).await?;
        let next = match last {
            Some(last) if seen.rows >= limit => Cursor::Key(last),
            _ => Cursor::End,
        };
        return Ok((seen, next));
    }
    let first = match from {
        Some(Cursor::Page(page)) => *page,
        _ => 0,
    };
    let pages = store::count_pages(conn, &table.rows.table).await?;
    let until = first + (limit / ROWS_OF_PAGE).max(1);
    let seen = store::look_at_pages(conn, &table.rows, sought, (first, until)).await?;
    let next = match until >= pages {
        true => Cursor::End,
        false => Cursor::Page(until),
    };
    Ok((seen, next))
}

impl Ground {
    /// Looks through a whole table for values; how many rows hold one. Between two chunks it rests for as
    /// long as the first one took.
    pub(super) async fn count_holding(
        &self,
        table: &Looked,
        sought: Sought<'_>,
    ) -> Result<i64, Trouble> {
        let (mut at, mut limit, mut holding) = (None, FIRST_CHUNK, 0);
        while at != Some(Cursor::End) {
            let within = if limit > 1 { CHUNK_LIMIT } else { ROW_LIMIT };
            let began = Instant::now();
            let chunk = async {
                let mut tx = self.site.begin().await?;
                store::limit_chunk(&mut tx, LOCK_LIMIT_MS, within.as_millis()).await?;
                let seen = look(&mut tx, table, Some(sought), at.as_ref(), limit).await?;
                tx.rollback().await?;
                Ok::<_, ProductError>(seen)
            };
            match chunk.await {
                Ok((seen, next)) => {
                    holding += seen.holding;
                    at = Some(next);
                    let took = began.elapsed();
                    let took_ms = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
                    limit = rules::next_chunk(limit, took_ms);
                    tenure_engine::sleep(took).await;
                }
                Err(ProductError::Database(error)) if is_cancelled(&error) => {
                    limit = rules::half_chunk(limit).ok_or_else(|| too_slow(&table.name))?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(holding)
    }
}

/// A table that cannot be looked through.
pub(super) fn too_slow(name: &str) -> Trouble {
    let words = format!("{name} could not be looked through within its time");
    Trouble::named("look_too_slow", words)
}
