//! Settings from a TOML file, brought to clap as its defaults.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use toml_edit::{Document, Item, Value};

use super::{Kind, MASK, Setting};

/// What a file has to say once flags and environment have had their word.
pub(crate) struct FileSettings {
    path: PathBuf,
    /// By the argument's id: its values, as they would be written on the command line.
    values: BTreeMap<String, Vec<String>>,
}

/// A key of the file.
struct Given<'a> {
    setting: Setting<'a>,
    line: usize,
    texts: Vec<String>,
}

impl FileSettings {
    /// Reads a file for a built command that was given `matches`.
    ///
    /// Of two settings that exclude each other, such as a secret and its file, the one in the file
    /// gives way to the one that is given by flag or environment.
    ///
    /// # Errors
    /// When it cannot be read or says what makes no sense: path, line and key.
    pub(crate) fn read(
        path: &Path,
        command: &Command,
        matches: &ArgMatches,
    ) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the configuration {}", path.display()))?;
        let given = parse(path, &text, command)?;
        let mut values = BTreeMap::new();
        for (index, one) in given.iter().enumerate() {
            let place = one.place(path);
            for other in &given[..index] {
                let both = one.is_on() && other.is_on();
                anyhow::ensure!(
                    !(both && one.setting.excludes(other.setting, command)),
                    "{place}: cannot be given together with `{}` of line {}",
                    other.setting.key(),
                    other.line
                );
            }
            let outranked = Setting::all(command).any(|other| {
                is_explicit(matches, other)
                    && (other.id() == one.setting.id()
                        || one.is_on() && one.setting.excludes(other, command))
            });
            if outranked {
                continue;
            }
            // What --print-config printed may be used as a file, but a mask is nobody's secret.
            anyhow::ensure!(
                !(one.setting.is_secret() && one.texts.iter().any(|text| text == MASK)),
                "{place}: `{MASK}` masks a secret; give the secret itself, or its file"
            );
            values.insert(one.setting.id().to_owned(), one.texts.clone());
        }
        Ok(Self {
            path: path.to_owned(),
            values,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn gives(&self, id: &str) -> bool {
        self.values.contains_key(id)
    }

    /// The command line's definition, not built yet, with these values as the defaults of one of
    /// its commands.
    pub(crate) fn as_defaults(&self, root: Command, command: &'static str) -> Command {
        self.values.iter().fold(root, |root, (id, texts)| {
            let set = |arg: Arg| arg.default_values(texts.clone());
            let is_global = |arg: &Arg| arg.is_global_set() && arg.get_id() == id.as_str();
            let on_root = root.get_arguments().any(is_global);
            if on_root {
                root.mut_arg(id, set)
            } else {
                root.mut_subcommand(command, |command| command.mut_arg(id, set))
            }
        })
    }
}

impl Given<'_> {
    fn place(&self, path: &Path) -> String {
        format!("{}:{}: `{}`", path.display(), self.line, self.setting.key())
    }

    /// Whether it asks for anything: a switch that is off excludes nothing.
    fn is_on(&self) -> bool {
        match self.setting.kind() {
            Kind::Boolean => self.texts.iter().any(|text| text == "true"),
            Kind::Integer | Kind::Float | Kind::Text => !self.texts.is_empty(),
        }
    }
}

fn is_explicit(matches: &ArgMatches, setting: Setting<'_>) -> bool {
    matches!(
        matches.value_source(setting.id()),
        Some(ValueSource::CommandLine | ValueSource::EnvVariable)
    )
}

/// The keys of a file, each judged by itself.
fn parse<'a>(path: &Path, text: &str, command: &'a Command) -> anyhow::Result<Vec<Given<'a>>> {
    let settings: Vec<_> = Setting::all(command).collect();
    let find = |key: &str| settings.iter().find(|one| one.key() == key).copied();
    let file = path.display();
    let document = Document::parse(text).map_err(|error| {
        // The error's own text quotes the line, which may hold a secret.
        let line = line_of(text, error.span());
        let written = text.lines().nth(line - 1).unwrap_or_default();
        let key = written.split('=').next().unwrap_or_default().trim();
        let key = find(key).map_or(String::new(), |known| format!(" `{}`:", known.key()));
        anyhow::anyhow!("{file}:{line}:{key} {}", error.message())
    })?;
    let mut given = Vec::new();
    for (key, item) in document.iter() {
        let span = document.key(key).and_then(toml_edit::Key::span);
        let line = line_of(text, span);
        let setting = find(key).with_context(|| {
            format!(
                "{file}:{line}: unknown key `{key}`; the keys are the flags of `tenure {} --help`, \
                 with underscores",
                command.get_name()
            )
        })?;
        let texts = texts(setting, item).with_context(|| format!("{file}:{line}: `{key}`"))?;
        given.push(Given {
            setting,
            line,
            texts,
        });
    }
    Ok(given)
}

