//! `docs/configuration.md`: what every command can be told, one table each.

use clap::{Arg, ArgAction, Command};

use super::{Setting, asks_for_words};

const HEADER: &str = "\
# Configuration

This file is printed by `tenure configuration` from the definitions of the flags; do not edit it.

Of the same setting, a flag outranks the environment, the environment the file, and the file the default.
The file is TOML and is named by `--config` or `TENURE_CONFIG`; its keys are the flags' names with underscores, and an unknown one is an error.
A secret can always be given as a file of its own instead; in the configuration file, either gives way to whichever of the two is given by flag or environment.
`tenure serve --print-config` prints what holds and why, with secrets masked.
";

/// The reference of a built command line, as Markdown.
pub(crate) fn reference(root: &Command) -> String {
    let mut sections = vec![HEADER.to_owned()];
    let everywhere: Vec<_> = shown(root).filter(|arg| arg.is_global_set()).collect();
    let takes_file = root.get_subcommands().any(takes_file);
    if !everywhere.is_empty() {
        sections.push(section("Every command", "", &everywhere, |arg| {
            key_in_file(root, arg).filter(|_| takes_file)
        }));
    }
    add_commands(&mut sections, root, root.get_name());
    sections.join("\n")
}

/// Appends the commands below `parent`, depth first.
fn add_commands(sections: &mut Vec<String>, parent: &Command, path: &str) {
    for command in parent.get_subcommands() {
        if command.is_hide_set() || command.get_name() == "help" {
            continue;
        }
        let path = format!("{path} {}", command.get_name());
        let own: Vec<_> = shown(command).filter(|arg| !arg.is_global_set()).collect();
        if !own.is_empty() {
            let about = command.get_about().map(ToString::to_string);
            let heading = format!("`{path}`");
            sections.push(section(&heading, &about.unwrap_or_default(), &own, |arg| {
                key_in_file(command, arg).filter(|_| takes_file(command))
            }));
        }
        add_commands(sections, command, &path);
    }
}

fn shown(command: &Command) -> impl Iterator<Item = &Arg> {
    command
        .get_arguments()
        .filter(|arg| !arg.is_hide_set() && !asks_for_words(arg))
}

/// Whether a command has arguments that are about its configuration.
fn takes_file(command: &Command) -> bool {
    let mut arguments = command.get_arguments();
    arguments.any(|arg| super::is_about_configuration(command, arg))
}

fn key_in_file(command: &Command, arg: &Arg) -> Option<String> {
    Setting::all(command)
        .find(|setting| setting.id() == arg.get_id().as_str())
        .map(|setting| setting.key())
}

fn section(
    heading: &str,
    about: &str,
    arguments: &[&Arg],
    key: impl Fn(&Arg) -> Option<String>,
) -> String {
    let mut text = format!("## {heading}\n\n");
    if !about.is_empty() {
        text += &format!("{}.\n\n", about.trim_end_matches('.'));
    }
    text += "| Flag | Environment | File key | Default | Meaning |\n|---|---|---|---|---|\n";
    for arg in arguments {
        let env = arg
            .get_env()
            .map(|name| name.to_string_lossy().into_owned());
        text += &format!(
            "| {} | {} | {} | {} | {} |\n",
            code(Some(flag(arg))),
            code(env),
            code(key(arg)),
            code(default(arg)),
            meaning(arg)
        );
    }
    text
}

fn code(text: Option<String>) -> String {
    text.map_or("–".to_owned(), |text| format!("`{}`", in_cell(&text)))
}

fn in_cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn flag(arg: &Arg) -> String {
    match arg.get_long() {
        Some(long) => format!("--{long}"),
        None => arg.to_string(),
    }
}

fn default(arg: &Arg) -> Option<String> {
    // A switch is off, which needs no word.
    let values = match arg.get_action() {
        ArgAction::SetTrue | ArgAction::SetFalse => return None,
        _ => arg.get_default_values(),
    };
    let values: Vec<_> = values.iter().map(|one| one.to_string_lossy()).collect();
    (!values.is_empty()).then(|| values.join(", "))
}

fn meaning(arg: &Arg) -> String {
    let help = arg.get_long_help().or(arg.get_help());
    let help = help.map(ToString::to_string).unwrap_or_default();
    let mut sentences = vec![format!("{}.", help.trim_end_matches('.'))];
    let known = arg.get_possible_values();
    if !known.is_empty() {
        let names: Vec<_> = known
            .iter()
            .map(|one| format!("`{}`", one.get_name()))
            .collect();
        sentences.push(format!("One of {}.", names.join(", ")));
    }
    if arg.is_hide_env_values_set() {
        sentences.push("Secret.".to_owned());
    }
    in_cell(&sentences.join(" "))
}
