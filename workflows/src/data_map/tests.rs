//! The pure parts, case by case.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

fn column(name: &str, data_type: &str, nullable: bool) -> Column {
    Column {
        name: name.to_owned(),
        data_type: data_type.to_owned(),
        nullable,
        generated: false,
    }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A table that is kept apart as it should be: `tenant_id` and `id` first.
fn table(name: &str, more: Vec<Column>) -> Table {
    let mut columns = vec![
        column("tenant_id", "uuid", false),
        column("id", "uuid", false),
    ];
    columns.extend(more);
    Table {
        name: name.to_owned(),
        owner: "owner".to_owned(),
        columns,
        primary_key: names(&["tenant_id", "id"]),
        security: Security::Forced,
        policies: vec![Policy {
            name: "tenant".to_owned(),
            conditions: vec!["(tenant_id = current_tenant())".to_owned()],
        }],
        ..Table::default()
    }
}

/// A column `<parent>_id` and a key over it and the tenant column.
fn refer(table: &mut Table, parent: &str, nullable: bool) {
    let bare = parent.trim_start_matches("app.");
    let name = format!("{bare}_id");
    table.columns.push(column(&name, "uuid", nullable));
    table.foreign_keys.push(ForeignKey {
        name: format!("{}_{bare}", table.name.trim_start_matches("app.")),
        columns: names(&["tenant_id", &name]),
        parent: parent.to_owned(),
        parent_columns: names(&["tenant_id", "id"]),
        on_delete: OnDelete::Refuse,
        match_full: false,
    });
}

fn drafted(tables: Vec<Table>) -> (Snapshot, DataMap) {
    let snapshot = Snapshot { tables };
    let map = draft(&snapshot, Model::Shared, &names(&["app"]), None);
    (snapshot, map)
}

/// A map as it is once everything has been read.
fn confirmed(mut map: DataMap) -> DataMap {
    let rules = map.tables.values_mut();
    for column in rules.flat_map(|rule| &mut rule.columns) {
        column.guess = false;
    }
    map
}

fn codes(map: &DataMap, snapshot: &Snapshot) -> Vec<(String, Code)> {
    let findings = check(map, snapshot).into_iter();
    findings
        .map(|found| match found.column {
            Some(column) => (format!("{}.{column}", found.table), found.code),
            None => (found.table, found.code),
        })
        .collect()
}

fn one(place: &str, code: Code) -> Vec<(String, Code)> {
    vec![(place.to_owned(), code)]
}

fn links(all: &[(&str, &str)]) -> Vec<Link> {
    let links = all.iter().map(|(child, parent)| Link {
        child: (*child).to_owned(),
        parent: (*parent).to_owned(),
        constraint: format!("{child}_{parent}"),
        nullable: false,
    });
    links.collect()
}

#[test]
fn whoever_refers_goes_before_what_it_refers_to() {
    let tables: BTreeSet<String> = names(&["a", "b", "c", "d", "e"]).into_iter().collect();
    // e, d -> c -> b -> a; d -> a
    let chain = links(&[("c", "b"), ("d", "c"), ("b", "a"), ("e", "c"), ("d", "a")]);
    let order = arrange(&tables, &chain);
    let place = |name: &str| order.places[name];
    assert_eq!(
        ["e", "d", "c", "b", "a"].map(place),
        [1, 1, 2, 3, 4],
        "{order:?}"
    );
    assert!(order.cycles.is_empty());
}

#[test]
fn a_ring_is_told_with_its_keys_and_has_one_place() {
    let tables: BTreeSet<String> = names(&["a", "b", "c", "x", "z"]).into_iter().collect();
    let ring = links(&[
        ("a", "b"),
        ("b", "c"),
        ("c", "a"),
        ("x", "a"),
        ("c", "z"),
        ("z", "z"),
    ]);
    let order = arrange(&tables, &ring);
    let told: Vec<_> = order
        .cycles
        .iter()
        .map(|one| one.tables.join(" "))
        .collect();
    assert_eq!(told, ["a b c", "z"]);
    assert_eq!(order.cycles[0].links.len(), 3);
    let place = |name: &str| order.places[name];
    assert_eq!(["x", "a", "b", "c", "z"].map(place), [1, 2, 2, 2, 3]);
}

#[test]
fn kinds_are_guessed_by_name_and_type_and_marked() {
    let columns = vec![
        column("full_name", "text", false),
        column("last_ip", "inet", true),
        column("payload", "jsonb", true),
        column("unit_price", "numeric(12,2)", false),
        column("status", "text", false),
        column("created_at", "timestamp with time zone", false),
        column("seats", "integer", false),
    ];
    let (_, map) = drafted(vec![table("app.thing", columns)]);
    let told: Vec<_> = map.tables["app.thing"]
        .columns
        .iter()
        .map(|column| (column.name.as_str(), column.kind, column.guess))
        .collect();
    assert_eq!(
        told,
        [
            ("tenant_id", Kind::Operational, false),
            ("id", Kind::Operational, false),
            ("full_name", Kind::Personal, true),
            ("last_ip", Kind::Personal, true),
            ("payload", Kind::Personal, true),
            ("unit_price", Kind::Financial, true),
            ("status", Kind::Operational, true),
            ("created_at", Kind::Operational, false),
            ("seats", Kind::Operational, false),
        ]
    );
}

#[test]
fn a_guess_does_not_pass_until_it_is_confirmed() {
    let (snapshot, map) = drafted(vec![table("app.note", vec![column("body", "text", false)])]);
    assert_eq!(codes(&map, &snapshot), one("app.note.body", Code::Guess));
    assert_eq!(codes(&confirmed(map), &snapshot), []);
}

#[test]
fn what_is_not_mapped_and_what_is_gone_are_told_by_name() {
    let (mut snapshot, map) = drafted(vec![table("app.a", vec![]), table("app.b", vec![])]);
    snapshot.tables[0].columns.push(column("new", "text", true));
    snapshot.tables[0].columns.remove(1);
    snapshot.tables[1].name = "app.c".to_owned();
    assert_eq!(
        codes(&map, &snapshot),
        [
            ("app.a.id".to_owned(), Code::ColumnGone),
            ("app.a.new".to_owned(), Code::ColumnNotMapped),
            ("app.b".to_owned(), Code::TableGone),
            ("app.c".to_owned(), Code::TableNotMapped),
        ]
    );
}

#[test]
fn a_ring_is_broken_where_a_key_can_be_nulled_and_else_told() {
    let ring = |nullable: bool| {
        let (mut a, mut b) = (table("app.a", vec![]), table("app.b", vec![]));
        refer(&mut a, "app.b", nullable);
        refer(&mut b, "app.a", false);
        drafted(vec![a, b])
    };
    let (snapshot, mut map) = ring(true);
    assert!(map.tables["app.a"].nulled_first.contains("a_b"));
    assert_eq!(codes(&map, &snapshot), []);
    map.tables.get_mut("app.a").unwrap().nulled_first.clear();
    let found = check(&map, &snapshot);
    assert_eq!(found[0].code, Code::Cycle);
    assert!(found[0].remedy.contains("a_b of app.a"), "{found:?}");

    let (snapshot, mut map) = ring(false);
    let found = check(&map, &snapshot);
    assert_eq!((found.len(), found[0].code), (1, Code::Cycle));
    assert!(
        found[0]
            .detail
            .contains("a_b (app.a to app.b), b_a (app.b to app.a)")
    );
    assert!(found[0].remedy.contains("nullable"), "{found:?}");
    let nulled = &mut map.tables.get_mut("app.a").unwrap().nulled_first;
    nulled.insert("a_b".to_owned());
    let told = [Code::BadKey, Code::Cycle].map(|code| ("app.a".to_owned(), code));
    assert_eq!(codes(&map, &snapshot), told);
}

#[test]
fn an_order_that_a_key_forbids_is_told() {
    let mut child = table("app.child", vec![]);
    refer(&mut child, "app.parent", false);
    let (snapshot, mut map) = drafted(vec![child, table("app.parent", vec![])]);
    assert_eq!(codes(&map, &snapshot), []);
    map.tables.get_mut("app.child").unwrap().order = 2;
    assert_eq!(codes(&map, &snapshot), one("app.child", Code::Order));
}

#[test]
fn whose_a_row_is_must_be_sure() {
    let bare = |mut one: Table| {
        one.columns.remove(0);
        one
    };
    let lone = bare(table("app.lone", vec![]));
    let (snapshot, mut map) = drafted(vec![table("app.a", vec![]), lone]);
    let found = codes(&map, &snapshot);
    assert!(
        found.contains(&("app.lone".to_owned(), Code::NoTenant)),
        "{found:?}"
    );
    let reason = Belongs::Nobody("exchange rates".to_owned());
    map.tables.get_mut("app.lone").unwrap().belongs = reason;
    assert_eq!(codes(&map, &snapshot), []);

    // Over a key to a tenant's row, which must not be null.
    let line = |nullable: bool| {
        let mut line = bare(table("app.line", vec![]));
        line.columns.push(column("a_id", "uuid", nullable));
        line.foreign_keys.push(ForeignKey {
            name: "line_a".to_owned(),
            columns: names(&["a_id"]),
            parent: "app.a".to_owned(),
            parent_columns: names(&["id"]),
            on_delete: OnDelete::Refuse,
            match_full: false,
        });
        vec![table("app.a", vec![]), line]
    };
    let (snapshot, map) = drafted(line(false));
    assert_eq!(
        map.tables["app.line"].belongs,
        Belongs::Path(names(&["line_a"]))
    );
    assert_eq!(codes(&map, &snapshot), []);
    let snapshot = Snapshot { tables: line(true) };
    assert_eq!(codes(&map, &snapshot), one("app.line", Code::TenantUnsure));
}

#[test]
fn a_key_without_the_tenant_could_leave_it_unless_that_is_known() {
    let mut child = table("app.child", vec![]);
    refer(&mut child, "app.parent", false);
    child.foreign_keys[0].columns.remove(0);
    child.foreign_keys[0].parent_columns.remove(0);
    let (snapshot, mut map) = drafted(vec![child, table("app.parent", vec![])]);
    assert_eq!(
        codes(&map, &snapshot),
        one("app.child", Code::CrossesTenants)
    );
    let unguarded = &mut map.tables.get_mut("app.child").unwrap().unguarded;
    unguarded.insert("child_parent".to_owned());
    assert_eq!(codes(&map, &snapshot), []);
}

#[test]
fn row_level_security_binds_everybody_or_is_told() {
    type Change = fn(&mut Table);
    let cases: [(Change, Code); 5] = [
        (|table| table.security = Security::Off, Code::RowSecurity),
        (|table| table.security = Security::On, Code::RowSecurity),
        (|table| table.owner_bypasses = true, Code::RowSecurity),
        (
            |table| {
                table.partitions.push(Partition {
                    name: "app.a_2026".to_owned(),
                    security: Security::On,
                    is_leaf: true,
                });
            },
            Code::RowSecurity,
        ),
        (
            |table| table.policies[0].conditions = names(&["(other_tenant_id = 1)"]),
            Code::Policy,
        ),
    ];
    for (change, code) in cases {
        let (mut snapshot, map) = drafted(vec![table("app.a", vec![])]);
        change(&mut snapshot.tables[0]);
        assert_eq!(codes(&map, &snapshot), one("app.a", code));
    }
    // A tenant that has a schema of its own needs none.
    let (mut snapshot, mut map) = drafted(vec![table("app.a", vec![])]);
    snapshot.tables[0].security = Security::Off;
    map.model = Model::Schema;
    assert_eq!(codes(&map, &snapshot), []);
}

#[test]
fn a_way_to_erase_that_cannot_work_is_told() {
    let mut kept = table(
        "app.kept",
        vec![
            column("body", "text", false),
            column("code", "text", true),
            column("short", "character varying(20)", true),
            column("born", "date", true),
        ],
    );
    kept.unique = vec![names(&["code"])];
    refer(&mut kept, "app.parent", true);
    let computed = Column {
        generated: true,
        ..column("upper", "text", true)
    };
    kept.columns.push(computed);
    let cases = [
        ("body", Erase::Null, Some("not null")),
        ("body", Erase::Hash, None),
        ("body", Erase::Mask, None),
        ("body", Erase::Delete, Some("the row stays")),
        ("id", Erase::Null, Some("primary key")),
        ("id", Erase::Hash, Some("primary key")),
        ("code", Erase::Hash, None),
        ("code", Erase::Mask, Some("all masks are the same")),
        ("short", Erase::Hash, Some("does not fit")),
        ("short", Erase::Mask, None),
        ("born", Erase::Mask, Some("does not fit")),
        ("born", Erase::Null, None),
        ("parent_id", Erase::Hash, Some("foreign key")),
        ("parent_id", Erase::Null, None),
        ("upper", Erase::Null, Some("computed")),
    ];
    let (snapshot, map) = drafted(vec![kept, table("app.parent", vec![])]);
    let mut map = confirmed(map);
    for (name, rule) in &mut map.tables {
        rule.basis = Some("a law".to_owned());
        for column in &mut rule.columns {
            column.kind = Kind::Operational;
            column.erase = Erase::Keep;
        }
        assert!(name.starts_with("app."));
    }
    for (name, erase, refusal) in cases {
        let mut map = map.clone();
        let rule = map.tables.get_mut("app.kept").unwrap();
        let said = rule.columns.iter_mut().find(|one| one.name == name);
        said.unwrap().erase = erase;
        let found = check(&map, &snapshot);
        match refusal {
            None => assert_eq!(found, [], "{name} {erase:?}"),
            Some(words) => {
                assert_eq!(found.len(), 1, "{name} {erase:?}: {found:?}");
                assert_eq!(
                    (found[0].code, found[0].column.as_deref()),
                    (Code::Erase, Some(name))
                );
                assert!(found[0].detail.contains(words), "{found:?}");
            }
        }
    }
}

#[test]
fn what_is_kept_has_a_basis_and_lets_go_of_what_goes() {
    let mut invoice = table("app.invoice", vec![column("buyer_name", "text", false)]);
    refer(&mut invoice, "app.member", true);
    let (snapshot, map) = drafted(vec![invoice, table("app.member", vec![])]);
    let mut map = confirmed(map);
    let rule = &map.tables["app.invoice"];
    assert_eq!(rule.column("member_id").unwrap().erase, Erase::Null);
    assert_eq!(rule.column("buyer_name").unwrap().erase, Erase::Mask);
    assert_eq!(codes(&map, &snapshot), one("app.invoice", Code::NoBasis));

    let rule = map.tables.get_mut("app.invoice").unwrap();
    rule.basis = Some("§ 147 AO, ten years".to_owned());
    assert_eq!(codes(&map, &snapshot), []);
    let rule = map.tables.get_mut("app.invoice").unwrap();
    for column in &mut rule.columns {
        column.erase = Erase::Keep;
    }
    assert_eq!(
        codes(&map, &snapshot),
        [
            ("app.invoice".to_owned(), Code::KeptNeedsDeleted),
            ("app.invoice.buyer_name".to_owned(), Code::NoBasis),
        ]
    );
}

#[test]
fn what_is_printed_is_read_again_as_it_was() {
    let mut invoice = table("app.invoice", vec![column("Odd \"name\"", "text", true)]);
    refer(&mut invoice, "app.member", true);
    let (_, mut map) = drafted(vec![invoice, table("app.member", vec![])]);
    let rule = map.tables.get_mut("app.invoice").unwrap();
    rule.basis = Some("a \"law\"\nof two lines".to_owned());
    rule.unguarded.insert("some_key".to_owned());
    rule.columns[0].basis = Some("another".to_owned());
    map.tables.get_mut("app.member").unwrap().belongs = Belongs::Nobody("why".to_owned());
    assert_eq!(parse(&print(&map)).unwrap(), map);
    let empty = DataMap {
        tables: BTreeMap::new(),
        ..map
    };
    assert_eq!(parse(&print(&empty)).unwrap(), empty);
}

#[test]
fn a_file_that_is_no_map_is_refused_with_its_place() {
    let head = "version = 1\nmodel = \"shared\"\nschemas = [\"app\"]\n";
    let table = "[tables.\"app.a\"]\nclass = \"content\"\norder = 1\n";
    let cases = [
        ("version = \n".to_owned(), 1, "the file", ""),
        ("version = 2\n".to_owned(), 1, "version", "version 1"),
        (
            "version = 1\nmodel = \"mixed\"\n".to_owned(),
            2,
            "model",
            "shared, schema, database",
        ),
        (
            format!("{head}[tables]\n[other]\n"),
            5,
            "other",
            "not a key",
        ),
        (
            format!("{head}{table}"),
            4,
            "tables.\"app.a\"",
            "it needs columns",
        ),
        (
            format!("{head}{table}columns.id = {{ kind = \"personal\", erase = \"shred\" }}\n"),
            7,
            "tables.\"app.a\".columns.id.erase",
            "delete, null, hash, mask, keep",
        ),
        (
            format!("{head}{table}tenant = \"t\"\nno_tenant = \"x\"\ncolumns = {{}}\n"),
            8,
            "tables.\"app.a\".no_tenant",
            "one of",
        ),
        (
            format!("{head}{table}columns = {{}}\nbasis = \" \"\n"),
            8,
            "tables.\"app.a\".basis",
            "not empty",
        ),
    ];
    for (text, line, place, words) in cases {
        let error = parse(&text).unwrap_err();
        assert_eq!((error.line, error.place.as_str()), (line, place), "{text}");
        assert!(error.detail.contains(words), "{error}");
    }
}

/// What is told of one table with a key `tenant_id, parent_id` under these indexes.
fn slow(indexes: &[(&[&str], Option<&str>)]) -> Vec<(Code, Reads, Vec<String>)> {
    let (parent, mut child) = (table("app.parent", vec![]), table("app.child", vec![]));
    refer(&mut child, "app.parent", true);
    let indexes = indexes.iter().map(|(columns, predicate)| Index {
        columns: names(columns),
        predicate: predicate.map(ToOwned::to_owned),
    });
    child.indexes = indexes.collect();
    let (snapshot, map) = drafted(vec![parent, child]);
    let found = unindexed(&map, &snapshot).into_iter();
    let of_child = found.filter(|one| one.table == "app.child");
    of_child
        .map(|one| (one.finding(None).code, one.reads, one.columns))
        .collect()
}

#[test]
fn a_key_is_led_to_by_an_index_that_begins_with_its_columns_in_whatever_order() {
    let both = names(&["tenant_id", "parent_id"]);
    let whole: (&[&str], Option<&str>) = (&["tenant_id", "id"], None);
    let reads = |reads: Reads| vec![(Code::KeyWithoutIndex, reads, both.clone())];
    // An index on the key would serve the tenant, too, so that one is not told of itself.
    assert_eq!(slow(&[]), reads(Reads::Table));
    assert_eq!(slow(&[whole]), reads(Reads::Tenant));
    assert_eq!(
        slow(&[whole, (&["id", "parent_id"], None)]),
        reads(Reads::Tenant)
    );
    for columns in [
        &["tenant_id", "parent_id"][..],
        &["parent_id", "tenant_id", "id"],
        &["parent_id"],
    ] {
        assert_eq!(slow(&[whole, (columns, None)]), [], "{columns:?}");
    }
}

#[test]
fn a_partial_index_counts_where_it_lacks_nothing_but_rows_that_refer_to_nobody() {
    let whole: (&[&str], Option<&str>) = (&["tenant_id", "id"], None);
    let partial = |predicate: &'static str| {
        let key: &[&str] = &["parent_id"];
        slow(&[whole, (key, Some(predicate))])
    };
    assert_eq!(partial("(parent_id IS NOT NULL)"), []);
    assert_eq!(
        partial("((tenant_id IS NOT NULL) AND (parent_id IS NOT NULL))"),
        []
    );
    for predicate in [
        "(deleted_at IS NULL)",
        "(id IS NOT NULL)",
        "((parent_id IS NOT NULL) AND (NOT deleted))",
        "((parent_id IS NOT NULL) OR (id IS NOT NULL))",
    ] {
        assert_eq!(partial(predicate).len(), 1, "{predicate}");
    }
}

#[test]
fn a_tenant_that_no_index_leads_to_is_told_and_so_is_what_makes_one() {
    let tenant = (
        Code::TenantWithoutIndex,
        Reads::Table,
        names(&["tenant_id"]),
    );
    let by_parent: (&[&str], Option<&str>) = (&["parent_id"], None);
    assert_eq!(slow(&[by_parent]), [tenant]);

    let mut log = table("app.log", vec![]);
    for (name, is_leaf) in [
        ("app.log_1", true),
        ("app.log_2", false),
        ("app.log_3", true),
    ] {
        log.partitions.push(Partition {
            name: name.to_owned(),
            security: Security::Forced,
            is_leaf,
        });
    }
    let (snapshot, map) = drafted(vec![log]);
    let found = unindexed(&map, &snapshot);
    assert_eq!(
        found[0].statements(None),
        "create index concurrently on \"app\".\"log_1\" (\"tenant_id\"); \
         create index concurrently on \"app\".\"log_3\" (\"tenant_id\")"
    );
}
