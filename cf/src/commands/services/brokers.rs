//! service-brokers, create-service-broker, update-service-broker, rename-service-broker, delete-service-broker.

use super::{done, place, sure};
use crate::{
    api::{Api, query, text},
    cli::{Format, services::Broker},
    commands::users::secret,
    problem::Problem,
    ui::{self, say},
};
use anyhow::bail;
use serde_json::{Value, json};

pub(super) async fn list(api: &mut Api, format: Format) -> anyhow::Result<()> {
    let user = api.identity()?.name;
    let brokers = api.list("/v3/service_brokers").await?;
    if format.json {
        ui::json(&Value::Array(brokers));
        return Ok(());
    }
    say!("Getting service brokers as {}...\n", ui::name(&user));
    if brokers.is_empty() {
        say!("No service brokers found");
        return Ok(());
    }
    let mut rows: Vec<_> =
        brokers.iter().map(|broker| vec![text(broker, "/name").to_owned(), text(broker, "/url").to_owned()]).collect();
    rows.sort();
    ui::table(&["name", "url"], &rows);
    Ok(())
}

/// The broker's password and URL: the password is an argument, in the environment, or asked for.
fn password_and_url(args: &Broker) -> anyhow::Result<(String, String)> {
    match args.password_and_url.as_slice() {
        [password, url] => Ok((password.clone(), url.clone())),
        [url] => match std::env::var("CF_BROKER_PASSWORD") {
            Ok(password) => Ok((password, url.clone())),
            Err(_) => Ok((secret("Service Broker Password")?, url.clone())),
        },
        _ => bail!(Problem::new("A URL is needed.").tip("cf create-service-broker NAME USER [PASSWORD] URL")),
    }
}

fn authentication(args: &Broker, password: &str) -> Value {
    json!({ "type": "basic", "credentials": { "username": args.user, "password": password } })
}

async fn find(api: &mut Api, name: &str) -> anyhow::Result<Option<String>> {
    let pairs = [("names", name), ("per_page", "1"), ("page", "1")];
    let found = api.first(&query("/v3/service_brokers", &pairs)).await?;
    Ok(found.map(|broker| text(&broker, "/guid").to_owned()))
}

async fn existing(api: &mut Api, name: &str) -> anyhow::Result<String> {
    match find(api, name).await? {
        Some(guid) => Ok(guid),
        None => bail!(
            Problem::new(format!("Service broker '{name}' not found."))
                .tip("'cf service-brokers' lists the brokers that you may see.")
        ),
    }
}

pub(super) async fn create(api: &mut Api, args: &Broker, space_scoped: bool, update_if_exists: bool) -> anyhow::Result<()> {
    let user = api.identity()?.name;
    let (password, url) = password_and_url(args)?;
    if update_if_exists && find(api, &args.broker).await?.is_some() {
        return change(api, args, &password, &url).await;
    }
    let mut body = json!({ "name": args.broker, "url": url, "authentication": authentication(args, &password) });
    if space_scoped {
        let (org, space) = api.space()?;
        say!("Creating service broker {} in {}...", ui::name(&args.broker), place(&org, &space, &user));
        body["relationships"] = json!({ "space": { "data": { "guid": space.guid } } });
    } else {
        say!("Creating service broker {} as {}...", ui::name(&args.broker), ui::name(&user));
    }
    let reply = api.post("/v3/service_brokers", &body).await?;
    api.job(reply).await?;
    ui::ok();
    if !space_scoped {
        say!("\nTIP: Use 'cf enable-service-access' to let orgs use its plans.");
    }
    Ok(())
}

pub(super) async fn update(api: &mut Api, args: &Broker) -> anyhow::Result<()> {
    let (password, url) = password_and_url(args)?;
    change(api, args, &password, &url).await
}

async fn change(api: &mut Api, args: &Broker, password: &str, url: &str) -> anyhow::Result<()> {
    let user = api.identity()?.name;
    let guid = existing(api, &args.broker).await?;
    say!("Updating service broker {} as {}...", ui::name(&args.broker), ui::name(&user));
    let body = json!({ "url": url, "authentication": authentication(args, password) });
    let reply = api.patch(&format!("/v3/service_brokers/{guid}"), &body).await?;
    api.job(reply).await?;
    ui::ok();
    Ok(())
}

pub(super) async fn rename(api: &mut Api, name: &str, new_name: &str) -> anyhow::Result<()> {
    let user = api.identity()?.name;
    let guid = existing(api, name).await?;
    say!("Renaming service broker {} to {} as {}...", ui::name(name), ui::name(new_name), ui::name(&user));
    let reply = api.patch(&format!("/v3/service_brokers/{guid}"), &json!({ "name": new_name })).await?;
    api.job(reply).await?;
    ui::ok();
    Ok(())
}

pub(super) async fn delete(api: &mut Api, name: &str, force: bool) -> anyhow::Result<()> {
    let user = api.identity()?.name;
    if !sure(force, &format!("Really delete the service broker {name}?"))? {
        return Ok(());
    }
    say!("Deleting service broker {} as {}...", ui::name(name), ui::name(&user));
    match find(api, name).await? {
        Some(guid) => {
            api.delete(&format!("/v3/service_brokers/{guid}")).await?;
            ui::ok();
        }
        None => done(&format!("Service broker '{name}' does not exist.")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_may_stand_before_the_url() {
        let args = |rest: &[&str]| Broker {
            broker: "b".into(),
            user: "u".into(),
            password_and_url: rest.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(password_and_url(&args(&["p", "http://x"])).unwrap(), ("p".into(), "http://x".into()));
    }
}
