//! Values of a manifest into checked descriptions of apps.

mod processes;

pub use processes::{ProcessManifest, is_process_type};

use super::Refused;
use crate::domain::{
    environment::{self, VarsChange},
    name_problem,
    process::given_command,
};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// One app of a manifest. What is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AppManifest {
    /// Its name.
    pub name: String,
    /// `buildpack`, `docker` or `cnb`, if stated or implied.
    pub lifecycle: Option<String>,
    /// Names or URLs; empty: the platform chooses again.
    pub buildpacks: Option<Vec<String>>,
    /// Its stack.
    pub stack: Option<String>,
    /// Changes of its variables.
    pub env: Option<VarsChange>,
    /// Features to switch.
    pub features: BTreeMap<String, bool>,
    /// Labels and annotations as the API takes them.
    pub metadata: Option<Value>,
    /// Routes to have.
    pub routes: Vec<RouteManifest>,
    /// No routes at all.
    pub no_route: bool,
    /// A route of chance, if there is none.
    pub random_route: bool,
    /// A route of the app's own name, if there is none.
    pub default_route: bool,
    /// Service instances to bind.
    pub services: Vec<ServiceManifest>,
    /// Its processes; settings at the top of the app stand in the one of type `web`.
    pub processes: Vec<ProcessManifest>,
}

/// One route of a manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteManifest {
    /// `host.domain/path`, without scheme.
    pub route: String,
    /// `http1`, `http2` or `tcp`, if stated.
    pub protocol: Option<String>,
    /// Options as the routes API takes them, if stated.
    pub options: Option<Value>,
}

/// One service instance of a manifest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceManifest {
    /// The instance's name.
    pub name: String,
    /// The binding's name, if stated.
    pub binding_name: Option<String>,
    /// For the broker, if stated.
    pub parameters: Option<Map<String, Value>>,
}

/// Whether a key of an app has a meaning.
pub fn is_app_key(key: &str) -> bool {
    APP_KEYS.contains(&key) || processes::PROCESS_KEYS.contains(&key)
}

/// Keys of an app besides those of its process `web`.
const APP_KEYS: &[&str] = &[
    "name",
    "buildpack",
    "buildpacks",
    "stack",
    "docker",
    "lifecycle",
    "cnb-credentials",
    "env",
    "features",
    "metadata",
    "routes",
    "no-route",
    "random-route",
    "default-route",
    "services",
    "processes",
    "sidecars",
];

/// Checks all apps of a manifest.
///
/// # Errors
/// [`Refused::Invalid`] with every broken rule, each under the name or the index of its app.
pub fn check(apps: &[Map<String, Value>]) -> Result<Vec<AppManifest>, Refused> {
    let mut problems = vec![];
    let mut checked = vec![];
    for (index, values) in apps.iter().enumerate() {
        let mut found = vec![];
        let app = read_app(values, &mut found);
        let lead = match app.name.is_empty() {
            true => format!("For application at index {index}: "),
            false => format!("For application '{}': ", app.name),
        };
        problems.extend(found.into_iter().map(|problem| format!("{lead}{problem}")));
        checked.push(app);
    }
    if problems.is_empty() { Ok(checked) } else { Err(Refused::Invalid(problems)) }
}

type Problems = Vec<String>;

fn read_app(values: &Map<String, Value>, problems: &mut Problems) -> AppManifest {
    let mut app = AppManifest {
        name: read_name(values.get("name"), problems),
        stack: read_text(values, "stack", "Stack", 4096, problems),
        no_route: read_flag(values, "no-route", "No-route", problems),
        random_route: read_flag(values, "random-route", "Random-route", problems),
        default_route: read_flag(values, "default-route", "Default-route", problems),
        ..AppManifest::default()
    };
    app.buildpacks = read_buildpacks(values, problems);
    app.lifecycle = read_lifecycle(values, problems);
    app.env = values.get("env").filter(|env| !env.is_null()).and_then(|env| match environment::read_manifest(env) {
        Ok(change) => Some(change),
        Err(found) => {
            problems.extend(found);
            None
        }
    });
    app.features = read_features(values.get("features"), problems);
    app.metadata = read_metadata(values.get("metadata"), problems);
    app.routes = read_routes(values.get("routes"), problems);
    app.services = read_services(values.get("services"), problems);
    read_sidecars(values.get("sidecars"), problems);
    if app.random_route && app.default_route {
        problems.push("Random-route and default-route may not be used together".into());
    }
    app.processes = processes::read(values, problems);
    app
}

