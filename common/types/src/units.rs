//! Sizes that carry their unit. All "MB" are 1024 * 1024 bytes, as everywhere in Cloud Foundry.

use serde::{Deserialize, Serialize};
use std::{fmt, iter::Sum, ops::Add};

macro_rules! megabytes {
    ($($(#[$doc:meta])* $name:ident,)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl $name {
            /// The size in bytes.
            pub fn bytes(self) -> u64 { u64::from(self.0) << 20 }
            /// What is left after taking `other` away; zero where it would be less.
            pub fn saturating_sub(self, other: Self) -> Self { Self(self.0.saturating_sub(other.0)) }
        }
        impl Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self { Self(self.0.saturating_add(other.0)) }
        }
        impl Sum for $name {
            fn sum<I: Iterator<Item = Self>>(all: I) -> Self { all.fold(Self(0), Add::add) }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                if self.0 >= 1024 && self.0 % 1024 == 0 { write!(f, "{} GB", self.0 / 1024) } else { write!(f, "{} MB", self.0) }
            }
        }
    )*};
}

megabytes! {
    /// Memory in MB.
    MemoryMb,
    /// Disk in MB.
    DiskMb,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_people_write_them() {
        assert_eq!(MemoryMb(256).to_string(), "256 MB");
        assert_eq!(DiskMb(2048).to_string(), "2 GB");
        assert_eq!(MemoryMb(1).bytes(), 1_048_576);
    }
}
