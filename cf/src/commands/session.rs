//! Who, where, and raw requests: api, login, auth, logout, target, oauth-token, curl.

use super::{ask, org, space};
use crate::{
    api::{Api, identity, query, text, tokens},
    cli::{ApiArgs, Auth, Curl, Login, Target},
    config::{Config, Named},
    problem::Problem,
    ui::{self, say},
};
use anyhow::{Context, bail};
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
};

const TRIES: u32 = 3;
/// With more orgs or spaces than this, one types a name instead of a number.
const MENU: usize = 50;

pub(super) async fn api(api: &mut Api, args: &ApiArgs) -> anyhow::Result<()> {
    if args.unset {
        say!("Unsetting API endpoint...");
        api.config.empty().save()?;
        ui::ok();
        return Ok(());
    }
    let Some(url) = &args.url else {
        let target = api.target()?.to_owned();
        ui::pairs(&[("API endpoint", target), ("API version", api.config.api_version.clone())]);
        return Ok(());
    };
    say!("Setting API endpoint to {}...", ui::name(&address(url)));
    discover(api, url, args.skip_ssl_validation).await?;
    ui::ok();
    say!();
    ui::pairs(&[("API endpoint", api.target()?.to_owned()), ("API version", api.config.api_version.clone())]);
    say!();
    say!("Not logged in. Use 'cf login' to log in.");
    Ok(())
}

pub(super) async fn login(api: &mut Api, args: &Login) -> anyhow::Result<()> {
    let skip = args.skip_ssl_validation || (args.api.is_none() && api.config.skip_ssl_validation);
    let url = match args.api.clone().or_else(|| api.config.target.clone()) {
        Some(url) => {
            say!("API endpoint: {}", ui::name(&address(&url)));
            url
        }
        None => ask("API endpoint")?,
    };
    discover(api, &url, skip).await?;
    say!();
    sign_in(api, args).await?;
    choose_org(api, args).await?;
    if api.config.org.is_some() {
        choose_space(api, args).await?;
    }
    api.config.save()?;
    show_target(api)
}

pub(super) async fn auth(api: &mut Api, args: &Auth) -> anyhow::Result<()> {
    say!("API endpoint: {}", api.target()?);
    say!();
    say!("Authenticating...");
    if args.client_credentials {
        let form = [("grant_type", "client_credentials"), ("client_id", &args.user), ("client_secret", &args.password)];
        let url = format!("{}/oauth/token", api.config.login);
        let answer = api.anonymous(|http| http.post(url).form(&form)).await?;
        let got = tokens(answer).await.map_err(|e| Problem::new(rejected(&e.detail)))?;
        api.config.forget_user();
        api.config.client = Some(args.user.clone());
        api.keep(got)?;
    } else {
        let fields = [("username".to_owned(), args.user.clone()), ("password".to_owned(), args.password.clone())];
        let got = password_grant(api, &fields, args.origin.as_deref()).await?.map_err(|why| Problem::new(rejected(&why)))?;
        api.config.forget_user();
        api.keep(got)?;
    }
    ui::ok();
    say!();
    say!("Use 'cf target' to view or set your target org and space.");
    Ok(())
}

pub(super) async fn logout(api: &mut Api) -> anyhow::Result<()> {
    let who = identity(&api.config.access_token);
    say!("Logging out{}...", who.as_ref().map(|who| format!(" {}", ui::name(&who.name))).unwrap_or_default());
    if let Some(token) = who.and_then(|who| who.token_id) {
        let url = format!("{}/oauth/token/revoke/{token}", api.config.login);
        // whatever the platform says, this machine forgets
        let _ = api.authorized(|http, url| http.delete(url), &url).await;
    }
    api.config.forget_user();
    api.config.save()?;
    ui::ok();
    Ok(())
}

