//! What erasing would read for want of an index, counted before anything is erased.
//!
//! Only where tenants share tables: where a schema or a database is the tenant's own, tables go whole.
//! The size of a table is the planner's estimate; how many rows of the tenant go is counted, and only
//! where it could matter.

use super::super::rules::{self, Action, MIN_CHUNK};
use super::{Ground, Trouble, store};
use crate::data_map::{self, Model, Reads, Unindexed};
use crate::product::ProductError;

/// How many rows a second are read when all of a table is: narrow ones that lie in memory.
const READS_PER_SECOND: i64 = 5_000_000;
/// For how long erasing may read for want of an index.
const MOST_SECONDS: i64 = 3_600;
/// The reads that this comes to.
const MOST_READS: i64 = MOST_SECONDS * READS_PER_SECOND;

/// What one key costs.
#[derive(Debug)]
struct Toll {
    key: Unindexed,
    /// So often.
    times: i64,
    /// So many rows are read.
    reads: i64,
}

impl Toll {
    fn seconds(&self) -> i64 {
        self.times.saturating_mul(self.reads) / READS_PER_SECOND
    }

    fn told(&self) -> String {
        let (table, reads) = (&self.key.table, self.reads);
        let columns = self.key.columns.join(", ");
        let makes = self.key.statements(None);
        match &self.key.key {
            Some((key, parent)) => format!(
                "{} rows of {parent} go, and for each of them {reads} rows of {table} are read, for no \
                 index leads to {key} ({columns}): {makes}",
                self.times
            ),
            None => format!(
                "{} chunks of {table} go, and for each of them its {reads} rows are read, for no index \
                 leads to {columns}: {makes}",
                self.times
            ),
        }
    }
}

/// Which keys make erasing too long, the worst first and no more than it takes; `None` where it is
/// not.
fn too_long(mut tolls: Vec<Toll>) -> Option<(String, String)> {
    let all = |tolls: &[Toll]| tolls.iter().map(Toll::seconds).fold(0, i64::saturating_add);
    let seconds = all(&tolls);
    tolls.sort_by_key(|toll| std::cmp::Reverse(toll.seconds()));
    let mut told = Vec::new();
    let mut code = None;
    while all(&tolls) > MOST_SECONDS && !tolls.is_empty() {
        let worst = tolls.remove(0);
        told.push(worst.told());
        code = code.or(Some(worst.key.finding(None).code));
    }
    let code = serde_json::to_value(code?).ok()?;
    let message = format!(
        "erasing would read for about {} h, at {READS_PER_SECOND} rows a second: {}",
        seconds.saturating_add(1_800) / 3_600,
        told.join("; ")
    );
    Some((code.as_str()?.to_owned(), message))
}

impl Ground {
    /// Refuses what would take too long for want of an index, with the statement that makes it.
    pub(in crate::deletion) async fn refuse_what_crawls(&self) -> Result<(), Trouble> {
        match too_long(self.tolls().await?) {
            None => Ok(()),
            Some((code, message)) => Err(Trouble::Named { code, message }),
        }
    }

    async fn tolls(&self) -> Result<Vec<Toll>, Trouble> {
        let map = &self.map.map;
        if map.model != Model::Shared {
            return Ok(Vec::new());
        }
        let plan = rules::plan_product(map, &self.snapshot);
        let place = |name: &str, action: Action| {
            let mut steps = plan.iter();
            steps.position(|step| step.name == name && step.action == action)
        };
        let mut tolls = Vec::new();
        for key in data_map::unindexed(map, &self.snapshot) {
            let Some((_, parent)) = &key.key else {
                let walks = [Action::Delete, Action::Mask].map(|action| place(&key.table, action));
                if walks.iter().any(Option::is_some) {
                    let reads = self.estimated(&key.table);
                    let rows = self.at_most(&key.table, reads / MIN_CHUNK).await?;
                    let times = rows / MIN_CHUNK + 1;
                    tolls.push(Toll { key, times, reads });
                }
                continue;
            };
            let Some(goes) = place(parent, Action::Delete) else {
                continue;
            };
            let gone = place(&key.table, Action::Delete).is_some_and(|place| place < goes);
            let reads = match key.reads {
                Reads::Table => self.estimated(&key.table),
                Reads::Tenant if gone => continue,
                Reads::Tenant => self.at_most(&key.table, self.estimated(parent)).await?,
            };
            let times = self.at_most(parent, reads).await?;
            tolls.push(Toll { key, times, reads });
        }
        Ok(tolls)
    }

