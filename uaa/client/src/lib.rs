//! What other parts need of UAA: checking bearer tokens, and calling its API as a client.
//!
//! - [`TokenVerifier`]: RS256 tokens against the keys that UAA publishes, cached; yields [`Claims`].
//! - [`Client`]: client_credentials tokens, users by id and by name, user creation.
//!
//! It does not know what a scope allows: that is each service's own business. Tests make tokens with `testkit::tokens`.

mod api;
mod claims;
mod keys;
mod verifier;

pub use api::{Client, ClientChange, Error, KnownClient, LoginClient, NewUser, User};
pub use claims::Claims;
pub use keys::{KeySet, KeySetError};
pub use verifier::{Expect, Reason, TokenVerifier, VerifyError};

use std::time::Duration;

/// A caller of `base` with the time limits that all calls to UAA have.
fn http() -> Result<reqwest::Client, reqwest::Error> {
    foundation::tls::install_crypto();
    reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(2))
        .timeout(Duration::from_secs(10))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
}

fn trim(base: &str) -> String {
    base.trim_end_matches('/').to_owned()
}
