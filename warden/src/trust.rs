//! The layer that every container has over its stack: certificate authorities and resolvers of this host.

use crate::{config::Config, error::ignore_missing, record::private_folder};
use sha2::{Digest, Sha256};
use std::{
    fs, io,
    net::Ipv4Addr,
    os::unix::fs::{DirBuilderExt, symlink},
    path::PathBuf,
};

/// Where apps look for certificates that the platform adds (`CF_SYSTEM_CERT_PATH`).
const SYSTEM_CERTIFICATES: &str = "etc/cf-system-certificates";

/// Makes the layer; its folder is named by its content, so that containers that run keep theirs.
pub(crate) fn layer(config: &Config, resolvers: &[Ipv4Addr]) -> io::Result<PathBuf> {
    let mut bundle = match fs::read(&config.raw.trust.bundle) {
        Ok(bundle) => bundle,
        Err(e) if e.kind() == io::ErrorKind::NotFound => vec![],
        Err(e) => return Err(e),
    };
    for extra in &config.raw.trust.extra {
        if !bundle.is_empty() && !bundle.ends_with(b"\n") {
            bundle.push(b'\n');
        }
        bundle.extend(fs::read(extra)?);
    }
    let mut resolv: String = resolvers.iter().map(|address| format!("nameserver {address}\n")).collect();
    resolv.push_str("options timeout:2 attempts:3\n");
    let top = config.raw.state.join("host-layers");
    private_folder(&top)?;
    let mut digest = Sha256::new();
    digest.update(&bundle);
    digest.update(&resolv);
    let name: String = digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let path = top.join(&name);
    if path.is_dir() {
        return Ok(path);
    }
    let new = top.join(format!("{name}.new"));
    ignore_missing(fs::remove_dir_all(&new))?;
    let folder = |below: &str| fs::DirBuilder::new().recursive(true).mode(0o755).create(new.join(below));
    folder("etc")?;
    fs::write(new.join("etc/resolv.conf"), resolv)?;
    if !bundle.is_empty() {
        folder("etc/ssl/certs")?;
        folder(SYSTEM_CERTIFICATES)?;
        folder("usr/lib/ssl")?;
        fs::write(new.join("etc/ssl/certs/ca-certificates.crt"), &bundle)?;
        fs::write(new.join(SYSTEM_CERTIFICATES).join("trusted-ca-certificates.crt"), &bundle)?;
        // OpenSSL reads this file before its folder of hashed names, in which our authorities are not.
        symlink("/etc/ssl/certs/ca-certificates.crt", new.join("usr/lib/ssl/cert.pem"))?;
    }
    fs::rename(new, &path)?;
    Ok(path)
}
