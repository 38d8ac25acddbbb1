//! Words that users read.
//!
//! Source: specs of the runtime, sections on stop, health checks and logs (cloudfoundry/executor, `depot/steps`).

use std::time::Duration;

/// `APP/PROC/WEB`.
pub fn source_type(process_type: &str) -> String {
    format!("APP/PROC/{}", process_type.to_uppercase())
}

/// Why an instance counts as crashed: `APP/PROC/WEB: Exited with status 1 (out of memory)`.
pub fn exit_reason(process_type: &str, status: i32, out_of_memory: bool) -> String {
    let memory = if out_of_memory { " (out of memory)" } else { "" };
    format!("{}: Exited with status {status}{memory}", source_type(process_type))
}

/// The line at a process's end: `Exit status 137 (exceeded 10s graceful shutdown interval)`.
pub fn exit_line(status: i32, out_of_memory: bool, exceeded: Option<Duration>) -> String {
    let grace = exceeded.map(|grace| format!(" (exceeded {} graceful shutdown interval)", span(grace))).unwrap_or_default();
    let memory = if out_of_memory { " (out of memory)" } else { "" };
    format!("Exit status {status}{grace}{memory}")
}

/// A span as Go prints it: `1m0s`, `10s`, `1.5s`, `300ms`.
pub fn span(span: Duration) -> String {
    let millis = span.as_millis();
    if millis < 1_000 {
        return format!("{millis}ms");
    }
    let (minutes, rest) = (millis / 60_000, millis % 60_000);
    let seconds = match rest % 1_000 {
        0 => format!("{}s", rest / 1_000),
        _ => format!("{}s", format!("{:.3}", rest as f64 / 1_000.0).trim_end_matches('0')),
    };
    match (minutes / 60, minutes % 60) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}m{seconds}"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
    }
}

/// Why an instance that never became healthy counts as crashed.
pub fn never_healthy(after: Duration, cause: &str) -> String {
    format!("Instance never healthy after {}: {cause}", span(after))
}

/// Why an instance whose check fails counts as crashed.
pub fn unhealthy(cause: &str) -> String {
    format!("Instance became unhealthy: {cause}")
}

/// A size in the words of download lines: `1.2M`.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes}B"),
        1_024..1_048_576 => format!("{:.1}K", bytes as f64 / 1_024.0),
        1_048_576..1_073_741_824 => format!("{:.1}M", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1}G", bytes as f64 / 1_073_741_824.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_reads_as_users_know_it() {
        assert_eq!(exit_reason("web", 1, false), "APP/PROC/WEB: Exited with status 1");
        assert_eq!(exit_reason("worker", 137, true), "APP/PROC/WORKER: Exited with status 137 (out of memory)");
        let late = Some(Duration::from_secs(10));
        assert_eq!(exit_line(137, false, late), "Exit status 137 (exceeded 10s graceful shutdown interval)");
        assert_eq!(exit_line(137, true, None), "Exit status 137 (out of memory)");
    }

    #[test]
    fn spans_read_as_go_prints_them() {
        for (millis, text) in [(60_000, "1m0s"), (10_000, "10s"), (1_500, "1.5s"), (20, "20ms"), (3_661_001, "1h1m1.001s")] {
            assert_eq!(span(Duration::from_millis(millis)), text);
        }
    }
}
