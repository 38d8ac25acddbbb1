//! create-user, delete-user, passwd, and roles.

use super::{ask, confirm, org, space};
use crate::{
    api::{Api, ApiError, array, query, text},
    cli::RoleArgs,
    config::Named,
    problem::Problem,
    ui::{self, say},
};
use anyhow::bail;
use reqwest::Method;
use serde_json::{Value, json};
use std::io::IsTerminal;

pub(super) async fn create(
    api: &mut Api,
    name: &str,
    password: Option<String>,
    origin: Option<&str>,
    prompt: bool,
) -> anyhow::Result<()> {
    api.identity()?;
    let password = match (password, origin) {
        (Some(password), _) => password,
        (None, Some(origin)) if origin != "uaa" && !prompt => String::new(),
        (None, _) => secret("Password")?,
    };
    say!("Creating user {}...", ui::name(name));
    let body = json!({
        "userName": name, "password": password, "origin": origin.unwrap_or_default(),
        "name": { "familyName": name, "givenName": name }, "emails": [{ "value": name, "primary": true }],
    });
    let url = format!("{}/Users", api.config.uaa);
    match api.post(&url, &body).await {
        Err(e) if e.downcast_ref::<ApiError>().is_some_and(|e| e.status == 409) => eprintln!("User '{name}' already exists."),
        other => {
            let made = other?.body;
            api.post("/v3/users", &json!({ "guid": text(&made, "/id") })).await?;
        }
    }
    ui::ok();
    say!();
    say!("TIP: Assign roles with 'cf set-org-role' and 'cf set-space-role'.");
    Ok(())
}

pub(super) async fn delete(api: &mut Api, name: &str, origin: Option<&str>, force: bool) -> anyhow::Result<()> {
    api.identity()?;
    if !force && !confirm(&format!("Really delete the user {name}?"))? {
        say!("User '{name}' has not been deleted.");
        return Ok(());
    }
    say!("Deleting user {}...", ui::name(name));
    let mut filter = format!("userName eq {}", Value::from(name));
    if let Some(origin) = origin {
        filter.push_str(&format!(" and origin eq {}", Value::from(origin)));
    }
    let found = api.get(&query(&format!("{}/Users", api.config.uaa), &[("filter", &filter)])).await?;
    let users: Vec<&Value> = array(&found, "/resources").collect();
    match users.as_slice() {
        [] => eprintln!("User '{name}' does not exist."),
        [user] => {
            let id = text(user, "/id");
            match api.delete(&format!("/v3/users/{id}")).await {
                // it never did anything there
                Err(e) if e.downcast_ref::<ApiError>().is_some_and(|e| e.status == 404) => {}
                other => other?,
            }
            let url = format!("{}/Users/{id}", api.config.uaa);
            api.send(Method::DELETE, &url, None).await?;
        }
        _ => {
            let origins: Vec<&str> = users.iter().map(|user| text(user, "/origin")).collect();
            bail!(
                Problem::new(format!("The user '{name}' exists in several origins: {}", origins.join(", ")))
                    .tip("Name one with --origin.")
            )
        }
    }
    ui::ok();
    Ok(())
}

pub(super) async fn password(api: &mut Api) -> anyhow::Result<()> {
    let who = api.identity()?;
    let Some(id) = who.user_id else { bail!("a client has no password; its secret is set by an operator") };
    let (old, new) = (secret("Current password")?, secret("New password")?);
    if secret("Verify password")? != new {
        bail!(Problem::new("Password verification does not match."));
    }
    say!();
    say!("Changing password for user {}...", ui::name(&who.name));
    let url = format!("{}/Users/{id}/password", api.config.uaa);
    api.send(Method::PUT, &url, Some(&json!({ "oldPassword": old, "password": new }))).await?;
    ui::ok();
    say!();
    say!("Please log in again.");
    api.config.forget_user();
    api.config.save()
}

/// Gives a role, or takes it.
pub(super) async fn role(
    api: &mut Api,
    args: &RoleArgs,
    space_name: Option<&str>,
    role_word: &str,
    give: bool,
) -> anyhow::Result<()> {
    let me = api.identity()?.name;
    let kind = role_kind(role_word, space_name.is_some())?;
    let org = org(api, &args.org).await?;
    let space = match space_name {
        Some(name) => Some(space(api, &org, name).await?),
        None => None,
    };
    let place = match &space {
        Some(space) => format!("org {} / space {}", ui::name(&org.name), ui::name(&space.name)),
        None => format!("org {}", ui::name(&org.name)),
    };
    let (verb, word) = if give { ("Assigning", "to") } else { ("Removing", "from") };
    say!("{verb} role {} {word} user {} in {place} as {}...", ui::name(role_word), ui::name(&args.user), ui::name(&me));
    if give {
        if space.is_some() {
            // whoever works in a space belongs to its org; who may not give that role may still give the other
            let member = give_role(api, "organization_user", args, &org, None).await;
            soft(member, true)?;
        }
        soft(give_role(api, kind, args, &org, space.as_ref()).await, false)?;
    } else {
        take_role(api, kind, args, &org, space.as_ref()).await?;
    }
    ui::ok();
    Ok(())
}