pub(super) async fn target(api: &mut Api, args: &Target) -> anyhow::Result<()> {
    api.identity()?;
    // A wrong name must not leave a script where it was: what it does next would happen there.
    if args.org.is_some() {
        (api.config.org, api.config.space) = (None, None);
        api.config.save()?;
    } else if args.space.is_some() {
        api.config.space = None;
        api.config.save()?;
    }
    if let Some(name) = &args.org {
        let found = org(api, name).await?;
        api.config.org = Some(found.clone());
        if args.space.is_none() {
            let spaces = api.list(&query("/v3/spaces", &[("organization_guids", &found.guid), ("order_by", "name")])).await?;
            if let [only] = spaces.as_slice() {
                api.config.space = Some(named(only));
            }
        }
    }
    if let Some(name) = &args.space {
        let org = api.org()?;
        api.config.space = Some(space(api, &org, name).await?);
    }
    if args.org.is_some() || args.space.is_some() {
        api.config.save()?;
    }
    if args.format.json {
        ui::json(&json!({
            "api": api.config.target, "api_version": api.config.api_version, "user": api.identity()?.name,
            "org": api.config.org, "space": api.config.space,
        }));
        return Ok(());
    }
    show_target(api)
}

pub(super) async fn oauth_token(api: &mut Api) -> anyhow::Result<()> {
    api.identity()?;
    api.renew(false).await?;
    say!("bearer {}", api.config.access_token);
    Ok(())
}

