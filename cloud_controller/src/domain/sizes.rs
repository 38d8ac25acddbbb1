//! Sizes as people write them in manifests: `512M`, `1G`, `16K`.

/// Why a text is no size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeError {
    /// A number without a unit, or with one that nobody knows.
    Unit,
    /// No number at all.
    Number,
}

impl SizeError {
    /// The rest of the sentence that begins with the field's name.
    pub fn text(self) -> &'static str {
        match self {
            Self::Unit => "must use a supported unit: B, K, KB, M, MB, G, GB, T, or TB",
            Self::Number => "is not a number",
        }
    }
}

/// Reads a size in bytes.
///
/// # Errors
/// [`SizeError`] for a missing or foreign unit, and for no number.
pub fn parse_bytes(text: &str) -> Result<u64, SizeError> {
    let text = text.trim();
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(SizeError::Number);
    }
    let shift = match unit.trim().to_ascii_uppercase().as_str() {
        "B" => 0,
        "K" | "KB" => 10,
        "M" | "MB" => 20,
        "G" | "GB" => 30,
        "T" | "TB" => 40,
        _ => return Err(SizeError::Unit),
    };
    let factor = 1_u64 << shift;
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor).ok_or(SizeError::Number);
    }
    let number: f64 = number.parse().map_err(|_| SizeError::Number)?;
    let bytes = number * factor as f64;
    if bytes.is_finite() && bytes < 1e18 { Ok(bytes as u64) } else { Err(SizeError::Number) }
}

/// Reads a size in whole megabytes; what is less than one megabyte counts as zero.
///
/// # Errors
/// As [`parse_bytes`]; also for sizes that nobody has.
pub fn parse_megabytes(text: &str) -> Result<u32, SizeError> {
    u32::try_from(parse_bytes(text)? >> 20)
        .map_err(|_| SizeError::Number)
        .and_then(|mb| if mb <= i32::MAX as u32 { Ok(mb) } else { Err(SizeError::Number) })
}

/// Megabytes as generated manifests show them: always `512M`, also where a larger unit would do.
pub fn megabytes(mb: u32) -> String {
    format!("{mb}M")
}

/// A log rate as generated manifests show it: `-1`, or the largest unit that divides it.
pub fn log_rate(bytes_per_second: i64) -> String {
    let units = [(40, "T"), (30, "G"), (20, "M"), (10, "K")];
    if bytes_per_second < 0 {
        return "-1".into();
    }
    let found = units.iter().find(|(shift, _)| bytes_per_second != 0 && bytes_per_second % (1_i64 << shift) == 0);
    match found {
        Some((shift, unit)) => format!("{}{unit}", bytes_per_second >> shift),
        None => format!("{bytes_per_second}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_reads_in_both_spellings_and_cases() {
        for (text, bytes) in
            [("1B", 1), ("2K", 2048), ("2kb", 2048), ("3M", 3 << 20), ("3mb", 3 << 20), ("1G", 1 << 30), ("1TB", 1 << 40)]
        {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        assert_eq!(parse_bytes("0.5G"), Ok(512 << 20));
    }

    #[test]
    fn what_is_no_size_says_why() {
        assert_eq!(parse_bytes("512"), Err(SizeError::Unit));
        assert_eq!(parse_bytes("12X"), Err(SizeError::Unit));
        assert_eq!(parse_bytes("lots"), Err(SizeError::Number));
        assert_eq!(parse_bytes(""), Err(SizeError::Number));
        assert_eq!(parse_bytes("99999999999999999999G"), Err(SizeError::Number));
        assert_eq!(parse_megabytes("9999999T"), Err(SizeError::Number));
    }

    #[test]
    fn sizes_are_written_as_they_are_read() {
        assert_eq!(megabytes(1024), "1024M");
        for (rate, text) in [(-1, "-1"), (0, "0B"), (1024, "1K"), (1500, "1500B"), (1 << 20, "1M")] {
            assert_eq!(log_rate(rate), text);
        }
    }
}
