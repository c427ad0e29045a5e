//! A backfill as its file writes it. Pure: each error names its line and place.

use chrono::NaiveTime;

use super::definition::{Back, Definition, Misfit, NewColumn, OwnSql};
use super::pace::PaceLimits;
use super::phase::Phase;
use super::throttle::{Limits, Quiet};
use super::units::{bytes, milliseconds};
use crate::calendar;
use crate::data_map::{At, FileError, read_toml};

/// The version of the format.
const VERSION: i64 = 1;
/// What switches a limit off.
const OFF: &str = "off";

/// Reads a backfill from TOML.
///
/// # Errors
/// [`FileError`], with the first place that is wrong.
pub fn parse(text: &str) -> Result<Definition, FileError> {
    let document = read_toml(text)?;
    let root = At::root(text, &document);
    root.only(&[
        "version",
        "name",
        "table",
        "key",
        "sources",
        "reads",
        "parallel",
        "range_rows",
        "wait_at",
        "columns",
        "back",
        "sql",
        "pace",
        "throttle",
        "quiet",
        "verify",
        "contract",
    ])?;
    let version = root.need("version")?;
    if version.item.as_integer() != Some(VERSION) {
        return Err(version.wrong(&format!("this build reads version {VERSION}")));
    }
    let name = root.need("name")?.text()?;
    let mut of = Definition::new(&name, &root.need("table")?.text()?);
    of.key = texts(&root, "key")?;
    of.sources = texts(&root, "sources")?;
    of.reads = texts(&root, "reads")?;
    set(&root, "parallel", &mut of.parallel, whole)?;
    set(&root, "range_rows", &mut of.range_rows, whole)?;
    if let Some(at) = root.get("wait_at") {
        of.wait_at = phases(&at)?;
    }
    of.columns = read_columns(&root)?;
    of.back = read_back(&root)?;
    if let Some(at) = root.get("sql") {
        of.sql = read_sql(&at)?;
    }
    if let Some(at) = root.get("contract") {
        at.only(&["drop", "sql"])?;
        of.drop = texts(&at, "drop")?;
        of.sql.contract = texts(&at, "sql")?;
    }
    if let Some(at) = root.get("pace") {
        read_pace(&at, &mut of.pace)?;
    }
    if let Some(at) = root.get("throttle") {
        read_throttle(&at, &mut of.throttle)?;
    }
    of.quiet = root.get("quiet").map(|at| read_quiet(&at)).transpose()?;
    if let Some(at) = root.get("verify") {
        at.only(&["clean_for", "every"])?;
        set(&at, "clean_for", &mut of.clean_for_seconds, seconds)?;
        set(&at, "every", &mut of.verify_every_seconds, seconds)?;
    }
    of.check().map_err(|misfit| place(&root, misfit))?;
    Ok(of)
}

/// A rule that was broken, with the line where the file speaks of it.
fn place(root: &At<'_>, misfit: Misfit) -> FileError {
    let mut at: Option<At<'_>> = None;
    for key in misfit.place.split('.') {
        let next = at.as_ref().unwrap_or(root).get(key);
        let Some(next) = next else { break };
        at = Some(next);
    }
    FileError {
        place: misfit.place,
        ..at.as_ref().unwrap_or(root).wrong(&misfit.detail)
    }
}

fn read_columns(root: &At<'_>) -> Result<Vec<NewColumn>, FileError> {
    let Some(columns) = root.get("columns") else {
        return Ok(Vec::new());
    };
    let read = |(name, at): (&str, At<'_>)| {
        at.only(&["type", "value"])?;
        Ok(NewColumn {
            name: name.to_owned(),
            data_type: at.need("type")?.text()?,
            value: at.get("value").map(|at| at.text()).transpose()?,
        })
    };
    columns.fields()?.into_iter().map(read).collect()
}

fn read_back(root: &At<'_>) -> Result<Vec<Back>, FileError> {
    let Some(back) = root.get("back") else {
        return Ok(Vec::new());
    };
    let read = |(column, at): (&str, At<'_>)| {
        at.only(&["value"])?;
        Ok(Back {
            column: column.to_owned(),
            value: at.need("value")?.text()?,
        })
    };
    back.fields()?.into_iter().map(read).collect()
}

