//! What the user sees: colours only on a terminal, tables, times in the reader's zone, sizes.

use jiff::{Timestamp, tz::TimeZone};
use serde_json::Value;
use std::{
    fmt,
    io::{self, IsTerminal, Write},
    sync::LazyLock,
};

/// Colours only for people, and not for those who said no (no-color.org).
static COLOURS: LazyLock<bool> = LazyLock::new(|| {
    let wanted = std::env::var("CF_COLOR").map(|value| value == "true");
    wanted.unwrap_or_else(|_| io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()))
});

/// Writes a line to standard output; a reader that has gone away ends the command quietly.
pub(crate) fn line(text: fmt::Arguments<'_>) {
    write(format_args!("{text}\n"));
}

/// Writes to standard output without an end of line.
pub(crate) fn write(text: fmt::Arguments<'_>) {
    let mut out = io::stdout().lock();
    if let Err(e) = out.write_fmt(text).and_then(|()| out.flush())
        && e.kind() == io::ErrorKind::BrokenPipe
    {
        std::process::exit(0);
    }
}

/// `println!` that survives `| head`.
macro_rules! say {
    () => { $crate::ui::line(format_args!("")) };
    ($($text:tt)*) => { $crate::ui::line(format_args!($($text)*)) };
}
pub(crate) use say;

fn paint(code: &str, text: &str) -> String {
    if *COLOURS { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}
/// A name in a sentence.
pub(crate) fn name(text: &str) -> String {
    paint("36;1", text)
}
/// Good news.
pub(crate) fn green(text: &str) -> String {
    paint("32;1", text)
}
/// Bad news.
pub(crate) fn red(text: &str) -> String {
    paint("31;1", text)
}
/// A heading.
pub(crate) fn bold(text: &str) -> String {
    paint("1", text)
}

/// Says `OK`.
pub(crate) fn ok() {
    say!("{}", green("OK"));
}

/// Prints a document for programs.
pub(crate) fn json(value: &Value) {
    say!("{}", serde_json::to_string_pretty(value).unwrap_or_default());
}

/// Rows under headings; columns are as wide as their widest cell, three spaces apart.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) {
    for line in table_lines(headings, rows) {
        say!("{line}");
    }
}

fn table_lines(headings: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| plain(cell)).collect()).collect();
    let mut widths: Vec<usize> = headings.iter().map(|heading| heading.chars().count()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let lay = |cells: Vec<String>, heading: bool| {
        let last = cells.len().saturating_sub(1);
        let cell = |(at, cell): (usize, String)| {
            let fill = if at == last { 0 } else { widths[at] - cell.chars().count() + 3 };
            format!("{}{}", if heading { bold(&cell) } else { cell }, " ".repeat(fill))
        };
        cells.into_iter().enumerate().map(cell).collect::<String>().trim_end().to_owned()
    };
    let top = headings.iter().map(|heading| (*heading).to_owned()).collect();
    std::iter::once(lay(top, true)).chain(rows.iter().map(|row| lay(row.clone(), false))).collect()
}

/// `key:   value` lines whose values begin in one column.
pub(crate) fn pairs(rows: &[(&str, String)]) {
    let widest = rows.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
    for (key, value) in rows {
        say!("{}", format!("{key}:{}{}", " ".repeat(widest - key.len() + 3), plain(value)).trim_end());
    }
}

/// Bytes as Cloud Foundry writes them: `1G`, `256M`, `12.5M`, `0B`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(1 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];
    match UNITS.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, letter)) => {
            let text = format!("{:.1}", bytes as f64 / *unit as f64);
            format!("{}{letter}", text.strip_suffix(".0").unwrap_or(&text))
        }
        None => format!("{bytes}B"),
    }
}

/// Reads `256M`, `1G`, `1024MB`; the result is in megabytes.
pub(crate) fn megabytes(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    match text[digits..].to_ascii_uppercase().as_str() {
        "M" | "MB" | "" => Some(number),
        "G" | "GB" => number.checked_mul(1024),
        "T" | "TB" => number.checked_mul(1024 * 1024),
        _ => None,
    }
}

