//! Standard output, whose reader may go away before a command is done.
//!
//! `tenure run list | head` ends its reader early: what is left to say goes nowhere, and the command goes
//! on to its end, so that nothing it changes stays half done. Output that cannot be written for another
//! reason, such as a full disk, ends the command with an error.

use std::fmt;
use std::io::{ErrorKind, Write as _};

/// Prints a line, as `println!` does.
macro_rules! outln {
    () => {
        $crate::cli::out::write(format_args!("\n"))
    };
    ($($told:tt)*) => {
        $crate::cli::out::write(format_args!("{}\n", format_args!($($told)*)))
    };
}

/// Prints, as `print!` does.
macro_rules! out {
    ($($told:tt)*) => {
        $crate::cli::out::write(format_args!($($told)*))
    };
}

/// Writes to standard output.
pub(in crate::cli) fn write(told: fmt::Arguments<'_>) {
    bear(std::io::stdout().lock().write_fmt(told));
}

/// Shows what was printed of a line so far.
pub(in crate::cli) fn flush() {
    bear(std::io::stdout().lock().flush());
}

fn bear(written: std::io::Result<()>) {
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
    {
        eprintln!("tenure: cannot write to standard output: {error}");
        std::process::exit(1);
    }
}
