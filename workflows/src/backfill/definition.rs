//! What a backfill is to do, as its file or Rust code says it. Pure.

use serde::{Deserialize, Serialize};

use super::pace::PaceLimits;
use super::phase::Phase;
use super::throttle::{Limits, Quiet};

/// A change of a table's columns, from expand to contract.
///
/// A file reads into one ([`parse`](super::parse)); Rust code fills the fields of
/// [`Definition::new`]. Either is checked by [`Definition::check`] before anything starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    /// Its name: small letters, digits, `-` and `_`.
    pub name: String,
    /// The table as the data map names it, or without its schema where that is clear.
    pub table: String,
    /// What rows are walked by; the primary key without the tenant's column if none is said.
    pub key: Vec<String>,
    /// The sources that it is for; all whose map has the table if none is said.
    pub sources: Vec<String>,
    /// The new columns.
    pub columns: Vec<NewColumn>,
    /// The old columns that the new ones are made from.
    pub reads: Vec<String>,
    /// How old columns follow from new ones, so that there is a way back once new code writes.
    pub back: Vec<Back>,
    /// The old columns that the contract drops.
    pub drop: Vec<String>,
    /// SQL of its own, in place of what is generated or besides.
    pub sql: OwnSql,
    /// How many ranges are worked on at once.
    pub parallel: u32,
    /// A tenant that is estimated to have more rows than this is split into ranges of about so many.
    pub range_rows: u64,
    /// How large batches are.
    pub pace: PaceLimits,
    /// When it holds back.
    pub throttle: Limits,
    /// When it does nothing.
    pub quiet: Option<Quiet>,
    /// For how long verification must have been clean before the contract, in seconds.
    pub clean_for_seconds: u64,
    /// How often it verifies again while it waits, in seconds.
    pub verify_every_seconds: u64,
    /// The phases before which it waits for somebody's word.
    pub wait_at: Vec<Phase>,
}

/// A column that the expand adds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewColumn {
    /// Its name.
    pub name: String,
    /// Its type, as SQL writes it.
    pub data_type: String,
    /// Its value, an SQL expression over the row; none when the statements are given.
    pub value: Option<String>,
}

/// How an old column follows from the new ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Back {
    /// The old column.
    pub column: String,
    /// Its value, an SQL expression over the row.
    pub value: String,
}

/// Statements that are given. `{table}` is the table, `{schema}` its schema, `{rows}` the condition
/// of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnSql {
    /// Run in the expand's transaction, after the columns were added.
    pub expand: Vec<String>,
    /// What undoes them when the backfill is undone.
    pub undo: Vec<String>,
    /// In place of the generated trigger.
    pub dual_write: Vec<String>,
    /// What takes them away again.
    pub dual_write_off: Vec<String>,
    /// The update of a batch, in place of the generated one.
    pub fill: Option<String>,
    /// A condition over the row that says that it is right; in place of the comparison.
    pub right: Option<String>,
    /// Run in the contract's transaction, after the trigger is gone and before columns are dropped.
    pub contract: Vec<String>,
}

/// A definition that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {detail}")]
pub struct Misfit {
    /// The way to what is wrong, as the file writes it, such as `columns.state.value`.
    pub place: String,
    /// What is wrong, and what would be right.
    pub detail: String,
}

/// The longest name: triggers and functions are called after it.
const MAX_NAME: usize = 40;
/// The most ranges at once.
const MAX_PARALLEL: u32 = 64;
/// The least rows of a range of a split tenant.
const MIN_RANGE_ROWS: u64 = 1_000;

impl Definition {
    /// A definition with the defaults for everything that is not said.
    #[must_use]
    pub fn new(name: &str, table: &str) -> Self {
        Self {
            name: name.to_owned(),
            table: table.to_owned(),
            key: Vec::new(),
            sources: Vec::new(),
            columns: Vec::new(),
            reads: Vec::new(),
            back: Vec::new(),
            drop: Vec::new(),
            sql: OwnSql::default(),
            parallel: 4,
            range_rows: 1_000_000,
            pace: PaceLimits::default(),
            throttle: Limits::default(),
            quiet: None,
            clean_for_seconds: 24 * 3_600,
            verify_every_seconds: 3_600,
            wait_at: vec![Phase::Switch, Phase::Contract],
        }
    }

