//! Keeping the archive of a buildpack, whether an administrator uploads it or the platform brings it.

use crate::{
    api::{Api, upload::on_files},
    domain::{
        Caller, Error, Result, Rule, Tx,
        archive::{self, Limits},
        buildpacks::{self, Bits, NewBuildpack},
    },
    store::{
        buildpacks::{Buildpack, blob},
        stack_state,
    },
};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tracing::{info, warn};

const MOST_MANIFEST: u64 = 8 << 20;

/// The order in which system buildpacks look at an app; others come before `binary_buildpack`, which takes anything last.
const ORDER: [&str; 10] = [
    "staticfile_buildpack",
    "java_buildpack",
    "ruby_buildpack",
    "dotnet_core_buildpack",
    "nodejs_buildpack",
    "go_buildpack",
    "python_buildpack",
    "php_buildpack",
    "nginx_buildpack",
    "r_buildpack",
];

/// Checks an archive and keeps it as the bits of a buildpack.
///
/// # Errors
/// The rules of the contract about the archive and its stack.
pub async fn keep(api: &Api, caller: &Caller, guid: &str, file: &Path, filename: &str) -> Result<Buildpack> {
    let path = file.to_owned();
    let stack = match on_files(move || inspect(&path)).await? {
        Ok(stack) => stack,
        Err(why) => return Err(Error::rule(Rule::BuildpackZip, format!("Buildpack zip error: {why}"))),
    };
    let (wanted, named) = (guid.to_owned(), stack.clone());
    api.read(caller, move |tx| buildpacks::check_bits(tx, &wanted, named.as_deref())).await?;
    let stored = api.blobs.put_file(&blob(guid), file).await?;
    let bits = Bits { filename: filename.to_owned(), sha256: stored.sha256, size_bytes: stored.size_bytes, stack };
    let guid = guid.to_owned();
    api.write(caller, move |tx| buildpacks::uploaded(tx, &guid, &bits)).await
}

/// The stack that an archive names in its `manifest.yml`; its shape is checked too.
fn inspect(path: &Path) -> Result<Option<String>, archive::ArchiveError> {
    let mut checked = archive::check(path, Limits { poolable: false, ..Limits::default() })?;
    let top = match checked.holds("bin") {
        true => String::new(),
        false => match checked.only_folder() {
            Some(top) if checked.holds(&format!("{top}/bin")) => format!("{top}/"),
            _ => return Err(archive::ArchiveError::Refused("it does not contain a bin folder".into())),
        },
    };
    let manifest = checked.read(&format!("{top}manifest.yml"), MOST_MANIFEST)?;
    let stack =
        manifest.and_then(|text| serde_saphyr::from_slice::<Value>(&text).ok()?.get("stack")?.as_str().map(str::to_owned));
    Ok(stack)
}

/// Brings the buildpacks of a folder: new ones are made, those with other content replaced, unless somebody locked them.
pub async fn bring(api: &Api, folder: &Path) -> Result<()> {
    let mut files = match list(folder) {
        Ok(files) => files,
        Err(e) => {
            warn!(folder = %folder.display(), error = &e as &dyn std::error::Error, "there are no system buildpacks");
            return Ok(());
        }
    };
    let rank = |name: &str| {
        ORDER.iter().position(|known| *known == name).unwrap_or(if name == "binary_buildpack" {
            ORDER.len() + 1
        } else {
            ORDER.len()
        })
    };
    files.sort_by_key(|(name, _)| (rank(name), name.clone()));
    for (index, (name, path)) in files.into_iter().enumerate() {
        let position = i32::try_from(index + 1).unwrap_or(i32::MAX);
        if let Err(e) = bring_one(api, &name, &path, position).await {
            // The platform can do without one; its operator should look.
            tracing::error!(buildpack = name, error = &e as &dyn std::error::Error, "a system buildpack cannot be brought");
        }
    }
    Ok(())
}

fn list(folder: &Path) -> std::io::Result<Vec<(String, PathBuf)>> {
    let mut files = vec![];
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
        let good = !name.is_empty()
            && !name.starts_with('.')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
        if good && path.extension().is_some_and(|extension| extension == "zip") {
            files.push((name, path));
        }
    }
    Ok(files)
}

async fn bring_one(api: &Api, name: &str, path: &Path, position: i32) -> Result<()> {
    let file = path.to_owned();
    let sha256 = match on_files(move || archive::sha256_of(&file)).await? {
        Ok(sha256) => sha256,
        Err(why) => return Err(Error::internal("a system buildpack", why)),
    };
    let wanted = name.to_owned();
    let find = move |tx: &mut Tx<'_>| {
        let all = crate::store::buildpacks::all(tx.conn, "buildpack")?;
        let stacks = stack_state::names(tx.conn)?;
        // One that an administrator bound to another stack is another buildpack.
        Ok(all.into_iter().find(|known| known.name == wanted && known.stack.as_ref().is_none_or(|stack| stacks.contains(stack))))
    };
    let system = Caller::system();
    let known = api.read(&system, find).await?;
    let buildpack = match known {
        Some(known)
            if known.sha256.as_deref() == Some(&sha256)
                && known.state == "READY"
                && api.blobs.exists(&blob(&known.guid)).await? =>
        {
            return Ok(());
        }
        Some(known) if known.locked => return Ok(()),
        Some(known) => known,
        None => {
            let new = NewBuildpack {
                name: name.to_owned(),
                lifecycle: "buildpack".into(),
                position: Some(position),
                enabled: true,
                ..NewBuildpack::default()
            };
            let request = json!({ "name": name, "position": position });
            api.write(&system, move |tx| buildpacks::create(tx, new.clone(), request.clone())).await?
        }
    };
    let filename = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    keep(api, &system, &buildpack.guid, path, filename).await?;
    info!(buildpack = name, "system buildpack is up to date");
    Ok(())
}
