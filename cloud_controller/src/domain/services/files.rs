//! Bindings as files, for apps that ask for them with a feature.
//!
//! Source: cloud_controller_ng, `lib/cloud_controller/diego/service_binding_files_builder.rb`;
//! servicebinding.io, "Well-known Secret Entries".

use crate::{
    domain::{
        Error, Result,
        environment::Vars,
        services::vcap::{self, Bound},
    },
    store::apps::App,
};
use cloud_controller_client::BINDING_ROOT;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The most that all names and contents may hold together.
const MAX_BYTES: usize = 1_000_000;
const MAX_NAME: usize = 253;

/// How an app wants to be told of its bindings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// In `VCAP_SERVICES`.
    Environment,
    /// In one file.
    File,
    /// In a folder for each binding.
    Folders,
}

impl Delivery {
    /// What the app's features say.
    pub fn of(app: &App) -> Self {
        if app.binding_k8s_enabled {
            Self::Folders
        } else if app.file_based_services_enabled {
            Self::File
        } else {
            Self::Environment
        }
    }

    /// The variables about services.
    pub fn variables(self, bound: &[Bound]) -> Vars {
        let (name, value) = match self {
            Self::Environment => ("VCAP_SERVICES", vcap::services(bound).to_string()),
            Self::File => ("VCAP_SERVICES_FILE_PATH", format!("{BINDING_ROOT}/vcap_services")),
            Self::Folders => ("SERVICE_BINDING_ROOT", BINDING_ROOT.to_owned()),
        };
        Vars::from([(name.to_owned(), value)])
    }

    /// The files about services, below [`BINDING_ROOT`].
    ///
    /// # Errors
    /// [`Error::Invalid`] for names that cannot be file names, and for more than fits.
    pub fn files(self, bound: &[Bound]) -> Result<BTreeMap<String, String>> {
        match self {
            Self::Environment => Ok(BTreeMap::new()),
            Self::File => {
                let mut files = Files::default();
                files.put("vcap_services".into(), vcap::services(bound).to_string());
                files.finish()
            }
            Self::Folders => folders(bound),
        }
    }
}

#[derive(Default)]
struct Files {
    files: BTreeMap<String, String>,
    bytes: usize,
}

impl Files {
    fn put(&mut self, path: String, content: String) {
        self.bytes += path.len() + content.len();
        self.files.insert(path, content);
    }

    /// Adds a file of a binding; what is empty is left out.
    fn add(&mut self, folder: &str, name: &str, value: &Value) -> Result<()> {
        if !good(name, true) {
            return Err(Error::invalid(format!("Invalid file name: {name}")));
        }
        let content = match value {
            Value::Null => return Ok(()),
            Value::String(text) => text.clone(),
            Value::Array(all) if all.is_empty() => return Ok(()),
            Value::Object(all) if all.is_empty() => return Ok(()),
            other => other.to_string(),
        };
        self.put(format!("{folder}/{name}"), content);
        Ok(())
    }

    fn finish(self) -> Result<BTreeMap<String, String>> {
        if self.bytes > MAX_BYTES {
            let text = format!("Bindings exceed the maximum allowed bytesize of {MAX_BYTES}: {}", self.bytes);
            return Err(Error::Invalid(text));
        }
        Ok(self.files)
    }
}

fn folders(bound: &[Bound]) -> Result<BTreeMap<String, String>> {
    let mut files = Files::default();
    let mut names = BTreeSet::new();
    for binding in bound {
        let name = binding.name();
        if !good(name, false) {
            let text = format!("Invalid binding name: '{name}'. Name must match /^[a-z0-9\\-.]{{1,253}}$/");
            return Err(Error::Invalid(text));
        }
        if !names.insert(name) {
            return Err(Error::invalid(format!("Duplicate binding name: {name}")));
        }
        // What the platform says of the binding wins over credentials of the same name.
        for (key, value) in binding.credentials.as_object().into_iter().flatten() {
            files.add(name, key, value)?;
        }
        let mut entry = binding.entry();
        entry.remove("credentials");
        for (key, value) in entry {
            files.add(name, &key_of(&key), &value)?;
        }
        for key in ["type", "provider"] {
            files.add(name, key, &binding.label.clone().into())?;
        }
    }
    files.finish()
}

