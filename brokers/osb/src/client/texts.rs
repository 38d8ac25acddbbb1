//! What users read when a broker fails.

use super::{
    Call,
    outcome::{Failure, FailureKind},
};
use std::fmt::Write;

/// A message longer than this is cut…
const LONGEST_BYTES: usize = 16 << 10;
/// …to this.
const CUT_BYTES: usize = 8 << 10;
const CUT: &str = "...This message has been truncated due to size. To read the full message, check the broker's logs";

/// Who is talking about what.
pub(super) struct Names<'a> {
    pub(super) broker: &'a str,
    pub(super) call: &'a Call,
}

impl Names<'_> {
    /// A failure with a text that ends with where it comes from.
    pub(super) fn failure(&self, kind: FailureKind, status: Option<u16>, text: &str) -> Failure {
        let mut message = cut(text);
        let _ = write!(message, " (service broker '{}'", self.broker);
        if let Some(plan) = &self.call.plan {
            let _ = write!(message, ", plan '{plan}'");
        }
        if let Some(status) = status {
            let _ = write!(message, ", HTTP status {status}");
        }
        let _ = write!(message, ", request id {})", self.call.request_id);
        Failure {
            kind,
            status,
            message,
            description: None,
            request_id: self.call.request_id.clone(),
            orphan: false,
            instance_usable: true,
            update_repeatable: true,
            retry_after: None,
        }
    }

    pub(super) fn unusable_binding(&self, why: &str, status: Option<u16>, orphan: bool) -> Failure {
        let text = format!("The service broker returned an invalid response: {why}");
        Failure { orphan, ..self.failure(FailureKind::Malformed, status, &text) }
    }

    pub(super) fn unsendable(&self, error: &serde_json::Error) -> Failure {
        self.failure(FailureKind::Unreachable, None, &format!("The request to the service broker cannot be written: {error}"))
    }
}

fn cut(text: &str) -> String {
    if text.len() <= LONGEST_BYTES {
        return text.to_owned();
    }
    let end = (0..=CUT_BYTES).rev().find(|&end| text.is_char_boundary(end)).unwrap_or_default();
    format!("{}{CUT}", &text[..end])
}