    fn estimated(&self, table: &str) -> i64 {
        self.snapshot.table(table).map_or(0, |table| table.rows)
    }

    /// How many rows of a table are the tenant's, where that many times `reads` could matter; and no
    /// more than decides it.
    async fn at_most(&self, table: &str, reads: i64) -> Result<i64, Trouble> {
        let reads = reads.max(1);
        if self.estimated(table).saturating_mul(reads) < MOST_READS / 100 {
            return Ok(0);
        }
        let limit = (MOST_READS / reads).saturating_mul(10).saturating_add(1);
        let mut tx = self.site.begin().await?;
        let rows = store::count_up_to(&mut tx, &self.rows(table), limit).await;
        Ok(rows.map_err(ProductError::from)?)
    }

    /// The statements that make indexes for keys to a table, where none leads.
    pub(super) fn indexes_for(&self, table: &str) -> String {
        let keys = data_map::unindexed(&self.map.map, &self.snapshot);
        let to_it = keys.iter().filter(|one| {
            let parent = one.key.as_ref().map(|(_, parent)| parent.as_str());
            parent.map_or(one.table == table, |parent| parent == table)
        });
        let made: Vec<String> = to_it
            .map(|one| one.statements(self.place.schema.as_deref()))
            .collect();
        match made.is_empty() {
            true => String::new(),
            false => format!("; no index leads to what refers to it: {}", made.join("; ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_map::{ForeignKey, OnDelete, Snapshot, Table};

    /// A key from each of these tables to `work.task`, as the catalog would tell it.
    fn toll(table: &str, times: i64, reads: i64) -> Toll {
        let map = format!(
            "version = 1\nmodel = \"shared\"\nschemas = [\"work\"]\n\
             [tables.\"work.task\"]\ntenant = \"org_id\"\nclass = \"content\"\norder = 2\n\
             [tables.\"work.task\".columns]\norg_id = {{ kind = \"operational\", erase = \"delete\" }}\n\
             [tables.\"{table}\"]\ntenant = \"org_id\"\nclass = \"content\"\norder = 1\n\
             [tables.\"{table}\".columns]\norg_id = {{ kind = \"operational\", erase = \"delete\" }}\n"
        );
        let key = ForeignKey {
            name: "of_task".to_owned(),
            columns: vec!["org_id".to_owned(), "task_id".to_owned()],
            parent: "work.task".to_owned(),
            parent_columns: Vec::new(),
            on_delete: OnDelete::Refuse,
            match_full: false,
        };
        let child = Table {
            name: table.to_owned(),
            foreign_keys: vec![key],
            ..Table::default()
        };
        let snapshot = Snapshot {
            tables: vec![child],
        };
        let map = data_map::parse(&map).unwrap();
        let key = data_map::unindexed(&map, &snapshot).remove(0);
        Toll { key, times, reads }
    }

    #[test]
    fn an_hour_of_reading_is_borne_and_more_is_refused_by_the_keys_that_are_to_blame() {
        let hour = || toll("work.note", 3_600, READS_PER_SECOND);
        assert_eq!(too_long(vec![hour()]), None);
        assert_eq!(too_long(Vec::new()), None);
        let second = toll("work.comment", 1, READS_PER_SECOND);
        let (code, message) = too_long(vec![second, hour()]).unwrap();
        assert_eq!(code, "key_without_index");
        assert_eq!(
            message,
            "erasing would read for about 1 h, at 5000000 rows a second: 3600 rows of work.task go, and \
             for each of them 5000000 rows of work.note are read, for no index leads to of_task (org_id, \
             task_id): create index concurrently on \"work\".\"note\" (\"org_id\", \"task_id\")"
        );
        let most = toll("work.comment", i64::MAX, i64::MAX);
        let (_, message) = too_long(vec![hour(), most]).unwrap();
        assert!(message.contains("work.comment") && !message.contains("work.note"));
    }
}
