//! What to push: the manifest with its variables, and the flags, which win.

use crate::{cli::Push, problem::Problem};
use anyhow::{Context, bail};
use serde_json::{Map, Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

/// Names that a manifest has when nobody says otherwise.
const NAMES: [&str; 2] = ["manifest.yml", "manifest.yaml"];

/// All that is pushed at once.
#[derive(Debug)]
pub(super) struct Manifest {
    /// Where it was read; none for one made of flags alone.
    pub(super) file: Option<PathBuf>,
    pub(super) apps: Vec<ManifestApp>,
    version: Option<Value>,
}

/// One app of it.
#[derive(Debug)]
pub(super) struct ManifestApp {
    pub(super) name: String,
    /// Folder or zip file.
    pub(super) path: PathBuf,
    fields: Map<String, Value>,
}

impl Manifest {
    /// As the platform gets it.
    pub(super) fn document(&self) -> Value {
        let apps: Vec<&Map<String, Value>> = self.apps.iter().map(|app| &app.fields).collect();
        let mut document = json!({ "applications": apps });
        if let Some(version) = &self.version {
            document["version"] = version.clone();
        }
        document
    }
    /// As text: JSON is YAML.
    pub(super) fn body(&self) -> String {
        self.document().to_string()
    }
}

/// Reads the manifest and applies the flags.
pub(super) fn load(args: &Push, folder: &Path) -> anyhow::Result<Manifest> {
    let file = file(args, folder)?;
    let mut manifest = match &file {
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the manifest {}", path.display()))?;
            read(&text, path, &variables(args)?)?
        }
        None => Manifest { file: None, apps: vec![], version: None },
    };
    choose(&mut manifest, args)?;
    let from = file.as_deref().and_then(Path::parent).unwrap_or(folder).to_owned();
    for app in &mut manifest.apps {
        apply_flags(&mut app.fields, args)?;
        let named = app.fields.get("path").and_then(Value::as_str).map(|path| from.join(path));
        app.path = match (&args.path, named) {
            (Some(path), _) => folder.join(path),
            (None, Some(path)) => path,
            // As the official client does: a manifest may lie elsewhere, what is pushed is here.
            (None, None) => folder.to_owned(),
        };
    }
    Ok(manifest)
}

fn file(args: &Push, folder: &Path) -> anyhow::Result<Option<PathBuf>> {
    if args.no_manifest {
        return Ok(None);
    }
    let (asked, at) = match &args.manifest {
        Some(path) => (true, folder.join(path)),
        None => (false, folder.to_owned()),
    };
    if at.is_file() {
        return Ok(Some(at));
    }
    let found = NAMES.iter().map(|name| at.join(name)).find(|path| path.is_file());
    if asked && found.is_none() {
        bail!(
            Problem::new(format!("There is no manifest {}.", at.display()))
                .tip("Name the file with -f, or leave -f out to push without one.")
        );
    }
    Ok(found)
}

fn variables(args: &Push) -> anyhow::Result<BTreeMap<String, Value>> {
    let mut all = BTreeMap::new();
    for path in &args.vars_files {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the variables {}", path.display()))?;
        let values: Option<BTreeMap<String, Value>> = serde_saphyr::from_str(&text)
            .map_err(|e| Problem::new(format!("{} is not a list of variables: {e}", path.display())))?;
        all.extend(values.unwrap_or_default());
    }
    for pair in &args.vars {
        let Some((key, value)) = pair.split_once('=') else {
            bail!(Problem::new(format!("`{pair}` is not a variable.")).tip("Variables are given as --var key=value."));
        };
        let value = serde_saphyr::from_str::<Value>(value)
            .ok()
            .filter(|value| !value.is_object() && !value.is_array() && !value.is_null());
        let plain = || Value::from(pair.split_once('=').map(|(_, value)| value).unwrap_or_default());
        all.insert(key.to_owned(), value.unwrap_or_else(plain));
    }
    Ok(all)
}

