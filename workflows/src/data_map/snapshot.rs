//! What a database's catalog says, as values: the pure parts see nothing else.

/// The tables of some schemas, as they were at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// By name. A partition is no table of its own.
    pub tables: Vec<Table>,
}

impl Snapshot {
    /// A table, by its name.
    #[must_use]
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.name == name)
    }
}

/// A table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// As the map names it.
    pub name: String,
    /// The role that owns it.
    pub owner: String,
    /// Whether row-level security never binds that role: a superuser, or one with `bypassrls`.
    pub owner_bypasses: bool,
    /// Its columns, in order.
    pub columns: Vec<Column>,
    /// The columns of the primary key.
    pub primary_key: Vec<String>,
    /// The columns of each other unique index; none stands for an expression.
    pub unique: Vec<Vec<String>>,
    /// The indexes that rows can be found by; of a partitioned table those that each partition has.
    pub indexes: Vec<Index>,
    /// What it refers to.
    pub foreign_keys: Vec<ForeignKey>,
    /// Its row-level security.
    pub security: Security,
    /// The policies of it.
    pub policies: Vec<Policy>,
    /// Its partitions, at any depth.
    pub partitions: Vec<Partition>,
    /// Rows, as the planner estimates them by the size of today, with partitions.
    pub rows: i64,
    /// Bytes on disk, with indexes, long values and partitions.
    pub bytes: i64,
}

impl Table {
    /// A column, by its name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// A foreign key, by its name.
    #[must_use]
    pub fn foreign_key(&self, name: &str) -> Option<&ForeignKey> {
        self.foreign_keys.iter().find(|key| key.name == name)
    }

    /// Whether a column is part of the primary key.
    #[must_use]
    pub fn is_primary(&self, column: &str) -> bool {
        self.primary_key.iter().any(|name| name == column)
    }

    /// Whether a column is part of a unique index, the primary key among them.
    #[must_use]
    pub fn is_unique(&self, column: &str) -> bool {
        let mut indexes = self.unique.iter();
        self.is_primary(column) || indexes.any(|index| index.iter().any(|name| name == column))
    }

    /// Whether a foreign key can be made to point nowhere, and by which columns.
    ///
    /// A key of several columns points nowhere when one of them is null (`match simple`), so the
    /// tenant column may stay; with `match full` all of them must be.
    #[must_use]
    pub fn nullable_columns<'a>(&self, key: &'a ForeignKey) -> Vec<&'a str> {
        let nullable = |name: &&String| {
            let column = self.column(name);
            column.is_some_and(|column| column.nullable && !column.generated)
        };
        let found: Vec<&str> = key
            .columns
            .iter()
            .filter(nullable)
            .map(String::as_str)
            .collect();
        if key.match_full && found.len() < key.columns.len() {
            return Vec::new();
        }
        found
    }
}

/// A column.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type, as Postgres prints it.
    pub data_type: String,
    /// Whether it may be null.
    pub nullable: bool,
    /// Whether its value is computed, so that nobody can write it.
    pub generated: bool,
}

/// A valid index that keeps order or hashes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Index {
    /// Its columns, in order, up to the first expression.
    pub columns: Vec<String>,
    /// The condition of a partial one, as Postgres prints it.
    pub predicate: Option<String>,
}

/// A foreign key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignKey {
    /// The constraint's name.
    pub name: String,
    /// The columns that refer.
    pub columns: Vec<String>,
    /// The table that they refer to, as the map would name it.
    pub parent: String,
    /// The columns there, in the same order.
    pub parent_columns: Vec<String>,
    /// What happens to a row whose parent goes.
    pub on_delete: OnDelete,
    /// Whether it is `match full`.
    pub match_full: bool,
}

/// What Postgres does to a row whose parent is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDelete {
    /// It refuses the deletion (`no action`, `restrict`).
    Refuse,
    /// It deletes the row, too.
    Cascade,
    /// It writes null or the default.
    Set,
}

/// Row-level security of a table or of a partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Security {
    /// None.
    #[default]
    Off,
    /// For everybody but the owner.
    On,
    /// For the owner, too.
    Forced,
}

/// A permissive policy: it opens rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// Its conditions (`using`, `with check`) as Postgres prints them.
    pub conditions: Vec<String>,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// `schema.table`.
    pub name: String,
    /// Its own row-level security: what counts for who names it directly.
    pub security: Security,
    /// Whether it holds rows itself, and has no partitions of its own.
    pub is_leaf: bool,
}
