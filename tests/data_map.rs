//! The data map of the sample product: drafted from its catalog, confirmed, and held against it
//! while it changes; and the row-level security that it asks for.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::support::process::tenure;
use crate::support::{connect, empty_database_url};

const BIRCH: &str = "0c000000-0000-7000-8000-000000000001";
const SALTHOUSE: &str = "0c000000-0000-7000-8000-000000000002";

/// The sample product in a database of its own.
struct Product {
    url: String,
    conn: PgConnection,
    folder: tempfile::TempDir,
}

impl Product {
    async fn new(file: &str) -> Self {
        let url = empty_database_url().await;
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/sample-product");
        let schema = std::fs::read_to_string(folder.join(file)).unwrap();
        let mut conn = connect(&url.parse().unwrap()).await;
        sqlx::raw_sql(AssertSqlSafe(schema))
            .execute(&mut conn)
            .await
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        Self { url, conn, folder }
    }

    async fn change(&mut self, sql: &str) {
        let sql = AssertSqlSafe(sql.to_owned());
        sqlx::raw_sql(sql).execute(&mut self.conn).await.unwrap();
    }

    fn ask(&self, args: &[&str]) -> Output {
        let mut command = Command::new(tenure());
        command.arg("data-map").args(args).env_clear();
        command.env("TENURE_PRODUCT_DATABASE_URL", &self.url);
        command.output().unwrap()
    }

