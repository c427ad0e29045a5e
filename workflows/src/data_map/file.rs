//! A data map as its file holds it. Pure: each error names its line and place.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use toml_edit::{Document, Item, Key, TableLike, Value};

use super::{Belongs, ColumnRule, DataMap, Erase, Kind, Model, TableRule, word};

/// The version of the format.
const VERSION: i64 = 1;

/// A file that is no data map.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {place}: {detail}")]
pub struct FileError {
    /// From 1.
    pub line: usize,
    /// The way to what is wrong, such as `tables."app.task".columns.title.erase`.
    pub place: String,
    /// What is wrong, and what would be right.
    pub detail: String,
}

/// Reads a data map from TOML.
///
/// # Errors
/// [`FileError`], with the first place that is wrong.
pub fn parse(text: &str) -> Result<DataMap, FileError> {
    let document = read_toml(text)?;
    let root = At::root(text, &document);
    root.only(&["version", "model", "schemas", "tenant_setting", "tables"])?;
    let version = root.need("version")?;
    if version.item.as_integer() != Some(VERSION) {
        return Err(version.wrong(&format!("this build reads version {VERSION}")));
    }
    let model = root.need("model")?.word(&Model::WORDS)?;
    let schemas = root.need("schemas")?;
    let names = schemas.texts()?;
    if names.is_empty() {
        return Err(schemas.wrong("at least one schema"));
    }
    let setting = root.get("tenant_setting");
    let setting = setting.map(|at| read_setting(&at, model)).transpose()?;
    let mut tables = BTreeMap::new();
    for (name, table) in root.need("tables")?.fields()? {
        tables.insert(name.to_owned(), read_table(&table)?);
    }
    Ok(DataMap {
        model,
        schemas: names,
        setting,
        tables,
    })
}

/// Reads the words of a file, whatever they mean.
pub(crate) fn read_toml(text: &str) -> Result<Document<&str>, FileError> {
    Document::parse(text).map_err(|error| FileError {
        line: line_of(text, error.span().map_or(0, |span| span.start)),
        place: "the file".to_owned(),
        detail: error.message().to_owned(),
    })
}

/// Postgres takes a setting of anybody's own when its name has two parts.
fn read_setting(at: &At<'_>, model: Model) -> Result<String, FileError> {
    if model != Model::Shared {
        return Err(at.wrong("for model \"shared\" only; leave it out"));
    }
    let setting = at.text()?;
    let is_word = |part: &str| {
        let plain = |c: char| c.is_ascii_lowercase() || c == '_';
        part.starts_with(plain) && part.chars().all(|c| plain(c) || c.is_ascii_digit())
    };
    let parts: Vec<&str> = setting.split('.').collect();
    if parts.len() == 2 && parts.iter().all(|part| is_word(part)) {
        return Ok(setting);
    }
    Err(at.wrong("a setting of two parts in small letters, such as app.tenant"))
}

fn read_table(at: &At<'_>) -> Result<TableRule, FileError> {
    at.only(&[
        "tenant",
        "tenant_path",
        "no_tenant",
        "class",
        "order",
        "nulled_first",
        "unguarded",
        "basis",
        "columns",
    ])?;
    let ways = ["tenant", "tenant_path", "no_tenant"];
    let said: Vec<At<'_>> = ways.iter().filter_map(|way| at.get(way)).collect();
    if let Some(second) = said.get(1) {
        return Err(second.wrong("one of tenant, tenant_path and no_tenant"));
    }
    let belongs = if let Some(column) = at.get("tenant") {
        Belongs::Column(column.text()?)
    } else if let Some(path) = at.get("tenant_path") {
        let keys = path.texts()?;
        if keys.is_empty() {
            return Err(path.wrong("at least one foreign key; or leave it out"));
        }
        Belongs::Path(keys)
    } else if let Some(reason) = at.get("no_tenant") {
        Belongs::Nobody(reason.text()?)
    } else {
        Belongs::Unsaid
    };
    let order = at.need("order")?;
    let place = order
        .item
        .as_integer()
        .and_then(|place| u32::try_from(place).ok());
    let place = place.filter(|place| *place > 0);
    let mut columns = Vec::new();
    for (name, column) in at.need("columns")?.fields()? {
        columns.push(read_column(name, &column)?);
    }
    let set = |name: &str| -> Result<BTreeSet<String>, FileError> {
        let texts = at.get(name).map(|at| at.texts()).transpose()?;
        Ok(texts.unwrap_or_default().into_iter().collect())
    };
    Ok(TableRule {
        belongs,
        class: at.need("class")?.text()?,
        order: place.ok_or_else(|| order.wrong("a whole number from 1"))?,
        nulled_first: set("nulled_first")?,
        unguarded: set("unguarded")?,
        basis: at.get("basis").map(|at| at.text()).transpose()?,
        columns,
    })
}

