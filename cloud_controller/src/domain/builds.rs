//! Builds: stagings from the request to their end. `STAGING` leads to `STAGED` or `FAILED`, once.

use crate::{
    domain::{
        Caller, Error, Result, Rule, Scope, Tx,
        apps::{self as app_domain, LifecycleChange, cache_blob, event, is_buildpack_url},
        environment::{self, StagingLimits, Vars},
        metadata::MetadataChange,
        packages as package_domain,
        policy::Policy,
        process::WEB,
        quota, running,
        services::egress,
    },
    store::{
        apps::{self, App},
        buildpacks::{self, Buildpack},
        builds::{self, Build},
        droplets::{self, Droplet},
        env_group, feed, garbage, metadata as metadata_store, packages, processes,
    },
};
use cloud_controller_client::{Desired, DesiredBuild, Lifecycle, StagingBuildpack, StagingResult, StagingSpec};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};
use types::Timestamp;

/// How many finished builds of an app are kept.
const KEPT: usize = 100;
/// How many droplets of an app are kept besides the current one.
const KEPT_DROPLETS: usize = 5;
/// How long after its own time limit a build that nobody finished is given up.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// A new build.
#[derive(Clone, Debug, Default)]
pub struct NewBuild {
    pub package: String,
    pub lifecycle: LifecycleChange,
    pub memory_mb: Option<u32>,
    pub disk_mb: Option<u32>,
    pub log_rate: Option<i64>,
    pub env: environment::VarsChange,
    pub metadata: MetadataChange,
}

/// Finds a build that the caller reads.
///
/// # Errors
/// [`Error::NotFound`] about the build.
pub fn readable(tx: &mut Tx<'_>, guid: &str) -> Result<(Build, App, Scope)> {
    let not_found = || Error::NotFound("Build");
    let build = builds::find(tx.conn, guid)?.ok_or_else(not_found)?;
    match app_domain::readable(tx, &build.app_guid) {
        Err(Error::NotFound(_)) => Err(not_found()),
        other => other.map(|(app, scope)| (build, app, scope)),
    }
}

/// Asks for a staging.
///
/// # Errors
/// The rules of the contract about package, other builds, buildpacks, stack and quotas.
pub fn create(tx: &mut Tx<'_>, policy: &Policy, new: NewBuild, request: Value) -> Result<(Build, App, Scope)> {
    let unusable = || Error::invalid("Unable to use package. Ensure that the package exists and you have access to it.");
    let (package, mut app, scope) = match package_domain::readable(tx, &new.package) {
        Err(Error::NotFound(_)) => return Err(unusable()),
        other => other?,
    };
    if !scope.manages(tx) {
        return Err(unusable());
    }
    scope.check(tx, true)?;
    // Two requests at once: the second waits here, and then sees the first one's build.
    app_domain::save(tx, &mut app)?;
    if package.state != "READY" {
        return Err(Error::BadRequest("Cannot stage package whose state is not ready.".into()));
    }
    if !builds::staging(tx.conn, Some(&app.guid))?.is_empty() {
        return Err(Error::rule(Rule::StagingInProgress, "Only one build can be STAGING at a time per application."));
    }
    let mut wanted = app.clone();
    let change = LifecycleChange { stack: new.lifecycle.stack.clone().filter(Option::is_some), ..new.lifecycle.clone() };
    app_domain::set_lifecycle(tx, policy, &mut wanted, &change, false)?;
    let stack = wanted.stack.clone().unwrap_or_else(|| policy.default_stack.clone());
    let was_built = !builds::of_app(tx.conn, &app.guid)?.is_empty();
    app_domain::check_stack(tx, &stack, was_built).map_err(|e| match e {
        Error::Invalid(text) => Error::rule(Rule::StackValidationFailed, text),
        other => other,
    })?;
    let chosen = wanted.chosen_buildpacks();
    check_usable(tx, &chosen, &stack)?;
    // Files that cannot be made are told now, not by the staging.
    running::services_of(tx, &app)?;
    let build = blank(tx, policy, &app, &new, stack, &chosen)?;
    quota::check_staging(tx, &scope, build.memory_mb.unsigned_abs())?;
    builds::insert(tx.conn, &build)?;
    new.metadata.apply(tx, builds::KIND, &build.guid)?;
    feed::put(
        tx,
        &Desired::Build(DesiredBuild {
            build: running::id(&build.guid)?,
            app: running::id(&app.guid)?,
            memory_mb: build.memory_mb.unsigned_abs(),
            disk_mb: build.disk_mb.unsigned_abs(),
            stack: build.stack.clone(),
            created_at: tx.now,
        }),
    )?;
    let data = json!({ "build_guid": build.guid, "package_guid": package.guid, "request": app_domain::hide(request) });
    event(tx, "audit.app.build.create", &app, &scope, data)?;
    Ok((build, app, scope))
}

