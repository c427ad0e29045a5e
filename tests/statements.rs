//! Every statement that the product was compiled with, as `.sqlx/` keeps it: what distributing the
//! schema by shard asks of its words, and that it is accepted, and kept to one partition where it
//! speaks of one run or tenant, by a schema whose tables are all partitioned by shard.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use sqlx::{AssertSqlSafe, PgConnection};
use tenure_engine::PoolConfig;

use crate::support;

/// All statements with their comments and line ends taken out.
fn statements() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".sqlx");
    let mut statements: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            let described: serde_json::Value = serde_json::from_str(&text).unwrap();
            let query = described["query"].as_str().unwrap();
            let lines = query
                .lines()
                .map(|line| line.split(" --").next().unwrap())
                .filter(|line| !line.trim_start().starts_with("--"));
            let words: Vec<&str> = lines.flat_map(str::split_whitespace).collect();
            words.join(" ")
        })
        .collect();
    statements.sort();
    assert!(
        statements.len() > 50,
        "the statements are not where they were"
    );
    statements
}

/// The tables that hold a tenant's rows. The two directories say in which shard a tenant is, so they
/// are not sharded themselves.
async fn sharded(conn: &mut PgConnection) -> Vec<String> {
    sqlx::query_scalar(
        "select c.relnamespace::regnamespace || '.' || c.relname
         from pg_class c
         join pg_attribute a on a.attrelid = c.oid and a.attname = 'shard_id'
         where c.relnamespace in ('engine'::regnamespace, 'app'::regnamespace)
           and c.relkind in ('r', 'p') and not c.relispartition
           and c.relname <> 'tenant'
         order by 1",
    )
    .fetch_all(conn)
    .await
    .unwrap()
}

/// A verb of a statement, to the end of its parenthesis.
struct Verb<'a> {
    table: &'a str,
    /// What decides on the rows: all before `returning`.
    words: &'a str,
}

/// The words after `start` up to the end of the parenthesis that they stand in.
fn clause(statement: &str, start: usize) -> &str {
    let mut depth = 0;
    for (place, letter) in statement[start..].char_indices() {
        match letter {
            '(' => depth += 1,
            ')' if depth == 0 => return &statement[start..start + place],
            ')' => depth -= 1,
            _ => {}
        }
    }
    &statement[start..]
}

/// The inserts, updates and deletes of a statement.
fn verbs<'a>(statement: &'a str) -> impl Iterator<Item = Verb<'a>> {
    let starts = ["insert into ", "update ", "delete from "]
        .into_iter()
        .flat_map(|verb| {
            statement
                .match_indices(verb)
                .map(move |(at, _)| at + verb.len())
        });
    starts.filter_map(|start| {
        let words = clause(statement, start);
        let table = words.split([' ', '(']).next()?;
        let deciding = words.split(" returning ").next()?;
        table.contains('.').then_some(Verb {
            table,
            words: deciding,
        })
    })
}