fn read_column(name: &str, at: &At<'_>) -> Result<ColumnRule, FileError> {
    at.only(&["kind", "erase", "basis", "guess"])?;
    let guess = match at.get("guess") {
        None => false,
        Some(guess) => {
            let said = guess.item.as_bool();
            said.ok_or_else(|| guess.wrong("true, or leave it out"))?
        }
    };
    Ok(ColumnRule {
        name: name.to_owned(),
        kind: at.need("kind")?.word(&Kind::WORDS)?,
        erase: at.need("erase")?.word(&Erase::WORDS)?,
        basis: at.get("basis").map(|at| at.text()).transpose()?,
        guess,
    })
}

/// A value with the way to it; other files of ours are read by it, too.
pub(crate) struct At<'a> {
    text: &'a str,
    place: String,
    pub(crate) item: &'a Item,
    /// Where it begins; its line is counted when somebody is told.
    start: usize,
}

impl<'a> At<'a> {
    /// The whole of a file.
    pub(crate) fn root(text: &'a str, document: &'a Document<&'a str>) -> Self {
        Self {
            text,
            place: String::new(),
            item: document.as_item(),
            start: 0,
        }
    }

    pub(crate) fn wrong(&self, detail: &str) -> FileError {
        FileError {
            line: line_of(self.text, self.start),
            place: match self.place.as_str() {
                "" => "the file".to_owned(),
                place => place.to_owned(),
            },
            detail: detail.to_owned(),
        }
    }