/// Whether named buildpacks are there and enabled, and there is any at all.
fn check_usable(tx: &mut Tx<'_>, chosen: &[String], stack: &str) -> Result<()> {
    let all = buildpacks::all(tx.conn, "buildpack")?;
    for name in chosen {
        match fitting(&all, name, stack) {
            Some(buildpack) if !buildpack.enabled => {
                return Err(Error::rule(Rule::BuildpackInvalid, format!("The buildpack '{name}' is disabled")));
            }
            Some(buildpack) if buildpack.state != "READY" => {
                return Err(Error::rule(Rule::BuildpackInvalid, format!("The buildpack '{name}' has no bits yet")));
            }
            Some(_) => {}
            None if is_buildpack_url(name) => {}
            None => {
                let text =
                    format!("Buildpack \"{name}\" for stack \"{stack}\" must be an existing admin buildpack or a valid git URI");
                return Err(Error::invalid(text));
            }
        }
    }
    if chosen.is_empty() && candidates(&all, stack).next().is_none() {
        return Err(Error::rule(Rule::NoBuildpacksFound, "There are no buildpacks available"));
    }
    Ok(())
}

/// The admin buildpack of this name for this stack; one of the stack itself before one of any.
fn fitting<'a>(all: &'a [Buildpack], name: &str, stack: &str) -> Option<&'a Buildpack> {
    let named = || all.iter().filter(|buildpack| buildpack.name == name);
    named()
        .find(|buildpack| buildpack.stack.as_deref() == Some(stack))
        .or_else(|| named().find(|buildpack| buildpack.stack.is_none()))
}

fn candidates<'a>(all: &'a [Buildpack], stack: &'a str) -> impl Iterator<Item = &'a Buildpack> {
    let fits = move |buildpack: &&Buildpack| buildpack.stack.as_deref().is_none_or(|own| own == stack);
    all.iter().filter(|buildpack| buildpack.enabled && buildpack.state == "READY").filter(fits)
}

fn blank(tx: &mut Tx<'_>, policy: &Policy, app: &App, new: &NewBuild, stack: String, chosen: &[String]) -> Result<Build> {
    let web = processes::find_of_app(tx.conn, &app.guid, WEB)?;
    let own_memory = web.as_ref().map_or(0, |web| web.memory());
    let own_disk = web.as_ref().map_or(0, |web| web.disk());
    let memory_mb = new.memory_mb.unwrap_or(own_memory).max(policy.limits.staging_memory_mb);
    let disk_mb = new.disk_mb.unwrap_or(own_disk).max(policy.limits.staging_disk_mb);
    let (guid, droplet, now) = (tx.guid(), tx.guid(), tx.micros());
    let mut vars = Vars::new();
    environment::apply(&mut vars, new.env.clone());
    let env = running::seal_vars(tx, &env_place(&guid), &vars)?;
    let caller = tx.who.caller.clone();
    Ok(Build {
        guid,
        created_at: now,
        updated_at: now,
        app_guid: app.guid.clone(),
        package_guid: new.package.clone(),
        state: "STAGING".into(),
        error_id: None,
        error: None,
        droplet_guid: Some(droplet),
        buildpacks: json!(chosen).to_string(),
        stack,
        memory_mb: i32::try_from(memory_mb).unwrap_or(i32::MAX),
        disk_mb: i32::try_from(disk_mb).unwrap_or(i32::MAX),
        log_rate_limit: new.log_rate.or(web.map(|web| web.log_rate_limit)).unwrap_or(-1),
        user_guid: caller.guid.clone(),
        user_name: caller.name.clone(),
        user_email: caller.email.unwrap_or_default(),
        droplet_sha256: None,
        droplet_size_bytes: None,
        env,
        skip_detect: !chosen.is_empty(),
    })
}