    /// Whether the trigger is generated.
    #[must_use]
    pub fn generates_trigger(&self) -> bool {
        self.sql.dual_write.is_empty() && !self.columns.is_empty()
    }

    /// Whether what is written to the new columns reaches the old ones, so that one can go back.
    #[must_use]
    pub fn leads_back(&self) -> bool {
        !self.sql.dual_write.is_empty() || (!self.back.is_empty() && self.generates_trigger())
    }

    /// Holds the definition against its rules; the first place that is wrong.
    ///
    /// # Errors
    /// [`Misfit`].
    pub fn check(&self) -> Result<(), Misfit> {
        check_name(&self.name)?;
        need("table", !self.table.is_empty(), "the table")?;
        let parallel = (1..=MAX_PARALLEL).contains(&self.parallel);
        need("parallel", parallel, "1 to 64 ranges at once")?;
        let large = self.range_rows >= MIN_RANGE_ROWS;
        need("range_rows", large, "at least 1000 rows")?;
        let often = self.verify_every_seconds > 0;
        need("verify.every", often, "longer than nothing")?;
        for phase in &self.wait_at {
            let waits = !matches!(phase, Phase::Expand | Phase::Done | Phase::Undone);
            let may = "dual-write, fill, verify, switch or contract";
            need("wait_at", waits, may)?;
        }
        self.check_columns()?;
        self.check_trigger()?;
        self.check_sql()?;
        self.pace.check()?;
        self.throttle.check()
    }

    fn check_columns(&self) -> Result<(), Misfit> {
        let works = !self.columns.is_empty() || self.sql.fill.is_some();
        need("columns", works, "at least one new column, or sql.fill")?;
        for column in &self.columns {
            let at = |key: &str| format!("columns.{}.{key}", column.name);
            let plain = |c: char| c.is_ascii_alphanumeric() || " _,().[]\"".contains(c);
            let fits = !column.data_type.is_empty() && column.data_type.chars().all(plain);
            need(
                &at("type"),
                fits,
                "a type as SQL writes it, such as numeric(12, 2)",
            )?;
            let given = column.value.is_some() || self.sql.fill.is_some();
            need(
                &at("value"),
                given,
                "an SQL expression; or give sql.fill and sql.right",
            )?;
            check_expression(&at("value"), column.value.as_deref())?;
            let other = !self.reads.contains(&column.name) && !self.drop.contains(&column.name);
            need(&at("type"), other, "a column cannot be new and old at once")?;
        }
        for back in &self.back {
            let at = format!("back.{}.value", back.column);
            check_expression(&at, Some(&back.value))?;
            let new = self.columns.iter().any(|column| column.name == back.column);
            need(
                &at,
                !new,
                "it is a new column; the way back leads to old ones",
            )?;
        }
        Ok(())
    }

    fn check_trigger(&self) -> Result<(), Misfit> {
        if !self.generates_trigger() {
            let no_back = self.back.is_empty();
            return need(
                "back",
                no_back,
                "sql.dual_write is given, so it leads back itself",
            );
        }
        let with_values = self.columns.iter().all(|column| column.value.is_some());
        let detail = "a value for each column; or give the trigger in sql.dual_write";
        need("columns", with_values, detail)?;
        let detail = "the old columns that the new ones are made from: the trigger watches them";
        need("reads", !self.reads.is_empty(), detail)
    }