fn key_of(key: &str) -> String {
    match key {
        "binding_guid" | "binding_name" | "instance_guid" | "instance_name" | "syslog_drain_url" | "volume_mounts" => {
            key.replace('_', "-")
        }
        other => other.to_owned(),
    }
}

fn good(name: &str, underscore: bool) -> bool {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.') || underscore && b == b'_';
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(letter) && !matches!(name, "." | "..")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn bound(name: &str, credentials: Value) -> Bound {
        Bound {
            label: "postgres".into(),
            plan: Some("shared".into()),
            tags: vec!["sql".into()],
            instance: (format!("{name}-guid"), name.into()),
            binding: ("b-guid".into(), None),
            credentials,
            ..Bound::default()
        }
    }
    fn refusal(bound: &[Bound]) -> String {
        match Delivery::Folders.files(bound) {
            Err(Error::Invalid(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_folder_for_each_binding_has_a_file_for_each_word_about_it() {
        let credentials = json!({ "uri": "postgres://x", "port": 5432, "hosts": ["a"], "none": null, "empty": {}, "label": "forged", "type": "forged" });
        let files = Delivery::Folders.files(&[bound("my-db", credentials)]).unwrap();
        let expected = [
            ("my-db/binding-guid", "b-guid"),
            ("my-db/hosts", "[\"a\"]"),
            ("my-db/instance-guid", "my-db-guid"),
            ("my-db/instance-name", "my-db"),
            ("my-db/label", "postgres"),
            ("my-db/name", "my-db"),
            ("my-db/plan", "shared"),
            ("my-db/port", "5432"),
            ("my-db/provider", "postgres"),
            ("my-db/tags", "[\"sql\"]"),
            ("my-db/type", "postgres"),
            ("my-db/uri", "postgres://x"),
        ];
        let found: Vec<_> = files.iter().map(|(path, content)| (path.as_str(), content.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn names_that_are_no_file_names_and_too_much_are_refused() {
        assert_eq!(
            refusal(&[bound("My_DB", json!({}))]),
            "Invalid binding name: 'My_DB'. Name must match /^[a-z0-9\\-.]{1,253}$/"
        );
        assert!(refusal(&[bound("..", json!({}))]).starts_with("Invalid binding name"));
        assert_eq!(refusal(&[bound("db", json!({ "../x": "y" }))]), "Invalid file name: ../x");
        assert_eq!(refusal(&[bound("db", json!({ "Upper": "y" }))]), "Invalid file name: Upper");
        assert_eq!(refusal(&[bound("db", json!({})), bound("db", json!({}))]), "Duplicate binding name: db");
        let much = refusal(&[bound("db", json!({ "ca": "x".repeat(1_000_000) }))]);
        assert!(much.starts_with("Bindings exceed the maximum allowed bytesize of 1000000: 1000"), "{much}");
        let Err(Error::Invalid(much)) = Delivery::File.files(&[bound("db", json!({ "ca": "x".repeat(1_000_000) }))]) else {
            panic!()
        };
        assert!(much.starts_with("Bindings exceed"), "{much}");
    }

    #[test]
    fn the_other_deliveries_are_one_variable_each() {
        let bound = [bound("db", json!({}))];
        let of = |delivery: Delivery| (delivery.variables(&bound), delivery.files(&bound).unwrap());
        let (vars, files) = of(Delivery::Environment);
        assert!(vars["VCAP_SERVICES"].contains("b-guid") && files.is_empty());
        let (vars, files) = of(Delivery::File);
        assert_eq!(vars["VCAP_SERVICES_FILE_PATH"], "/etc/cf-service-bindings/vcap_services");
        assert!(files["vcap_services"].contains("b-guid"));
        assert_eq!(of(Delivery::Folders).0["SERVICE_BINDING_ROOT"], "/etc/cf-service-bindings");
    }
}