fn env_place(build: &str) -> String {
    format!("builds.env:{build}")
}

/// All that a DEA needs to stage a build.
///
/// # Errors
/// [`Error::NotFound`] when it is not under way any more.
pub fn staging_spec(tx: &mut Tx<'_>, policy: &Policy, guid: &str) -> Result<StagingSpec> {
    let gone = || Error::NotFound("Build");
    let build = builds::find(tx.conn, guid)?.filter(Build::staging).ok_or_else(gone)?;
    let (app, space, org) = apps::find_with_scope(tx.conn, &build.app_guid)?.ok_or_else(gone)?;
    let package = packages::find(tx.conn, &build.package_guid)?.ok_or_else(gone)?;
    let scope = Scope { space, org };
    let all = buildpacks::all(tx.conn, "buildpack")?;
    let chosen: Vec<String> = serde_json::from_str(&build.buildpacks).unwrap_or_default();
    let wanted: Vec<StagingBuildpack> = match build.skip_detect {
        true => chosen.iter().map(|name| staged_with(fitting(&all, name, &build.stack), name)).collect::<Result<_>>()?,
        false => candidates(&all, &build.stack)
            .map(|buildpack| staged_with(Some(buildpack), &buildpack.name))
            .collect::<Result<_>>()?,
    };
    let about = running::about(tx, policy, &scope, &app)?;
    let (memory_mb, disk_mb) = (build.memory_mb.unsigned_abs(), build.disk_mb.unsigned_abs());
    let mut group = policy.staging_environment.clone();
    group.extend(env_group::vars(tx, "staging")?);
    let own = running::app_env(tx, &app)?;
    let of_build = running::open_vars(tx, &env_place(&build.guid), build.env.as_deref())?;
    let limits = StagingLimits { memory_mb, disk_mb };
    let services = running::services_of(tx, &app)?;
    Ok(StagingSpec {
        build: running::id(&build.guid)?,
        app: running::id(&app.guid)?,
        app_name: app.name.clone(),
        space: (scope.space.guid.clone(), scope.space.name.clone()),
        organization: (scope.org.guid.clone(), scope.org.name.clone()),
        package: running::id(&package.guid)?,
        package_sha256: package.sha256.unwrap_or_default(),
        buildpacks: wanted,
        skip_detect: build.skip_detect,
        cache: Some(cache_name(&build)),
        env: environment::staging(&group, &own, &of_build, &about, &build.stack, limits, &services.variables),
        memory_mb,
        disk_mb,
        timeout_s: policy.limits.staging_timeout_s,
        log_rate_limit_bytes_per_second: build.log_rate_limit,
        stack: build.stack,
        binding_files: services.files,
        egress: egress::of_app(tx, &app.guid)?,
    })
}

/// The name of a build's cache below `caches/`.
pub fn cache_name(build: &Build) -> String {
    let key = cache_blob(&build.app_guid, &build.stack);
    key.trim_start_matches("caches/").to_owned()
}

fn staged_with(admin: Option<&Buildpack>, name: &str) -> Result<StagingBuildpack> {
    Ok(match admin {
        Some(buildpack) => StagingBuildpack {
            name: buildpack.name.clone(),
            buildpack: Some(running::id(&buildpack.guid)?),
            sha256: buildpack.sha256.clone(),
            url: None,
        },
        None => StagingBuildpack { name: name.to_owned(), buildpack: None, sha256: None, url: Some(name.to_owned()) },
    })
}

/// A build that a DEA may upload to now.
///
/// # Errors
/// [`Error::NotFound`] when it is not under way any more.
pub fn under_way(tx: &mut Tx<'_>, guid: &str) -> Result<Build> {
    builds::find(tx.conn, guid)?.filter(Build::staging).ok_or(Error::NotFound("Build"))
}