/// Reads a manifest; messages name the file and the line.
fn read(text: &str, path: &Path, variables: &BTreeMap<String, Value>) -> anyhow::Result<Manifest> {
    let broken = |why: String| Problem::new(format!("The manifest {} is not valid: {why}", path.display()));
    let document: Option<Value> = serde_saphyr::from_str(text).map_err(|e| {
        broken(e.to_string()).tip("Look at the line named above: indentation is spaces, and `key: value` needs the space.")
    })?;
    let mut document = document.unwrap_or_default();
    let mut missing = BTreeSet::new();
    substitute(&mut document, variables, &mut missing);
    if !missing.is_empty() {
        let names: Vec<String> = missing.into_iter().collect();
        bail!(
            Problem::new(format!("Expected to find variables: {}", names.join(", ")))
                .tip(format!("Give each with --var {}=value, or all in a file with --vars-file.", names[0]))
        );
    }
    let Some(Value::Array(apps)) = document.get_mut("applications").map(Value::take) else {
        bail!(broken("it has no list `applications`".into()));
    };
    let mut known = BTreeSet::new();
    let mut read = vec![];
    for (at, app) in apps.into_iter().enumerate() {
        let Value::Object(fields) = app else { bail!(broken(format!("entry {} of `applications` is not a map", at + 1))) };
        let name = match fields.get("name") {
            Some(Value::String(name)) if !name.is_empty() => name.clone(),
            Some(Value::Number(number)) => number.to_string(),
            None => String::new(),
            Some(_) => bail!(broken(format!("the name of entry {} of `applications` is not a text", at + 1))),
        };
        if !name.is_empty() && !known.insert(name.clone()) {
            bail!(broken(format!("app `{name}` is there twice")));
        }
        read.push(ManifestApp { name, path: PathBuf::new(), fields });
    }
    if read.is_empty() {
        bail!(broken("`applications` is empty".into()));
    }
    Ok(Manifest { file: Some(path.to_owned()), apps: read, version: document.get("version").cloned() })
}

/// Puts values where `((name))` stands; a text that is nothing else takes the value's kind too.
fn substitute(value: &mut Value, variables: &BTreeMap<String, Value>, missing: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(|value| substitute(value, variables, missing)),
        Value::Array(values) => values.iter_mut().for_each(|value| substitute(value, variables, missing)),
        Value::String(text) if text.contains("((") => {
            if let Some(name) = text.strip_prefix("((").and_then(|rest| rest.strip_suffix("))")).filter(|name| is_name(name)) {
                match variables.get(name) {
                    Some(found) => *value = found.clone(),
                    None => {
                        missing.insert(name.to_owned());
                    }
                }
            } else {
                *text = substituted(text, variables, missing);
            }
        }
        _ => {}
    }
}

fn substituted(text: &str, variables: &BTreeMap<String, Value>, missing: &mut BTreeSet<String>) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(start) = rest.find("((") {
        let (before, after) = (&rest[..start], &rest[start + 2..]);
        out.push_str(before);
        match after.find("))").map(|end| (&after[..end], &after[end + 2..])).filter(|(name, _)| is_name(name)) {
            Some((name, behind)) => {
                match variables.get(name) {
                    Some(Value::String(value)) => out.push_str(value),
                    Some(other) => out.push_str(&other.to_string()),
                    None => {
                        missing.insert(name.to_owned());
                    }
                }
                rest = behind;
            }
            None => {
                out.push_str("((");
                rest = after;
            }
        }
    }
    out + rest
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/'))
}

/// Leaves the apps that are meant, each with a name.
fn choose(manifest: &mut Manifest, args: &Push) -> anyhow::Result<()> {
    match (&args.app, manifest.apps.len()) {
        (Some(name), 0) => manifest.apps.push(ManifestApp { name: name.clone(), path: PathBuf::new(), fields: Map::new() }),
        (None, 0) => bail!(
            Problem::new("Incorrect Usage: The push command requires an app name. The app name can be supplied as an argument or with a manifest.yml file.")
                .tip("cf push APP_NAME")
        ),
        // one app takes the name that was given, so that one manifest can serve several names
        (Some(name), 1) => manifest.apps[0].name.clone_from(name),
        (Some(name), _) => {
            manifest.apps.retain(|app| app.name == *name);
            if manifest.apps.is_empty() {
                bail!(Problem::new(format!("Could not find app named '{name}' in manifest")));
            }
        }
        (None, _) => {}
    }
    if let Some(at) = manifest.apps.iter().position(|app| app.name.is_empty()) {
        bail!(Problem::new(format!("Entry {} of `applications` has no name.", at + 1)).tip("Add `name:` to it."));
    }
    if manifest.apps.len() > 1 && has_flags(args) {
        bail!(
            Problem::new("Incorrect Usage: Command line flags (except -f/--no-start/--no-wait/--var/--vars-file) cannot be applied when pushing multiple apps from a manifest file.")
                .tip("Put the values into the manifest, or name one app: cf push APP_NAME")
        );
    }
    for app in &mut manifest.apps {
        app.fields.insert("name".into(), json!(app.name));
    }
    Ok(())
}