type Rule = (&'static str, fn(&str, &[String]) -> bool);

/// What a statement must not do. Ids, times and jitter are bound from Rust, or come from
/// `engine.now()`; a value that each node would make for itself must not reach a row.
const RULES: [Rule; 8] = [
    ("a clock of Postgres", |statement, _| {
        let words = statement.replace("engine.now()", "");
        let clocks = [
            "now()",
            "clock_timestamp",
            "statement_timestamp",
            "transaction_timestamp",
            "current_timestamp",
            "current_date",
            "localtimestamp",
        ];
        clocks.iter().any(|clock| words.contains(clock))
    }),
    ("chance", |statement, _| {
        let made = [
            "random(",
            "gen_random_uuid",
            "uuidv4(",
            "uuidv7(",
            "uuid_generate",
        ];
        made.iter().any(|made| statement.contains(made))
    }),
    ("a sequence", |statement, _| {
        let made = ["nextval", "currval", "setval", "lastval"];
        made.iter().any(|made| statement.contains(made))
    }),
    ("a lock of the session", |statement, _| {
        let words = statement.replace("advisory_xact_lock", "");
        words.contains("advisory_lock") || words.contains("advisory_unlock")
    }),
    ("a time of its own when rows meet", |statement, _| {
        statement
            .match_indices("do update set")
            .any(|(at, _)| clause(statement, at).contains("now()"))
    }),
    ("columns without names", |statement, _| {
        statement.contains("select *") || statement.contains(".*")
    }),
    ("a physical place", |statement, _| {
        statement.contains("ctid")
    }),
    ("rows without their shard", |statement, sharded| {
        verbs(statement).any(|verb| {
            let is_sharded = sharded.iter().any(|table| table == verb.table);
            let conflict = verb.words.split(" on conflict ").nth(1);
            is_sharded
                && !(verb.words.contains("shard_id")
                    && conflict.is_none_or(|on| clause(on, 1).contains("shard_id")))
        })
    }),
];

/// Where a rule is broken on purpose: the rule, words of the statement, and why.
const EXCEPTIONS: [(&str, &str, &str); 17] = [
    (
        "rows without their shard",
        "delete from engine.gathering where until <",
        "what is over is dropped on every shard alike",
    ),
    (
        "columns without names",
        "select * from engine.inbox where inbox.run_id = wanted.run_id",
        "one table, and the outer select names what it takes",
    ),
    (
        "columns without names",
        "select t.* from lease cross join unnest( $3::uuid[]",
        "the columns are named in the alias of the unnest",
    ),
    (
        "columns without names",
        "select run.*, wanted.due_at as claimed_due_at, wanted.level, wanted.later from wanted cross join lateral ( select run.* from engine.run",
        "one table, and the last select names what it takes",
    ),
    (
        "a physical place",
        "from engine.due where due.ctid = place.row_id and due.shard_id + 0 = place.shard_id",
        "a claim takes what is due on its own node: with the shard a ctid names one row, because a \
         shard lies in one partition",
    ),
    (
        "a physical place",
        "exists ( select from engine.nudge where nudge.ctid >= ",
        "a page from which a worker looks is one of each partition, and a look that misses some is made again",
    ),
    (
        "rows without their shard",
        "delete from engine.clocked using engine.test_clock",
        "a test clock is a control row and may hold tenants of several shards",
    ),
    (
        "rows without their shard",
        "update engine.schedule set look_at = engine.now() from engine.test_clock",
        "a test clock is a control row and may hold tenants of several shards",
    ),
    (
        "one without a shard",
        "from engine.schedule where ($1::uuid is null or tenant_id = $1)",
        "the console's list of schedules, of all tenants or one",
    ),
    (
        "one without a shard",
        "from engine.run where ($1::uuid is null or run_id < $1)",
        "the console's search, of all tenants or one",
    ),
    (
        "one without a shard",
        "from app.notice where ($1::uuid is null or tenant_id = $1)",
        "the console's list of mails, of all tenants or one",
    ),
    (
        "one without a shard",
        "from engine.legal_hold where ($1::uuid is null or tenant_id = $1)",
        "the list of holds, of all tenants or one",
    ),
    (
        "one without a shard",
        "select audit_id, shard_id, tenant_id from engine.audit where audit_id > $2",
        "a deletion goes through everybody's log, page by page",
    ),
    (
        "one without a shard",
        "select run_id, shard_id, tenant_id from engine.transition where run_id > $2",
        "a deletion goes through everybody's log, page by page: no index leads to one tenant's",
    ),
    (
        "one without a shard",
        "with unselected as ( delete from engine.bulk_run",
        "a deletion clears what no run leads to any more, on whatever shard it may lie",
    ),
    (
        "rows without their shard",
        "with unselected as ( delete from engine.bulk_run",
        "a deletion clears what no run leads to any more, on whatever shard it may lie",
    ),
    (
        "one without a shard",
        "union all select 'due', count(*) from engine.due where tenant_id = $1",
        "a deletion looks whether anything is left, on whatever shard it may lie",
    ),
];

/// Says of each statement which rules it breaks that are not excepted; and which exceptions are idle.
fn judge<'a>(found: impl Iterator<Item = (&'a str, &'a str)>, rules: &[&str]) -> Vec<String> {
    let mut used = BTreeSet::new();
    let mut complaints = Vec::new();
    for (rule, statement) in found {
        let excepted = EXCEPTIONS
            .iter()
            .position(|(of, words, _)| *of == rule && statement.contains(words));
        match excepted {
            Some(place) => _ = used.insert(place),
            None => complaints.push(format!("{rule}: {statement}")),
        }
    }
    for (place, (rule, words, _)) in EXCEPTIONS.iter().enumerate() {
        if rules.contains(rule) && !used.contains(&place) {
            complaints.push(format!("the exception is of no use: {rule}: {words}"));
        }
    }
    complaints
}

