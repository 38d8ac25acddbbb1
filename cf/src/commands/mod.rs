//! What the commands do, one file for each group.

mod apps;
mod env;
mod flags;
mod health;
mod logs;
mod orgs;
mod platform;
mod routes;
mod services;
mod session;
mod spaces;
pub(crate) mod summary;
mod users;

use crate::{
    api::{Api, query, text},
    cli::{Cli, Command},
    config::Named,
    problem::Problem,
    push, ui,
    ui::say,
};
use anyhow::bail;
use clap::CommandFactory;
use serde_json::Value;
use std::{
    io::{self, BufRead, IsTerminal, Write},
    process::ExitCode,
};

/// Runs one command.
pub(crate) async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let mut command = match cli.command {
        Command::Version => {
            say!("cf version {}", env!("CARGO_PKG_VERSION"));
            return Ok(ExitCode::SUCCESS);
        }
        Command::Completion { shell } => {
            let mut script = vec![];
            clap_complete::generate(shell, &mut Cli::command(), "cf", &mut script);
            ui::write(format_args!("{}", String::from_utf8_lossy(&script)));
            return Ok(ExitCode::SUCCESS);
        }
        command => command,
    };
    let api = &mut Api::load(cli.verbose)?;
    match &mut command {
        Command::Version | Command::Completion { .. } => {}
        Command::Login(args) => session::login(api, args).await?,
        Command::Auth(args) => session::auth(api, args).await?,
        Command::Logout => session::logout(api).await?,
        Command::Api(args) => session::api(api, args).await?,
        Command::Target(args) => session::target(api, args).await?,
        Command::OauthToken => session::oauth_token(api).await?,
        Command::Curl(args) => return session::curl(api, args).await,
        Command::Orgs(listing) => orgs::list(api, listing).await?,
        Command::CreateOrg { org, quota } => orgs::create(api, org, quota.as_deref()).await?,
        Command::DeleteOrg { org, force } => orgs::delete(api, org, *force).await?,
        Command::Spaces(listing) => spaces::list(api, listing).await?,
        Command::CreateSpace { space, org, quota } => spaces::create(api, space, org.as_deref(), quota.as_deref()).await?,
        Command::DeleteSpace { space, org, force } => spaces::delete(api, space, org.as_deref(), *force).await?,
        Command::Org { org, guid, format } => orgs::show(api, org, *guid, *format).await?,
        Command::Space { space, guid, format } => spaces::show(api, space, *guid, *format).await?,
        Command::CreateUser { user, password, origin, password_prompt } => {
            users::create(api, user, password.take(), origin.as_deref(), *password_prompt).await?;
        }
        Command::DeleteUser { user, origin, force } => users::delete(api, user, origin.as_deref(), *force).await?,
        Command::Passwd => users::password(api).await?,
        Command::SetOrgRole { whom, role } => users::role(api, whom, None, role, true).await?,
        Command::UnsetOrgRole { whom, role } => users::role(api, whom, None, role, false).await?,
        Command::SetSpaceRole { whom, space, role } => users::role(api, whom, Some(space), role, true).await?,
        Command::UnsetSpaceRole { whom, space, role } => users::role(api, whom, Some(space), role, false).await?,
        Command::Push(args) => push::run(api, args).await?,
        Command::Apps { no_stats, listing } => apps::list(api, *no_stats, listing).await?,
        Command::App { app, guid, format } => apps::show(api, app, *guid, *format).await?,
        Command::Start(args) => apps::start(api, args).await?,
        Command::Stop { app } => apps::stop(api, app).await?,
        Command::Restart(args) => apps::restart(api, args).await?,
        Command::Restage(args) => apps::restage(api, args).await?,
        Command::Scale(args) => apps::scale(api, args).await?,
        Command::Delete { app, force, routes } => apps::delete(api, app, *force, *routes).await?,
        Command::Rename { app, new_name } => apps::rename(api, app, new_name).await?,
        Command::RestartAppInstance { app, index, process } => apps::restart_instance(api, app, *index, process).await?,
        Command::GetHealthCheck { app, format } => health::show(api, app, *format).await?,
        Command::SetHealthCheck { app, kind, endpoint, invocation_timeout, process } => {
            health::set(api, app, process, *kind, endpoint.as_deref(), *invocation_timeout).await?;
        }
        Command::CreateAppManifest { app, path } => apps::manifest(api, app, path.as_deref()).await?,
        Command::Events { app, format } => apps::events(api, app, *format).await?,
        Command::Logs { app, recent } => logs::show(api, app, *recent).await?,
        Command::Env { app, format } => env::show(api, app, *format).await?,
        Command::SetEnv { app, name, value } => env::set(api, app, name, value).await?,
        Command::UnsetEnv { app, name } => env::unset(api, app, name).await?,
        Command::Routes { org_level, listing } => routes::list(api, *org_level, listing).await?,
        Command::CreateRoute(args) => routes::create(api, args).await?,
        Command::MapRoute { app, route, protocol } => routes::map(api, app, route, protocol.as_deref()).await?,
        Command::UnmapRoute { app, route } => routes::unmap(api, app, route).await?,
        Command::DeleteRoute { route, force } => routes::delete(api, route, *force).await?,
        Command::CheckRoute(args) => routes::check(api, args).await?,
        Command::Domains(listing) => routes::domains(api, listing).await?,
        Command::Buildpacks(listing) => platform::buildpacks(api, listing).await?,
        Command::Stacks(listing) => platform::stacks(api, listing).await?,
        Command::CreateBuildpack { buildpack, path, position, disable } => {
            platform::create_buildpack(api, buildpack, path, *position, !*disable).await?;
        }
        Command::UpdateBuildpack { buildpack, path, position, enable, disable, lock, unlock, rename, stack, assign_stack } => {
            let flag = |yes: bool, no: bool| (yes || no).then_some(yes);
            let change = platform::BuildpackChange {
                position: *position,
                enabled: flag(*enable, *disable),
                locked: flag(*lock, *unlock),
                name: rename.take(),
                stack: assign_stack.take(),
            };
            platform::update_buildpack(api, buildpack, stack.as_deref(), path.as_deref(), change).await?;
        }
        Command::DeleteBuildpack { buildpack, stack, force } => {
            platform::delete_buildpack(api, buildpack, stack.as_deref(), *force).await?;
        }
        Command::FeatureFlags(format) => flags::list(api, *format).await?,
        Command::FeatureFlag { flag } => flags::show(api, flag).await?,
        Command::EnableFeatureFlag { flag } => flags::switch(api, flag, true).await?,
        Command::DisableFeatureFlag { flag } => flags::switch(api, flag, false).await?,
        Command::Service(command) => services::run(api, command).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// An app of the targeted space.
pub(crate) struct App {
    pub(crate) guid: String,
    pub(crate) name: String,
    pub(crate) org: Named,
    pub(crate) space: Named,
    pub(crate) user: String,
    pub(crate) document: Value,
}

impl App {
    /// `org o / space s as user`.
    pub(crate) fn place(&self) -> String {
        place(&self.org, &self.space, &self.user)
    }
    pub(crate) fn started(&self) -> bool {
        text(&self.document, "/state") == "STARTED"
    }
    /// The document anew.
    pub(crate) async fn reload(&mut self, api: &mut Api) -> anyhow::Result<()> {
        self.document = api.get(&format!("/v3/apps/{}", self.guid)).await?;
        Ok(())
    }
}

pub(crate) fn place(org: &Named, space: &Named, user: &str) -> String {
    format!("org {} / space {} as {}", ui::name(&org.name), ui::name(&space.name), ui::name(user))
}

/// Finds an app of the targeted space by name.
pub(crate) async fn app(api: &mut Api, name: &str) -> anyhow::Result<App> {
    let (org, space) = api.space()?;
    let user = api.identity()?.name;
    let path = query("/v3/apps", &[("names", name), ("space_guids", &space.guid)]);
    match api.first(&path).await? {
        Some(document) => {
            Ok(App { guid: text(&document, "/guid").to_owned(), name: name.to_owned(), org, space, user, document })
        }
        None => bail!(
            Problem::new(format!("App '{name}' not found.")).tip(format!("'cf apps' lists the apps of space {}.", space.name))
        ),
    }
}

/// Finds an org by name.
pub(crate) async fn org(api: &mut Api, name: &str) -> anyhow::Result<Named> {
    let path = query("/v3/organizations", &[("names", name), ("per_page", "1"), ("page", "1")]);
    match api.first(&path).await? {
        Some(document) => Ok(Named { guid: text(&document, "/guid").to_owned(), name: text(&document, "/name").to_owned() }),
        None => {
            bail!(Problem::new(format!("Organization '{name}' not found.")).tip("'cf orgs' lists the orgs that you may see."))
        }
    }
}

/// Finds a space of an org by name.
pub(crate) async fn space(api: &mut Api, org: &Named, name: &str) -> anyhow::Result<Named> {
    let path = query("/v3/spaces", &[("names", name), ("organization_guids", &org.guid), ("per_page", "1"), ("page", "1")]);
    match api.first(&path).await? {
        Some(document) => Ok(Named { guid: text(&document, "/guid").to_owned(), name: text(&document, "/name").to_owned() }),
        None => bail!(
            Problem::new(format!("Space '{name}' not found.")).tip(format!("'cf spaces' lists the spaces of org {}.", org.name))
        ),
    }
}

/// Asks a question whose answer is yes or no; no if nobody can answer.
pub(crate) fn confirm(question: &str) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        bail!(Problem::new(format!("{question} Nobody can answer here.")).tip("-f does it without asking."));
    }
    ui::write(format_args!("{question} [yN]: "));
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// Asks for a text.
pub(crate) fn ask(label: &str) -> anyhow::Result<String> {
    ui::write(format_args!("{label}: "));
    io::stdout().flush()?;
    let mut answer = String::new();
    if io::stdin().lock().read_line(&mut answer)? == 0 {
        bail!(
            Problem::new(format!("{label} is needed, and nobody can answer here."))
                .tip("Give it on the command line: the command with --help says how.")
        );
    }
    Ok(answer.trim().to_owned())
}