fn has_flags(args: &Push) -> bool {
    let texts = [&args.command, &args.memory, &args.disk, &args.log_rate, &args.stack, &args.endpoint];
    texts.iter().any(|text| text.is_some())
        || !args.buildpacks.is_empty()
        || args.path.is_some()
        || args.instances.is_some()
        || args.health_check.is_some()
        || args.timeout.is_some()
        || args.no_route
        || args.random_route
}

fn apply_flags(fields: &mut Map<String, Value>, args: &Push) -> anyhow::Result<()> {
    for (old, new) in [("disk_quota", "disk-quota")] {
        if let Some(value) = fields.remove(old) {
            fields.entry(new).or_insert(value);
        }
    }
    if !args.buildpacks.is_empty() {
        let detect = matches!(args.buildpacks.as_slice(), [one] if one == "null" || one == "default");
        fields.insert("buildpacks".into(), if detect { json!([]) } else { json!(args.buildpacks) });
        fields.remove("buildpack");
    }
    if let Some(stack) = &args.stack {
        fields.insert("stack".into(), json!(stack));
    }
    if args.no_route {
        fields.insert("no-route".into(), json!(true));
        fields.remove("routes");
        fields.remove("random-route");
    }
    if args.random_route {
        fields.insert("random-route".into(), json!(true));
    }
    let set = |key: &str| fields.get(key).is_some_and(|value| value == true);
    if !set("no-route") && !set("random-route") {
        fields.insert("default-route".into(), json!(true));
    }
    let mut values: Vec<(&str, Value)> = vec![];
    if let Some(command) = &args.command {
        values.push(("command", if command == "null" || command == "default" { Value::Null } else { json!(command) }));
    }
    for (key, size) in [("memory", &args.memory), ("disk-quota", &args.disk)] {
        if let Some(size) = size {
            if crate::ui::megabytes(size).is_none_or(|megabytes| megabytes == 0) {
                bail!(Problem::new(format!("`{size}` is not a size.")).tip("Sizes are written 256M or 1G."));
            }
            let unit = if size.bytes().all(|b| b.is_ascii_digit()) { "M" } else { "" };
            values.push((key, json!(format!("{size}{unit}"))));
        }
    }
    values.extend(args.log_rate.iter().map(|rate| ("log-rate-limit-per-second", json!(rate))));
    values.extend(args.instances.map(|instances| ("instances", json!(instances))));
    values.extend(args.timeout.map(|timeout| ("timeout", json!(timeout))));
    values.extend(args.endpoint.iter().map(|endpoint| ("health-check-http-endpoint", json!(endpoint))));
    values.extend(args.health_check.map(|kind| ("health-check-type", json!(kind.word()))));
    // a manifest that describes the web process wants the flags there
    let web =
        fields.get_mut("processes").and_then(Value::as_array_mut).into_iter().flatten().find(|process| process["type"] == "web");
    match web.and_then(Value::as_object_mut) {
        Some(web) => values.into_iter().for_each(|(key, value)| {
            let key = if key == "disk-quota" { "disk_quota" } else { key };
            web.insert(key.to_owned(), value);
        }),
        None => values.into_iter().for_each(|(key, value)| {
            fields.insert(key.to_owned(), value);
        }),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("manifest.yml"), text).unwrap();
        folder
    }
    fn load_from(text: &str, args: Push) -> anyhow::Result<Manifest> {
        let folder = at(text);
        load(&args, folder.path())
    }
    fn fields(manifest: &Manifest) -> Value {
        manifest.document()["applications"][0].clone()
    }

    #[test]
    fn without_a_manifest_the_flags_make_one() {
        let folder = tempfile::tempdir().unwrap();
        let args = Push { app: Some("web".into()), memory: Some("64".into()), instances: Some(2), ..Push::default() };
        let manifest = load(&args, folder.path()).unwrap();
        assert_eq!(fields(&manifest), json!({ "name": "web", "memory": "64M", "instances": 2, "default-route": true }));
        assert_eq!(manifest.apps[0].path, folder.path());
        assert!(load(&Push::default(), folder.path()).unwrap_err().to_string().contains("requires an app name"));
    }

    #[test]
    fn flags_win_and_go_to_the_web_process_where_there_is_one() {
        let text = "applications:\n- name: a\n  memory: 1G\n  disk_quota: 2G\n  buildpack: old\n  processes:\n  - type: worker\n  - type: web\n    memory: 32M\n";
        let args = Push {
            memory: Some("64M".into()),
            disk: Some("1G".into()),
            buildpacks: vec!["null".into()],
            command: Some("null".into()),
            ..Push::default()
        };
        let app = fields(&load_from(text, args).unwrap());
        assert_eq!(app["processes"][1], json!({ "type": "web", "memory": "64M", "disk_quota": "1G", "command": null }));
        assert_eq!((&app["memory"], &app["disk-quota"], &app["buildpacks"]), (&json!("1G"), &json!("2G"), &json!([])));
        assert!(app.get("buildpack").is_none());
    }

    #[test]
    fn variables_take_their_place_with_their_kind() {
        let text = "applications:\n- name: ((name))\n  instances: ((count))\n  env:\n    URL: https://((name)).((domain))/((path\n  routes:\n  - route: ((name)).((domain))\n";
        let vars = ["name=blue", "count=3", "domain=app.localhost"].map(str::to_owned).to_vec();
        let app = fields(&load_from(text, Push { vars, ..Push::default() }).unwrap());
        assert_eq!(app["instances"], 3);
        assert_eq!(app["env"]["URL"], "https://blue.app.localhost/((path");
        assert_eq!(app["routes"][0]["route"], "blue.app.localhost");
        let error = load_from(text, Push { vars: vec!["name=blue".into()], ..Push::default() }).unwrap_err();
        assert_eq!(error.to_string(), "Expected to find variables: count, domain");
    }

    #[test]
    fn a_file_of_variables_serves_and_the_flag_wins() {
        let folder = at("applications:\n- name: ((name))\n  memory: ((memory))\n");
        let file = folder.path().join("vars.yml");
        std::fs::write(&file, "name: blue\nmemory: 64M\n").unwrap();
        let args = Push { vars_files: vec![file], vars: vec!["name=green".into()], ..Push::default() };
        let manifest = load(&args, folder.path()).unwrap();
        assert_eq!((manifest.apps[0].name.as_str(), &fields(&manifest)["memory"]), ("green", &json!("64M")));
    }

    #[test]
    fn anchors_are_resolved_and_other_top_level_keys_do_not_travel() {
        let text = "defaults: &d\n  memory: 64M\napplications:\n- <<: *d\n  name: a\n- <<: *d\n  name: b\n";
        let manifest = load_from(text, Push::default()).unwrap();
        let document = manifest.document();
        assert_eq!(document["applications"][1]["memory"], "64M");
        assert_eq!(document.as_object().unwrap().len(), 1);
    }

    #[test]
    fn an_app_without_a_path_is_what_lies_here_wherever_the_manifest_is() {
        let (here, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let file = elsewhere.path().join("production.yml");
        std::fs::write(&file, "applications:\n- name: a\n- name: b\n  path: sub\n").unwrap();
        let manifest = load(&Push { manifest: Some(file), ..Push::default() }, here.path()).unwrap();
        assert_eq!(manifest.apps[0].path, here.path());
        assert_eq!(manifest.apps[1].path, elsewhere.path().join("sub"));
    }

    #[test]
    fn one_app_of_several_is_pushed_by_name_and_flags_need_one_app() {
        let text = "applications:\n- name: a\n- name: b\n  path: sub\n";
        let manifest = load_from(text, Push { app: Some("b".into()), memory: Some("64M".into()), ..Push::default() }).unwrap();
        assert_eq!(manifest.apps.len(), 1);
        assert!(manifest.apps[0].path.ends_with("sub"));
        assert!(
            load_from(text, Push { memory: Some("64M".into()), ..Push::default() })
                .unwrap_err()
                .to_string()
                .contains("multiple apps")
        );
        assert!(
            load_from(text, Push { app: Some("c".into()), ..Push::default() })
                .unwrap_err()
                .to_string()
                .contains("Could not find app named 'c'")
        );
    }

    #[test]
    fn a_broken_manifest_is_named_with_its_line() {
        let error = load_from("applications:\n- name: a\n  memory: [\n", Push::default()).unwrap_err().to_string();
        assert!(error.contains("manifest.yml") && error.contains("line"), "{error}");
        for (text, word) in [
            ("a: b\n", "applications"),
            ("applications: []\n", "empty"),
            ("applications:\n- x\n", "entry 1"),
            ("applications:\n- name: a\n- name: a\n", "twice"),
            ("applications:\n- memory: 1G\n", "no name"),
        ] {
            let error = load_from(text, Push::default()).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn routes_are_asked_for_only_where_they_are_wanted() {
        let text = "applications:\n- name: a\n  routes:\n  - route: x.y\n";
        let app = fields(&load_from(text, Push { no_route: true, ..Push::default() }).unwrap());
        assert_eq!(app, json!({ "name": "a", "no-route": true }));
        let app = fields(&load_from("applications:\n- name: a\n  random-route: true\n", Push::default()).unwrap());
        assert!(app.get("default-route").is_none());
    }
}