    fn check_sql(&self) -> Result<(), Misfit> {
        let sql = &self.sql;
        let paired = sql.dual_write.is_empty() == sql.dual_write_off.is_empty();
        let detail = "give both sql.dual_write and sql.dual_write_off, or neither";
        need("sql.dual_write_off", paired, detail)?;
        let undone = sql.expand.is_empty() == sql.undo.is_empty();
        let detail =
            "give both sql.expand and sql.undo, or neither: there is a way back until the contract";
        need("sql.undo", undone, detail)?;
        if let Some(fill) = &sql.fill {
            let bound = fill.contains("{table}") && fill.contains("{rows}");
            let detail =
                "it needs {table} and {rows}, the condition of the batch, with the table as t";
            need("sql.fill", bound, detail)?;
            let judged = sql.right.is_some() || self.columns.iter().all(|c| c.value.is_some());
            let detail = "a condition that says that a row is right, or a value for each column";
            need("sql.right", judged, detail)?;
            need(
                "sql.right",
                sql.right.is_some() || !self.columns.is_empty(),
                detail,
            )?;
        }
        check_expression("sql.right", sql.right.as_deref())
    }
}

fn check_name(name: &str) -> Result<(), Misfit> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
    let fits = begins && name.len() <= MAX_NAME && name.chars().all(plain);
    let detail = "a small letter, then small letters, digits, - and _, at most 40";
    need("name", fits, detail)
}

/// An expression stands in parentheses of ours: it may not leave them, nor end the statement.
fn check_expression(place: &str, expression: Option<&str>) -> Result<(), Misfit> {
    let Some(text) = expression else {
        return Ok(());
    };
    need(place, !text.trim().is_empty(), "an SQL expression")?;
    let outside = outside_quotes(text);
    let commented = outside.contains("--") || outside.contains("/*");
    need(place, !commented, "no comments inside an expression")?;
    need(
        place,
        !outside.contains(';'),
        "one expression, without a semicolon",
    )?;
    let mut depth = 0_i64;
    for c in outside.chars() {
        depth += match c {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        need(
            place,
            depth >= 0,
            "a parenthesis is closed that was not opened",
        )?;
    }
    need(place, depth == 0, "a parenthesis is not closed")
}

/// The text without what stands in quotes.
fn outside_quotes(text: &str) -> String {
    let mut outside = String::with_capacity(text.len());
    let mut quote = None;
    for c in text.chars() {
        match quote {
            Some(open) if open == c => quote = None,
            Some(_) => {}
            None if c == '\'' || c == '"' => quote = Some(c),
            None => outside.push(c),
        }
    }
    outside
}

pub(super) fn need(place: &str, holds: bool, detail: &str) -> Result<(), Misfit> {
    if holds {
        return Ok(());
    }
    Err(Misfit {
        place: place.to_owned(),
        detail: detail.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits() -> Definition {
        let mut definition = Definition::new("task-state", "task");
        definition.columns.push(NewColumn {
            name: "state".to_owned(),
            data_type: "smallint".to_owned(),
            value: Some("case status when 'open' then 0 else 1 end".to_owned()),
        });
        definition.reads.push("status".to_owned());
        definition
    }

    #[test]
    fn a_definition_from_rust_is_held_against_the_same_rules() {
        assert_eq!(fits().check(), Ok(()));
        let place = |change: fn(&mut Definition)| {
            let mut definition = fits();
            change(&mut definition);
            definition.check().unwrap_err().place
        };
        assert_eq!(place(|d| d.name = "Task".to_owned()), "name");
        assert_eq!(place(|d| d.reads.clear()), "reads");
        assert_eq!(place(|d| d.columns.clear()), "columns");
        assert_eq!(place(|d| d.parallel = 0), "parallel");
        assert_eq!(
            place(|d| d.drop.push("state".to_owned())),
            "columns.state.type"
        );
        assert_eq!(place(|d| d.wait_at.push(Phase::Done)), "wait_at");
        assert_eq!(
            place(|d| d.sql.fill = Some("update t set x = 1".to_owned())),
            "sql.fill"
        );
        assert_eq!(
            place(|d| d.columns[0].data_type = "int; drop table x".to_owned()),
            "columns.state.type"
        );
    }

    #[test]
    fn an_expression_stays_in_its_parentheses() {
        let check = |text| check_expression("value", Some(text));
        assert!(check("lower(title) || ' (;--)'").is_ok());
        assert!(check("1) or (true").is_err());
        assert!(check("(1").is_err());
        assert!(check("1; delete from task").is_err());
        assert!(check("1 -- and more").is_err());
        assert!(check("  ").is_err());
    }
}
