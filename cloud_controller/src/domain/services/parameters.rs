//! Parameters that users give: checked against the plan's schema before the broker is asked.

use crate::{
    domain::{Error, Result},
    store::service_plans::Offered,
};
use serde_json::{Map, Value};

/// Checks parameters (absent ones count as `{}`) against a schema of the plan, if it has one.
///
/// The schema comes from a broker: it was bounded when the catalog was read, nothing is fetched for it, and its patterns are
/// given up when they take too long.
///
/// # Errors
/// [`Error::Invalid`], naming place and rule of each problem, never a value: it may be a password.
pub fn check(schema: Option<&str>, parameters: Option<&Map<String, Value>>, offered: &Offered) -> Result<()> {
    let Some(schema) = schema else { return Ok(()) };
    let schema: Value = serde_json::from_str(schema).map_err(|e| Error::internal("the schema of a plan", e))?;
    let given = Value::Object(parameters.cloned().unwrap_or_default());
    let problems = osb::schema::check(&schema, &given);
    if problems.is_empty() {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "The parameters do not match the schema of plan '{}' of service offering '{}': {}",
        offered.plan.name,
        offered.offering.name,
        problems.join(", ")
    )))
}
