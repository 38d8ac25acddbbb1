//! Errors that say what, where, why, and what to do.

use crate::ui;
use std::fmt;

/// Something that the user can act upon.
#[derive(Debug)]
pub(crate) struct Problem {
    what: String,
    tip: Option<String>,
    details: Vec<String>,
}

impl Problem {
    /// What happened, in a line.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), tip: None, details: vec![] }
    }
    /// What to do next.
    pub(crate) fn tip(mut self, tip: impl Into<String>) -> Self {
        self.tip = Some(tip.into());
        self
    }
    /// Lines that belong to it, shown below.
    pub(crate) fn details(mut self, lines: Vec<String>) -> Self {
        self.details = lines;
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}
impl std::error::Error for Problem {}

/// Writes an error to standard error, and `FAILED` to standard output as the official client does.
pub(crate) fn show(error: &anyhow::Error) {
    let chain: Vec<String> = error.chain().map(ToString::to_string).collect();
    let mut text = String::new();
    for level in chain {
        // a level that repeats the one above adds nothing
        if !text.contains(&level) {
            text = if text.is_empty() { level } else { format!("{text}: {level}") };
        }
    }
    // What a broker or an app said may be in it.
    let steering = |c: &char| c.is_control() && !matches!(c, '\n' | '\t');
    text.retain(|c| !steering(&c));
    eprintln!("{text}");
    if let Some(problem) = error.downcast_ref::<Problem>() {
        problem.details.iter().for_each(|line| eprintln!("   {line}"));
        if let Some(tip) = &problem.tip {
            eprintln!("TIP: {tip}");
        }
    }
    ui::line(format_args!("{}", ui::red("FAILED")));
}
