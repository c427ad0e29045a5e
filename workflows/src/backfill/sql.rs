//! The texts of the statements that a backfill runs at a place. Pure: names are quoted, values are
//! bound by who runs them; expressions come from the definition, which only operators may give.
//!
//! Bound values: the columns of the key after which a batch begins, then those up to which it
//! reaches, each as text, then the number of rows.

use std::fmt::Write as _;

use super::definition::{Definition, NewColumn};
use super::phase::Phase;
use crate::product::quoted;

/// What is known of the table at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    /// The table, qualified and quoted.
    pub(super) table: String,
    /// Its schema, quoted.
    pub(super) schema: String,
    /// The condition that a row, under the alias `t`, is the tenant's.
    pub(super) own: String,
    /// What rows are walked by.
    pub(super) key: Vec<KeyColumn>,
}

/// A column of the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyColumn {
    pub(super) name: String,
    pub(super) data_type: String,
}

/// Which ends a batch has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    pub(super) after: bool,
    pub(super) to: bool,
}

impl Shape {
    fn columns(&self, prefix: &str) -> String {
        let columns = self
            .key
            .iter()
            .map(|column| format!("{prefix}{}", quoted(&column.name)));
        columns.collect::<Vec<_>>().join(", ")
    }

    fn descending(&self) -> String {
        let columns = self
            .key
            .iter()
            .map(|column| format!("{} desc", quoted(&column.name)));
        columns.collect::<Vec<_>>().join(", ")
    }

    /// The key as texts, which are read back by a cast to the column's type.
    fn texts(&self) -> String {
        let columns = self
            .key
            .iter()
            .map(|column| format!("{}::text", quoted(&column.name)));
        format!("array[{}]", columns.collect::<Vec<_>>().join(", "))
    }

    fn bound(&self, first: usize) -> String {
        let columns = self.key.iter().enumerate();
        let columns =
            columns.map(|(n, column)| format!("${}::text::{}", first + n, column.data_type));
        columns.collect::<Vec<_>>().join(", ")
    }

    /// The condition of a batch.
    fn rows(&self, ends: Ends) -> String {
        let mut condition = format!("({})", self.own);
        let mut next = 1;
        let columns = self.columns("t.");
        if ends.after {
            let _ = write!(condition, " and ({columns}) > ({})", self.bound(next));
            next += self.key.len();
        }
        if ends.to {
            let _ = write!(condition, " and ({columns}) <= ({})", self.bound(next));
        }
        condition
    }

    fn count_place(&self, ends: Ends) -> usize {
        1 + self.key.len() * (usize::from(ends.after) + usize::from(ends.to))
    }

    /// How many rows a batch has, and the key of its last one; no row when there are none.
    pub(super) fn page(&self, ends: Ends) -> String {
        format!(
            "with page as (\n  select {columns} from {table} as t where {rows}\n  \
             order by {columns} limit ${count}::bigint\n)\n\
             select (select count(*) from page), {texts} from page order by {descending} limit 1",
            columns = self.columns("t."),
            table = self.table,
            rows = self.rows(ends),
            count = self.count_place(ends),
            texts = self.texts(),
            descending = self.descending(),
        )
    }

    /// Fills the rows of a batch that are not right yet.
    pub(super) fn fill(&self, of: &Definition, ends: Ends) -> String {
        let rows = self.rows(ends);
        if let Some(fill) = &of.sql.fill {
            return self.place(fill).replace("{rows}", &rows);
        }
        let values: Vec<(String, String)> = of.columns.iter().filter_map(value).collect();
        let set = values
            .iter()
            .map(|(name, value)| format!("{name} = {value}"));
        let wrong = values
            .iter()
            .map(|(name, value)| format!("t.{name} is distinct from {value}"));
        format!(
            "update {} as t set {}\nwhere {rows}\n  and ({})",
            self.table,
            set.collect::<Vec<_>>().join(", "),
            wrong.collect::<Vec<_>>().join(" or "),
        )
    }

