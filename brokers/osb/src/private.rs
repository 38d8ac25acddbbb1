//! Objects whose content must not be seen.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{
    fmt,
    ops::{Deref, DerefMut},
};

/// A JSON object that may hold secrets: its `Debug` says only how many keys it has.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PrivateObject(Map<String, Value>);

/// What a binding gives to an application.
pub type Credentials = PrivateObject;
/// What a user gives with a request; a password may be among it.
pub type Parameters = PrivateObject;

impl PrivateObject {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }
    /// The object, if `value` is one.
    pub fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Object(map) => Some(Self(map)),
            _ => None,
        }
    }
    /// The object as a value.
    pub fn to_value(&self) -> Value {
        Value::Object(self.0.clone())
    }
    /// The object inside.
    pub fn into_inner(self) -> Map<String, Value> {
        self.0
    }
}

impl From<Map<String, Value>> for PrivateObject {
    fn from(map: Map<String, Value>) -> Self {
        Self(map)
    }
}
impl<K: Into<String>, V: Into<Value>> FromIterator<(K, V)> for PrivateObject {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}
impl Deref for PrivateObject {
    type Target = Map<String, Value>;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}
impl DerefMut for PrivateObject {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}
impl fmt::Debug for PrivateObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} keys]", self.0.len())
    }
}