/// A moment of the API in the reader's zone, like `2026-11-21T14:20:15+01:00`.
pub(crate) fn moment(text: &str) -> String {
    match text.parse::<Timestamp>() {
        Ok(moment) => iso(moment, &TimeZone::system()),
        Err(_) => text.to_owned(),
    }
}

fn iso(moment: Timestamp, zone: &TimeZone) -> String {
    moment.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string().replace("+00:00", "Z")
}

/// A moment of the API as the official client's `events` has it: `2026-11-21T14:20:15.00+0100`.
pub(crate) fn event_time(text: &str) -> String {
    match text.parse::<Timestamp>() {
        Ok(moment) => moment.to_zoned(TimeZone::system()).strftime("%Y-%m-%dT%H:%M:%S.%2f%z").to_string(),
        Err(_) => text.to_owned(),
    }
}

/// A moment of the API for people, like `Sat 21 Nov 14:20:15 CET 2026`.
pub(crate) fn calendar(text: &str) -> String {
    match text.parse::<Timestamp>() {
        Ok(moment) => moment.to_zoned(TimeZone::system()).strftime("%a %d %b %H:%M:%S %Z %Y").to_string(),
        Err(_) => text.to_owned(),
    }
}

/// Nanoseconds since the epoch as a log line begins: `2026-11-21T14:20:15.12+0100`.
pub(crate) fn log_time(nanos: i64) -> String {
    match Timestamp::from_nanosecond(nanos.into()) {
        Ok(moment) => moment.to_zoned(TimeZone::system()).strftime("%Y-%m-%dT%H:%M:%S.%2f%z").to_string(),
        Err(_) => nanos.to_string(),
    }
}

/// When something began that has lasted `seconds`.
pub(crate) fn began(seconds: u64) -> String {
    let span = jiff::SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(0));
    iso(Timestamp::now() - span, &TimeZone::system())
}

/// Text of somebody else in one line, without characters that would steer the terminal.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c == '\n' { ' ' } else { c }).filter(|c| *c == '\t' || !c.is_control()).collect()
}

/// Text that came from an app or the platform, without characters that would steer the terminal.
pub(crate) fn harmless(text: &str) -> String {
    let keep = |c: &char| !c.is_control() || matches!(c, '\t' | '\u{1b}');
    if io::stdout().is_terminal() { text.chars().filter(keep).collect() } else { text.trim_end_matches(['\r', '\n']).to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|cell| (*cell).to_owned()).collect()
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let lines = table_lines(
            &["name", "requested state", "routes"],
            &[row(&["a-long-name", "started", "x.app"]), row(&["b", "stopped", ""])],
        );
        assert_eq!(lines[0], "name          requested state   routes");
        assert_eq!(lines[1], "a-long-name   started           x.app");
        assert_eq!(lines[2], "b             stopped");
    }

    #[test]
    fn wide_letters_do_not_break_a_table() {
        let lines = table_lines(&["name", "x"], &[row(&["grün", "1"]), row(&["ab", "2"])]);
        assert_eq!(lines[2], "ab     2");
    }

    #[test]
    fn nobody_steers_the_terminal_through_a_table() {
        let lines = table_lines(&["name"], &[row(&["\t\u{0}a \u{1b}[31mred\nnext"])]);
        assert_eq!(lines[1], "\ta [31mred next");
    }

    #[test]
    fn sizes_read_and_write_as_people_do() {
        assert_eq!([0, 512, 1024, 1_572_864, 268_435_456, 1 << 30].map(size), ["0B", "512B", "1K", "1.5M", "256M", "1G"]);
        assert_eq!(
            ["256M", "1G", "1024MB", "2gb", "64"].map(megabytes),
            [Some(256), Some(1024), Some(1024), Some(2048), Some(64)]
        );
        assert_eq!(["", "G", "1X", "-1M", "1.5G"].map(megabytes), [None; 5]);
    }

    #[test]
    fn moments_are_shown_in_the_readers_zone() {
        let moment: Timestamp = "2026-11-21T13:20:15Z".parse().unwrap();
        assert_eq!(iso(moment, &TimeZone::UTC), "2026-11-21T13:20:15Z");
        assert_eq!(iso(moment, &TimeZone::fixed(jiff::tz::offset(1))), "2026-11-21T14:20:15+01:00");
        assert_eq!(self::moment("soon"), "soon");
    }
}