    fn table(&self) -> Result<&'a dyn TableLike, FileError> {
        let table = self.item.as_table_like();
        table.ok_or_else(|| self.wrong("a table of keys and values"))
    }

    fn below(&self, table: &dyn TableLike, key: &str, item: &'a Item) -> Self {
        let span = table.key(key).and_then(Key::span).or_else(|| item.span());
        let dot = if self.place.is_empty() { "" } else { "." };
        Self {
            text: self.text,
            place: format!("{}{dot}{}", self.place, quoted_key(key)),
            item,
            start: span.map_or(self.start, |span| span.start),
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<Self> {
        let table = self.item.as_table_like()?;
        table.get(key).map(|item| self.below(table, key, item))
    }

    pub(crate) fn need(&self, key: &str) -> Result<Self, FileError> {
        self.table()?;
        let missing = || self.wrong(&format!("it needs {key}"));
        self.get(key).ok_or_else(missing)
    }

    pub(crate) fn fields(&self) -> Result<Vec<(&'a str, Self)>, FileError> {
        let table = self.table()?;
        let fields = table.iter();
        Ok(fields
            .map(|(key, item)| (key, self.below(table, key, item)))
            .collect())
    }

    pub(crate) fn only(&self, known: &[&str]) -> Result<(), FileError> {
        for (key, at) in self.fields()? {
            if !known.contains(&key) {
                return Err(at.wrong(&format!("not a key of it; there are {}", known.join(", "))));
            }
        }
        Ok(())
    }

    pub(crate) fn text(&self) -> Result<String, FileError> {
        let text = self.item.as_str().map(str::trim);
        let text = text.filter(|text| !text.is_empty());
        text.map(ToOwned::to_owned)
            .ok_or_else(|| self.wrong("a text that is not empty"))
    }

    pub(crate) fn texts(&self) -> Result<Vec<String>, FileError> {
        let list = || self.wrong("a list of texts");
        let array = self.item.as_array().ok_or_else(list)?;
        let texts = array
            .iter()
            .map(|value| value.as_str().map(ToOwned::to_owned));
        texts.collect::<Option<_>>().ok_or_else(list)
    }

    pub(crate) fn word<T: Copy>(&self, words: &[(&'static str, T)]) -> Result<T, FileError> {
        let text = self.item.as_str();
        let found = words.iter().find(|(word, _)| Some(*word) == text);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.wrong(&format!("one of {}", words.join(", ")))
        })
    }
}

fn line_of(text: &str, start: usize) -> usize {
    let before = text.as_bytes().iter().take(start);
    before.filter(|byte| **byte == b'\n').count() + 1
}

/// Prints a data map as [`parse`] reads it, tables in the order of deletion.
#[must_use]
pub fn print(map: &DataMap) -> String {
    let mut text = String::from(
        "# The data map: what is kept of a tenant, and what becomes of it. Every word is explained in\n\
         # docs/data-map.md. `tenure data-map check` holds it against the database.\n",
    );
    let _ = writeln!(text, "version = {VERSION}");
    let _ = writeln!(text, "model = \"{}\"", word(&Model::WORDS, &map.model));
    let _ = writeln!(text, "schemas = {}", quoted_list(&map.schemas));
    if let Some(setting) = &map.setting {
        let _ = writeln!(text, "tenant_setting = {}", quoted(setting));
    }
    if map.tables.is_empty() {
        text.push_str("\n[tables]\n");
    }
    let mut tables: Vec<_> = map.tables.iter().collect();
    tables.sort_by_key(|(name, rule)| (rule.order, *name));
    for (name, rule) in tables {
        print_table(&mut text, name, rule);
    }
    text
}

fn print_table(text: &mut String, name: &str, rule: &TableRule) {
    let name = quoted(name);
    let _ = writeln!(text, "\n[tables.{name}]");
    let _ = match &rule.belongs {
        Belongs::Column(column) => writeln!(text, "tenant = {}", quoted(column)),
        Belongs::Path(path) => writeln!(text, "tenant_path = {}", quoted_list(path)),
        Belongs::Nobody(reason) => writeln!(text, "no_tenant = {}", quoted(reason)),
        Belongs::Unsaid => Ok(()),
    };
    let _ = writeln!(text, "class = {}", quoted(&rule.class));
    let _ = writeln!(text, "order = {}", rule.order);
    for (key, keys) in [
        ("nulled_first", &rule.nulled_first),
        ("unguarded", &rule.unguarded),
    ] {
        if !keys.is_empty() {
            let _ = writeln!(text, "{key} = {}", quoted_list(keys));
        }
    }
    if let Some(basis) = &rule.basis {
        let _ = writeln!(text, "basis = {}", quoted(basis));
    }
    let _ = writeln!(text, "[tables.{name}.columns]");
    for column in &rule.columns {
        let (kind, erase) = (
            word(&Kind::WORDS, &column.kind),
            word(&Erase::WORDS, &column.erase),
        );
        let name = quoted_key(&column.name);
        let _ = write!(text, "{name} = {{ kind = \"{kind}\", erase = \"{erase}\"");
        if let Some(basis) = &column.basis {
            let _ = write!(text, ", basis = {}", quoted(basis));
        }
        text.push_str(if column.guess {
            ", guess = true }\n"
        } else {
            " }\n"
        });
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn quoted_list<'a>(texts: impl IntoIterator<Item = &'a String>) -> String {
    let texts: Vec<String> = texts.into_iter().map(|text| quoted(text)).collect();
    format!("[{}]", texts.join(", "))
}

fn quoted_key(key: &str) -> String {
    Key::new(key).display_repr().into_owned()
}
