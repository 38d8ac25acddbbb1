//! The words and flags of the command line, as the official client has them.

mod args;
pub(crate) mod services;

pub(crate) use args::*;

use clap::{
    CommandFactory, Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};
use std::{path::PathBuf, process::ExitCode};

/// A client of Cloud Foundry platforms.
#[derive(Debug, Parser)]
#[command(
    name = "cf",
    version = concat!("version ", env!("CARGO_PKG_VERSION")),
    disable_help_subcommand = false,
    arg_required_else_help = true,
    max_term_width = 120,
    after_help = "EXAMPLES:\n   cf login -a api.cf.localhost -u admin\n   cf push my-app\n   cf logs my-app --recent\n\nENVIRONMENT:\n   CF_HOME=path             Folder of .cf (default: HOME)\n   CF_CA_FILE=file          Authorities to trust, PEM (SSL_CERT_FILE works too)\n   CF_USERNAME, CF_PASSWORD Credentials of 'cf auth' and 'cf login'\n   CF_STAGING_TIMEOUT=20    Longest wait for a staging, in minutes\n   CF_STARTUP_TIMEOUT=5     Longest wait for a start, in minutes\n   NO_COLOR=1               No colours"
)]
pub(crate) struct Cli {
    /// Print requests and how long they took
    #[arg(short = 'v', long = "verbose", global = true)]
    pub(crate) verbose: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Log user in
    #[command(
        visible_alias = "l",
        after_help = "EXAMPLES:\n   cf login (omit user name and password to log in interactively)\n   cf login -a api.cf.localhost -u name@example.com -p 'pa55 word'\n   cf login -o my-org -s my-space"
    )]
    Login(Login),
    /// Authenticate non-interactively
    #[command(
        after_help = "EXAMPLES:\n   cf auth name@example.com 'my password'\n   CF_USERNAME=name CF_PASSWORD=secret cf auth\n   cf auth client-id client-secret --client-credentials"
    )]
    Auth(Auth),
    /// Log user out
    #[command(visible_alias = "lo")]
    Logout,
    /// Set or view target API address
    #[command(
        after_help = "EXAMPLES:\n   cf api https://api.cf.localhost\n   cf api api.cf.localhost --skip-ssl-validation\n   cf api --unset"
    )]
    Api(ApiArgs),
    /// Set or view the targeted org or space
    #[command(visible_alias = "t", after_help = "EXAMPLES:\n   cf target\n   cf target -o my-org -s my-space")]
    Target(Target),
    /// Display the OAuth token of the current session
    OauthToken,
    /// Execute a request to the API
    #[command(
        after_help = "EXAMPLES:\n   cf curl /v3/apps\n   cf curl /v3/apps -X POST -d '{\"name\":\"x\",...}'\n   cf curl /v3/apps/GUID/env --fail"
    )]
    Curl(Curl),
    /// Print the version
    Version,
    /// Print a completion script for a shell
    #[command(
        after_help = "EXAMPLES:\n   cf completion bash > /etc/bash_completion.d/cf\n   cf completion zsh > \"${fpath[1]}/_cf\""
    )]
    Completion {
        /// Which shell
        shell: clap_complete::Shell,
    },

    /// List all orgs
    #[command(visible_alias = "o")]
    Orgs(Listing),
    /// Create an org
    #[command(visible_alias = "co", after_help = "EXAMPLES:\n   cf create-org my-org")]
    CreateOrg {
        /// Its name
        org: String,
        /// Its quota
        #[arg(short = 'q', long, value_name = "QUOTA")]
        quota: Option<String>,
    },
    /// Delete an org and everything in it
    DeleteOrg {
        /// Its name
        org: String,
        /// Do not ask
        #[arg(short = 'f', long)]
        force: bool,
    },
    /// List all spaces in the targeted org
    Spaces(Listing),
    /// Create a space
    #[command(
        visible_alias = "csp",
        after_help = "EXAMPLES:\n   cf create-space my-space\n   cf create-space my-space -o my-org"
    )]
    CreateSpace {
        /// Its name
        space: String,
        /// Org to create it in
        #[arg(short = 'o')]
        org: Option<String>,
        /// Its quota
        #[arg(short = 'q', long, value_name = "QUOTA")]
        quota: Option<String>,
    },
    /// Delete a space and everything in it
    DeleteSpace {
        /// Its name
        space: String,
        /// Org that it is in
        #[arg(short = 'o')]
        org: Option<String>,
        /// Do not ask
        #[arg(short = 'f', long)]
        force: bool,
    },

    /// Show an org
    Org {
        /// Its name
        org: String,
        /// Print its guid alone
        #[arg(long)]
        guid: bool,
        #[command(flatten)]
        format: Format,
    },
    /// Show a space of the targeted org
    Space {
        /// Its name
        space: String,
        /// Print its guid alone
        #[arg(long)]
        guid: bool,
        #[command(flatten)]
        format: Format,
    },

    /// Create a new user
    #[command(
        after_help = "EXAMPLES:\n   cf create-user anna        (asks for the password)\n   cf create-user anna 'pa55 word'"
    )]
    CreateUser {
        /// User name
        user: String,
        /// Password; others on this machine may see it here: leave it out to be asked
        password: Option<String>,
        /// Where the user comes from
        #[arg(long)]
        origin: Option<String>,
        /// Ask for the password
        #[arg(long, conflicts_with = "password")]
        password_prompt: bool,
    },
    /// Delete a user
    DeleteUser {
        /// User name
        user: String,
        /// Where the user comes from
        #[arg(long)]
        origin: Option<String>,
        /// Do not ask
        #[arg(short = 'f', long)]
        force: bool,
    },
    /// Change one's own password
    #[command(visible_alias = "pw")]
    Passwd,
    /// Assign an org role to a user
    #[command(
        after_help = "EXAMPLES:\n   cf set-org-role anna my-org OrgManager\n\nROLES:\n   OrgManager, BillingManager, OrgAuditor, OrgUser"
    )]
    SetOrgRole {
        #[command(flatten)]
        whom: RoleArgs,
        /// Role
        role: String,
    },
    /// Remove an org role from a user
    UnsetOrgRole {
        #[command(flatten)]
        whom: RoleArgs,
        /// Role
        role: String,
    },
    /// Assign a space role to a user
    #[command(
        after_help = "EXAMPLES:\n   cf set-space-role anna my-org my-space SpaceDeveloper\n\nROLES:\n   SpaceManager, SpaceDeveloper, SpaceAuditor, SpaceSupporter"
    )]
    SetSpaceRole {
        #[command(flatten)]
        whom: RoleArgs,
        /// Space
        space: String,
        /// Role
        role: String,
    },
    /// Remove a space role from a user
    UnsetSpaceRole {
        #[command(flatten)]
        whom: RoleArgs,
        /// Space
        space: String,
        /// Role
        role: String,
    },

    /// Push a new app or sync changes to an existing app
    #[command(visible_alias = "p", after_help = PUSH_EXAMPLES)]
    Push(Box<Push>),
    /// List all apps in the target space
    #[command(visible_alias = "a")]
    Apps {
        /// Do not ask how many instances run
        #[arg(long)]
        no_stats: bool,
        #[command(flatten)]
        listing: Listing,
    },
    /// Display health and status for an app
    #[command(after_help = "EXAMPLES:\n   cf app my-app\n   cf app my-app --guid")]
    App {
        /// Its name
        app: String,
        /// Print its guid alone
        #[arg(long)]
        guid: bool,
        #[command(flatten)]
        format: Format,
    },
    /// Start an app
    #[command(visible_alias = "st")]
    Start(AppArg),
    /// Stop an app
    #[command(visible_alias = "sp")]
    Stop {
        /// Its name
        app: String,
    },
    /// Stop all instances of the app, then start them again
    #[command(visible_alias = "rs")]
    Restart(AppArg),
    /// Stage the app's latest package into a droplet and restart the app with it
    #[command(visible_alias = "rg")]
    Restage(AppArg),
    /// Change or view instance count, memory and disk of an app
    #[command(
        after_help = "EXAMPLES:\n   cf scale my-app -i 3\n   cf scale my-app -m 512M -f\n   cf scale my-app --process worker -i 2"
    )]
    Scale(Scale),
    /// Delete an app
    #[command(visible_alias = "d")]
    Delete {
        /// Its name
        app: String,
        /// Do not ask
        #[arg(short = 'f', long)]
        force: bool,
        /// Also delete its routes
        #[arg(short = 'r')]
        routes: bool,
    },
    /// Rename an app
    Rename {
        /// Its name
        app: String,
        /// Its new name
        new_name: String,
    },
    /// Terminate, then start one instance of an app
    RestartAppInstance {
        /// The app
        app: String,
        /// The instance
        index: u32,
        /// Process that it belongs to
        #[arg(long, default_value = "web")]
        process: String,
    },
    /// Show the type of health check performed on an app's processes
    GetHealthCheck {
        /// The app
        app: String,
        #[command(flatten)]
        format: Format,
    },
    /// Change the type of health check performed on an app's process
    #[command(
        after_help = "EXAMPLES:\n   cf set-health-check my-app http --endpoint /health\n   cf set-health-check worker process"
    )]
    SetHealthCheck {
        /// The app
        app: String,
        /// Kind of check
        kind: HealthCheckType,
        /// Path of the http check
        #[arg(long)]
        endpoint: Option<String>,
        /// Seconds that one probe may take
        #[arg(long)]
        invocation_timeout: Option<u32>,
        /// Process
        #[arg(long, default_value = "web")]
        process: String,
    },
    /// Create an app manifest for an app that has been pushed
    CreateAppManifest {
        /// The app
        app: String,
        /// File to write (default: ./APP_manifest.yml)
        #[arg(short = 'p', value_name = "FILE")]
        path: Option<PathBuf>,
    },
    /// Show recent events of an app
    Events {
        /// Its name
        app: String,
        #[command(flatten)]
        format: Format,
    },
    /// Tail or show recent logs for an app
    #[command(after_help = "EXAMPLES:\n   cf logs my-app\n   cf logs my-app --recent")]
    Logs {
        /// Its name
        app: String,
        /// Dump recent logs instead of tailing
        #[arg(long)]
        recent: bool,
    },

    /// Show all env variables for an app
    #[command(visible_alias = "e")]
    Env {
        /// Its name
        app: String,
        #[command(flatten)]
        format: Format,
    },
    /// Set an env variable for an app
    #[command(
        visible_alias = "se",
        after_help = "EXAMPLES:\n   cf set-env my-app LOG_LEVEL debug\n\nThe app sees it after 'cf restage my-app'."
    )]
    SetEnv {
        /// Its name
        app: String,
        /// The variable
        name: String,
        /// Its value
        #[arg(allow_hyphen_values = true)]
        value: String,
    },
    /// Remove an env variable from an app
    #[command(visible_alias = "ue")]
    UnsetEnv {
        /// Its name
        app: String,
        /// The variable
        name: String,
    },

    /// List all routes in the current space or the current org
    #[command(visible_alias = "r")]
    Routes {
        /// All routes of the org
        #[arg(long)]
        org_level: bool,
        #[command(flatten)]
        listing: Listing,
    },
    /// Create a route for later use
    #[command(
        after_help = "EXAMPLES:\n   cf create-route app.localhost -n my-host\n   cf create-route app.localhost -n my-host --path /api"
    )]
    CreateRoute(RouteArgs),
    /// Map a route to an app
    #[command(after_help = "EXAMPLES:\n   cf map-route my-app app.localhost -n my-host")]
    MapRoute {
        /// The app
        app: String,
        #[command(flatten)]
        route: RouteArgs,
        /// http1 or http2
        #[arg(long = "app-protocol")]
        protocol: Option<String>,
    },
    /// Remove a route from an app
    UnmapRoute {
        /// The app
        app: String,
        #[command(flatten)]
        route: RouteArgs,
    },
    /// Delete a route
    DeleteRoute {
        #[command(flatten)]
        route: RouteArgs,
        /// Do not ask
        #[arg(short = 'f', long)]
        force: bool,
    },
    /// Perform a check to determine whether a route currently exists or not
    CheckRoute(RouteArgs),
    /// List domains in the target org
    Domains(Listing),
    /// List all buildpacks
    Buildpacks(Listing),
    /// List all stacks
    Stacks(Listing),
    /// Create a buildpack
    #[command(
        after_help = "EXAMPLES:\n   cf create-buildpack my_buildpack ./my-buildpack.zip 1\n   cf create-buildpack my_buildpack ./folder 99 --disable"
    )]
    CreateBuildpack {
        /// Its name
        buildpack: String,
        /// Zip file or folder
        path: PathBuf,
        /// Place among the buildpacks, from 1
        position: u32,
        /// Do not use it for staging yet
        #[arg(long)]
        disable: bool,
    },
    /// Update a buildpack
    UpdateBuildpack {
        /// Its name
        buildpack: String,
        /// Zip file or folder with new contents
        #[arg(short = 'p', long = "path")]
        path: Option<PathBuf>,
        /// Place among the buildpacks, from 1
        #[arg(short = 'i', long = "position")]
        position: Option<u32>,
        /// Use it for staging
        #[arg(long, conflicts_with = "disable")]
        enable: bool,
        /// Do not use it for staging
        #[arg(long)]
        disable: bool,
        /// Refuse new contents
        #[arg(long, conflicts_with = "unlock")]
        lock: bool,
        /// Accept new contents
        #[arg(long)]
        unlock: bool,
        /// New name
        #[arg(long, value_name = "NAME")]
        rename: Option<String>,
        /// The one for this stack, of several with one name
        #[arg(short = 's', value_name = "STACK")]
        stack: Option<String>,
        /// Stack for one that has none yet
        #[arg(long, value_name = "STACK", conflicts_with = "stack")]
        assign_stack: Option<String>,
    },
    /// Delete a buildpack
    DeleteBuildpack {
        /// Its name
        buildpack: String,
        /// The one for this stack, of several with one name
        #[arg(short = 's', long, value_name = "STACK")]
        stack: Option<String>,
        /// Do not ask
        #[arg(short = 'f', long)]
        force: bool,
    },

    /// List what operators can switch on and off
    FeatureFlags(Format),
    /// Show whether a feature is on
    FeatureFlag {
        /// Its name
        flag: String,
    },
    /// Switch a feature on
    #[command(after_help = "EXAMPLES:\n   cf enable-feature-flag service_instance_sharing")]
    EnableFeatureFlag {
        /// Its name
        flag: String,
    },
    /// Switch a feature off
    DisableFeatureFlag {
        /// Its name
        flag: String,
    },

    #[command(flatten)]
    Service(services::ServiceCommand),
}