#[tokio::test(flavor = "multi_thread")]
async fn every_statement_would_mean_the_same_on_every_node() {
    let mut conn = support::connect(&support::database().await).await;
    let sharded = sharded(&mut conn).await;
    let statements = statements();
    let found = RULES.iter().flat_map(|(rule, breaks)| {
        let sharded = &sharded;
        let broken = statements.iter().filter(|one| breaks(one, sharded));
        broken.map(move |one| (*rule, one.as_str()))
    });
    let rules = RULES.map(|(rule, _)| rule);
    let complaints = judge(found, &rules);
    assert!(complaints.is_empty(), "{}", complaints.join("\n\n"));
}

#[test]
fn a_bad_statement_is_found() {
    let sharded = ["engine.run".to_owned()];
    for (rule, statement) in [
        ("a clock of Postgres", "select now()"),
        ("chance", "select gen_random_uuid()"),
        ("a sequence", "select nextval('s')"),
        ("a lock of the session", "select pg_advisory_lock(1)"),
        (
            "a time of its own when rows meet",
            "insert into a.b (c) values ($1) on conflict (c) do update set d = engine.now()",
        ),
        ("columns without names", "select * from a.b, a.c"),
        ("a physical place", "delete from a.b where ctid = $1"),
        (
            "rows without their shard",
            "with a as (update engine.run set key = $1 where run_id = $2 returning shard_id) \
             select shard_id from a",
        ),
        (
            "rows without their shard",
            "insert into engine.run (run_id, shard_id) values ($1, $2) on conflict (run_id) do nothing",
        ),
    ] {
        let (_, breaks) = RULES.iter().find(|(name, _)| *name == rule).unwrap();
        assert!(breaks(statement, &sharded), "{statement}");
    }
}

/// Makes every sharded table again, partitioned by shard: shard 0, shard 1, and all others.
const PARTITION: &str = r"
do $$
declare
  one record;
  again text[] := '{}';
  statement text;
