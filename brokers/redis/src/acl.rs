//! Users of an instance, in the words of Redis's access control lists.
//!
//! Source: <https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/>

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, fmt::Write};

/// The broker's own user; it comes through the Unix socket alone.
pub const ADMIN: &str = "cupola";

/// Everything but what rules the server, other clients or its host. What Redis calls dangerous because it is slow or
/// deletes much (`KEYS`, `FLUSHALL`, ...) touches only the tenant's own data here, since the server is dedicated.
const OWNER_RULES: &[&str] = &[
    "~*",
    "&*",
    "+@all",
    "-@admin",
    "-@dangerous",
    "+flushdb",
    "+flushall",
    "+keys",
    "+sort",
    "+sort_ro",
    "+info",
    "+role",
    "+restore",
    "+swapdb",
    "+lastsave",
    "+client|list",
];
/// Commands that read, and what a connection needs.
const READER_RULES: &[&str] = &[
    "%R~*",
    "&*",
    "-@all",
    "+@read",
    "+@connection",
    "+@transaction",
    "-@admin",
    "-@dangerous",
    "+keys",
    "+info",
    "+eval_ro",
    "+evalsha_ro",
    "+fcall_ro",
    "+script|load",
    "+script|exists",
    "+subscribe",
    "+psubscribe",
    "+ssubscribe",
    "+unsubscribe",
    "+punsubscribe",
    "+sunsubscribe",
    "+command",
];

/// The user of one binding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Its name.
    pub name: String,
    /// SHA-256 of its password, in hexadecimal: the server needs no more.
    pub password_hash: String,
    /// Whether it may only read.
    pub read_only: bool,
}

impl User {
    /// The arguments of `ACL SETUSER` after the name: the whole user, whatever it was before.
    pub fn rules(&self) -> Vec<String> {
        let rules = if self.read_only { READER_RULES } else { OWNER_RULES };
        let begin = ["reset".to_owned(), "on".to_owned(), format!("#{}", self.password_hash)];
        begin.into_iter().chain(rules.iter().map(|rule| (*rule).to_owned())).collect()
    }
}

/// SHA-256 in hexadecimal.
pub fn hash(password: &str) -> String {
    Sha256::digest(password.as_bytes()).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The file of users: nobody without a password, the broker, the bindings.
pub fn file(admin_password: &str, users: &BTreeMap<String, User>) -> String {
    let mut text = format!("user default reset\nuser {ADMIN} on #{} ~* &* +@all\n", hash(admin_password));
    for user in users.values() {
        // A file knows no `reset`; its users are new.
        let _ = writeln!(text, "user {} {}", user.name, user.rules()[1..].join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_holds_hashes_and_no_user_without_password() {
        let user = User { name: "b1".into(), password_hash: hash("secret"), read_only: false };
        let text = file("admin-secret", &[("binding".to_owned(), user)].into());
        assert!(text.starts_with("user default reset\n"), "{text}");
        assert!(
            text.contains("user b1 on #2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b ~* &* +@all -@admin")
        );
        assert!(!text.contains("secret"));
    }
}
