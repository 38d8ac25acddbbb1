//! Names and passwords of what brokers make.

use rand::{Rng, RngExt, distr::Alphanumeric};
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// A name that is always the same for this id, and from which nobody reads the id: one letter and 24 hexadecimal digits.
///
/// Same id, same name: what a killed broker left is found again by whoever repeats the request. No underscore and no
/// capital: it needs no quotes, and means itself where `_` is a wildcard (grants of MySQL).
pub fn derived(letter: char, id: &str) -> String {
    let digest = Sha256::digest(id.as_bytes());
    hex(letter, &digest[..12])
}

/// A name that nobody has: one letter and 24 hexadecimal digits.
pub fn random(letter: char, rng: &mut (impl Rng + ?Sized)) -> String {
    let mut bytes = [0; 12];
    rng.fill_bytes(&mut bytes);
    hex(letter, &bytes)
}

/// A password of 40 letters and digits (238 bits): it needs no quotes in a URL, a shell or SQL.
pub fn password(rng: &mut (impl Rng + ?Sized)) -> String {
    (0..40).map(|_| char::from(rng.sample(Alphanumeric))).collect()
}

fn hex(letter: char, bytes: &[u8]) -> String {
    let mut name = String::from(letter);
    for byte in bytes {
        let _ = write!(name, "{byte:02x}");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn a_derived_name_is_stable_and_plain() {
        let name = derived('d', "A weird / id");
        assert_eq!(name, derived('d', "A weird / id"));
        assert_ne!(name, derived('d', "another"));
        assert_eq!(name.len(), 25);
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()));
    }

    #[test]
    fn passwords_differ_and_are_long() {
        let mut rng = rand::rngs::StdRng::seed_from_u64(1);
        let (one, other) = (password(&mut rng), password(&mut rng));
        assert_ne!(one, other);
        assert_eq!(one.len(), 40);
        assert_ne!(random('w', &mut rng), random('w', &mut rng));
    }
}
