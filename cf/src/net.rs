//! The HTTP client: names under `.localhost`, whom to trust, how long to wait.

use crate::problem::Problem;
use anyhow::Context;
use reqwest::{
    Certificate, Client,
    dns::{Addrs, Name, Resolve, Resolving},
};
use std::{net::SocketAddr, time::Duration};

/// Files that may name the authorities to trust, besides the system's own.
const CA_VARIABLES: [&str; 2] = ["CF_CA_FILE", "SSL_CERT_FILE"];

/// A client that talks to a platform.
pub(crate) fn client(skip_ssl_validation: bool) -> anyhow::Result<Client> {
    let mut builder = Client::builder()
        .user_agent(concat!("cf/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(6))
        .read_timeout(Duration::from_secs(300))
        .dns_resolver(Localhost)
        .redirect(reqwest::redirect::Policy::limited(3));
    if std::env::var("no_proxy").is_err() && std::env::var("NO_PROXY").is_err() {
        builder = builder.no_proxy();
    }
    let named = CA_VARIABLES.iter().find_map(|variable| std::env::var_os(variable).filter(|path| !path.is_empty()));
    if skip_ssl_validation {
        builder = builder.tls_danger_accept_invalid_certs(true);
    } else if let Some(path) = named {
        let path = std::path::PathBuf::from(path);
        let pem = std::fs::read(&path).with_context(|| format!("cannot read the authorities in {}", path.display()))?;
        let certificates =
            Certificate::from_pem_bundle(&pem).with_context(|| format!("{} holds no certificates", path.display()))?;
        builder = builder.tls_certs_only(certificates);
    }
    builder.build().context("cannot set up HTTP")
}

/// Why a request brought no answer, and what to do.
pub(crate) fn no_answer(error: reqwest::Error) -> Problem {
    let address = error.url().map(|url| url.origin().ascii_serialization()).unwrap_or_default();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let cause = cause.to_string();
    let lower = cause.to_lowercase();
    if lower.contains("certificate") || lower.contains("unknownissuer") || lower.contains("unknown issuer") {
        return Problem::new(format!("Invalid SSL Cert for {address}: {cause}"))
            .tip("Name the platform's authority with SSL_CERT_FILE=<file>, or use 'cf api --skip-ssl-validation' to continue with an insecure API endpoint");
    }
    let tip = if error.is_timeout() {
        "The platform is slow or away: try again."
    } else {
        "Is the platform running, and is the address right? 'cf api' shows it, 'cf api URL' changes it."
    };
    Problem::new(format!("Request error: cannot reach {address}: {cause}")).tip(tip)
}

/// Names under `.localhost` are this machine (RFC 6761); only some resolvers know that.
struct Localhost;

impl Resolve for Localhost {
    fn resolve(&self, name: Name) -> Resolving {
        let name = name.as_str().trim_end_matches('.').to_ascii_lowercase();
        Box::pin(async move {
            if name == "localhost" || name.ends_with(".localhost") {
                let here: Addrs = Box::new(std::iter::once(SocketAddr::from(([127, 0, 0, 1], 0))));
                return Ok(here);
            }
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}
