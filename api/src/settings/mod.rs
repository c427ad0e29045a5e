//! The settings of a command, as clap knows them: there is no second list of them.
//!
//! [`FileSettings`] reads them from a file, [`effective()`] prints what they are and why, and
//! [`reference()`] describes them all. What they mean is in `config`.

mod effective;
mod file;
mod reference;

use std::any::TypeId;

use clap::{Arg, ArgAction, Args as _, Command};

pub(crate) use effective::effective;
pub(crate) use file::FileSettings;
pub(crate) use reference::reference;

use crate::config::ConfigurationArgs;

/// What is shown instead of a secret.
const MASK: &str = "***";

/// One thing that can be set.
#[derive(Clone, Copy)]
struct Setting<'a> {
    arg: &'a Arg,
    flag: &'a str,
}

/// What TOML writes a value as.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Boolean,
    Integer,
    Float,
    Text,
}

impl<'a> Setting<'a> {
    /// The settings of a built command, in the order of its help.
    fn all(command: &'a Command) -> impl Iterator<Item = Self> {
        command.get_arguments().filter_map(|arg| {
            let setting = Self {
                arg,
                flag: arg.get_long()?,
            };
            (!asks_for_words(arg) && !is_about_configuration(command, arg)).then_some(setting)
        })
    }

    fn id(&self) -> &'a str {
        self.arg.get_id().as_str()
    }

    /// Its name in a file.
    fn key(&self) -> String {
        self.flag.replace('-', "_")
    }

    fn is_secret(&self) -> bool {
        self.arg.is_hide_env_values_set()
    }

    fn is_list(&self) -> bool {
        matches!(self.arg.get_action(), ArgAction::Append)
    }

    /// What one value of it is.
    fn kind(&self) -> Kind {
        let parsed = self.arg.get_value_parser().type_id();
        let is_one_of = |types: &[TypeId]| types.iter().any(|one| parsed == *one);
        if is_one_of(&[TypeId::of::<bool>()]) {
            Kind::Boolean
        } else if is_one_of(&[TypeId::of::<f32>(), TypeId::of::<f64>()]) {
            Kind::Float
        } else if is_one_of(&[
            TypeId::of::<u8>(),
            TypeId::of::<u16>(),
            TypeId::of::<u32>(),
            TypeId::of::<u64>(),
            TypeId::of::<usize>(),
            TypeId::of::<i8>(),
            TypeId::of::<i16>(),
            TypeId::of::<i32>(),
            TypeId::of::<i64>(),
            TypeId::of::<isize>(),
        ]) {
            Kind::Integer
        } else {
            Kind::Text
        }
    }

    /// Whether clap refuses the two together.
    fn excludes(&self, other: Self, command: &Command) -> bool {
        let names = |one: &Arg, two: &Arg| {
            let conflicts = command.get_arg_conflicts_with(one);
            conflicts.iter().any(|arg| arg.get_id() == two.get_id())
        };
        names(self.arg, other.arg) || names(other.arg, self.arg)
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Float => "float",
            Self::Text => "string",
        }
    }
}

/// Whether an argument only asks for help or the version.
fn asks_for_words(arg: &Arg) -> bool {
    matches!(
        arg.get_action(),
        ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version
    )
}

/// Whether an argument says where the configuration comes from, so that a file cannot.
fn is_about_configuration(command: &Command, arg: &Arg) -> bool {
    let group = ConfigurationArgs::group_id();
    command
        .get_groups()
        .filter(|known| Some(known.get_id()) == group.as_ref())
        .flat_map(clap::ArgGroup::get_args)
        .any(|id| id == arg.get_id())
}
