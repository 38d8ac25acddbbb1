use super::*;
use serde_json::json;
use testkit::tokens::TestIssuer;
use types::ManualClock;
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::path};

const NOW: u64 = 1_800_000_000;

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::from_secs(NOW)))
}

fn expect(issuer: &TestIssuer) -> Expect {
    Expect { issuer: issuer.issuer().to_owned(), audiences: vec!["cloud_controller".into()] }
}

fn fixed(issuer: &TestIssuer, clock: Arc<ManualClock>) -> TokenVerifier {
    let (kid, n, e) = issuer.public_key();
    TokenVerifier::fixed(KeySet::default().with(kid, n, e).unwrap(), &expect(issuer), clock)
}

async fn refusal(verifier: &TokenVerifier, token: &str) -> Reason {
    match verifier.verify(token).await {
        Err(VerifyError::Invalid(reason)) => reason,
        other => panic!("accepted or unavailable: {other:?}"),
    }
}

#[tokio::test]
async fn a_good_token_yields_its_claims() {
    let issuer = TestIssuer::new();
    let verifier = fixed(&issuer, clock());
    let token = issuer.user("u-1", "anna", &["cloud_controller.read", "openid"], NOW + 60);
    for text in [token.clone(), format!("bearer {token}"), format!("BEARER  {token} ")] {
        let claims = verifier.verify(&text).await.unwrap();
        assert_eq!((claims.user_id.as_deref(), claims.user_name.as_deref()), (Some("u-1"), Some("anna")));
        assert_eq!((claims.client_id.as_str(), claims.holder()), ("cf", "u-1"));
        assert!(claims.has_scope("openid") && !claims.has_scope("cloud_controller.admin"));
    }
}

#[tokio::test]
async fn whatever_is_wrong_with_a_token_it_is_refused() {
    let issuer = TestIssuer::new();
    let clock = clock();
    let verifier = fixed(&issuer, clock.clone());
    let good = issuer.user("u-1", "anna", &["cloud_controller.read"], NOW + 60);
    let with = |key: &str, value: serde_json::Value| {
        let mut claims = issuer.claims("u-1", "anna", &["cloud_controller.read"], NOW + 60);
        claims[key] = value;
        issuer.sign(&claims)
    };
    assert_eq!(refusal(&verifier, "").await, Reason::NotABearerToken);
    assert_eq!(refusal(&verifier, "basic abc").await, Reason::NotABearerToken);
    assert_eq!(refusal(&verifier, "bearer a.b.c").await, Reason::NotABearerToken);
    assert_eq!(refusal(&verifier, &with("exp", json!(NOW))).await, Reason::Expired);
    assert_eq!(refusal(&verifier, &with("iss", json!("https://evil.example/oauth/token"))).await, Reason::Issuer);
    assert_eq!(refusal(&verifier, &with("aud", json!(["uaa"]))).await, Reason::Audience);
    assert_eq!(refusal(&verifier, &with("jti", json!("abc-r"))).await, Reason::RefreshToken);
    for claim in ["exp", "iss", "aud", "sub"] {
        assert_eq!(refusal(&verifier, &with(claim, json!(null))).await, Reason::Claims, "{claim}");
    }
    assert_eq!(
        refusal(&verifier, &issuer.sign_with_kid("other", &issuer.claims("u", "u", &[], NOW + 9))).await,
        Reason::UnknownKey
    );
    let (start, _) = good.rsplit_once('.').unwrap();
    let (_, foreign) = with("sub", json!("x")).rsplit_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    assert_eq!(refusal(&verifier, &format!("{start}.{foreign}")).await, Reason::Signature);
    clock.advance(Duration::from_secs(60));
    assert_eq!(refusal(&verifier, &good).await, Reason::Expired);
}

#[tokio::test]
async fn a_token_signed_with_the_public_key_as_a_password_is_refused() {
    let issuer = TestIssuer::new();
    let verifier = fixed(&issuer, clock());
    let (kid, n, _) = issuer.public_key();
    let mut header = jsonwebtoken::Header::new(Algorithm::HS256);
    header.kid = Some(kid.to_owned());
    let key = jsonwebtoken::EncodingKey::from_secret(n.as_bytes());
    let token = jsonwebtoken::encode(&header, &issuer.claims("u", "u", &[], NOW + 60), &key).unwrap();
    assert_eq!(refusal(&verifier, &token).await, Reason::Algorithm);
    let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1In0.";
    assert_eq!(refusal(&verifier, unsigned).await, Reason::NotABearerToken);
}

#[tokio::test]
async fn keys_are_asked_for_once_and_again_for_an_unknown_key_but_not_more_often_than_every_five_seconds() {
    let issuer = TestIssuer::new();
    let server = MockServer::start().await;
    Mock::given(path("/token_keys")).respond_with(ResponseTemplate::new(200).set_body_json(issuer.jwks())).mount(&server).await;
    let clock = clock();
    let verifier = TokenVerifier::new(&server.uri(), &expect(&issuer), clock.clone()).unwrap();
    let asked = async || server.received_requests().await.unwrap().len();
    let good = issuer.user("u-1", "anna", &[], NOW + 600);
    let unknown = issuer.sign_with_kid("other", &issuer.claims("u", "u", &[], NOW + 600));

    verifier.verify(&good).await.unwrap();
    verifier.verify(&good).await.unwrap();
    assert_eq!(asked().await, 1);
    assert_eq!(refusal(&verifier, &unknown).await, Reason::UnknownKey);
    assert_eq!(asked().await, 1, "asked a moment ago");
    clock.advance(Duration::from_secs(6));
    for _ in 0..3 {
        assert_eq!(refusal(&verifier, &unknown).await, Reason::UnknownKey);
    }
    assert_eq!(asked().await, 2);
}

#[tokio::test]
async fn without_keys_the_answer_is_unavailable_and_with_old_keys_they_serve_on() {
    let issuer = TestIssuer::new();
    let server = MockServer::start().await;
    let clock = clock();
    let verifier = TokenVerifier::new(&server.uri(), &expect(&issuer), clock.clone()).unwrap();
    let good = issuer.user("u-1", "anna", &[], NOW + 6000);
    for _ in 0..2 {
        assert!(matches!(verifier.verify(&good).await, Err(VerifyError::Unavailable(_))));
    }
    assert_eq!(server.received_requests().await.unwrap().len(), 1);

    clock.advance(Duration::from_secs(6));
    Mock::given(path("/token_keys")).respond_with(ResponseTemplate::new(200).set_body_json(issuer.jwks())).mount(&server).await;
    verifier.verify(&good).await.unwrap();
    server.reset().await; // 404 from here on
    clock.advance(KEYS_AGE + Duration::from_secs(1));
    verifier.verify(&good).await.unwrap();
}