    /// Compares the rows of a batch: how many, how many are wrong, the sums over what is found and
    /// what is expected, the last key, the first key that is wrong.
    pub(super) fn verify(&self, of: &Definition, ends: Ends) -> String {
        let values: Vec<(String, String)> = of.columns.iter().filter_map(value).collect();
        let names = values.iter().map(|(name, _)| format!("t.{name}"));
        let found = format!("row({})::text", names.collect::<Vec<_>>().join(", "));
        let expected = values.iter().map(|(_, value)| value.clone());
        let expected = format!("row({})::text", expected.collect::<Vec<_>>().join(", "));
        let same = values
            .iter()
            .map(|(name, value)| format!("t.{name} is not distinct from {value}"));
        let right = match &of.sql.right {
            Some(right) => format!("coalesce(({right}), false)"),
            None => same.collect::<Vec<_>>().join(" and "),
        };
        format!(
            "with page as (\n  select {columns}, ({right}) as is_right, {found} as found, {expected} as expected\n  \
             from {table} as t where {rows}\n  order by {columns} limit ${count}::bigint\n)\n\
             select count(*), count(*) filter (where not is_right),\n  \
             coalesce(sum(hashtextextended(found, 0)::numeric), 0)::text,\n  \
             coalesce(sum(hashtextextended(expected, 0)::numeric), 0)::text,\n  \
             (select {texts} from page order by {descending} limit 1),\n  \
             (select {texts} from page where not is_right order by {ascending} limit 1)\n\
             from page",
            columns = self.columns("t."),
            table = self.table,
            rows = self.rows(ends),
            count = self.count_place(ends),
            texts = self.texts(),
            descending = self.descending(),
            ascending = self.columns(""),
        )
    }

    /// What the planner makes of the tenant's rows.
    pub(super) fn estimate(&self) -> String {
        format!(
            "explain (format json) select from {} as t where ({})",
            self.table, self.own
        )
    }

    /// Keys that part the tenant's rows, taken from a sample of the table: share in percent at $1,
    /// parts at $2.
    pub(super) fn sample(&self) -> String {
        format!(
            "with sample as (\n  select {columns},\n    row_number() over (order by {columns}) as place,\n    \
             count(*) over () as total\n  from {table} as t tablesample system ($1::float4)\n  where ({own})\n)\n\
             select {texts} from sample\n\
             where total >= 10 * $2::bigint and place % (total / $2::bigint) = 0\n  \
             and place <= total - total / $2::bigint / 2\norder by place",
            columns = self.columns("t."),
            table = self.table,
            own = self.own,
            texts = self.texts(),
        )
    }

    /// Adds the columns. No default and no constraint, so that nothing is rewritten.
    pub(super) fn expand(&self, of: &Definition) -> Vec<String> {
        let add = of.columns.iter();
        let add =
            add.map(|column| format!("add column {} {}", quoted(&column.name), column.data_type));
        let mut all = Vec::new();
        if !of.columns.is_empty() {
            let add = add.collect::<Vec<_>>().join(", ");
            all.push(format!("alter table {} {add}", self.table));
        }
        all.extend(of.sql.expand.iter().map(|text| self.place(text)));
        all
    }

    /// Makes the trigger that keeps old and new alike.
    pub(super) fn dual_write(&self, of: &Definition) -> Vec<String> {
        if !of.generates_trigger() {
            return of
                .sql
                .dual_write
                .iter()
                .map(|text| self.place(text))
                .collect();
        }
        let name = object(of);
        let function = format!("{}.{name}", self.schema);
        let forward = assign(of.columns.iter().filter_map(value));
        let back = of
            .back
            .iter()
            .map(|back| (quoted(&back.column), format!("({})", back.value)));
        let back = match of.back.is_empty() {
            true => "null;".to_owned(),
            false => assign(back),
        };
        let news: Vec<String> = of
            .columns
            .iter()
            .map(|column| quoted(&column.name))
            .collect();
        let nulls = news.iter().map(|name| format!("new.{name} is null"));
        vec![
            format!(
                "create function {function}() returns trigger\nlanguage plpgsql set search_path from current\n\
                 as $tenure_backfill$\nbegin\n  if tg_op = 'INSERT' then\n    if {nulls} then\n      {forward}\n    \
                 else\n      {back}\n    end if;\n  elsif {reads} then\n    {forward}\n  elsif {writes} then\n    \
                 {back}\n  end if;\n  return new;\nend\n$tenure_backfill$",
                nulls = nulls.collect::<Vec<_>>().join(" and "),
                reads = changed(&of.reads.iter().map(|name| quoted(name)).collect::<Vec<_>>()),
                writes = changed(&news),
            ),
            // The batches write the new columns only, and must not be taken for the product.
            format!(
                "create trigger {name} before insert or update on {} for each row\n\
                 when (current_setting('tenure.backfill', true) is distinct from 'on')\n\
                 execute function {function}()",
                self.table
            ),
        ]
    }

    fn dual_write_off(&self, of: &Definition) -> Vec<String> {
        if !of.generates_trigger() {
            let off = of.sql.dual_write_off.iter();
            return off.map(|text| self.place(text)).collect();
        }
        let name = object(of);
        vec![
            format!("drop trigger if exists {name} on {}", self.table),
            format!("drop function if exists {}.{name}()", self.schema),
        ]
    }