/// Notes that the droplet of a build has arrived.
pub fn droplet_arrived(tx: &mut Tx<'_>, guid: &str, sha256: &str, size_bytes: u64) -> Result<()> {
    let mut build = under_way(tx, guid)?;
    build.droplet_sha256 = Some(sha256.to_owned());
    build.droplet_size_bytes = i64::try_from(size_bytes).ok();
    builds::update_staging(tx.conn, &build)?;
    Ok(())
}

/// Notes how a staging ended; told again, or for a build that is over, nothing happens. Returns what ended now.
///
/// # Errors
/// [`Error::Invalid`] when the droplet that it speaks of did not arrive.
pub fn complete(tx: &mut Tx<'_>, guid: &str, result: &StagingResult) -> Result<Option<(Build, App, Scope)>> {
    let Some(build) = builds::find(tx.conn, guid)?.filter(Build::staging) else { return Ok(None) };
    let Some((app, space, org)) = apps::find_with_scope(tx.conn, &build.app_guid)? else { return Ok(None) };
    let scope = Scope { space, org };
    let ended = match result {
        StagingResult::Staged { droplet_sha256, lifecycle } => {
            if build.droplet_sha256.as_deref() != Some(droplet_sha256) {
                return Err(Error::invalid("The droplet of this build did not arrive as it was sent"));
            }
            let web_command = processes::find_of_app(tx.conn, &app.guid, WEB)?.and_then(|web| web.command);
            if lifecycle.process_types.is_empty() && web_command.is_none() {
                fail(tx, build, &app, &scope, "StagingError", "Staging error: Start command not specified")?
            } else {
                succeed(tx, build, &app, &scope, lifecycle)?
            }
        }
        StagingResult::Failed { id, message } => fail(tx, build, &app, &scope, id, message)?,
    };
    forget_old(tx, &app)?;
    Ok(Some((ended, app, scope)))
}

fn succeed(tx: &mut Tx<'_>, mut build: Build, app: &App, scope: &Scope, lifecycle: &Lifecycle) -> Result<Build> {
    let now = tx.micros();
    let guid = build.droplet_guid.clone().ok_or_else(|| Error::internal("a build", "it has no droplet"))?;
    let used: Vec<Value> = lifecycle.buildpacks.iter().map(|b| json!({
        "name": b.key,
        "buildpack_name": if b.name.is_empty() { Value::Null } else { b.name.clone().into() },
        "version": if b.version.is_empty() { Value::Null } else { b.version.clone().into() },
        "detect_output": if b.detect_output.is_empty() { lifecycle.detected_buildpack.clone() } else { b.detect_output.clone() },
    })).collect();
    let used = match used.is_empty() && !lifecycle.buildpack_key.is_empty() {
        true => vec![json!({
            "name": lifecycle.buildpack_key, "buildpack_name": null, "version": null, "detect_output": lifecycle.detected_buildpack,
        })],
        false => used,
    };
    droplets::insert(
        tx.conn,
        &Droplet {
            guid: guid.clone(),
            created_at: now,
            updated_at: now,
            app_guid: app.guid.clone(),
            package_guid: Some(build.package_guid.clone()),
            build_guid: Some(build.guid.clone()),
            state: "STAGED".into(),
            error: None,
            stack: Some(build.stack.clone()),
            sha256: build.droplet_sha256.clone(),
            size_bytes: build.droplet_size_bytes,
            process_types: json!(usable_types(&lifecycle.process_types)).to_string(),
            buildpacks: json!(used).to_string(),
            execution_metadata: String::new(),
        },
    )?;
    build.state = "STAGED".into();
    end(tx, &mut build)?;
    let names: Vec<&str> = lifecycle.buildpacks.iter().map(|b| b.key.as_str()).collect();
    let data = json!({ "droplet_guid": guid, "package_guid": build.package_guid });
    by_system(tx, |tx| event(tx, "audit.app.droplet.create", app, scope, data.clone()), &build)?;
    let data = json!({ "build_guid": build.guid, "package_guid": build.package_guid, "droplet_guid": guid, "buildpacks": names });
    by_system(tx, |tx| event(tx, "audit.app.build.staged", app, scope, data.clone()), &build)?;
    Ok(build)
}

