//! The table of keys.

use tenure_console::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use tenure_console::keymap::{self, Command, Context};

#[test]
fn no_two_commands_share_a_key_and_each_says_what_it_does() {
    let printed = keymap::printed();
    for context in Context::ALL {
        let mut seen: Vec<keymap::Key> = Vec::new();
        for binding in keymap::bindings(context) {
            assert!(
                !binding.keys.is_empty() && !binding.help.is_empty(),
                "{:?}",
                binding.command
            );
            assert!(
                printed.contains(binding.help),
                "{} is not printed",
                binding.help
            );
            for key in binding.keys {
                assert!(
                    !seen.contains(key),
                    "{} has two meanings in {context:?}",
                    key.name()
                );
                seen.push(*key);
            }
        }
        let leave = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(keymap::command(context, &leave), Some(Command::Quit));
    }
}

#[test]
fn keys_that_change_something_are_capitals() {
    for binding in keymap::BINDINGS {
        if matches!(
            binding.command,
            Command::Signal | Command::Retry | Command::ActOnMany | Command::StartRun
        ) {
            let names: Vec<_> = binding.keys.iter().map(|key| key.name()).collect();
            assert!(
                names
                    .iter()
                    .all(|name| name.len() == 1 && name.to_uppercase() == *name),
                "{names:?}"
            );
        }
    }
}