fn read_name(value: Option<&Value>, problems: &mut Problems) -> String {
    let name = match value {
        None | Some(Value::Null) => {
            problems.push("Name must not be empty".into());
            return String::new();
        }
        Some(Value::String(name)) => name.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(_) => {
            problems.push("Name must be a string".into());
            return String::new();
        }
    };
    if name.trim().is_empty() {
        problems.push("Name must not be empty".into());
    } else if name.chars().count() > 255 {
        problems.push("Name is too long (maximum is 255 characters)".into());
    } else if let Some(problem) = name_problem(&name) {
        problems.push(format!("Name {problem}"));
    }
    name
}

fn read_text(values: &Map<String, Value>, key: &str, label: &str, most: usize, problems: &mut Problems) -> Option<String> {
    match values.get(key)? {
        Value::Null => None,
        Value::String(text) if text.is_empty() || text.chars().count() > most => {
            problems.push(format!("{label} must be between 1 and {most} characters"));
            None
        }
        Value::String(text) => Some(text.clone()),
        _ => {
            problems.push(format!("{label} must be a string"));
            None
        }
    }
}

fn read_flag(values: &Map<String, Value>, key: &str, label: &str, problems: &mut Problems) -> bool {
    match values.get(key) {
        None | Some(Value::Null) => false,
        Some(Value::Bool(flag)) => *flag,
        Some(_) => {
            problems.push(format!("{label} must be a boolean"));
            false
        }
    }
}

fn read_buildpacks(values: &Map<String, Value>, problems: &mut Problems) -> Option<Vec<String>> {
    if values.contains_key("buildpack") && values.contains_key("buildpacks") {
        problems.push("Buildpack and Buildpacks fields cannot be used together.".into());
        return None;
    }
    let found = match (values.get("buildpack"), values.get("buildpacks")) {
        (Some(Value::Null), _) => vec![],
        (Some(Value::String(one)), _) => match given_command(Some(one)) {
            Some(one) => vec![one],
            None => vec![],
        },
        (Some(_), _) => {
            problems.push("Buildpack must be a string".into());
            return None;
        }
        (None, Some(Value::Array(many))) => {
            let texts: Option<Vec<String>> = many.iter().map(|one| one.as_str().map(str::to_owned)).collect();
            match texts {
                Some(texts) if texts.len() == 1 && matches!(texts[0].as_str(), "default" | "null") => vec![],
                Some(texts) => texts,
                None => {
                    problems.push("Buildpacks can only contain strings".into());
                    return None;
                }
            }
        }
        (None, Some(Value::Null)) => vec![],
        (None, Some(_)) => {
            problems.push("Buildpacks must be an array".into());
            return None;
        }
        (None, None) => return None,
    };
    if found.iter().any(|name| name.is_empty() || name.chars().count() > 4096) {
        problems.push("Buildpacks entries must be between 1 and 4096 characters".into());
    }
    Some(found)
}

fn read_lifecycle(values: &Map<String, Value>, problems: &mut Problems) -> Option<String> {
    let stated = match values.get("lifecycle") {
        None | Some(Value::Null) => None,
        Some(Value::String(kind)) if matches!(kind.as_str(), "buildpack" | "docker" | "cnb") => Some(kind.clone()),
        Some(_) => {
            problems.push("Lifecycle type must be buildpack, docker or cnb".into());
            None
        }
    };
    let has_buildpacks = values.contains_key("buildpack") || values.contains_key("buildpacks");
    if !values.contains_key("docker") {
        return stated;
    }
    if has_buildpacks {
        problems.push("Cannot specify both buildpack(s) and docker keys".into());
    }
    match values.get("docker").and_then(|docker| docker.get("image")) {
        Some(Value::String(image)) if !image.is_empty() => {}
        _ => problems.push("Docker image required".into()),
    }
    Some("docker".into())
}

