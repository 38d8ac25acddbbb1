//! The addresses of the API, with ids percent-encoded.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::fmt::Display;

/// Everything but RFC 3986's unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The catalog.
pub const CATALOG: &str = "/v2/catalog";

/// One path or query component.
pub fn encode(component: &str) -> impl Display + '_ {
    // a component of dots alone would be taken for a step in the path
    let dots = matches!(component, "." | "..");
    let text = utf8_percent_encode(component, RESERVED).to_string();
    if dots { text.replace('.', "%2E") } else { text }
}
/// An instance.
pub fn instance(instance_id: &str) -> String {
    format!("/v2/service_instances/{}", encode(instance_id))
}
/// What an instance is at.
pub fn instance_operation(instance_id: &str) -> String {
    format!("{}/last_operation", instance(instance_id))
}
/// A binding.
pub fn binding(instance_id: &str, binding_id: &str) -> String {
    format!("{}/service_bindings/{}", instance(instance_id), encode(binding_id))
}
/// What a binding is at.
pub fn binding_operation(instance_id: &str, binding_id: &str) -> String {
    format!("{}/last_operation", binding(instance_id, binding_id))
}
/// Our extension: the backups of an instance.
pub fn backups(instance_id: &str) -> String {
    format!("{}/backups", instance(instance_id))
}
/// Our extension: one backup.
pub fn backup(instance_id: &str, backup_id: &str) -> String {
    format!("{}/{}", backups(instance_id), encode(backup_id))
}
/// Our extension: restore an instance.
pub fn restore(instance_id: &str) -> String {
    format!("{}/restore", instance(instance_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_cannot_leave_their_place_in_the_path() {
        assert_eq!(instance("a-b_c.d~e"), "/v2/service_instances/a-b_c.d~e");
        assert_eq!(binding("a/b?c#d", "%2e ü"), "/v2/service_instances/a%2Fb%3Fc%23d/service_bindings/%252e%20%C3%BC");
        assert_eq!(instance_operation(".."), "/v2/service_instances/%2E%2E/last_operation");
    }
}
