//! Stacks: everybody reads them, administrators change them.

use crate::{
    domain::{Error, Result, Tx, audit, metadata::MetadataChange, taken},
    store::{
        metadata::{self, Described},
        stacks::{self as store, KIND, Stack},
    },
};
use serde_json::{Value, json};

/// The states that a stack may be in.
pub const STATES: [&str; 4] = ["ACTIVE", "RESTRICTED", "DEPRECATED", "DISABLED"];

/// What a new stack is to be.
#[derive(Clone, Debug, Default)]
pub struct NewStack {
    pub name: String,
    pub description: String,
    pub state: Option<String>,
    pub state_reason: String,
    pub metadata: MetadataChange,
    pub is_default: bool,
    pub request: Value,
}

/// What a stack is to become.
#[derive(Clone, Debug)]
pub struct StackChange {
    pub state: Option<String>,
    /// `Some(None)`: none any more.
    pub state_reason: Option<Option<String>>,
    pub metadata: MetadataChange,
    pub request: Value,
}

/// Makes a stack (A).
pub fn create(tx: &mut Tx<'_>, new: &NewStack) -> Result<Described<Stack>> {
    tx.who.require_admin()?;
    let stack = Stack {
        guid: tx.guid(),
        created_at: tx.micros(),
        updated_at: tx.micros(),
        name: new.name.clone(),
        description: new.description.clone(),
        state: new.state.clone().unwrap_or_else(|| "ACTIVE".into()),
        state_reason: new.state_reason.clone(),
        is_default: new.is_default,
    };
    taken(store::insert(tx.conn, &stack), || Error::invalid("Name must be unique"))?;
    let metadata = new.metadata.apply(tx, KIND, &stack.guid)?;
    record(tx, "audit.stack.create", &stack, new.request.clone())?;
    Ok(Described { row: stack, metadata })
}

/// Finds a stack.
///
/// # Errors
/// [`Error::NotFound`].
pub fn find(tx: &mut Tx<'_>, guid: &str) -> Result<Stack> {
    store::find(tx.conn, guid)?.ok_or(Error::NotFound("Stack"))
}

/// Changes state and metadata (A).
pub fn update(tx: &mut Tx<'_>, guid: &str, change: &StackChange) -> Result<Described<Stack>> {
    let mut stack = find(tx, guid)?;
    tx.who.require_admin()?;
    stack.state = change.state.clone().unwrap_or(stack.state);
    if let Some(reason) = &change.state_reason {
        stack.state_reason = reason.clone().unwrap_or_default();
    }
    stack.updated_at = tx.micros();
    store::save(tx.conn, &stack)?;
    let metadata = change.metadata.apply(tx, KIND, guid)?;
    record(tx, "audit.stack.update", &stack, change.request.clone())?;
    Ok(Described { row: stack, metadata })
}

/// Deletes a stack that no app asks for (A).
pub fn delete(tx: &mut Tx<'_>, guid: &str) -> Result<()> {
    let stack = find(tx, guid)?;
    tx.who.require_admin()?;
    if store::in_use(tx.conn, &stack.name)? {
        return Err(Error::invalid(format!("Cannot delete stack '{}' because apps are currently using the stack.", stack.name)));
    }
    metadata::forget(tx.conn, KIND, &[guid.to_owned()])?;
    store::delete(tx.conn, guid)?;
    record(tx, "audit.stack.delete", &stack, json!({}))
}

fn record(tx: &mut Tx<'_>, kind: &str, stack: &Stack, request: Value) -> Result<()> {
    let target = ("stack", stack.guid.as_str(), stack.name.as_str());
    audit::record(tx, audit::Event { kind, target, space: None, org: None, data: json!({ "request": request }) })
}
