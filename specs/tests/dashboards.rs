//! Somebody logs in to a service's dashboard with the platform's account, and to the command line client with a passcode.

#![expect(clippy::unwrap_used, reason = "a suite that cannot go on fails where it stands")]

use serde_json::json;
use specs::{Broker, Client, Platform, Reply, unique};
use std::path::PathBuf;

const CALLBACK: &str = "https://dashboard.example.com/callback";

/// A browser: `curl` with a file of cookies.
struct Browser<'a> {
    platform: &'a Platform,
    folder: tempfile::TempDir,
}

impl<'a> Browser<'a> {
    fn new(platform: &'a Platform) -> Self {
        Self { platform, folder: tempfile::tempdir().unwrap() }
    }

    fn cookies(&self) -> PathBuf {
        self.folder.path().join("cookies")
    }

    fn get(&self, path: &str) -> Reply {
        self.send(path, &[])
    }

    fn post(&self, path: &str, fields: &[(&str, &str)]) -> Reply {
        let fields: Vec<String> =
            fields.iter().flat_map(|(name, value)| ["--data-urlencode".into(), format!("{name}={value}")]).collect();
        self.send(path, &fields.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn send(&self, path: &str, arguments: &[&str]) -> Reply {
        let file = self.cookies();
        let file = file.to_str().unwrap();
        let common = ["--header", "Accept: text/html", "--cookie", file, "--cookie-jar", file];
        self.platform.own_name("login", path, &[&common, arguments].concat())
    }

    /// Fills in the login form; says where it leads.
    fn log_in(&self, at: &str, user: &str, password: &str) -> String {
        let form = self.get(at);
        let (token, next) = (field(&form, "token"), field(&form, "next"));
        let done = self.post("/login.do", &[("token", &token), ("next", &next), ("username", user), ("password", password)]);
        location(&done)
    }
}

#[track_caller]
fn location(reply: &Reply) -> String {
    reply.header("location").unwrap_or_else(|| panic!("{reply:?}")).to_owned()
}

/// The value of a hidden field.
#[track_caller]
fn field(page: &Reply, name: &str) -> String {
    let value = page.body.split_once(&format!("name=\"{name}\" value=\"")).unwrap_or_else(|| panic!("{name} in {page:?}")).1;
    value.split_once('"').unwrap().0.replace("&#38;", "&")
}

/// A developer of the space, and the password.
fn developer(cf: &Client) -> (String, &'static str) {
    let (name, password) = (unique("dora"), "a-long-password");
    cf.ok(&["create-user", &name, password]);
    cf.ok(&["set-space-role", &name, &cf.org, &cf.space, "SpaceDeveloper"]);
    (name, password)
}

#[test]
fn a_dashboard_learns_who_comes_and_what_they_may_do() {
    let Some(platform) = Platform::shared() else { return };
    let cf = platform.cf();
    let broker = Broker::new(platform, &cf);
    let (id, secret) = (unique("dashboard"), "a-secret-of-the-dashboard");
    let mut catalog = platform.request(&broker.name, "/v2/catalog", &["--user", "user:password"]).json();
    catalog["services"][0]["dashboard_client"] = json!({ "id": id, "secret": secret, "redirect_uri": CALLBACK });
    broker.tell("/catalog", &catalog);
    broker.register();
    let instance = unique("db");
    cf.ok(&["create-service", &broker.offering, "now", &instance, "--wait"]);
    let guid = cf.ok(&["service", &instance, "--guid"]).stdout.trim().to_owned();
    let (user, password) = developer(&cf);

    let browser = Browser::new(platform);
    let request = format!("/oauth/authorize?response_type=code&client_id={id}&redirect_uri={CALLBACK}&state=s");
    let to_login = location(&browser.get(&request));
    let back = browser.log_in(&to_login, &user, password);
    let asked = browser.get(&back);
    assert!(asked.body.contains(&format!("Dashboard of {}", broker.offering)), "{asked:?}");
    let (token, query) = (field(&asked, "token"), field(&asked, "request"));
    let done = location(&browser.post("/oauth/authorize", &[("token", &token), ("request", &query), ("answer", "allow")]));
    let code = done.strip_prefix(&format!("{CALLBACK}?code=")).unwrap_or_else(|| panic!("{done}"));
    let code = code.strip_suffix("&state=s").unwrap_or_else(|| panic!("{done}"));

    let form = format!("grant_type=authorization_code&code={code}&redirect_uri={CALLBACK}");
    let user_info = format!("{id}:{secret}");
    let redeem = || platform.own_name("login", "/oauth/token", &["--user", &user_info, "--data", &form]);
    let tokens = redeem().json();
    let bearer = format!("Authorization: bearer {}", tokens["access_token"].as_str().unwrap());
    let ask = |path: &str| platform.own_name("api", path, &["--header", &bearer]);
    let permissions = format!("/v3/service_instances/{guid}/permissions");
    assert_eq!(ask(&permissions).json(), json!({ "manage": true, "read": true }));
    assert_eq!(ask("/v3/apps").status, 403, "its token does nothing else");
    assert_eq!(platform.own_name("login", "/userinfo", &["--header", &bearer]).json()["user_name"], user.as_str());

    // The user loses the role: the dashboard learns it at the next visit. And a code that comes back ends its tokens at UAA.
    cf.ok(&["unset-space-role", &user, &cf.org, &cf.space, "SpaceDeveloper"]);
    assert_eq!(ask(&permissions).json(), json!({ "manage": false, "read": false }));
    assert_eq!(redeem().status, 400);
    assert_eq!(platform.own_name("login", "/userinfo", &["--header", &bearer]).status, 401);

    cf.ok(&["delete-service", "-f", &instance, "--wait"]);
    broker.gone();
    assert_eq!(browser.get(&request).status, 400, "the client went with its broker");
}

#[test]
fn a_passcode_of_the_browser_logs_the_command_line_client_in() {
    let Some(platform) = Platform::shared() else { return };
    for cf in [Some(platform.cf()), platform.official()].into_iter().flatten() {
        let (user, password) = developer(&cf);
        let browser = Browser::new(platform);
        assert_eq!(browser.log_in("/login?next=/passcode", &user, password), "/passcode");
        let page = browser.get("/passcode");
        let passcode = page.body.split_once("<p class=\"passcode\"><code>").unwrap_or_else(|| panic!("{page:?}")).1;
        let passcode = passcode.split_once('<').unwrap().0;
        let login = ["login", "--sso-passcode", passcode, "-o", &cf.org, "-s", &cf.space];
        cf.ok(&login);
        cf.ok(&["target"]).says(&user).says(&cf.space);
        cf.fails(&login);
    }
}
