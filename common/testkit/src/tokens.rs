//! Signed tokens without a UAA.

use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::AlgorithmParameters, jwk::Jwk};
use rand::{Rng, SeedableRng, rngs::StdRng};
use rsa::{RsaPrivateKey, pkcs1::EncodeRsaPrivateKey};
use serde_json::{Value, json};
use std::sync::LazyLock;

struct Key {
    signing: EncodingKey,
    modulus: String,
    exponent: String,
}

/// One key for a whole test process, the same in every run.
static KEY: LazyLock<Key> = LazyLock::new(|| {
    let mut rng = OldRng(StdRng::seed_from_u64(1));
    let private = RsaPrivateKey::new(&mut rng, 2048).expect("2048 bits are enough");
    let der = private.to_pkcs1_der().expect("a whole key");
    let signing = EncodingKey::from_rsa_der(der.as_bytes());
    let jwk = Jwk::from_encoding_key(&signing, Algorithm::RS256).expect("an RSA key");
    let AlgorithmParameters::RSA(public) = jwk.algorithm else { unreachable!("an RSA key") };
    Key { signing, modulus: public.n, exponent: public.e }
});

const KID: &str = "test-key";

/// Signs tokens like the platform's UAA of the domain `cf.test`.
#[derive(Default)]
pub struct TestIssuer;

impl TestIssuer {
    /// The one there is; its key is the same in every run.
    pub fn new() -> Self {
        Self
    }
    /// The issuer claim.
    pub fn issuer(&self) -> &str {
        "https://uaa.cf.test/oauth/token"
    }
    /// Key id, modulus and exponent (base64url).
    pub fn public_key(&self) -> (&str, &str, &str) {
        (KID, &KEY.modulus, &KEY.exponent)
    }
    /// What `/token_keys` would answer.
    pub fn jwks(&self) -> Value {
        json!({ "keys": [{ "kid": KID, "kty": "RSA", "alg": "RS256", "use": "sig", "n": KEY.modulus, "e": KEY.exponent }] })
    }
    /// The claims of a user's token that the `cf` client got by password, good until `exp` (seconds since the epoch).
    pub fn claims(&self, user_id: &str, user_name: &str, scopes: &[&str], exp: u64) -> Value {
        json!({
            "jti": "00112233445566778899aabbccddeeff", "sub": user_id, "scope": scopes, "client_id": "cf", "cid": "cf", "azp": "cf",
            "grant_type": "password", "user_id": user_id, "origin": "uaa", "user_name": user_name, "email": format!("{user_name}@cf.test"),
            "iat": exp.saturating_sub(1200), "exp": exp, "iss": self.issuer(), "zid": "uaa",
            "aud": ["cf", "cloud_controller", "openid", "uaa", "doppler"],
        })
    }
    /// A user's token.
    pub fn user(&self, user_id: &str, user_name: &str, scopes: &[&str], exp: u64) -> String {
        self.sign(&self.claims(user_id, user_name, scopes, exp))
    }
    /// A token that a client got for itself.
    pub fn client(&self, client_id: &str, scopes: &[&str], exp: u64) -> String {
        self.sign(&json!({
            "jti": "ffeeddccbbaa99887766554433221100", "sub": client_id, "scope": scopes, "authorities": scopes, "client_id": client_id,
            "cid": client_id, "azp": client_id, "grant_type": "client_credentials", "iat": exp.saturating_sub(1200), "exp": exp,
            "iss": self.issuer(), "zid": "uaa", "aud": [client_id, "cloud_controller", "uaa"],
        }))
    }
    /// Signs any claims.
    pub fn sign(&self, claims: &Value) -> String {
        self.sign_with_kid(KID, claims)
    }
    /// Signs any claims and names another key.
    pub fn sign_with_kid(&self, kid: &str, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::RS256);
        header.kid = Some(kid.to_owned());
        jsonwebtoken::encode(&header, claims, &KEY.signing).expect("claims are JSON")
    }
}

/// The `rsa` crate wants the traits of an older `rand`.
struct OldRng(StdRng);

impl rsa::rand_core::RngCore for OldRng {
    fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }
    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }
    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rsa::rand_core::Error> {
        self.0.fill_bytes(bytes);
        Ok(())
    }
}
impl rsa::rand_core::CryptoRng for OldRng {}