begin
  -- What hangs on the tables comes back when they are all there.
  for one in
    select format('create view %s as %s', oid::regclass, pg_get_viewdef(oid)) as statement, oid::regclass as name
    from pg_class
    where relkind = 'v' and relnamespace in ('engine'::regnamespace, 'app'::regnamespace)
  loop
    again := again || one.statement;
    execute format('drop view %s', one.name);
  end loop;
  for one in
    select k.conname, k.conrelid::regclass as name, pg_get_constraintdef(k.oid) as def
    from pg_constraint k
    where k.contype = 'f' and k.conparentid = 0
      and k.connamespace in ('engine'::regnamespace, 'app'::regnamespace)
  loop
    again := again || format('alter table %s add constraint %I %s', one.name, one.conname, one.def);
    execute format('alter table %s drop constraint %I', one.name, one.conname);
  end loop;
  for one in
    select c.relnamespace::regnamespace as schema, c.relname as name
    from pg_class c
    join pg_attribute a on a.attrelid = c.oid and a.attname = 'shard_id'
    where c.relnamespace in ('engine'::regnamespace, 'app'::regnamespace)
      and c.relkind in ('r', 'p') and not c.relispartition
      and c.relname <> 'tenant'
  loop
    execute format('create table %s.shaped (like %1$s.%I including all) partition by list (shard_id)', one.schema, one.name);
    execute format('drop table %s.%I', one.schema, one.name);
    execute format('alter table %s.shaped rename to %I', one.schema, one.name);
    execute format('create table %s.%I partition of %1$s.%3$I for values in (0)', one.schema, one.name || '__a', one.name);
    execute format('create table %s.%I partition of %1$s.%3$I for values in (1)', one.schema, one.name || '__b', one.name);
    execute format('create table %s.%I partition of %1$s.%3$I default', one.schema, one.name || '__c', one.name);
  end loop;
  foreach statement in array again loop
    execute statement;
  end loop;
end $$";

/// A value of a type, as a literal. What it is does not matter, but for the shard.
fn literal(of: &str) -> &'static str {
    match of {
        "uuid" => "'01a209f6-4a46-727d-af04-fed22f2f252b'",
        "smallint" | "integer" | "bigint" | "numeric" | "double precision" => "0",
        "boolean" => "true",
        "timestamp with time zone" => "'2027-01-31T09:00:00Z'",
        "date" => "'2027-01-31'",
        "interval" => "'1 second'",
        // Some of it is read as a number.
        "text" => "'0'",
        "name" => "'run'",
        "jsonb" => "'{}'",
        "bytea" => "'\\x00'",
        of if of.ends_with("[]") => "'{}'",
        of => panic!("no value of type {of}"),
    }
}

