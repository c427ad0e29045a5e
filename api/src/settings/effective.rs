//! The settings as they are, and where each comes from.

use std::fmt::Write as _;

use anyhow::Context as _;
use clap::parser::ValueSource;
use clap::{ArgMatches, Command};
use toml_edit::{Array, Value};

use super::{FileSettings, Kind, MASK, Setting};

/// The settings of a built command as TOML, a line each with its origin; secrets are masked.
///
/// # Errors
/// When a value cannot be written as TOML.
pub(crate) fn effective(
    command: &Command,
    matches: &ArgMatches,
    file: Option<&FileSettings>,
) -> anyhow::Result<String> {
    let mut toml = String::new();
    for setting in Setting::all(command) {
        let key = setting.key();
        let Some(source) = matches.value_source(setting.id()) else {
            writeln!(toml, "# {key} is not set")?;
            continue;
        };
        let value = value(setting, matches)
            .with_context(|| format!("the value of --{} cannot be written", setting.flag))?;
        let origin = origin(setting, source, file);
        writeln!(toml, "{key} = {value} # {origin}")?;
    }
    Ok(toml)
}

fn value(setting: Setting<'_>, matches: &ArgMatches) -> anyhow::Result<Value> {
    let mut values = Vec::new();
    for raw in matches.get_raw(setting.id()).unwrap_or_default() {
        let text = raw.to_str().context("it is not UTF-8")?;
        values.push(if setting.is_secret() {
            Value::from(MASK)
        } else {
            match setting.kind() {
                Kind::Boolean => Value::from(text.parse::<bool>()?),
                Kind::Integer => Value::from(text.parse::<i64>()?),
                Kind::Float => Value::from(text.parse::<f64>()?),
                Kind::Text => Value::from(text),
            }
        });
    }
    if setting.is_list() {
        return Ok(Value::from(Array::from_iter(values)));
    }
    values.pop().context("it has none")
}

fn origin(setting: Setting<'_>, source: ValueSource, file: Option<&FileSettings>) -> String {
    let file = file.filter(|file| file.gives(setting.id()));
    match (source, setting.arg.get_env(), file) {
        (ValueSource::CommandLine, _, _) => "flag".to_owned(),
        (ValueSource::EnvVariable, Some(name), _) => {
            format!("environment {}", name.to_string_lossy())
        }
        (_, _, Some(file)) => format!("file {}", file.path().display()),
        _ => "default".to_owned(),
    }
}
