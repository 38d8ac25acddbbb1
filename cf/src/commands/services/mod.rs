//! Services: what is offered, instances, bindings, keys, brokers.

mod access;
mod backups;
mod bindings;
mod brokers;
mod instances;
mod keys;
mod marketplace;
mod routes;
mod sharing;
mod user_provided;

use super::{app, confirm, place};
use crate::{
    api::{Api, ApiError, Job, Reply, query, text},
    cli::services::{Parameters, ServiceCommand, Wait},
    config::Named,
    problem::Problem,
    ui::{self, say},
};
use anyhow::bail;
use serde_json::{Map, Value};
use std::{fs, path::Path};

/// Runs a command about services.
pub(super) async fn run(api: &mut Api, command: &ServiceCommand) -> anyhow::Result<()> {
    use ServiceCommand as C;
    match command {
        C::Marketplace { offering, broker, no_plans, show_unavailable, format } => {
            let asked =
                marketplace::Asked { offering: offering.as_deref(), broker: broker.as_deref(), unavailable: *show_unavailable };
            marketplace::show(api, &asked, *no_plans, *format).await
        }
        C::Services { no_apps, format } => instances::list(api, *no_apps, *format).await,
        C::Service { instance, guid: true, .. } => instances::guid(api, instance).await,
        C::Service { instance, params: true, .. } => instances::parameters(api, instance).await,
        C::Service { instance, format, .. } => instances::show(api, instance, *format).await,
        C::CreateService(args) => instances::create(api, args).await,
        C::UpdateService(args) => instances::update(api, args).await,
        C::UpgradeService { instance, sure, wait } => instances::upgrade(api, instance, sure.force, *wait).await,
        C::RenameService { instance, new_name } => instances::rename(api, instance, new_name).await,
        C::DeleteService { instance, sure, wait } => instances::delete(api, instance, sure.force, *wait).await,
        C::PurgeServiceInstance { instance, sure } => instances::purge(api, instance, sure.force).await,
        C::CreateUserProvidedService(args) => user_provided::create(api, args).await,
        C::UpdateUserProvidedService(args) => user_provided::update(api, args).await,
        C::BindService(args) => bindings::bind(api, args).await,
        C::UnbindService { app, instance, guid, wait } => bindings::unbind(api, app, instance, guid.as_deref(), *wait).await,
        C::CleanupOutdatedServiceBindings { app, service_instance, keep_last, sure, wait } => {
            bindings::clean_up(api, app, service_instance.as_deref(), usize::from(*keep_last), sure.force, *wait).await
        }
        C::CreateServiceKey { instance, key, parameters, wait } => keys::create(api, instance, key, parameters, *wait).await,
        C::ServiceKeys { instance, format } => keys::list(api, instance, *format).await,
        C::ServiceKey { instance, key, guid, format } => keys::show(api, instance, key, *guid, *format).await,
        C::DeleteServiceKey { instance, key, sure, wait } => keys::delete(api, instance, key, sure.force, *wait).await,
        C::BindRouteService { route, parameters, wait } => routes::bind(api, route, parameters, *wait).await,
        C::UnbindRouteService { route, sure, wait } => routes::unbind(api, route, sure.force, *wait).await,
        C::ShareService(sharing) => sharing::share(api, sharing).await,
        C::UnshareService { sharing, sure } => sharing::unshare(api, sharing, sure.force).await,
        C::BackupService { instance, wait } => backups::create(api, instance, *wait).await,
        C::Backups { instance, format } => backups::list(api, instance, *format).await,
        C::DeleteBackup { instance, backup, sure } => backups::delete(api, instance, backup, sure.force).await,
        C::RestoreService { instance, backup, sure, wait } => {
            backups::restore(api, instance, backup.as_deref(), sure.force, *wait).await
        }
        C::CloneService { instance, new_name, backup, wait } => {
            backups::clone(api, instance, new_name, backup.as_deref(), *wait).await
        }
        C::ServiceBrokers(format) => brokers::list(api, *format).await,
        C::CreateServiceBroker { broker, space_scoped, update_if_exists } => {
            brokers::create(api, broker, *space_scoped, *update_if_exists).await
        }
        C::UpdateServiceBroker(broker) => brokers::update(api, broker).await,
        C::RenameServiceBroker { broker, new_name } => brokers::rename(api, broker, new_name).await,
        C::DeleteServiceBroker { broker, sure } => brokers::delete(api, broker, sure.force).await,
        C::ServiceAccess { broker, offering, org } => {
            access::show(api, broker.as_deref(), offering.as_deref(), org.as_deref()).await
        }
        C::EnableServiceAccess(args) => access::enable(api, args).await,
        C::DisableServiceAccess(args) => access::disable(api, args).await,
        C::PurgeServiceOffering { offering, broker, sure } => access::purge(api, offering, broker.as_deref(), sure.force).await,
    }
}

/// A service instance of the targeted space.
struct Instance {
    guid: String,
    org: Named,
    space: Named,
    user: String,
    document: Value,
}