fn read_sql(at: &At<'_>) -> Result<OwnSql, FileError> {
    at.only(&[
        "expand",
        "undo",
        "dual_write",
        "dual_write_off",
        "fill",
        "right",
    ])?;
    let text = |key: &str| at.get(key).map(|at| at.text()).transpose();
    Ok(OwnSql {
        expand: texts(at, "expand")?,
        undo: texts(at, "undo")?,
        dual_write: texts(at, "dual_write")?,
        dual_write_off: texts(at, "dual_write_off")?,
        fill: text("fill")?,
        right: text("right")?,
        contract: Vec::new(),
    })
}

fn read_pace(at: &At<'_>, pace: &mut PaceLimits) -> Result<(), FileError> {
    at.only(&[
        "first_rows",
        "min_rows",
        "max_rows",
        "target",
        "target_wal",
        "timeout",
        "sub_batches",
        "load",
    ])?;
    set(at, "first_rows", &mut pace.first_rows, whole)?;
    set(at, "min_rows", &mut pace.min_rows, whole)?;
    set(at, "max_rows", &mut pace.max_rows, whole)?;
    set(at, "target", &mut pace.target_ms, duration)?;
    set(at, "target_wal", &mut pace.target_wal_bytes, size)?;
    set(at, "timeout", &mut pace.timeout_ms, duration)?;
    set(at, "sub_batches", &mut pace.sub_batches, whole)?;
    set(at, "load", &mut pace.load_percent, |at| or_off(at, whole))
}

fn read_throttle(at: &At<'_>, limits: &mut Limits) -> Result<(), FileError> {
    at.only(&[
        "replica_lag",
        "slot",
        "wal_rate",
        "autovacuum",
        "xid_age",
        "lock_waiters",
        "longest_transaction",
    ])?;
    set(at, "replica_lag", &mut limits.replica_lag_ms, |at| {
        or_off(at, duration)
    })?;
    set(at, "slot", &mut limits.slot_bytes, |at| or_off(at, size))?;
    set(at, "wal_rate", &mut limits.wal_rate_bytes, |at| {
        or_off(at, size)
    })?;
    set(at, "autovacuum", &mut limits.autovacuum, |at| {
        at.item.as_bool().ok_or_else(|| at.wrong("true or false"))
    })?;
    set(at, "xid_age", &mut limits.xid_age, |at| or_off(at, whole))?;
    set(at, "lock_waiters", &mut limits.lock_waiters, |at| {
        or_off(at, whole)
    })?;
    set(
        at,
        "longest_transaction",
        &mut limits.longest_transaction_ms,
        |at| or_off(at, duration),
    )
}

fn read_quiet(at: &At<'_>) -> Result<Quiet, FileError> {
    at.only(&["zone", "hours"])?;
    let zone = at.need("zone")?;
    let hours = at.need("hours")?;
    let read = |text: String| {
        let time = |text: &str| NaiveTime::parse_from_str(text.trim(), "%H:%M").ok();
        let parts = text.split_once('-');
        let parts = parts.and_then(|(from, to)| Some((time(from)?, time(to)?)));
        parts.ok_or_else(|| hours.wrong(&format!("{text:?}: such as \"08:00-18:30\"")))
    };
    Ok(Quiet {
        zone: calendar::zone(&zone.text()?).map_err(|error| zone.wrong(&error.to_string()))?,
        hours: hours
            .texts()?
            .into_iter()
            .map(read)
            .collect::<Result<_, _>>()?,
    })
}

fn phases(at: &At<'_>) -> Result<Vec<Phase>, FileError> {
    let known = || {
        let words: Vec<&str> = Phase::WORDS.iter().map(|(word, _)| *word).collect();
        at.wrong(&format!("a list of {}", words.join(", ")))
    };
    let phases = at.texts()?.into_iter().map(|word| Phase::from_word(&word));
    phases.collect::<Option<_>>().ok_or_else(known)
}