/// Process types that can be addressed; what a buildpack names otherwise is dropped.
fn usable_types(types: &BTreeMap<String, String>) -> BTreeMap<&str, &str> {
    let usable = types.iter().filter(|(kind, _)| crate::domain::manifest::check::is_process_type(kind));
    usable.map(|(kind, command)| (kind.as_str(), command.as_str())).collect()
}

fn fail(tx: &mut Tx<'_>, mut build: Build, app: &App, scope: &Scope, id: &str, message: &str) -> Result<Build> {
    build.state = "FAILED".into();
    build.error_id = Some(id.chars().take(100).collect());
    build.error = Some(message.chars().take(10_000).collect());
    if let Some(droplet) = build.droplet_guid.take() {
        garbage::add(tx, &droplets::blob(&droplet))?;
    }
    end(tx, &mut build)?;
    let data = json!({ "build_guid": build.guid, "package_guid": build.package_guid, "error_id": id, "error_message": message });
    by_system(tx, |tx| event(tx, "audit.app.build.failed", app, scope, data.clone()), &build)?;
    Ok(build)
}

fn end(tx: &mut Tx<'_>, build: &mut Build) -> Result<()> {
    build.updated_at = tx.micros();
    builds::update_staging(tx.conn, build)?;
    feed::put(tx, &Desired::NoBuild { build: running::id(&build.guid)? }).map(drop)
}

/// Events of a staging's end are told of the user who asked for it.
fn by_system(tx: &mut Tx<'_>, work: impl FnOnce(&mut Tx<'_>) -> Result<()>, build: &Build) -> Result<()> {
    let before = tx.who.clone();
    let caller = Caller {
        guid: build.user_guid.clone(),
        name: build.user_name.clone(),
        email: Some(build.user_email.clone()).filter(|email| !email.is_empty()),
        origin: Some(String::new()),
        ..Caller::system()
    };
    let mut who = (*before).clone();
    who.caller = caller;
    tx.who = std::sync::Arc::new(who);
    let outcome = work(tx);
    tx.who = before;
    outcome
}

/// Gives up builds that nobody finished in time; returns what ended.
pub fn expire(tx: &mut Tx<'_>, policy: &Policy) -> Result<Vec<(Build, App, Scope)>> {
    let limit = Duration::from_secs(u64::from(policy.limits.staging_timeout_s)) + PATIENCE;
    let mut ended = vec![];
    for build in builds::staging(tx.conn, None)? {
        if tx.now.since(Timestamp(build.created_at.unsigned_abs())) < limit {
            continue;
        }
        let message = format!("Staging time expired: nobody finished the staging within {} s", limit.as_secs());
        let result = StagingResult::Failed { id: "StagingTimeExpired".into(), message };
        ended.extend(complete(tx, &build.guid, &result)?);
    }
    Ok(ended)
}

fn forget_old(tx: &mut Tx<'_>, app: &App) -> Result<()> {
    let over: Vec<String> = builds::of_app(tx.conn, &app.guid)?
        .into_iter()
        .filter(|build| !build.staging())
        .skip(KEPT)
        .map(|build| build.guid)
        .collect();
    if !over.is_empty() {
        metadata_store::forget(tx.conn, builds::KIND, &over)?;
        builds::delete_all(tx.conn, &over)?;
    }
    let current = app.droplet_guid.as_deref();
    let staged = droplets::of_app(tx.conn, &app.guid)?.into_iter();
    for mut droplet in staged.filter(|d| d.state == "STAGED" && Some(d.guid.as_str()) != current).skip(KEPT_DROPLETS) {
        droplet.state = "EXPIRED".into();
        droplets::update_from(tx.conn, &droplet, "STAGED")?;
        garbage::add(tx, &droplets::blob(&droplet.guid))?;
    }
    Ok(())
}
