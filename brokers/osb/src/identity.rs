//! `X-Broker-API-Originating-Identity`.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

/// Who caused a request.
#[derive(Clone, Debug, PartialEq)]
pub struct OriginatingIdentity {
    /// As in the context of the same request.
    pub platform: String,
    /// What the platform says of them; for Cloud Foundry, at least `user_id`.
    pub value: Map<String, Value>,
}

/// The header is not readable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the originating identity must be the platform's name, a space and a JSON object in base64")]
pub struct ParseIdentityError;

impl OriginatingIdentity {
    /// A user of this platform.
    pub fn user(user_id: &str) -> Self {
        let mut value = Map::new();
        value.insert("user_id".into(), json!(user_id));
        Self { platform: crate::Context::CLOUD_FOUNDRY.into(), value }
    }
    /// The user, if there is one in it.
    pub fn user_id(&self) -> Option<&str> {
        self.value.get("user_id").and_then(Value::as_str)
    }
    /// As the header has it: base64 without line breaks.
    pub fn encode(&self) -> String {
        format!("{} {}", self.platform, STANDARD.encode(Value::Object(self.value.clone()).to_string()))
    }
    /// Reads the header.
    ///
    /// # Errors
    /// When it does not have the form.
    pub fn decode(header: &str) -> Result<Self, ParseIdentityError> {
        let (platform, encoded) = header.trim().split_once(' ').ok_or(ParseIdentityError)?;
        let bytes = STANDARD.decode(encoded.trim()).map_err(|_| ParseIdentityError)?;
        let value = serde_json::from_slice(&bytes).map_err(|_| ParseIdentityError)?;
        Ok(Self { platform: platform.to_owned(), value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_the_platform_and_an_object_in_base64() {
        let identity = OriginatingIdentity::user("683ea748-3092-4ff4-b656-39cacc4d5360");
        let header = identity.encode();
        assert_eq!(header, "cloudfoundry eyJ1c2VyX2lkIjoiNjgzZWE3NDgtMzA5Mi00ZmY0LWI2NTYtMzljYWNjNGQ1MzYwIn0=");
        assert_eq!(OriginatingIdentity::decode(&header), Ok(identity));
        for wrong in ["", "cloudfoundry", "cloudfoundry e30", "cloudfoundry !!!!", "cloudfoundry WzFd"] {
            assert_eq!(OriginatingIdentity::decode(wrong), Err(ParseIdentityError), "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_and_nothing_panics(platform in "[a-z]{1,12}", key in ".{0,20}", value in ".{0,40}", header in ".*") {
            let mut map = Map::new();
            map.insert(key, json!(value));
            let identity = OriginatingIdentity { platform, value: map };
            proptest::prop_assert_eq!(OriginatingIdentity::decode(&identity.encode()), Ok(identity));
            let _ = OriginatingIdentity::decode(&header);
        }
    }
}