impl Instance {
    fn place(&self) -> String {
        place(&self.org, &self.space, &self.user)
    }
    fn managed(&self) -> bool {
        text(&self.document, "/type") == "managed"
    }
    fn path(&self) -> String {
        format!("/v3/service_instances/{}", self.guid)
    }
}

/// Looks a service instance of the targeted space up by name.
async fn find(api: &mut Api, name: &str) -> anyhow::Result<Option<Instance>> {
    let (org, space) = api.space()?;
    let user = api.identity()?.name;
    let path = query("/v3/service_instances", &[("names", name), ("space_guids", &space.guid), ("per_page", "1"), ("page", "1")]);
    let found = api.first(&path).await?;
    Ok(found.map(|document| Instance { guid: text(&document, "/guid").to_owned(), org, space, user, document }))
}

/// Finds a service instance of the targeted space by name.
async fn instance(api: &mut Api, name: &str) -> anyhow::Result<Instance> {
    match find(api, name).await? {
        Some(found) => Ok(found),
        None => bail!(
            Problem::new(format!("Service instance '{name}' not found."))
                .tip("'cf services' lists the service instances of the space.")
        ),
    }
}

/// How an operation at a broker stands when the command ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stand {
    /// It is done.
    Done,
    /// The broker goes on with it.
    UnderWay,
}

/// Follows the job of an answer: to its end, or until the broker goes on by itself.
async fn follow(api: &mut Api, reply: Reply, wait: Wait) -> anyhow::Result<Stand> {
    Ok(match api.follow(reply, wait.wait).await? {
        Job::Complete => Stand::Done,
        Job::Polling => Stand::UnderWay,
    })
}

/// The parameters that `-c` gave: a JSON object, or a file that holds one.
fn parameters(given: &Parameters) -> anyhow::Result<Option<Value>> {
    given.parameters.as_deref().map(|argument| object(argument, "-c").map(Value::Object)).transpose()
}

/// Reads an argument that is a JSON object or names a file with one.
fn object(argument: &str, flag: &str) -> anyhow::Result<Map<String, Value>> {
    let inline = argument.trim_start().starts_with('{');
    let (content, whence) = match inline {
        true => (argument.to_owned(), format!("the value of {flag}")),
        false => match fs::read_to_string(Path::new(argument)) {
            Ok(content) => (content, format!("the file {argument}")),
            Err(e) => bail!(
                Problem::new(format!(
                    "The value of {flag} is neither a JSON object nor a file that can be read ({argument}: {e})."
                ))
                .tip(format!("{flag} '{{\"key\":\"value\"}}', or {flag} ./parameters.json"))
            ),
        },
    };
    match serde_json::from_str(&content) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => bail!(Problem::new(format!("There is JSON in {whence}, but no object."))),
        Err(e) => bail!(Problem::new(format!("There is no valid JSON in {whence}: {e}."))),
    }
}

/// Tags as `-t` gives them.
fn tags(given: &str) -> Vec<&str> {
    given.split(',').map(str::trim).filter(|tag| !tag.is_empty()).collect()
}

/// Asks before something goes; says so when it stays.
fn sure(force: bool, question: &str) -> anyhow::Result<bool> {
    let go = force || confirm(question)?;
    if !go {
        say!("Nothing was changed.");
    }
    Ok(go)
}

/// The title and detail of a refusal that means "it is as you want it already".
fn already(error: &anyhow::Error, matches: impl Fn(&ApiError) -> bool) -> bool {
    error.downcast_ref::<ApiError>().is_some_and(|e| e.status == 422 && matches(e))
}

/// `create succeeded`
fn last_operation(document: &Value) -> String {
    let (kind, state) = (text(document, "/last_operation/type"), text(document, "/last_operation/state"));
    format!("{kind} {state}").trim().to_owned()
}

/// Texts of a list, with commas between.
fn joined<'a>(values: impl Iterator<Item = &'a Value>) -> String {
    values.filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

/// The document in a list that has this guid.
fn with_guid<'a>(documents: impl IntoIterator<Item = &'a Value>, guid: &str) -> Option<&'a Value> {
    documents.into_iter().find(|document| !guid.is_empty() && text(document, "/guid") == guid)
}

/// Prints `OK`, with what is said before it.
fn done(line: &str) {
    say!("{line}");
    ui::ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_an_object_in_the_argument_or_in_a_file() {
        assert_eq!(object(r#"{"size": 3}"#, "-c").unwrap()["size"], 3);
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), r#"{"size": 4}"#).unwrap();
        assert_eq!(object(&file.path().display().to_string(), "-c").unwrap()["size"], 4);
        for (argument, expected) in
            [("{", "no valid JSON in the value of -c"), ("/no/such/file", "neither a JSON object nor a file")]
        {
            let error = object(argument, "-c").unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        fs::write(file.path(), "[1]").unwrap();
        assert!(object(&file.path().display().to_string(), "-c").unwrap_err().to_string().contains("but no object"));
    }

    #[test]
    fn tags_are_split_at_commas() {
        assert_eq!(tags("sql, main,,"), ["sql", "main"]);
    }
}
