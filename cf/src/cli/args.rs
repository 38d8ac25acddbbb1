//! Flags that several commands share, and those of commands with many.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Output for programs.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Format {
    /// Print JSON, as the API has it
    #[arg(long)]
    pub(crate) json: bool,
}

/// A list of what has labels.
#[derive(Args, Clone, Debug)]
pub(crate) struct Listing {
    /// Only what has these labels (e.g. env=prod,tier!=web)
    #[arg(long, value_name = "SELECTOR")]
    pub(crate) labels: Option<String>,
    #[command(flatten)]
    pub(crate) format: Format,
}

impl Listing {
    /// As the API asks for it.
    pub(crate) fn selector(&self) -> Option<(&str, &str)> {
        self.labels.as_deref().map(|labels| ("label_selector", labels))
    }
}

#[derive(Debug, Args)]
pub(crate) struct Login {
    /// API address (e.g. api.cf.localhost)
    #[arg(short = 'a', value_name = "API")]
    pub(crate) api: Option<String>,
    /// User name
    #[arg(short = 'u', value_name = "USERNAME", env = "CF_USERNAME", hide_env_values = true)]
    pub(crate) user: Option<String>,
    /// Password; others on this machine may see it here: leave it out to be asked
    #[arg(short = 'p', value_name = "PASSWORD", env = "CF_PASSWORD", hide_env_values = true)]
    pub(crate) password: Option<String>,
    /// Ask for a one-time passcode, which the login page shows, in place of user name and password
    #[arg(long, conflicts_with = "sso_passcode")]
    pub(crate) sso: bool,
    /// One-time passcode
    #[arg(long, value_name = "PASSCODE")]
    pub(crate) sso_passcode: Option<String>,
    /// Org
    #[arg(short = 'o', value_name = "ORG")]
    pub(crate) org: Option<String>,
    /// Space
    #[arg(short = 's', value_name = "SPACE")]
    pub(crate) space: Option<String>,
    /// Where the user comes from
    #[arg(long)]
    pub(crate) origin: Option<String>,
    /// Do not check the platform's certificate. Not recommended
    #[arg(long)]
    pub(crate) skip_ssl_validation: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Auth {
    /// User name, or client id
    #[arg(env = "CF_USERNAME", hide_env_values = true)]
    pub(crate) user: String,
    /// Password, or client secret
    #[arg(env = "CF_PASSWORD", hide_env_values = true)]
    pub(crate) password: String,
    /// Log in as a client
    #[arg(long)]
    pub(crate) client_credentials: bool,
    /// Where the user comes from
    #[arg(long)]
    pub(crate) origin: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ApiArgs {
    /// API address
    pub(crate) url: Option<String>,
    /// Do not check the platform's certificate. Not recommended
    #[arg(long)]
    pub(crate) skip_ssl_validation: bool,
    /// Forget the API address
    #[arg(long)]
    pub(crate) unset: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Target {
    /// Org
    #[arg(short = 'o', value_name = "ORG")]
    pub(crate) org: Option<String>,
    /// Space
    #[arg(short = 's', value_name = "SPACE")]
    pub(crate) space: Option<String>,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Curl {
    /// Path of the API, /v3/...
    pub(crate) path: String,
    /// Method (GET, or POST with -d)
    #[arg(short = 'X', value_name = "METHOD")]
    pub(crate) method: Option<String>,
    /// Header, may be given several times
    #[arg(short = 'H', value_name = "HEADER")]
    pub(crate) headers: Vec<String>,
    /// Body, or @file
    #[arg(short = 'd', value_name = "DATA", allow_hyphen_values = true)]
    pub(crate) data: Option<String>,
    /// Show the answer's headers too
    #[arg(short = 'i')]
    pub(crate) include: bool,
    /// Write the body to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Print no body and exit with 22 on HTTP errors
    #[arg(short = 'f', long)]
    pub(crate) fail: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AppArg {
    /// Its name
    pub(crate) app: String,
    /// Do not wait for all instances, only for the first
    #[arg(long)]
    pub(crate) no_wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Scale {
    /// The app
    pub(crate) app: String,
    /// Number of instances
    #[arg(short = 'i', long, value_name = "NUM")]
    pub(crate) instances: Option<u32>,
    /// Memory limit (e.g. 256M, 1G)
    #[arg(short = 'm', value_name = "SIZE")]
    pub(crate) memory: Option<String>,
    /// Disk limit (e.g. 256M, 1G)
    #[arg(short = 'k', value_name = "SIZE")]
    pub(crate) disk: Option<String>,
    /// Log rate limit per second (e.g. 16K, -1 for none)
    #[arg(short = 'l', value_name = "RATE", allow_hyphen_values = true)]
    pub(crate) log_rate: Option<String>,
    /// Process to scale
    #[arg(long, default_value = "web")]
    pub(crate) process: String,
    /// Restart without asking
    #[arg(short = 'f', long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RouteArgs {
    /// Domain
    pub(crate) domain: String,
    /// Host name
    #[arg(short = 'n', long, value_name = "HOST")]
    pub(crate) hostname: Option<String>,
    /// Path
    #[arg(long)]
    pub(crate) path: Option<String>,
    /// Port of a TCP route
    #[arg(long)]
    pub(crate) port: Option<u16>,
}

#[derive(Debug, Args)]
pub(crate) struct RoleArgs {
    /// User name, or client id
    pub(crate) user: String,
    /// Org
    pub(crate) org: String,
    /// Where the user comes from
    #[arg(long, conflicts_with = "client")]
    pub(crate) origin: Option<String>,
    /// It is a client, not a user
    #[arg(long)]
    pub(crate) client: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum HealthCheckType {
    Http,
    Port,
    Process,
    // the old word for `process`
    #[value(hide = true)]
    None,
}

impl HealthCheckType {
    /// As the API calls it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Port => "port",
            Self::Process | Self::None => "process",
        }
    }
}

#[derive(Debug, Default, Args)]
pub(crate) struct Push {
    /// The app; needed where the manifest names none or several
    pub(crate) app: Option<String>,
    /// Name or git URL of a buildpack, may be given several times; 'null' or 'default': detect
    #[arg(short = 'b', long = "buildpack", value_name = "BUILDPACK")]
    pub(crate) buildpacks: Vec<String>,
    /// Start command; 'null' or 'default': the buildpack's
    #[arg(short = 'c', long = "start-command", value_name = "COMMAND")]
    pub(crate) command: Option<String>,
    /// Manifest
    #[arg(short = 'f', long = "manifest", value_name = "FILE")]
    pub(crate) manifest: Option<PathBuf>,
    /// Ignore manifest.yml
    #[arg(long, conflicts_with = "manifest")]
    pub(crate) no_manifest: bool,
    /// Folder or zip file of the app
    #[arg(short = 'p', long = "path", value_name = "PATH")]
    pub(crate) path: Option<PathBuf>,
    /// Memory limit (e.g. 256M, 1G)
    #[arg(short = 'm', long = "memory", value_name = "SIZE")]
    pub(crate) memory: Option<String>,
    /// Disk limit (e.g. 256M, 1G)
    #[arg(short = 'k', long = "disk", value_name = "SIZE")]
    pub(crate) disk: Option<String>,
    /// Log rate limit per second (e.g. 16K)
    #[arg(short = 'l', long = "log-rate-limit", value_name = "RATE", allow_hyphen_values = true)]
    pub(crate) log_rate: Option<String>,
    /// Number of instances
    #[arg(short = 'i', long = "instances", value_name = "NUM")]
    pub(crate) instances: Option<u32>,
    /// Stack
    #[arg(short = 's', long = "stack", value_name = "STACK")]
    pub(crate) stack: Option<String>,
    /// Health check
    #[arg(short = 'u', long = "health-check-type", value_name = "TYPE")]
    pub(crate) health_check: Option<HealthCheckType>,
    /// Path of the http health check
    #[arg(long, value_name = "PATH")]
    pub(crate) endpoint: Option<String>,
    /// Seconds that an app may take to start
    #[arg(short = 't', long = "app-start-timeout", value_name = "SECONDS")]
    pub(crate) timeout: Option<u32>,
    /// No route, and remove those that there are
    #[arg(long, conflicts_with = "random_route")]
    pub(crate) no_route: bool,
    /// A route with a name nobody has
    #[arg(long)]
    pub(crate) random_route: bool,
    /// Upload, but do not stage and start
    #[arg(long)]
    pub(crate) no_start: bool,
    /// Do not wait for all instances, only for the first
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Value of a variable of the manifest, key=value, may be given several times
    #[arg(long = "var", value_name = "KEY=VALUE")]
    pub(crate) vars: Vec<String>,
    /// File with values of variables, may be given several times
    #[arg(long = "vars-file", value_name = "FILE")]
    pub(crate) vars_files: Vec<PathBuf>,
}
