//! `X-Broker-API-Version`.

use std::{fmt, str::FromStr};

/// `MAJOR.MINOR`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    /// Another one is another API.
    pub major: u32,
    /// A greater one has more.
    pub minor: u32,
}

/// The text is not a version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the version must be of the form MAJOR.MINOR, for example 2.17")]
pub struct ParseVersionError;

impl ApiVersion {
    /// What these types describe, and what the platform announces: it obliges brokers to nothing, older ones ignore it.
    pub const CURRENT: Self = Self { major: 2, minor: 17 };
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for ApiVersion {
    type Err = ParseVersionError;
    fn from_str(text: &str) -> Result<Self, ParseVersionError> {
        let number = |text: &str| match text.bytes().all(|b| b.is_ascii_digit()) {
            true => text.parse().map_err(|_| ParseVersionError),
            false => Err(ParseVersionError),
        };
        let (major, minor) = text.trim().split_once('.').ok_or(ParseVersionError)?;
        Ok(Self { major: number(major)?, minor: number(minor)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_two_numbers_and_nothing_else() {
        assert_eq!("2.17".parse(), Ok(ApiVersion::CURRENT));
        assert_eq!("2.0".parse(), Ok(ApiVersion { major: 2, minor: 0 }));
        for wrong in ["", "2", "2.", ".17", "2.x", "2.1.0", "-2.1", "+2.1", "2.99999999999", "two.one", "2 .1"] {
            assert_eq!(wrong.parse::<ApiVersion>(), Err(ParseVersionError), "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_and_nothing_panics(major: u32, minor: u32, text in ".*") {
            let version = ApiVersion { major, minor };
            proptest::prop_assert_eq!(version.to_string().parse(), Ok(version));
            let _ = text.parse::<ApiVersion>();
        }
    }
}