/// The line, from 1, on which a span begins.
fn line_of(text: &str, span: Option<std::ops::Range<usize>>) -> usize {
    let before = span.and_then(|span| text.as_bytes().get(..span.start));
    let breaks = before.map_or(0, |before| before.iter().filter(|b| **b == b'\n').count());
    breaks + 1
}

/// A value as the texts that the command line would give.
fn texts(setting: Setting<'_>, item: &Item) -> anyhow::Result<Vec<String>> {
    let wrong = |wanted: &str, found: &str| format!("wants a value of type {wanted}, not {found}");
    let value = item.as_value();
    if !setting.is_list() {
        let text = value.and_then(|value| scalar(setting.kind(), value));
        let text = text.with_context(|| wrong(setting.kind().name(), item.type_name()))?;
        judge(setting, &text)?;
        return Ok(vec![text]);
    }
    let wanted = format!("array of {}", setting.kind().name());
    let array = value.and_then(Value::as_array);
    let array = array.with_context(|| wrong(&wanted, item.type_name()))?;
    let mut texts = Vec::new();
    for value in array {
        let text = scalar(setting.kind(), value).with_context(|| {
            let found = format!("array with {}", value.type_name());
            wrong(&wanted, &found)
        })?;
        let delimiter = setting.arg.get_value_delimiter();
        if let Some(delimiter) = delimiter.filter(|delimiter| text.contains(*delimiter)) {
            anyhow::bail!("one value holds `{delimiter}`, which separates values");
        }
        judge(setting, &text)?;
        texts.push(text);
    }
    Ok(texts)
}

fn scalar(kind: Kind, value: &Value) -> Option<String> {
    match (kind, value) {
        (Kind::Boolean, Value::Boolean(value)) => Some(value.value().to_string()),
        (Kind::Integer | Kind::Float, Value::Integer(value)) => Some(value.value().to_string()),
        (Kind::Float, Value::Float(value)) => Some(value.value().to_string()),
        (Kind::Text, Value::String(value)) => Some(value.value().clone()),
        _ => None,
    }
}

/// Lets clap judge a value as it would judge the flag's, apart from all others; clap takes it for
/// granted that defaults are valid.
fn judge(setting: Setting<'_>, text: &str) -> anyhow::Result<()> {
    let arg = Arg::new("value")
        .action(ArgAction::Set)
        .allow_hyphen_values(true)
        .value_parser(setting.arg.get_value_parser().clone());
    let alone = Command::new("setting")
        .no_binary_name(true)
        .disable_help_flag(true)
        .arg(arg.long("value"));
    let Err(error) = alone.try_get_matches_from([format!("--value={text}")]) else {
        return Ok(());
    };
    let known = setting.arg.get_possible_values();
    let known: Vec<_> = known.iter().map(|one| one.get_name()).collect();
    match error.source() {
        // What is wrong might be told by repeating the value.
        _ if setting.is_secret() => anyhow::bail!("is malformed"),
        Some(source) => anyhow::bail!("is malformed: {source}"),
        None if known.is_empty() => anyhow::bail!("is malformed: {}", error.kind()),
        None => anyhow::bail!("must be one of {}", known.join(", ")),
    }
}
