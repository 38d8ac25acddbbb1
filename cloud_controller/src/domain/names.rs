//! What every name that people give must keep to, whatever it is of.

/// What is wrong with a name, if anything is: `must not ...`.
///
/// Control characters break lists and repaint terminals. Blanks at an end cannot be seen, and filters drop some of them: what
/// has such a name would not be found again.
pub fn name_problem(name: &str) -> Option<&'static str> {
    if name.chars().any(char::is_control) {
        Some("must not contain control characters")
    } else if name.trim() != name {
        Some("must not begin or end with a blank")
    } else {
        None
    }
}
