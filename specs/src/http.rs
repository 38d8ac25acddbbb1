//! Requests as users make them.

use std::process::Command;

/// What came back.
#[derive(Debug)]
pub struct Reply {
    /// The status; 0 when there was no answer at all.
    pub status: u16,
    /// Header lines of the last answer, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Reply {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e} in {self:?}"))
    }
}

/// Runs `curl` with these arguments.
pub(crate) fn curl(arguments: &[&str]) -> Reply {
    let output = Command::new("curl")
        .args(["--silent", "--include", "--max-time", "20", "--noproxy", "*"])
        .args(arguments)
        .output()
        .unwrap();
    let mut rest = String::from_utf8_lossy(&output.stdout).into_owned();
    let (mut status, mut headers) = (0, vec![]);
    // Interim answers (100 Continue) come first.
    while rest.starts_with("HTTP/") {
        let Some((head, body)) = rest.split_once("\r\n\r\n") else { break };
        let mut lines = head.lines();
        status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok()).unwrap_or(0);
        headers =
            lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        rest = body.to_owned();
    }
    Reply { status, headers, body: rest }
}