fn read_features(value: Option<&Value>, problems: &mut Problems) -> BTreeMap<String, bool> {
    let mut features = BTreeMap::new();
    match value {
        None | Some(Value::Null) => {}
        Some(Value::Object(found)) => {
            for (name, on) in found {
                match on {
                    Value::Bool(on) => drop(features.insert(name.clone(), *on)),
                    _ => problems.push(format!("Features '{name}' must be a boolean")),
                }
            }
        }
        Some(_) => {
            problems.push("Features must be a map of valid feature names to booleans (true = enabled, false = disabled)".into())
        }
    }
    features
}

fn read_metadata(value: Option<&Value>, problems: &mut Problems) -> Option<Value> {
    let metadata = match value? {
        Value::Null => return None,
        Value::Object(metadata) => metadata,
        _ => {
            problems.push("Metadata must be an object".into());
            return None;
        }
    };
    // Values without quotes arrive as numbers and booleans; the API wants text.
    let mut texts = metadata.clone();
    for part in ["labels", "annotations"] {
        if let Some(Value::Object(entries)) = texts.get_mut(part) {
            for value in entries.values_mut().filter(|value| value.is_number() || value.is_boolean()) {
                *value = Value::String(environment::shown(value));
            }
        }
    }
    Some(Value::Object(texts))
}

fn read_routes(value: Option<&Value>, problems: &mut Problems) -> Vec<RouteManifest> {
    let list = match value {
        None | Some(Value::Null) => return vec![],
        Some(Value::Array(list)) => list,
        Some(_) => {
            problems.push("Routes must be a list of route objects".into());
            return vec![];
        }
    };
    let mut routes = vec![];
    for entry in list {
        let Some(route) = entry.get("route").and_then(Value::as_str) else {
            problems.push("Routes must be a list of route objects".into());
            continue;
        };
        let bare = route.split_once("://").map_or(route, |(_, rest)| rest);
        if !is_route(bare) {
            problems.push(format!("The route '{route}' is not a properly formed URL"));
            continue;
        }
        let protocol = match entry.get("protocol") {
            None | Some(Value::Null) => None,
            Some(Value::String(protocol)) if matches!(protocol.as_str(), "http1" | "http2" | "tcp") => Some(protocol.clone()),
            Some(_) => {
                problems.push(format!("Route protocol must be 'http1', 'http2' or 'tcp' for route '{route}'"));
                None
            }
        };
        let options = entry.get("options").filter(|options| !options.is_null()).cloned();
        if options.as_ref().is_some_and(|options| !options.is_object()) {
            problems.push(format!("Route options must be an object for route '{route}'"));
        }
        routes.push(RouteManifest { route: bare.to_owned(), protocol, options });
    }
    routes
}

fn is_route(text: &str) -> bool {
    let (host, path) = text.split_once('/').map_or((text, ""), |(host, path)| (host, path));
    let (name, port) = host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port)));
    let label = |label: &str| {
        label == "*"
            || !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    name.contains('.')
        && name.len() <= 253
        && name.split('.').all(label)
        && port.is_none_or(|port| port.parse::<u16>().is_ok())
        && path.len() <= 128
        && !path.chars().any(|c| c.is_whitespace() || c.is_control() || c == '?' || c == '#')
}

fn read_services(value: Option<&Value>, problems: &mut Problems) -> Vec<ServiceManifest> {
    let list = match value {
        None | Some(Value::Null) => return vec![],
        Some(Value::Array(list)) => list,
        Some(_) => {
            problems.push("Services must be a list of service instances".into());
            return vec![];
        }
    };
    let mut services: Vec<ServiceManifest> = vec![];
    for entry in list {
        let Some(name) = entry.as_str().or_else(|| entry.get("name").and_then(Value::as_str)).filter(|name| !name.is_empty())
        else {
            problems.push("Services must be a list of names or of objects with a name".into());
            continue;
        };
        let mut service = ServiceManifest { name: name.to_owned(), ..ServiceManifest::default() };
        let known = ["name", "binding_name", "parameters"];
        let unknown: Vec<String> = entry
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(key, _)| !known.contains(&key.as_str()))
            .map(|(key, _)| format!("'{key}'"))
            .collect();
        if !unknown.is_empty() {
            problems.push(format!("Service '{name}': Unknown field(s): {}", unknown.join(", ")));
        }
        let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        match entry.get("binding_name") {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) if (1..=255).contains(&text.len()) && text.bytes().all(word) => {
                service.binding_name = Some(text.clone());
            }
            Some(_) => {
                problems.push(format!("Service '{name}': Binding name must be 1 to 255 alphanumeric characters, '-' or '_'"))
            }
        }
        match entry.get("parameters") {
            None | Some(Value::Null) => {}
            Some(Value::Object(parameters)) => service.parameters = Some(parameters.clone()),
            Some(_) => problems.push(format!("Service '{name}': Parameters must be an object")),
        }
        if services.iter().any(|other| other.name == service.name) {
            problems.push(format!("Service '{name}' may only be present once"));
        }
        services.push(service);
    }
    services
}