async fn give_role(api: &mut Api, kind: &str, args: &RoleArgs, org: &Named, space: Option<&Named>) -> anyhow::Result<()> {
    // The platform knows clients as users with the client's id for a guid.
    let mut user = json!({ if args.client { "guid" } else { "username" }: args.user });
    if let Some(origin) = &args.origin {
        user["origin"] = json!(origin);
    }
    let mut relationships = json!({ "user": { "data": user } });
    match space {
        Some(space) => relationships["space"] = json!({ "data": { "guid": space.guid } }),
        None => relationships["organization"] = json!({ "data": { "guid": org.guid } }),
    }
    api.post("/v3/roles", &json!({ "type": kind, "relationships": relationships })).await.map(|_| ())
}

async fn take_role(api: &mut Api, kind: &str, args: &RoleArgs, org: &Named, space: Option<&Named>) -> anyhow::Result<()> {
    let mut pairs = vec![(if args.client { "guids" } else { "usernames" }, args.user.as_str())];
    pairs.extend(args.origin.as_deref().map(|origin| ("origins", origin)));
    let Some(user) = api.first(&query("/v3/users", &pairs)).await? else {
        bail!(Problem::new(format!("User '{}' does not exist.", args.user)));
    };
    let place = match space {
        Some(space) => ("space_guids", space.guid.as_str()),
        None => ("organization_guids", org.guid.as_str()),
    };
    let found = api.first(&query("/v3/roles", &[("user_guids", text(&user, "/guid")), ("types", kind), place])).await?;
    match found {
        Some(role) => api.delete(&format!("/v3/roles/{}", text(&role, "/guid"))).await,
        None => Ok(()),
    }
}

/// A role that is there already is what was wanted.
fn soft(done: anyhow::Result<()>, forbidden_too: bool) -> anyhow::Result<()> {
    match done {
        Err(e) => match e.downcast_ref::<ApiError>() {
            Some(api) if api.status == 422 && api.detail.contains("already has") => {
                if !forbidden_too {
                    eprintln!("{api}");
                }
                Ok(())
            }
            Some(api) if forbidden_too && api.status == 403 => Ok(()),
            _ => Err(e),
        },
        Ok(()) => Ok(()),
    }
}

fn role_kind(word: &str, of_space: bool) -> anyhow::Result<&'static str> {
    const ORG: [(&str, &str); 4] = [
        ("orguser", "organization_user"),
        ("orgmanager", "organization_manager"),
        ("billingmanager", "organization_billing_manager"),
        ("orgauditor", "organization_auditor"),
    ];
    const SPACE: [(&str, &str); 4] = [
        ("spacemanager", "space_manager"),
        ("spacedeveloper", "space_developer"),
        ("spaceauditor", "space_auditor"),
        ("spacesupporter", "space_supporter"),
    ];
    let (known, names) = if of_space {
        (SPACE, "SpaceManager, SpaceDeveloper, SpaceAuditor, SpaceSupporter")
    } else {
        (ORG, "OrgManager, BillingManager, OrgAuditor, OrgUser")
    };
    match known.into_iter().find(|(name, _)| *name == word.to_lowercase()) {
        Some((_, kind)) => Ok(kind),
        None => bail!(Problem::new(format!("`{word}` is not a role.")).tip(format!("Roles are {names}."))),
    }
}

pub(super) fn secret(label: &str) -> anyhow::Result<String> {
    match std::io::stdin().is_terminal() {
        true => Ok(rpassword::prompt_password(format!("{label}: "))?),
        false => ask(label),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_read_in_any_case_and_only_where_they_belong() {
        assert_eq!(role_kind("SpaceDeveloper", true).unwrap(), "space_developer");
        assert_eq!(role_kind("orgmanager", false).unwrap(), "organization_manager");
        assert!(role_kind("SpaceDeveloper", false).is_err() && role_kind("King", true).is_err());
    }
}
