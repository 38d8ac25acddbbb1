//! What to check, and within which limits.

use foundation::Secret;
use serde_json::{Map, Value};
use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};
use url::Url;

/// User and password of the platform at the broker.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Name for basic authentication.
    pub user: String,
    /// Password for basic authentication.
    pub password: Secret,
}

/// A version of the API: `2.17`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The number before the dot.
    pub major: u32,
    /// The number after the dot.
    pub minor: u32,
}

impl Version {
    /// The version whose contract this crate knows.
    pub const LATEST: Self = Self { major: 2, minor: 17 };
    /// The oldest that can be checked; bindings and fetches became what they are in it.
    pub const OLDEST: Self = Self { major: 2, minor: 13 };
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for Version {
    type Err = OptionError;
    fn from_str(text: &str) -> Result<Self, OptionError> {
        let wrong = || OptionError::Version(text.to_owned());
        let (major, minor) = text.split_once('.').ok_or_else(wrong)?;
        let version = Self { major: major.parse().map_err(|_| wrong())?, minor: minor.parse().map_err(|_| wrong())? };
        if (Self::OLDEST..=Self::LATEST).contains(&version) { Ok(version) } else { Err(wrong()) }
    }
}

/// How long things may take, and how large they may be.
#[derive(Clone, Debug)]
pub struct Limits {
    /// For one whole answer.
    pub request: Duration,
    /// For one asynchronous operation; the plan's own `maximum_polling_duration` counts if it is shorter.
    pub polling: Duration,
    /// For all cases together, without the final clean-up.
    pub total: Duration,
    /// For one answer except the catalog.
    pub answer_bytes: usize,
    /// For the catalog.
    pub catalog_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request: Duration::from_secs(30),
            polling: Duration::from_secs(300),
            total: Duration::from_secs(1_800),
            answer_bytes: 1 << 20,
            catalog_bytes: 8 << 20,
        }
    }
}

/// Parameters to use with one plan, by operation; an absent one is made from the plan's schema where it demands any.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlanParameters {
    /// For provisioning.
    pub provision: Option<Map<String, Value>>,
    /// For updates.
    pub update: Option<Map<String, Value>>,
    /// For bindings.
    pub bind: Option<Map<String, Value>>,
}

/// A checked order: which broker, what of it, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the broker is: everything before `/v2`.
    pub url: Url,
    /// None for a broker that asks for none; the cases of authentication are left out then.
    pub credentials: Option<Credentials>,
    /// Names or ids of the offerings to check; empty for all.
    pub services: Vec<String>,
    /// Names or ids of the plans to check; empty for all.
    pub plans: Vec<String>,
    /// By plan id, `offering/plan` or `*`.
    pub parameters: BTreeMap<String, PlanParameters>,
    /// The version that is announced; newer cases are left out.
    pub version: Version,
    /// Also what older checkers want beyond the specification.
    pub strict_legacy: bool,
    /// Advice counts as findings.
    pub strict: bool,
    /// Cases to leave out: whole ids, or everything before a dot.
    pub skip: Vec<String>,
    /// PEM certificates to trust besides the system's.
    pub authorities: Vec<u8>,
    /// Takes any certificate.
    pub any_certificate: bool,
    /// Limits of time and size.
    pub limits: Limits,
}