pub(super) async fn curl(api: &mut Api, args: &Curl) -> anyhow::Result<ExitCode> {
    let data = match args.data.as_deref().map(|data| (data, data.strip_prefix('@'))) {
        None => None,
        Some((_, Some(file))) => Some(std::fs::read(file).with_context(|| format!("cannot read {file}"))?),
        Some((text, None)) => Some(text.as_bytes().to_vec()),
    };
    let method = match &args.method {
        Some(method) => {
            Method::from_bytes(method.to_uppercase().as_bytes()).with_context(|| format!("`{method}` is not a method"))?
        }
        None if data.is_some() => Method::POST,
        None => Method::GET,
    };
    let mut headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
    for header in &args.headers {
        let Some((name, value)) = header.split_once(':') else { bail!("`{header}` is not a header of the form `name: value`") };
        headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name.trim()));
        headers.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    let path =
        if args.path.starts_with('/') || args.path.contains("://") { args.path.clone() } else { format!("/{}", args.path) };
    if identity(&api.config.access_token).is_some() {
        api.renew(false).await?;
    }
    let token = api.config.access_token.clone();
    let url = if path.starts_with('/') { format!("{}{path}", api.target()?) } else { path };
    let own = url.starts_with(&format!("{}/", api.target()?));
    let answer = api
        .anonymous(|http| {
            let mut request = http.request(method, url);
            for (name, value) in headers {
                request = request.header(name, value);
            }
            if own && !token.is_empty() {
                request = request.header("Authorization", format!("bearer {token}"));
            }
            match data {
                Some(data) => request.body(data),
                None => request,
            }
        })
        .await?;
    let status = answer.status();
    if args.include {
        say!("HTTP/1.1 {status}");
        for (name, value) in answer.headers() {
            say!("{name}: {}", value.to_str().unwrap_or("(binary)"));
        }
        say!();
    }
    if args.fail && status.as_u16() >= 400 {
        eprintln!("The requested URL returned error: {}", status.as_u16());
        say!("{}", ui::red("FAILED"));
        return Ok(ExitCode::from(22));
    }
    let body = answer.bytes().await?;
    match &args.output {
        Some(path) => std::fs::write(path, &body).with_context(|| format!("cannot write {}", path.display()))?,
        None => {
            let mut out = std::io::stdout().lock();
            out.write_all(&body)?;
            if !body.ends_with(b"\n") {
                out.write_all(b"\n")?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// An address with a scheme and no slash at the end.
fn address(url: &str) -> String {
    let url = url.trim().trim_end_matches('/');
    if url.contains("://") { url.to_owned() } else { format!("https://{url}") }
}

/// Learns where everything is; nobody is logged in there afterwards.
async fn discover(api: &mut Api, url: &str, skip_ssl_validation: bool) -> anyhow::Result<()> {
    let target = address(url);
    if url::Url::parse(&target).is_ok_and(|url| url.scheme() == "http") {
        eprintln!("Warning: Insecure http API endpoint detected: secure https API endpoints are recommended");
    }
    let config = Config { target: Some(target.clone()), skip_ssl_validation, ..api.config.empty() };
    api.retarget(config)?;
    let root = api.get("/").await.with_context(|| format!("no API at {target}"))?;
    let link = |name: &str| text(&root, &format!("/links/{name}/href")).trim_end_matches('/').to_owned();
    if link("login").is_empty() || link("cloud_controller_v3").is_empty() {
        bail!(
            Problem::new(format!("{target} is not the API of a Cloud Foundry platform."))
                .tip("Its address usually begins with https://api.")
        );
    }
    api.config.api_version = text(&root, "/links/cloud_controller_v3/meta/version").to_owned();
    (api.config.login, api.config.uaa, api.config.log_cache) = (link("login"), link("uaa"), link("log_cache"));
    api.config.save()
}

async fn sign_in(api: &mut Api, args: &Login) -> anyhow::Result<()> {
    let url = format!("{}/login", api.config.login);
    let answer = api.anonymous(|http| http.get(url).header("Accept", "application/json")).await?;
    let login: Value = answer.json().await.context("the login server does not tell what it asks for")?;
    let label = |name: &str, fallback: &str| match text(&login, &format!("/prompts/{name}/1")) {
        "" => fallback.to_owned(),
        label => label.to_owned(),
    };
    let sso = args.sso || args.sso_passcode.is_some();
    let user = match &args.user {
        _ if sso => None,
        Some(user) => {
            say!("{}: {user}", label("username", "Email"));
            Some(user.clone())
        }
        None => Some(ask(&label("username", "Email"))?),
    };
    let (prompt, given) = match sso {
        true => (label("passcode", "One Time Code"), &args.sso_passcode),
        false => (label("password", "Password"), &args.password),
    };
    for left in (0..TRIES).rev() {
        let secret = match given {
            Some(secret) => secret.clone(),
            None if std::io::stdin().is_terminal() => rpassword::prompt_password(format!("{prompt}: "))?,
            None => ask(&prompt)?,
        };
        say!();
        say!("Authenticating...");
        let fields = match &user {
            Some(user) => vec![("username".to_owned(), user.clone()), ("password".to_owned(), secret)],
            None => vec![("passcode".to_owned(), secret)],
        };
        match password_grant(api, &fields, args.origin.as_deref()).await? {
            Ok(got) => {
                api.keep(got)?;
                ui::ok();
                say!();
                return Ok(());
            }
            Err(why) => {
                let locked = why.contains("locked");
                if left == 0 || locked || given.is_some() {
                    let tip = match (locked, sso) {
                        (true, _) => "Wait a few minutes, or ask an operator.",
                        (false, true) => "A passcode serves once and for five minutes: get another one.",
                        (false, false) => "Check user name and password; 'cf api' shows where you log in.",
                    };
                    bail!(Problem::new(format!("{}\n\nUnable to authenticate.", rejected(&why))).tip(tip));
                }
                eprintln!("{}", rejected(&why));
                say!();
            }
        }
    }
    Ok(())
}

type Tokens = (String, String);

/// `Err` holds why the platform does not let the user in.
async fn password_grant(api: &Api, fields: &[(String, String)], origin: Option<&str>) -> anyhow::Result<Result<Tokens, String>> {
    let mut url = format!("{}/oauth/token", api.config.login);
    if let Some(origin) = origin {
        let hint = json!({ "origin": origin }).to_string();
        url = query(&url, &[("login_hint", &hint)]);
    }
    let mut form = vec![("grant_type".to_owned(), "password".to_owned())];
    form.extend_from_slice(fields);
    let answer = api.anonymous(|http| http.post(url).basic_auth("cf", Some("")).form(&form)).await?;
    match tokens(answer).await {
        Ok(tokens) => Ok(Ok(tokens)),
        Err(e) if e.status == 401 => Ok(Err(e.detail)),
        Err(e) => Err(e.into()),
    }
}

fn rejected(why: &str) -> String {
    match why {
        "Bad credentials" => "Credentials were rejected, please try again.".to_owned(),
        other => other.to_owned(),
    }
}

async fn choose_org(api: &mut Api, args: &Login) -> anyhow::Result<()> {
    let chosen = match &args.org {
        Some(name) => Some(org(api, name).await?),
        None => {
            let orgs = api.list("/v3/organizations?order_by=name").await?;
            choose("org", &orgs)?
        }
    };
    if let Some(org) = &chosen {
        say!("Targeted org {}.", ui::name(&org.name));
        say!();
    }
    api.config.org = chosen;
    Ok(())
}

async fn choose_space(api: &mut Api, args: &Login) -> anyhow::Result<()> {
    let org = api.org()?;
    let chosen = match &args.space {
        Some(name) => Some(space(api, &org, name).await?),
        None => {
            let spaces = api.list(&query("/v3/spaces", &[("organization_guids", &org.guid), ("order_by", "name")])).await?;
            choose("space", &spaces)?
        }
    };
    if let Some(space) = &chosen {
        say!("Targeted space {}.", ui::name(&space.name));
        say!();
    }
    api.config.space = chosen;
    Ok(())
}

/// The only one, or the one that the user picks.
fn choose(what: &str, all: &[Value]) -> anyhow::Result<Option<Named>> {
    if let [only] = all {
        return Ok(Some(named(only)));
    }
    if all.is_empty() || !std::io::stdin().is_terminal() {
        return Ok(None);
    }
    if all.len() < MENU {
        say!("Select {} {what}:", if what == "org" { "an" } else { "a" });
        for (at, one) in all.iter().enumerate() {
            say!("{}. {}", at + 1, text(one, "/name"));
        }
    }
    loop {
        let answer = ask(&format!("\n{what} (enter to skip)"))?;
        if answer.is_empty() {
            return Ok(None);
        }
        let by_number = answer.parse::<usize>().ok().and_then(|number| all.get(number.wrapping_sub(1)));
        match by_number.or_else(|| all.iter().find(|one| text(one, "/name") == answer)) {
            Some(one) => return Ok(Some(named(one))),
            None => say!("There is no {what} `{answer}`."),
        }
    }
}

fn named(document: &Value) -> Named {
    Named { guid: text(document, "/guid").to_owned(), name: text(document, "/name").to_owned() }
}

fn show_target(api: &Api) -> anyhow::Result<()> {
    let who = api.identity()?;
    let mut rows =
        vec![("API endpoint", api.target()?.to_owned()), ("API version", api.config.api_version.clone()), ("user", who.name)];
    rows.extend(api.config.org.iter().map(|org| ("org", org.name.clone())));
    rows.extend(api.config.space.iter().map(|space| ("space", space.name.clone())));
    ui::pairs(&rows);
    match (&api.config.org, &api.config.space) {
        (None, _) => say!("No org or space targeted, use 'cf target -o ORG -s SPACE'"),
        (Some(_), None) => say!("No space targeted, use 'cf target -s SPACE'"),
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gets_a_scheme_and_loses_its_slash() {
        assert_eq!(address("api.cf.localhost"), "https://api.cf.localhost");
        assert_eq!(address("http://127.0.0.1:9002/ "), "http://127.0.0.1:9002");
    }

    #[test]
    fn the_only_one_is_chosen_without_asking() {
        let one = json!({ "guid": "g", "name": "n" });
        assert_eq!(choose("org", &[one]).unwrap().unwrap().name, "n");
        assert_eq!(choose("org", &[]).unwrap(), None);
    }
}