    /// Drops the trigger and the old columns.
    pub(super) fn contract(&self, of: &Definition) -> Vec<String> {
        let mut all = self.dual_write_off(of);
        all.extend(of.sql.contract.iter().map(|text| self.place(text)));
        all.extend(self.drop_columns(of.drop.iter()));
        all
    }

    /// Takes the trigger and the new columns away.
    pub(super) fn undo(&self, of: &Definition) -> Vec<String> {
        let mut all = self.dual_write_off(of);
        all.extend(of.sql.undo.iter().map(|text| self.place(text)));
        all.extend(self.drop_columns(of.columns.iter().map(|column| &column.name)));
        all
    }

    /// All that is run at the place, by phase, for people to read.
    pub(super) fn all(&self, of: &Definition) -> Vec<(Phase, String)> {
        let ends = Ends {
            after: true,
            to: true,
        };
        let phases = [
            (Phase::Expand, self.expand(of)),
            (Phase::DualWrite, self.dual_write(of)),
            (Phase::Fill, vec![self.fill(of, ends)]),
            (Phase::Verify, vec![self.verify(of, ends)]),
            (Phase::Contract, self.contract(of)),
            (Phase::Undone, self.undo(of)),
        ];
        let texts = phases
            .into_iter()
            .flat_map(|(phase, texts)| texts.into_iter().map(move |text| (phase, text)));
        texts.collect()
    }

    fn drop_columns<'a>(&self, names: impl Iterator<Item = &'a String>) -> Option<String> {
        let drop: Vec<String> = names
            .map(|name| format!("drop column if exists {}", quoted(name)))
            .collect();
        (!drop.is_empty()).then(|| format!("alter table {} {}", self.table, drop.join(", ")))
    }

    fn place(&self, text: &str) -> String {
        text.replace("{table}", &self.table)
            .replace("{schema}", &self.schema)
    }
}

/// A new column, quoted, and its value in its own type.
fn value(column: &NewColumn) -> Option<(String, String)> {
    let value = column.value.as_ref()?;
    Some((
        quoted(&column.name),
        format!("({value})::{}", column.data_type),
    ))
}

/// Assigns values to the new row; expressions see it as the table.
fn assign(values: impl Iterator<Item = (String, String)>) -> String {
    let (names, values): (Vec<_>, Vec<_>) = values.unzip();
    let names: Vec<String> = names.iter().map(|name| format!("new.{name}")).collect();
    format!(
        "select {} into {} from (select new.*) as t;",
        values.join(", "),
        names.join(", ")
    )
}

fn changed(names: &[String]) -> String {
    let row = |prefix: &str| {
        let names = names.iter().map(|name| format!("{prefix}.{name}"));
        format!("({})", names.collect::<Vec<_>>().join(", "))
    };
    format!("row{} is distinct from row{}", row("old"), row("new"))
}

/// The name of the trigger and its function, quoted.
pub(super) fn object(of: &Definition) -> String {
    quoted(&format!("tenure_backfill_{}", of.name.replace('-', "_")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> Shape {
        let key = |name: &str, data_type: &str| KeyColumn {
            name: name.to_owned(),
            data_type: data_type.to_owned(),
        };
        Shape {
            table: "\"work\".\"audit_event\"".to_owned(),
            schema: "\"work\"".to_owned(),
            own: "t.org_id = own()".to_owned(),
            key: vec![
                key("happened_at", "timestamp with time zone"),
                key("event_id", "uuid"),
            ],
        }
    }

    #[test]
    fn the_ends_of_a_batch_are_bound_in_the_order_of_the_key() {
        let both = Ends {
            after: true,
            to: true,
        };
        let text = shape().page(both);
        assert!(text.contains(
            "(t.\"happened_at\", t.\"event_id\") > ($1::text::timestamp with time zone, $2::text::uuid)"
        ));
        assert!(text.contains(
            "(t.\"happened_at\", t.\"event_id\") <= ($3::text::timestamp with time zone, $4::text::uuid)"
        ));
        assert!(text.contains("limit $5::bigint"));
        let open = Ends {
            after: false,
            to: false,
        };
        assert!(shape().page(open).contains("where (t.org_id = own())\n"));
        assert!(shape().page(open).contains("limit $1::bigint"));
    }

    #[test]
    fn statements_that_are_given_get_the_table_and_the_rows() {
        let mut of = Definition::new("hash", "audit_event");
        of.sql.fill =
            Some("update {table} as t set hash = md5(details::text) where {rows}".to_owned());
        let text = shape().fill(
            &of,
            Ends {
                after: false,
                to: true,
            },
        );
        assert_eq!(
            text,
            "update \"work\".\"audit_event\" as t set hash = md5(details::text) where (t.org_id = own()) \
             and (t.\"happened_at\", t.\"event_id\") <= ($1::text::timestamp with time zone, $2::text::uuid)"
        );
    }
}