/// Why an order cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum OptionError {
    /// Not an address of a broker.
    #[error("`{0}` is not the address of a broker: {1}")]
    Url(String, &'static str),
    /// Not a version that is known here.
    #[error("`{0}` is not a version from {old} to {new} of the API", old = Version::OLDEST, new = Version::LATEST)]
    Version(String),
    /// The parameters are not what they should be.
    #[error("parameters of `{0}`: {1}")]
    Parameters(String, &'static str),
    /// No such case.
    #[error("there is no case `{0}`")]
    NoCase(String),
    /// The client for HTTP cannot be built from these options.
    #[error("these settings of TLS cannot be used")]
    Tls(#[source] reqwest::Error),
}

impl Options {
    /// An order with every default.
    ///
    /// # Errors
    /// [`OptionError::Url`] if the address is none, or holds a password.
    pub fn new(url: &str) -> Result<Self, OptionError> {
        let wrong = |why| OptionError::Url(without_password(url), why);
        let mut url = Url::parse(url).map_err(|_| wrong("it must look like https://broker.example.com"))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(wrong("it must begin with http:// or https://"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("user and password do not belong into it, give them with --user and --password-file"));
        }
        url.set_query(None);
        url.set_fragment(None);
        let path = url.path().trim_end_matches('/').trim_end_matches("/v2/catalog").to_owned();
        url.set_path(&path);
        Ok(Self {
            url,
            credentials: None,
            services: vec![],
            plans: vec![],
            parameters: BTreeMap::new(),
            version: Version::LATEST,
            strict_legacy: false,
            strict: false,
            skip: vec![],
            authorities: vec![],
            any_certificate: false,
            limits: Limits::default(),
        })
    }

    /// Takes parameters in: an object from plan id, `offering/plan` or `*` to an object with `provision`, `update` and `bind`.
    ///
    /// # Errors
    /// [`OptionError::Parameters`] if it has another shape.
    pub fn with_parameters(mut self, all: &Value) -> Result<Self, OptionError> {
        let whole = |why| OptionError::Parameters("*".to_owned(), why);
        for (plan, operations) in all.as_object().ok_or_else(|| whole("must be a JSON object from plans to operations"))? {
            let wrong = |why| OptionError::Parameters(plan.clone(), why);
            let mut found = PlanParameters::default();
            for (operation, value) in
                operations.as_object().ok_or_else(|| wrong("must be an object with `provision`, `update`, `bind`"))?
            {
                let value = value.as_object().ok_or_else(|| wrong("each operation's parameters must be an object"))?.clone();
                match operation.as_str() {
                    "provision" => found.provision = Some(value),
                    "update" => found.update = Some(value),
                    "bind" => found.bind = Some(value),
                    _ => return Err(wrong("knows only the operations `provision`, `update`, `bind`")),
                }
            }
            self.parameters.insert(plan.clone(), found);
        }
        Ok(self)
    }

    /// Leaves cases out.
    ///
    /// # Errors
    /// [`OptionError::NoCase`] for one that does not exist.
    pub fn without(mut self, ids: &[String]) -> Result<Self, OptionError> {
        for id in ids {
            if !crate::CASES.iter().any(|case| names(id, case.id)) {
                return Err(OptionError::NoCase(id.clone()));
            }
            self.skip.push(id.clone());
        }
        Ok(self)
    }

    pub(crate) fn leaves_out(&self, case: &str) -> bool {
        self.skip.iter().any(|id| names(id, case))
    }
}

fn names(id: &str, case: &str) -> bool {
    case == id || case.strip_prefix(id).is_some_and(|rest| rest.starts_with('.'))
}

/// For messages only.
fn without_password(url: &str) -> String {
    match (url.find("://"), url.find('@')) {
        (Some(scheme), Some(at)) if scheme < at => format!("{}…{}", &url[..scheme + 3], &url[at..]),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_address_with_a_password_is_refused_without_showing_it() {
        let error = Options::new("https://me:hunter2@broker.example.com").unwrap_err().to_string();
        assert!(error.contains("--password-file") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn addresses_may_end_in_a_slash_or_name_the_catalog() {
        for url in ["http://b.example.com/prefix", "http://b.example.com/prefix/", "http://b.example.com/prefix/v2/catalog"] {
            assert_eq!(Options::new(url).unwrap().url.path(), "/prefix", "{url}");
        }
        for url in ["b.example.com", "ftp://b.example.com", ""] {
            assert!(Options::new(url).is_err(), "{url}");
        }
    }

    #[test]
    fn versions_are_those_whose_contract_is_known() {
        assert_eq!("2.15".parse::<Version>().unwrap(), Version { major: 2, minor: 15 });
        for wrong in ["2", "2.12", "2.18", "3.0", "two", "2.x"] {
            assert!(wrong.parse::<Version>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn parameters_of_another_shape_are_refused() {
        let options = || Options::new("http://b.example.com").unwrap();
        assert!(options().with_parameters(&json!({"*": {"provision": {"size": 3}}})).is_ok());
        for wrong in [json!([]), json!({"*": 3}), json!({"*": {"provision": 3}}), json!({"*": {"delete": {}}})] {
            assert!(options().with_parameters(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn cases_are_left_out_by_id_or_by_group() {
        let options = Options::new("http://b.example.com").unwrap().without(&["auth".into(), "provision.create".into()]).unwrap();
        assert!(options.leaves_out("auth.none") && options.leaves_out("provision.create"));
        assert!(!options.leaves_out("provision.repeat"));
        assert!(matches!(options.without(&["provision.creat".into()]), Err(OptionError::NoCase(_))));
    }
}