    fn draft(&self, args: &[&str]) -> String {
        let output = self.ask(&[&["draft"], args].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    }

    fn write(&self, map: &str) -> PathBuf {
        let path = self.folder.path().join("map.toml");
        std::fs::write(&path, map).unwrap();
        path
    }

    /// The findings as `table.column code`, and the exit code.
    fn check(&self, map: &str, args: &[&str]) -> (Vec<String>, Option<i32>) {
        let path = self.write(map);
        let output = self.ask(&[&["check", path.to_str().unwrap(), "--json"], args].concat());
        assert_eq!(text(&output.stderr), "");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let findings = report["findings"].as_array().unwrap().iter();
        let told = findings.map(|found| {
            let schema = found["schema"].as_str().map(|schema| format!("{schema}."));
            let column = found["column"].as_str().map(|column| format!(".{column}"));
            format!(
                "{}{}{} {}",
                schema.unwrap_or_default(),
                found["table"].as_str().unwrap(),
                column.unwrap_or_default(),
                found["code"].as_str().unwrap()
            )
        });
        (told.collect(), output.status.code())
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What somebody does who has read a draft of the sample product: confirms the guesses, names the
/// law that keeps invoices, and says what is nobody's.
fn read_through(draft: &str) -> String {
    let mut map = draft.replace(", guess = true", "");
    for table in ["invoice", "invoice_line", "organisation"] {
        let columns = format!("[tables.\"work.{table}\".columns]");
        assert!(map.contains(&columns), "{map}");
        map = map.replace(
            &columns,
            &format!("basis = \"tax law, ten years\"\n{columns}"),
        );
    }
    let currency = "[tables.\"work.currency\"]\n";
    assert!(map.contains(currency), "{map}");
    map.replace(
        currency,
        &format!("{currency}no_tenant = \"the currencies of the world\"\n"),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_that_somebody_has_read_passes_and_a_new_table_does_not() {
    let mut product = Product::new("shared.sql").await;
    let draft = product.draft(&["--schema", "work"]);
    for line in [
        "tenant = \"org_id\"",
        "tenant_path = [\"invoice_line_invoice\"]",
        "nulled_first = [\"task_parent\"]",
        "body = { kind = \"personal\", erase = \"delete\", guess = true }",
        "total = { kind = \"financial\", erase = \"keep\", guess = true }",
        "ordered_by = { kind = \"operational\", erase = \"null\" }",
        "class = \"audit\"",
    ] {
        assert!(draft.contains(line), "{line} is not in\n{draft}");
    }
    assert!(
        !draft.contains("audit_event_2026"),
        "a partition is no table"
    );
    let ring = draft.contains("nulled_first = [\"project_lead\"]")
        || draft.contains("nulled_first = [\"app_user_default_project\"]");
    assert!(ring, "{draft}");

    // As it is, it does not pass: nobody has read it.
    let (found, code) = product.check(&draft, &[]);
    assert_eq!(code, Some(3));
    for place in [
        "work.app_user.email guess",
        "work.invoice no_basis",
        "work.currency no_tenant",
    ] {
        assert!(
            found.iter().any(|one| one == place),
            "{place} is not in {found:?}"
        );
    }
    let map = read_through(&draft);
    assert_eq!(product.check(&map, &[]), (vec![], Some(0)));
    let path = product.write(&map);
    let words = product.ask(&["check", path.to_str().unwrap()]);
    let words = text(&words.stdout);
    // True, and so it ends well; keys without an index are told beside it.
    assert!(
        words.ends_with("10 tables, all as the map says; no index leads to 9 keys\n"),
        "{words}"
    );

    product
        .change(
            "create table work.invitation (email text primary key);
             alter table work.task add column location text;
             alter table work.comment drop column created_at;",
        )
        .await;
    let (found, code) = product.check(&map, &[]);
    assert_eq!(code, Some(3));
    assert_eq!(
        found,
        [
            "work.comment.created_at column_gone",
            "work.invitation table_not_mapped",
            "work.task.location column_not_mapped",
        ]
    );
}

/// What `check` tells of keys that no index leads to, as `table: detail` with the statement.
fn slow(product: &Product, map: &str) -> Vec<(String, String)> {
    let path = product.write(map);
    let output = product.ask(&["check", path.to_str().unwrap(), "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let told = report["slow"].as_array().unwrap().iter().map(|found| {
        let word = |name: &str| found[name].as_str().unwrap().to_owned();
        let what = format!("{} {}: {}", word("table"), word("code"), word("detail"));
        (what, word("remedy"))
    });
    told.collect()
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
async fn keys_that_no_index_leads_to_are_told_with_the_statement_that_helps_and_fail_nothing() {
    let mut product = Product::new("shared.sql").await;
    product
        .change(
            "create table work.reading (
               org_id uuid not null, reading_id bigint primary key, task_id uuid,
               foreign key (org_id, task_id) references work.task
             );
             create index on work.reading (lower(task_id::text), org_id);
             create index on work.reading (task_id) where reading_id > 7;
             alter table work.reading enable row level security, force row level security;
             create policy tenant on work.reading using (org_id = work.org());
             alter table work.reading owner to sample_product_owner;",
        )
        .await;
    let map = read_through(&product.draft(&["--schema", "work"]));
    let told = slow(&product, &map);
    let (_, remedy) = told
        .iter()
        .find(|(what, _)| {
            what == "work.reading key_without_index: no index leads to reading_org_id_task_id_fkey \
                     (org_id, task_id): each row of work.task that is deleted reads the whole table"
        })
        .unwrap_or_else(|| panic!("{told:?}"));
    let (comment, _) = told
        .iter()
        .find(|(what, _)| what.starts_with("work.comment ") && what.contains("comment_task"))
        .unwrap();
    assert!(
        comment.ends_with("reads all of the tenant's rows"),
        "{comment}"
    );
    // Currencies are nobody's, and none is deleted; a line begins with its invoice in its own key.
    for led in ["currency", "invoice_line", "organisation"] {
        assert!(
            !told
                .iter()
                .any(|(what, _)| what.contains(&format!("row of work.{led} "))
                    || what.starts_with(&format!("work.{led} "))),
            "{led}: {told:?}"
        );
    }

    // What it says to do is what helps, as long as the index is whole.
    let before = told.len();
    product.change(remedy).await;
    let told = slow(&product, &map);
    assert_eq!(told.len(), before - 1, "{told:?}");
    product
        .change("update pg_index set indisvalid = false where indexrelid = 'work.reading_org_id_task_id_idx'::regclass")
        .await;
    assert_eq!(
        slow(&product, &map).len(),
        before,
        "an index that broke off"
    );

    // Of a partitioned table each partition wants one.
    product
        .change(
            "create index on work.task (org_id, project_id);
             alter table work.audit_event add task_id uuid,
               add foreign key (org_id, task_id) references work.task;",
        )
        .await;
    let map = map.replace(
        "[tables.\"work.audit_event\".columns]\n",
        "[tables.\"work.audit_event\".columns]\n\
         task_id = { kind = \"operational\", erase = \"delete\" }\n",
    );
    let told = slow(&product, &map);
    assert!(!told.iter().any(|(what, _)| what.contains("task_project")));
    let event = told
        .iter()
        .find(|(what, _)| what.starts_with("work.audit_event "));
    let statements: Vec<&str> = event.unwrap().1.split("; ").collect();
    assert_eq!(statements.len(), 3, "{statements:?}");
    for statement in &statements[1..] {
        product.change(statement).await;
    }
    assert_eq!(slow(&product, &map).len(), told.len());
    product.change(statements[0]).await;
    assert_eq!(slow(&product, &map).len(), told.len() - 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ring_a_table_of_nobody_and_security_that_spares_the_owner_are_told_by_name() {
    let mut product = Product::new("shared.sql").await;
    let map = read_through(&product.draft(&["--schema", "work"]));
    product
        .change(
            "alter table work.app_user no force row level security;
             alter table work.audit_event_2026_09 disable row level security;
             alter policy tenant on work.comment using (true);
             alter table work.attachment owner to current_user;",
        )
        .await;
    let (found, _) = product.check(&map, &[]);
    assert_eq!(
        found,
        [
            "work.app_user row_security",
            "work.attachment row_security",
            "work.audit_event row_security",
            "work.comment policy",
        ]
    );

    let mut product = Product::new("shared.sql").await;
    // The ring of users and projects without a way out, and a table that says nothing of a tenant.
    product
        .change(
            "update work.app_user set default_project_id = p.project_id
               from work.project p where p.org_id = app_user.org_id;
             update work.project set lead_user_id = u.user_id
               from work.app_user u where u.org_id = project.org_id;
             alter table work.app_user alter column default_project_id set not null;
             alter table work.project alter column lead_user_id set not null;
             create table work.feedback (id bigint primary key, words text);
             create table work.reaction (
               org_id uuid not null, id bigint primary key, task_id uuid not null unique
             );",
        )
        .await;
    let drafted = product
        .draft(&["--schema", "work"])
        .replace(", guess = true", "");
    let path = product.write(&drafted);
    let output = product.ask(&["check", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3));
    let words = text(&output.stdout);
    assert!(
        words.contains("rows refer to each other in a ring: "),
        "{words}"
    );
    assert!(
        words.contains("app_user_default_project (work.app_user to work.project)"),
        "{words}"
    );
    assert!(
        words.contains("project_lead (work.project to work.app_user)"),
        "{words}"
    );
    assert!(
        words.contains("work.feedback: it has no tenant column and no path to one"),
        "{words}"
    );
    assert!(
        words.contains("work.reaction: row-level security is off"),
        "{words}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_told_is_an_error_and_no_finding() {
    let product = Product::new("shared.sql").await;
    let path = product.write("version = 1\nmodel = \"shared\"\nschemas = [1]\n");
    let output = product.ask(&["check", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let words = text(&output.stderr);
    assert!(
        words.contains("line 3: schemas: a list of texts"),
        "{words}"
    );
    let output = product.ask(&["draft", "--schema", "nowhere"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no schema \"nowhere\""));
    let output = product.ask(&["draft", "--schema", "public"]);
    assert!(text(&output.stderr).contains("there are no tables in public"));
}

/// How many rows a role sees in a table as a tenant, or as nobody.
async fn rows_seen(conn: &mut PgConnection, role: &str, tenant: Option<&str>, table: &str) -> i64 {
    let mut tx = conn.begin().await.unwrap();
    let tenant = tenant.unwrap_or_default();
    let act = format!("set local role {role}; set local work.org = '{tenant}'");
    sqlx::raw_sql(AssertSqlSafe(act))
        .execute(&mut *tx)
        .await
        .unwrap();
    let count = AssertSqlSafe(format!("select count(*) from work.{table}"));
    sqlx::query_scalar(count).fetch_one(&mut *tx).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_tenant_reads_or_writes_anothers_rows_not_even_as_the_tables_owner() {
    let mut product = Product::new("shared.sql").await;
    let conn = &mut product.conn;
    let tables = [
        "organisation",
        "app_user",
        "project",
        "task",
        "comment",
        "attachment",
        "invoice",
        "invoice_line",
        "audit_event",
    ];
    for table in tables {
        let all = rows_seen(conn, "none", None, table).await;
        for role in ["sample_product_owner", "sample_product_app"] {
            let birch = rows_seen(conn, role, Some(BIRCH), table).await;
            let salthouse = rows_seen(conn, role, Some(SALTHOUSE), table).await;
            assert!(
                birch > 0 && salthouse > 0,
                "{role} sees nothing of its own in {table}"
            );
            assert_eq!(birch + salthouse, all, "{role} in {table}");
            assert_eq!(
                rows_seen(conn, role, None, table).await,
                0,
                "{role} in {table}"
            );
        }
    }
    // By the name of a partition the policies of the whole do not count, so there is nothing.
    for role in ["sample_product_owner", "sample_product_app"] {
        assert_eq!(
            rows_seen(conn, role, Some(BIRCH), "audit_event_2026_09").await,
            0
        );
    }
    for statement in [
        format!(
            "insert into work.project values ('{SALTHOUSE}', gen_random_uuid(), 'x', null, false, now())"
        ),
        format!("update work.project set org_id = '{SALTHOUSE}'"),
    ] {
        let mut tx = product.conn.begin().await.unwrap();
        let act = format!("set local role sample_product_owner; set local work.org = '{BIRCH}'");
        sqlx::raw_sql(AssertSqlSafe(act))
            .execute(&mut *tx)
            .await
            .unwrap();
        let refused = sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&mut *tx)
            .await;
        let words = refused.unwrap_err().to_string();
        assert!(words.contains("row-level security policy"), "{words}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_map_is_held_against_each_tenants_schema() {
    let mut product = Product::new("schema-per-tenant.sql").await;
    let mut map = product
        .draft(&["--model", "schema", "--schema", "tenant_birch"])
        .replace(", guess = true", "");
    assert!(
        !map.contains("tenant = "),
        "the schema is the tenant: {map}"
    );
    for table in ["invoice", "invoice_line"] {
        let columns = format!("[tables.\"{table}\".columns]");
        map = map.replace(
            &columns,
            &format!("basis = \"tax law, ten years\"\n{columns}"),
        );
    }
    let both = ["--schema", "tenant_birch", "--schema", "tenant_salthouse"];
    assert_eq!(product.check(&map, &both), (vec![], Some(0)));

    product
        .change("alter table tenant_salthouse.task add column location text")
        .await;
    assert_eq!(product.check(&map, &[]), (vec![], Some(0)));
    assert_eq!(
        product.check(&map, &both),
        (
            vec!["tenant_salthouse.task.location column_not_mapped".to_owned()],
            Some(3)
        )
    );
}
