//! `/v3/resource_matches`: which files need not be sent.

use crate::{
    api::{Answer, Api, body::Fields, created, packages::read_resource},
    domain::{
        Caller, Error, Result, Tx,
        archive::{POOL_MAX, POOL_MIN},
        flags, packages,
    },
};
use actix_web::{
    post,
    web::{Bytes, Data, ServiceConfig},
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const MOST: usize = 5_000;

/// Registers this resource.
pub fn routes(config: &mut ServiceConfig) {
    config.service(matches);
}

#[post("/v3/resource_matches")]
async fn matches(api: Data<Api>, caller: Caller, bytes: Bytes) -> Answer {
    let entries = read(&bytes)?;
    let mut wanted = vec![];
    for entry in &entries {
        let claimed = read_resource(entry)
            .ok_or_else(|| Error::invalid("Resources array must contain valid resources: checksum, size_in_bytes, path, mode"))?;
        let size = u64::try_from(claimed.size).unwrap_or(0);
        if (POOL_MIN..=POOL_MAX).contains(&size) && claimed.mode & 0o600 == 0o600 {
            wanted.push((claimed.sha1, claimed.size));
        }
    }
    let work = move |tx: &mut Tx<'_>| -> Result<BTreeSet<(String, i64)>> {
        flags::require(tx, "app_bits_upload")?;
        if wanted.is_empty() || !flags::enabled(tx, "resource_matching")? {
            return Ok(BTreeSet::new());
        }
        let known = packages::known_resources(tx, &wanted)?;
        packages::touch_resources(tx, &known)?;
        Ok(known.into_iter().map(|resource| (resource.sha1, resource.size_bytes)).collect())
    };
    let known = api.write(&caller, work).await?;
    let is_known = |entry: &&Value| {
        read_resource(entry).is_some_and(|claimed| claimed.mode & 0o600 == 0o600 && known.contains(&(claimed.sha1, claimed.size)))
    };
    let found: Vec<&Value> = entries.iter().filter(is_known).collect();
    created(json!({ "resources": found }))
}

fn read(bytes: &[u8]) -> Result<Vec<Value>> {
    let mut fields = Fields::parse(bytes, &["resources"])?;
    let entries = match fields.take("resources") {
        Some(Value::Array(entries)) => entries,
        _ => {
            fields.problem("Resources must be an array");
            vec![]
        }
    };
    fields.finish()?;
    match entries.len() {
        0 => Err(Error::invalid("Resources array must have at least 1 resource")),
        count if count > MOST => Err(Error::invalid(format!("Resources array can have at most {MOST} resources"))),
        _ => Ok(entries),
    }
}