fn read_sidecars(value: Option<&Value>, problems: &mut Problems) {
    match value {
        None | Some(Value::Null) => {}
        Some(Value::Array(list)) if list.is_empty() => {}
        Some(Value::Array(_)) => problems.push("Sidecars are not available on this platform".into()),
        Some(_) => problems.push("Sidecars must be an array".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{manifest::parse::parse, process::ScaleChange};

    fn read(yaml: &str) -> Result<Vec<AppManifest>, Vec<String>> {
        match parse(yaml.as_bytes()).and_then(|apps| check(&apps)) {
            Ok(apps) => Ok(apps),
            Err(Refused::Invalid(problems)) => Err(problems),
            Err(other) => panic!("{other:?}"),
        }
    }
    fn app(lines: &str) -> Result<AppManifest, Vec<String>> {
        read(&format!("applications:\n- name: dora\n{lines}")).map(|mut apps| apps.remove(0))
    }

    #[test]
    fn settings_at_the_top_speak_of_the_web_process() {
        let app = app("  memory: 256M\n  disk-quota: 1G\n  instances: 2\n  command: ./run\n  timeout: 90\n  health-check-type: http\n  health-check-http-endpoint: /up\n").unwrap();
        let web = &app.processes[0];
        assert_eq!(web.kind, "web");
        assert_eq!(web.scale, ScaleChange { instances: Some(2), memory_mb: Some(256), disk_mb: Some(1024), log_rate: None });
        assert_eq!((web.command.clone(), web.health.timeout_s), (Some(Some("./run".into())), Some(Some(90))));
        assert_eq!(web.health.endpoint, Some(Some("/up".into())));
    }

    #[test]
    fn a_web_entry_among_the_processes_hides_the_top() {
        let app = app("  memory: 1G\n  processes:\n  - type: web\n    disk_quota: 512M\n  - type: worker\n    memory: 64M\n    health-check-type: none\n").unwrap();
        assert_eq!(app.processes.len(), 2);
        assert_eq!(app.processes[0].scale.memory_mb, None);
        assert_eq!(app.processes[0].scale.disk_mb, Some(512));
        assert_eq!(app.processes[1].health.kind.as_deref(), Some("process"));
    }

    #[test]
    fn buildpacks_read_in_every_spelling() {
        for (lines, expected) in [
            ("  buildpack: ruby_buildpack\n", Some(vec!["ruby_buildpack".to_owned()])),
            ("  buildpack: default\n", Some(vec![])),
            ("  buildpack:\n", Some(vec![])),
            ("  buildpacks: []\n", Some(vec![])),
            ("  buildpacks: [a, 'https://x/y.git#v1']\n", Some(vec!["a".to_owned(), "https://x/y.git#v1".to_owned()])),
            ("", None),
        ] {
            assert_eq!(app(lines).unwrap().buildpacks, expected, "{lines}");
        }
    }

    #[test]
    fn every_broken_rule_is_said_with_its_app() {
        let table = [
            ("  memory: 12\n", r#"Process "web": Memory must use a supported unit: B, K, KB, M, MB, G, GB, T, or TB"#),
            ("  memory: huge\n", r#"Process "web": Memory is not a number"#),
            ("  memory: 0M\n", r#"Process "web": Memory must be greater than 0MB"#),
            ("  instances: -1\n", r#"Process "web": Instances must be greater than or equal to 0"#),
            ("  instances: two\n", r#"Process "web": Instances is not a number"#),
            ("  command: ''\n", r#"Process "web": Command must be between 1 and 4096 characters"#),
            ("  health-check-type: tcp\n", r#"Process "web": Health check type must be "port", "process", or "http""#),
            ("  timeout: 500\n", r#"Process "web": Health check timeout Maximum exceeded: max 180s"#),
            (
                "  log-rate-limit-per-second: 5\n",
                r#"Process "web": Log rate limit per second must use a supported unit: B, K, KB, M, MB, G, GB, T, or TB"#,
            ),
            ("  user: root\n", r#"Process "web": User invalid (requested user 'root' not allowed, permitted users are: 'vcap')"#),
            ("  buildpack: a\n  buildpacks: [b]\n", "Buildpack and Buildpacks fields cannot be used together."),
            ("  buildpack: a\n  docker: {image: x}\n", "Cannot specify both buildpack(s) and docker keys"),
            ("  random-route: true\n  default-route: true\n", "Random-route and default-route may not be used together"),
            ("  no-route: maybe\n", "No-route must be a boolean"),
            ("  processes: [{type: a}, {type: a}]\n", r#"Process "a" may only be present once"#),
            ("  processes: [{memory: 1G}]\n", "All Processes must specify a type"),
            ("  processes: [{type: ../x}]\n", r#"Process "../x": Type must be 1 to 255 of letters, digits, '-', '_' and '.'"#),
            ("  routes: [{route: 'no spaces here.com'}]\n", "The route 'no spaces here.com' is not a properly formed URL"),
            ("  routes: [dora.example.com]\n", "Routes must be a list of route objects"),
            ("  env: [A]\n", "Env must be an object of keys and values"),
            ("  env: {VCAP_X: 1}\n", "Env cannot start with VCAP_"),
            ("  sidecars: [{name: s}]\n", "Sidecars are not available on this platform"),
            ("  metadata: x\n", "Metadata must be an object"),
            ("  stack: ''\n", "Stack must be between 1 and 4096 characters"),
        ];
        for (lines, text) in table {
            assert_eq!(app(lines), Err(vec![format!("For application 'dora': {text}")]), "{lines}");
        }
    }

    #[test]
    fn apps_without_a_name_are_told_by_their_place() {
        let problems = read("applications:\n- name: a\n  memory: x\n- instances: 1\n").unwrap_err();
        assert_eq!(
            problems,
            [
                r#"For application 'a': Process "web": Memory is not a number"#,
                "For application at index 1: Name must not be empty"
            ]
        );
    }

    #[test]
    fn what_the_official_client_sends_is_understood() {
        // A generated manifest of `cf push dora -m 64M -i 2 -b binary_buildpack -c ./dora -t 30`, client 8.18.4.
        let apps = read("applications:\n- name: dora\n  buildpacks:\n  - binary_buildpack\n  command: ./dora\n  default-route: true\n  instances: 2\n  memory: 64M\n  path: /home/me/dora\n  timeout: 30\n  log-rate-limit-per-second: '-1'\n").unwrap();
        let app = &apps[0];
        assert!(app.default_route && !app.no_route);
        assert_eq!(app.processes[0].scale.log_rate, Some(-1));
    }

    #[test]
    fn b21_a_command_with_newlines_and_a_route_with_a_scheme_are_data() {
        let app =
            app("  command: \"a\\nb; rm -rf /\"\n  routes:\n  - route: https://x.example.com/p\n    protocol: http2\n").unwrap();
        assert_eq!(app.processes[0].command, Some(Some("a\nb; rm -rf /".into())));
        assert_eq!(
            app.routes,
            [RouteManifest { route: "x.example.com/p".into(), protocol: Some("http2".into()), options: None }]
        );
    }

    #[test]
    fn labels_without_quotes_become_text() {
        let app = app("  metadata:\n    labels: {tier: 1, live: true, gone: null}\n").unwrap();
        assert_eq!(app.metadata.unwrap(), serde_json::json!({"labels": {"tier": "1", "live": "true", "gone": null}}));
    }
}
