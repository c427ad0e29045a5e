//! Files of a tar, as POSIX describes it (ustar): what any tool unpacks, written as it goes.

use chrono::{DateTime, Utc};

/// Everything in a tar fills blocks of this size.
const BLOCK: usize = 512;
/// The longest name that the header has room for.
const MAX_NAME: usize = 100;

/// A file: its header, its bytes, and what fills the last block.
pub(crate) fn file(name: &str, at: DateTime<Utc>, bytes: &[u8]) -> Vec<u8> {
    let fill = bytes.len().next_multiple_of(BLOCK) - bytes.len();
    let mut whole = header(name, at, bytes.len()).to_vec();
    whole.extend(bytes);
    whole.extend(std::iter::repeat_n(0, fill));
    whole
}

/// Two empty blocks end a tar.
pub(crate) fn end() -> Vec<u8> {
    vec![0; 2 * BLOCK]
}

fn header(name: &str, at: DateTime<Utc>, size: usize) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    let mut put =
        |place: usize, text: &[u8]| header[place..place + text.len()].copy_from_slice(text);
    let name = name.as_bytes();
    put(0, &name[..name.len().min(MAX_NAME)]);
    put(100, b"0000600\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, format!("{:011o}\0", at.timestamp().max(0)).as_bytes());
    // The sum is taken over blanks in its own place.
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_systems_own_tar_unpacks_it() {
        let at = "2027-01-31T09:00:00Z".parse().unwrap();
        let long = vec![b'x'; 1000];
        let files = [
            ("empty", &[][..]),
            ("a.jsonl.gz", b"one"),
            ("b", &long),
            ("c", &long[..512]),
        ];
        let mut whole = Vec::new();
        for (name, bytes) in files {
            whole.extend(file(name, at, bytes));
        }
        whole.extend(end());
        for (name, bytes) in files {
            let mut tar = Command::new("tar")
                .args(["-xOf", "-", name])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            tar.stdin.take().unwrap().write_all(&whole).unwrap();
            let unpacked = tar.wait_with_output().unwrap();
            assert!(unpacked.status.success(), "{name}");
            assert_eq!(unpacked.stdout, bytes, "{name}");
        }
    }
}