/// Reads a value over its default, if the file has it.
fn set<T>(
    at: &At<'_>,
    key: &str,
    value: &mut T,
    read: impl FnOnce(&At<'_>) -> Result<T, FileError>,
) -> Result<(), FileError> {
    if let Some(at) = at.get(key) {
        *value = read(&at)?;
    }
    Ok(())
}

fn texts(at: &At<'_>, key: &str) -> Result<Vec<String>, FileError> {
    Ok(at
        .get(key)
        .map(|at| at.texts())
        .transpose()?
        .unwrap_or_default())
}

fn whole<T: TryFrom<i64>>(at: &At<'_>) -> Result<T, FileError> {
    let whole = at
        .item
        .as_integer()
        .and_then(|whole| T::try_from(whole).ok());
    whole.ok_or_else(|| at.wrong("a whole number"))
}

fn duration(at: &At<'_>) -> Result<u64, FileError> {
    let read = at.item.as_str().and_then(milliseconds);
    read.ok_or_else(|| {
        at.wrong("a duration, such as \"500ms\", \"5s\", \"10m\", \"24h\" or \"7d\"")
    })
}

fn seconds(at: &At<'_>) -> Result<u64, FileError> {
    Ok(duration(at)?.div_ceil(1_000))
}

fn size(at: &At<'_>) -> Result<u64, FileError> {
    let read = at.item.as_str().and_then(bytes);
    read.ok_or_else(|| at.wrong("a size, such as \"512kB\", \"16MB\" or \"2GB\""))
}

fn or_off<T>(
    at: &At<'_>,
    read: impl FnOnce(&At<'_>) -> Result<T, FileError>,
) -> Result<Option<T>, FileError> {
    if at.item.as_str() == Some(OFF) || at.item.as_bool() == Some(false) {
        return Ok(None);
    }
    read(at).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
version = 1
name = "task-state"
table = "task"
reads = ["status"]
parallel = 2
wait_at = ["fill", "contract"]

[columns.state]
type = "smallint"
value = "case status when 'open' then 0 else 1 end"

[back.status]
value = "case state when 0 then 'open' else 'done' end"

[contract]
drop = ["status"]

[pace]
target = "200ms"
target_wal = "8MB"

[throttle]
replica_lag = "2s"
wal_rate = "off"
lock_waiters = 10

[quiet]
zone = "Europe/Berlin"
hours = ["08:00-18:30", "23:00-01:00"]

[verify]
clean_for = "48h"
every = "30m"
"#;

    #[test]
    fn a_file_says_all_of_it() {
        let of = parse(FILE).unwrap();
        assert_eq!(of.columns[0].data_type, "smallint");
        assert_eq!(of.back[0].column, "status");
        assert_eq!(of.drop, ["status"]);
        assert_eq!(of.wait_at, [Phase::Fill, Phase::Contract]);
        assert_eq!(
            (of.pace.target_ms, of.pace.target_wal_bytes),
            (200, 8 << 20)
        );
        assert_eq!(of.throttle.replica_lag_ms, Some(2_000));
        assert_eq!(of.throttle.wal_rate_bytes, None);
        assert_eq!(of.quiet.as_ref().unwrap().hours.len(), 2);
        assert_eq!(
            (of.clean_for_seconds, of.verify_every_seconds),
            (172_800, 1_800)
        );
        assert!(of.leads_back());
        let json = serde_json::to_value(&of).unwrap();
        assert_eq!(serde_json::from_value::<Definition>(json).unwrap(), of);
    }

    #[test]
    fn each_mistake_names_its_line_and_place() {
        let cases = [
            ("name = \"task-state\"", "name = \"Task\"", "name", 3),
            ("parallel = 2", "parallel = 1000", "parallel", 6),
            ("reads = [\"status\"]", "", "reads", 1),
            ("\"fill\", ", "\"fil\", ", "wait_at", 7),
            (
                "else 1 end\"",
                "else 1 end; drop\"",
                "columns.state.value",
                11,
            ),
            ("\"200ms\"", "\"soon\"", "pace.target", 20),
            ("\"8MB\"", "\"1kB\"", "pace.target_wal", 21),
            ("\"2s\"", "2", "throttle.replica_lag", 24),
            ("Europe/Berlin", "Berlin", "quiet.zone", 29),
            ("08:00-18:30", "8-18", "quiet.hours", 30),
            ("every = ", "each = ", "verify.each", 34),
        ];
        for (from, to, place, line) in cases {
            let changed = FILE.replacen(from, to, 1);
            assert_ne!(changed, FILE, "{from}");
            let error = parse(&changed).unwrap_err();
            assert_eq!((error.place.as_str(), error.line), (place, line), "{error}");
        }
        assert_eq!(parse("version = 1\nname =").unwrap_err().line, 2);
    }
}
