//! Durations and sizes as files write them. Pure.

/// Reads `500ms`, `5s`, `10m`, `24h` or `7d` as milliseconds.
pub(super) fn milliseconds(text: &str) -> Option<u64> {
    let (count, unit) = split(text)?;
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    count.checked_mul(factor)
}

/// Reads `512kB`, `16MB` or `2GB` as bytes.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let (count, unit) = split(text)?;
    let factor = match unit {
        "B" => 1,
        "kB" | "KB" => 1 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        "TB" => 1 << 40,
        _ => return None,
    };
    count.checked_mul(factor)
}

fn split(text: &str) -> Option<(u64, &str)> {
    let at = text.find(|c: char| !c.is_ascii_digit())?;
    let (count, unit) = text.split_at(at);
    Some((count.parse().ok()?, unit.trim_start()))
}

/// Says a duration as people do.
pub(super) fn say_milliseconds(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{} s", ms / 1_000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} d", ms / 86_400_000),
    }
}

/// Says a size as people do.
pub(super) fn say_bytes(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{} kB", bytes >> 10),
        1_048_576..1_073_741_824 => format!("{} MB", bytes >> 20),
        _ => format!("{:.1} GB", bytes as f64 / 1_073_741_824.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_a_count_and_a_unit() {
        assert_eq!(milliseconds("500ms"), Some(500));
        assert_eq!(milliseconds("24h"), Some(86_400_000));
        assert_eq!(milliseconds("10 min"), Some(600_000));
        assert_eq!(bytes("16MB"), Some(16 << 20));
        for wrong in ["", "s", "5", "-5s", "5 weeks", "99999999999999999999d"] {
            assert_eq!(milliseconds(wrong), None, "{wrong}");
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
        assert_eq!(say_milliseconds(95_000), "95 s");
        assert_eq!(say_bytes(16 << 20), "16 MB");
    }
}