const PUSH_EXAMPLES: &str = "EXAMPLES:\n   cf push my-app\n   cf push my-app -p ./build -b staticfile_buildpack -m 64M\n   cf push -f manifest.yml --var host=blue --vars-file prod.yml\n   cf push my-app -i 3 -k 512M -c './server --port $PORT' --no-route\n\nA .cfignore file in the app's folder names what is not uploaded, as .gitignore does.";

/// Prints what is wrong with a command line, or the help that it asks for.
pub(crate) fn explain(mut error: clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand if std::env::args_os().len() == 1 => {
            let _ = Cli::command().print_help();
            return ExitCode::SUCCESS;
        }
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    // Short aliases resemble everything.
    if let Some(ContextValue::Strings(similar)) = error.get(ContextKind::SuggestedSubcommand) {
        let words = similar.iter().filter(|word| word.len() > 3).cloned().collect();
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(words));
    }
    let _ = error.print();
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_and_flags_fit_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn values_that_look_like_flags_are_values_where_they_must_be() {
        let cli = Cli::try_parse_from(["cf", "set-env", "app", "OPTS", "-Xmx64m"]).unwrap();
        assert!(matches!(cli.command, Command::SetEnv { value, .. } if value == "-Xmx64m"));
        let cli = Cli::try_parse_from(["cf", "scale", "app", "-l", "-1"]).unwrap();
        assert!(matches!(cli.command, Command::Scale(Scale { log_rate: Some(rate), .. }) if rate == "-1"));
    }
}