/// Whether a statement speaks of one run or one tenant.
fn speaks_of_one(statement: &str, sharded: &[String]) -> bool {
    let is_about = sharded.iter().any(|table| {
        let mentioned = statement.match_indices(table.as_str());
        let ends = mentioned.map(|(at, _)| statement[at + table.len()..].chars().next());
        ends.into_iter()
            .any(|next| next.is_none_or(|next| !(next.is_alphanumeric() || next == '_')))
    });
    let keys = [
        "run_id = $",
        "tenant_id = $",
        "invoice_id = $",
        "subscription_id = $",
        "notice_id = $",
    ];
    let is_about = is_about || statement.contains("engine.run_summary");
    is_about && keys.iter().any(|key| statement.contains(key))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_statement_fits_a_partitioned_schema_and_one_about_one_touches_one_partition() {
    let mut conn = support::connect(&support::database().await).await;
    let sharded = sharded(&mut conn).await;
    sqlx::raw_sql(PARTITION).execute(&mut conn).await.unwrap();
    let forgotten = "update engine.run set nudged = true where run_id = $1";
    assert!(plans(&mut conn, forgotten).await.contains("run__b"));
    let statements = statements();
    let mut without = Vec::new();
    let mut scattered = BTreeMap::new();
    let mut kept = 0;
    for statement in &statements {
        let plans = plans(&mut conn, statement).await;
        if !speaks_of_one(statement, &sharded) {
            continue;
        }
        if !(statement.contains("shard_id = $") || statement.contains("insert into")) {
            without.push(("one without a shard", statement.as_str()));
            continue;
        }
        kept += 1;
        let touched: BTreeSet<&str> = ["__a", "__b", "__c"]
            .into_iter()
            .filter(|partition| plans.contains(partition))
            .collect();
        if touched.len() > 1 {
            scattered.insert(statement, plans);
        }
    }
    let complaints = judge(without.into_iter(), &["one without a shard"]);
    assert!(complaints.is_empty(), "{}", complaints.join("\n\n"));
    assert!(
        scattered.is_empty(),
        "more than one partition: {scattered:#?}"
    );
    assert!(
        kept > 20,
        "only {kept} statements speak of one run or tenant"
    );
}

/// The tables that grow with the work, on which a worker's statement must not look at every row.
const GROWING: [&str; 6] = ["run", "due", "step", "inbox", "clocked", "transition"];

/// The lines of a plan that go through a whole table or index that grows with the work.
fn sweeps(plan: &str) -> Vec<&str> {
    let lines: Vec<&str> = plan.lines().collect();
    let of_growing = |line: &str| {
        let scanned = line.split_once(" on ").map_or("", |(_, rest)| rest);
        let table = scanned.split([' ', '_']).next().unwrap_or_default();
        line.contains("Scan") && GROWING.contains(&table)
    };
    let mut found = Vec::new();
    for (place, line) in lines.iter().enumerate() {
        let next = lines.get(place + 1).copied().unwrap_or_default();
        let by_key = ["Tid Scan", "Subquery Scan", "Bitmap Heap Scan"]
            .iter()
            .any(|kind| line.contains(kind))
            || next.contains("Cond:");
        if of_growing(line) && !by_key {
            found.push(*line);
        }
    }
    found
}

/// The lines of a plan that go through all runs of a tenant in search of one by its key.
fn searches(plan: &str) -> Vec<&str> {
    if !plan.contains("using run_by_tenant") {
        return Vec::new();
    }
    let compares = |line: &&str| line.contains("Filter:") || line.contains("Hash Cond:");
    let by_key = |line: &&str| line.contains("key = ") && !line.contains("key = ANY");
    plan.lines().filter(compares).filter(by_key).collect()
}

/// Plans are made once for a connection's life, perhaps on the day on which everything is empty and
/// reading all is cheapest; a worker's statements keep to keys then, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_plan_made_while_the_tables_are_empty_goes_by_keys() {
    let options = support::database().await;
    let config = PoolConfig::default();
    let pool = tenure_engine::connect(options, &config).await.unwrap();
    let mut conn = pool.acquire().await.unwrap();
    let everything = "select run.run_id from engine.run join engine.due using (run_id, shard_id)";
    assert!(!sweeps(&plan(&mut conn, everything).await).is_empty());
    let one = "select run_id from engine.run
        where key = $1 and workflow = $2 and tenant_id = $3 and shard_id = $4";
    assert!(!searches(&plan(&mut conn, one).await).is_empty());
    let mut complaints = Vec::new();
    let mut judged = 0;
    let of_engine = |statement: &String| !statement.contains("app.");
    for statement in statements().iter().filter(|one| of_engine(one)) {
        let plan = plan(&mut conn, statement).await;
        for search in searches(&plan) {
            complaints.push(format!("{search}\nof {statement}\n{plan}"));
        }
        let is_of_worker = statement.starts_with("with lease as materialized")
            || statement.contains("as wanted (run_id, shard_id");
        if !is_of_worker {
            continue;
        }
        judged += 1;
        for sweep in sweeps(&plan) {
            complaints.push(format!("{sweep}\nof {statement}\n{plan}"));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n\n"));
    assert!(judged >= 5, "only {judged} statements are a worker's");
    // Whoever speaks for a tenant is held to its rows besides, which another index serves.
    let find = |one: &&String| {
        one.contains("workflow, tenant_id, shard_id) >=")
            || one.contains("run.tenant_id, run.shard_id) >=")
    };
    let known = statements();
    let finds: Vec<&String> = known.iter().filter(find).collect();
    assert_eq!(finds.len(), 2);
    for role in ["tenure_engine", "tenure_tenant"] {
        let speak = AssertSqlSafe(format!("set role {role}"));
        sqlx::raw_sql(speak).execute(&mut *conn).await.unwrap();
        for statement in &finds {
            let plan = plan(&mut conn, statement).await;
            assert!(
                plan.contains("using run_key on run"),
                "{role}: {statement}\n{plan}"
            );
            assert!(
                !plan.contains("run_by_tenant"),
                "{role}: {statement}\n{plan}"
            );
        }
    }
}

/// Statements that look at a whole table at scale, by their words, and why they may.
const WIDE: [(&str, &str); 7] = [
    (
        "from engine.run where ($1::uuid is null or run_id < $1) and ($3::text is null",
        "the search goes along the newest runs, with a limit, and is planned for its values",
    ),
    (
        "with recursive pair as",
        "it jumps from one version of a workflow to the next: as many looks as there are versions",
    ),
    (
        "from app.tenant where ($1::uuid is null or tenant_id = $1) and ($2::text is null",
        "a part of a name is looked for among the tenants, along their key and with a limit",
    ),
    (
        "from app.notice where ($1::uuid is null or tenant_id = $1)",
        "a page of mails along their key, newest first",
    ),
    (
        "count(*) as \"count!\" from engine.run_summary group by workflow, status",
        "it counts all runs, for whoever opens the list of workflows",
    ),
    (
        "union all select 'due', count(*) from engine.due where tenant_id = $1",
        "once a deletion, to be sure that nothing is left",
    ),
    (
        "with unselected as ( delete from engine.bulk_run",
        "once a deletion, for what no run leads to any more",
    ),
];

/// Tables that hold millions at scale; partitions of later months are as good as empty.
const LARGE: [&str; 12] = [
    "run",
    "due",
    "step_",
    "transition_",
    "inbox",
    "audit",
    "tenant",
    "subscription",
    "invoice",
    "notice",
    "payment",
    "parked",
];

/// Whether an index is read whole for all that its condition says: no index begins with the shard.
fn is_by_shard_alone(line: &str) -> bool {
    let condition = line.split_once("Index Cond: ").map(|(_, rest)| rest);
    condition.is_some_and(|condition| {
        let parts = condition.split(" AND ").map(|part| part.trim_matches('('));
        parts.into_iter().all(|part| part.starts_with("shard_id "))
    })
}

/// The lines of a plan that read a large table from end to end, or an index without a condition on what
/// it begins with.
fn reads_all(plan: &str, full: &BTreeSet<String>) -> Vec<String> {
    let lines: Vec<&str> = plan.lines().collect();
    let mut found = Vec::new();
    for (place, line) in lines.iter().enumerate() {
        let Some((kind, rest)) = line.rsplit_once(" on ") else {
            continue;
        };
        let table = rest.split_whitespace().next().unwrap_or_default();
        let next = lines.get(place + 1).copied().unwrap_or_default();
        let whole = kind.contains("Seq Scan")
            || (kind.contains("Index") && kind.contains("Scan") && !next.contains("Cond:"));
        // An index is named after its table.
        let of_full = |index: &str| {
            let rest = full
                .iter()
                .filter_map(|table| index.strip_prefix(table.as_str()));
            rest.into_iter()
                .any(|rest| rest.is_empty() || rest.starts_with('_'))
        };
        let by_shard = is_by_shard_alone(next) && of_full(table);
        if (whole && !kind.contains("Bitmap") && full.contains(table)) || by_shard {
            found.push(line.trim().to_owned());
        }
    }
    found
}

/// Ten million runs that have ended, a million that sleep, a hundred thousand tenants: whatever is
/// asked of one of them is found by a key.
#[tokio::test(flavor = "multi_thread")]
async fn no_statement_reads_a_large_table_from_end_to_end() {
    let mut conn = support::connect(&support::database().await).await;
    sqlx::raw_sql(include_str!("../fixtures/scale.sql"))
        .execute(&mut conn)
        .await
        .unwrap();
    let full: Vec<String> = sqlx::query_scalar(
        "select relname::text from pg_class
         where relnamespace in ('engine'::regnamespace, 'app'::regnamespace)
           and relkind = 'r' and reltuples >= 10000",
    )
    .fetch_all(&mut conn)
    .await
    .unwrap();
    let full: BTreeSet<String> = full.into_iter().collect();
    for table in LARGE {
        let is_there = full.iter().any(|known| known.starts_with(table));
        assert!(is_there, "{table} is not large: {full:?}");
    }
    let everything = "select key from engine.run where visit = $1";
    let by_shard = "select invoice_id from app.invoice
        where shard_id = $1 and ($2::uuid is null or invoice_id = $2)";
    let mut used = BTreeSet::new();
    let mut complaints = Vec::new();
    sqlx::raw_sql("set plan_cache_mode = force_generic_plan")
        .execute(&mut conn)
        .await
        .unwrap();
    for statement in [everything, by_shard] {
        let plan = plan(&mut conn, statement).await;
        assert!(!reads_all(&plan, &full).is_empty(), "{plan}");
    }
    for statement in &statements() {
        let plan = plan(&mut conn, statement).await;
        let whole = reads_all(&plan, &full);
        if whole.is_empty() {
            continue;
        }
        match WIDE.iter().position(|(words, _)| statement.contains(words)) {
            Some(place) => _ = used.insert(place),
            None => complaints.push(format!("{whole:?}\nof {statement}")),
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n\n"));
    let idle: Vec<_> = (0..WIDE.len()).filter(|one| !used.contains(one)).collect();
    assert!(idle.is_empty(), "exceptions of no use: {idle:?}");
}

/// Prepares a statement; returns its plan for values that lie in shard 0.
async fn plans(conn: &mut PgConnection, statement: &str) -> String {
    let mut plans = String::new();
    // Without the values as with them: the driver keeps plans.
    for mode in ["force_generic_plan", "force_custom_plan"] {
        sqlx::raw_sql(AssertSqlSafe(format!("set plan_cache_mode = {mode}")))
            .execute(&mut *conn)
            .await
            .unwrap();
        plans = plan(conn, statement).await;
    }
    plans
}

/// Prepares a statement; returns its plan as the connection is set to make one.
async fn plan(conn: &mut PgConnection, statement: &str) -> String {
    let prepare = format!("prepare judged as {statement}");
    sqlx::raw_sql(AssertSqlSafe(prepare))
        .execute(&mut *conn)
        .await
        .unwrap_or_else(|error| panic!("{error}: {statement}"));
    let types: Vec<String> = sqlx::query_scalar(
        "select unnest(parameter_types)::text from pg_prepared_statements where name = 'judged'",
    )
    .fetch_all(&mut *conn)
    .await
    .unwrap();
    let values: Vec<&str> = types.iter().map(|of| literal(of)).collect();
    let values = if values.is_empty() {
        String::new()
    } else {
        format!("({})", values.join(", "))
    };
    let explain = format!("explain (costs off) execute judged{values}");
    let plan: Vec<String> = sqlx::query_scalar(AssertSqlSafe(explain))
        .fetch_all(&mut *conn)
        .await
        .unwrap_or_else(|error| panic!("{error}: {statement}"));
    sqlx::raw_sql("deallocate judged")
        .execute(&mut *conn)
        .await
        .unwrap();
    plan.join("\n")
}

/// A claim of one shard and one of the whole database.
fn claims() -> (String, String) {
    let is_claim = |one: &String| one.contains("insert into engine.claimed");
    let mut claims: Vec<String> = statements().into_iter().filter(is_claim).collect();
    claims.sort_by_key(String::len);
    let of_shard = claims.pop().expect("a claim of one shard");
    let of_all = claims.pop().expect("a claim of all");
    assert!(claims.is_empty(), "there are more claims");
    (of_all, of_shard)
}

#[test]
fn a_claim_of_one_shard_is_the_claim_with_the_shard_in_it() {
    let (of_all, mut of_shard) = claims();
    for clause in [
        " and due.shard_id = $14",
        " and nudge.shard_id = $14",
        " and run.shard_id = $14",
    ] {
        assert!(of_shard.contains(clause), "{clause} is nowhere");
        of_shard = of_shard.replace(clause, "");
    }
    assert_eq!(of_shard, of_all);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_of_one_shard_touches_one_partition() {
    let mut conn = support::connect(&support::database().await).await;
    sqlx::raw_sql(PARTITION).execute(&mut conn).await.unwrap();
    let (of_all, of_shard) = claims();
    let touched = async |conn: &mut PgConnection, statement: &str| {
        let plans = plans(conn, statement).await;
        let all = ["__a", "__b", "__c"].into_iter();
        let touched = all.filter(|partition| plans.contains(partition));
        touched.collect::<Vec<_>>()
    };
    assert_eq!(touched(&mut conn, &of_all).await, ["__a", "__b", "__c"]);
    assert_eq!(touched(&mut conn, &of_shard).await, ["__a"]);
}

/// An old snapshot keeps what was taken; a claim from its floor does not walk past it.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_from_its_floor_reads_nothing_that_was_taken() {
    let options = support::database().await;
    let mut old = support::connect(&options).await;
    sqlx::raw_sql("begin isolation level repeatable read; select count(*) from engine.due")
        .execute(&mut old)
        .await
        .unwrap();
    let mut conn = support::connect(&options).await;
    sqlx::raw_sql(
        "insert into engine.worker (worker_id, name, handles, started_at, expires_at)
         values ('01a209f6-4a46-727d-af04-fed22f2f252b', 'w', '{}', now(), now() + interval '1 h');
         insert into engine.lease (worker_id, slot) values ('01a209f6-4a46-727d-af04-fed22f2f252b', -1);
         insert into engine.due (run_id, shard_id, due_at, tenant_id, priority)
         select gen_random_uuid(), 0, now() - n * interval '1 ms' - interval '1 h', gen_random_uuid(), 3
         from generate_series(1, 20000) as n;
         insert into engine.nudge (run_id, shard_id, tenant_id)
         select gen_random_uuid(), 0, gen_random_uuid() from generate_series(1, 20000);
         delete from engine.due;
         delete from engine.nudge;
         analyze engine.due, engine.nudge",
    )
    .execute(&mut conn)
    .await
    .unwrap();
    let pages: i64 = sqlx::query_scalar("select pg_relation_size('engine.nudge') / 8192")
        .fetch_one(&mut conn)
        .await
        .unwrap();
    let (claim, _) = claims();
    sqlx::raw_sql(AssertSqlSafe(format!(
        "set plan_cache_mode = force_generic_plan; prepare judged as {claim}"
    )))
    .execute(&mut conn)
    .await
    .unwrap();
    let whole = pages_read(&mut conn, "null", 0).await;
    let floored = pages_read(&mut conn, "now() - interval '1 min'", pages - 1).await;
    assert!(
        whole > 200,
        "a whole look reads {whole} pages: nothing was kept"
    );
    assert!(floored < 50, "a look from the floor reads {floored} pages");
    sqlx::raw_sql("rollback").execute(&mut old).await.unwrap();
}

/// How many pages a prepared claim reads that begins at a floor.
async fn pages_read(conn: &mut PgConnection, due_at: &str, page: i64) -> u64 {
    let explain = format!(
        "explain (analyze, buffers, costs off, format json) execute judged (
           '01a209f6-4a46-727d-af04-fed22f2f252b', 1, 100, 2, -1, '{{1,2,3,4,5}}', '{{}}', '{{}}', 8,
           {due_at}, {page}, 2, '{{}}')"
    );
    let told: serde_json::Value = sqlx::query_scalar(AssertSqlSafe(explain))
        .fetch_one(conn)
        .await
        .unwrap();
    let plan = &told[0]["Plan"];
    let read = ["Shared Hit Blocks", "Shared Read Blocks"];
    read.iter().filter_map(|of| plan[*of].as_u64()).sum()
}
