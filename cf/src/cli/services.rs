//! The words and flags of services: marketplace, instances, bindings, keys, brokers.

use super::Format;
use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// List what the marketplace offers
    #[command(visible_alias = "m", after_help = "EXAMPLES:\n   cf marketplace\n   cf marketplace -e postgres")]
    Marketplace {
        /// One offering, with its plans
        #[arg(short = 'e', value_name = "OFFERING")]
        offering: Option<String>,
        /// Only of this broker
        #[arg(short = 'b', value_name = "BROKER")]
        broker: Option<String>,
        /// Leave the plans out
        #[arg(long, conflicts_with = "offering")]
        no_plans: bool,
        /// Also plans that are not available
        #[arg(long)]
        show_unavailable: bool,
        #[command(flatten)]
        format: Format,
    },
    /// List all service instances in the target space
    #[command(visible_alias = "s")]
    Services {
        /// Do not ask which apps are bound
        #[arg(long)]
        no_apps: bool,
        #[command(flatten)]
        format: Format,
    },
    /// Show a service instance
    #[command(after_help = "EXAMPLES:\n   cf service my-db\n   cf service my-db --params")]
    Service {
        /// Its name
        instance: String,
        /// Print its guid only
        #[arg(long)]
        guid: bool,
        /// Print its parameters only, as its broker tells them
        #[arg(long, conflicts_with = "guid")]
        params: bool,
        #[command(flatten)]
        format: Format,
    },
    /// Create a service instance
    #[command(
        visible_alias = "cs",
        after_help = "EXAMPLES:\n   cf create-service postgres shared my-db\n   cf create-service postgres shared my-db -c '{\"connections\": 10}' --wait"
    )]
    CreateService(CreateService),
    /// Update a service instance
    #[command(after_help = "EXAMPLES:\n   cf update-service my-db -p dedicated\n   cf update-service my-db -t sql,main")]
    UpdateService(UpdateService),
    /// Upgrade a service instance to what its plan has now
    UpgradeService {
        /// Its name
        instance: String,
        #[command(flatten)]
        sure: Sure,
        #[command(flatten)]
        wait: Wait,
    },
    /// Rename a service instance
    RenameService {
        /// Its name
        instance: String,
        /// Its new name
        new_name: String,
    },
    /// Delete a service instance
    #[command(visible_alias = "ds")]
    DeleteService {
        /// Its name
        instance: String,
        #[command(flatten)]
        sure: Sure,
        #[command(flatten)]
        wait: Wait,
    },
    /// Forget a service instance without asking its broker
    PurgeServiceInstance {
        /// Its name
        instance: String,
        #[command(flatten)]
        sure: Sure,
    },
    /// Make a user-provided service instance
    #[command(
        visible_alias = "cups",
        after_help = "EXAMPLES:\n   cf create-user-provided-service my-mail -p '{\"uri\":\"smtp://...\"}'\n   cf create-user-provided-service my-drain -l syslog://logs.example.com:514"
    )]
    CreateUserProvidedService(UserProvided),
    /// Update a user-provided service instance
    #[command(visible_alias = "uups")]
    UpdateUserProvidedService(UserProvided),
    /// Bind a service instance to an app
    #[command(
        visible_alias = "bs",
        after_help = "EXAMPLES:\n   cf bind-service my-app my-db\n   cf bind-service my-app my-db --binding-name main --wait"
    )]
    BindService(BindService),
    /// Unbind a service instance from an app
    #[command(visible_alias = "us")]
    UnbindService {
        /// The app
        app: String,
        /// The service instance
        instance: String,
        /// Only the binding with this guid
        #[arg(long, value_name = "GUID")]
        guid: Option<String>,
        #[command(flatten)]
        wait: Wait,
    },
    /// Delete the older of several bindings of an app to a service instance
    CleanupOutdatedServiceBindings {
        /// The app
        app: String,
        /// Only bindings to this service instance
        #[arg(long, value_name = "INSTANCE")]
        service_instance: Option<String>,
        /// How many of the newest stay
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
        keep_last: u16,
        #[command(flatten)]
        sure: Sure,
        #[command(flatten)]
        wait: Wait,
    },
    /// Create a key of a service instance
    #[command(visible_alias = "csk")]
    CreateServiceKey {
        /// The service instance
        instance: String,
        /// Name of the key
        key: String,
        #[command(flatten)]
        parameters: Parameters,
        #[command(flatten)]
        wait: Wait,
    },
    /// List the keys of a service instance
    #[command(visible_alias = "sk")]
    ServiceKeys {
        /// The service instance
        instance: String,
        #[command(flatten)]
        format: Format,
    },
    /// Show the credentials of a key
    ServiceKey {
        /// The service instance
        instance: String,
        /// Name of the key
        key: String,
        /// Print its guid only
        #[arg(long)]
        guid: bool,
        #[command(flatten)]
        format: Format,
    },
    /// Delete a key of a service instance
    #[command(visible_alias = "dsk")]
    DeleteServiceKey {
        /// The service instance
        instance: String,
        /// Name of the key
        key: String,
        #[command(flatten)]
        sure: Sure,
        #[command(flatten)]
        wait: Wait,
    },
    /// Bind a service instance to a route
    #[command(
        visible_alias = "brs",
        after_help = "EXAMPLES:\n   cf bind-route-service app.localhost my-filter --hostname my-app"
    )]
    BindRouteService {
        #[command(flatten)]
        route: ServiceRoute,
        #[command(flatten)]
        parameters: Parameters,
        #[command(flatten)]
        wait: Wait,
    },
    /// Unbind a service instance from a route
    #[command(visible_alias = "urs")]
    UnbindRouteService {
        #[command(flatten)]
        route: ServiceRoute,
        #[command(flatten)]
        sure: Sure,
        #[command(flatten)]
        wait: Wait,
    },
    /// Share a service instance with another space
    ShareService(Sharing),
    /// Take a shared service instance back from a space
    UnshareService {
        #[command(flatten)]
        sharing: Sharing,
        #[command(flatten)]
        sure: Sure,
    },
    /// Back a service instance up
    #[command(after_help = "EXAMPLES:\n   cf backup-service my-db\n   cf backups my-db\n   cf restore-service my-db BACKUP")]
    BackupService {
        /// Its name
        instance: String,
        #[command(flatten)]
        wait: Wait,
    },
    /// List the backups of a service instance
    Backups {
        /// The service instance
        instance: String,
        #[command(flatten)]
        format: Format,
    },
    /// Delete a backup of a service instance
    DeleteBackup {
        /// The service instance
        instance: String,
        /// The backup's guid
        backup: String,
        #[command(flatten)]
        sure: Sure,
    },
    /// Put a service instance back to what a backup has
    RestoreService {
        /// Its name
        instance: String,
        /// The backup's guid (default: the newest)
        backup: Option<String>,
        #[command(flatten)]
        sure: Sure,
        #[command(flatten)]
        wait: Wait,
    },
    /// Make a new service instance with the data of another
    #[command(after_help = "EXAMPLES:\n   cf clone-service my-db my-db-copy --wait")]
    CloneService {
        /// The service instance
        instance: String,
        /// Name of the new one
        new_name: String,
        /// The state of this backup, not of now
        #[arg(long, value_name = "GUID")]
        backup: Option<String>,
        #[command(flatten)]
        wait: Wait,
    },

    /// List service brokers
    ServiceBrokers(Format),
    /// Create a service broker
    #[command(
        visible_alias = "csb",
        after_help = "EXAMPLES:\n   CF_BROKER_PASSWORD=secret cf create-service-broker my-broker user https://broker.example.com"
    )]
    CreateServiceBroker {
        #[command(flatten)]
        broker: Broker,
        /// Only the target space sees what it offers
        #[arg(long)]
        space_scoped: bool,
        /// Update it when it is there
        #[arg(long)]
        update_if_exists: bool,
    },
    /// Update a service broker, and read its catalog again
    UpdateServiceBroker(Broker),
    /// Rename a service broker
    RenameServiceBroker {
        /// Its name
        broker: String,
        /// Its new name
        new_name: String,
    },
    /// Delete a service broker
    DeleteServiceBroker {
        /// Its name
        broker: String,
        #[command(flatten)]
        sure: Sure,
    },
    /// Show who may use which plans
    ServiceAccess {
        /// Only of this broker
        #[arg(short = 'b', value_name = "BROKER")]
        broker: Option<String>,
        /// Only this offering
        #[arg(short = 'e', value_name = "OFFERING")]
        offering: Option<String>,
        /// Only what this org may use
        #[arg(short = 'o', value_name = "ORG")]
        org: Option<String>,
    },
    /// Let orgs use plans
    EnableServiceAccess(Access),
    /// Keep orgs from using plans
    DisableServiceAccess(Access),
    /// Forget an offering and all its instances without asking its broker
    PurgeServiceOffering {
        /// The offering
        offering: String,
        /// Its broker
        #[arg(short = 'b', value_name = "BROKER")]
        broker: Option<String>,
        #[command(flatten)]
        sure: Sure,
    },
}

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Wait {
    /// Wait for the operation to complete
    #[arg(short = 'w', long)]
    pub(crate) wait: bool,
}

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Sure {
    /// Do not ask
    #[arg(short = 'f', long)]
    pub(crate) force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Parameters {
    /// Parameters for the broker: a JSON object, or a file with one
    #[arg(short = 'c', value_name = "JSON")]
    pub(crate) parameters: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct CreateService {
    /// The offering
    pub(crate) offering: String,
    /// The plan
    pub(crate) plan: String,
    /// Name of the service instance
    pub(crate) instance: String,
    /// The broker, where several have such an offering
    #[arg(short = 'b', value_name = "BROKER")]
    pub(crate) broker: Option<String>,
    #[command(flatten)]
    pub(crate) parameters: Parameters,
    /// Tags, with commas between
    #[arg(short = 't', value_name = "TAGS")]
    pub(crate) tags: Option<String>,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

#[derive(Args, Debug)]
pub(crate) struct UpdateService {
    /// Its name
    pub(crate) instance: String,
    /// New plan
    #[arg(short = 'p', value_name = "PLAN")]
    pub(crate) plan: Option<String>,
    #[command(flatten)]
    pub(crate) parameters: Parameters,
    /// New tags, with commas between
    #[arg(short = 't', value_name = "TAGS")]
    pub(crate) tags: Option<String>,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

#[derive(Args, Debug)]
pub(crate) struct UserProvided {
    /// Its name
    pub(crate) instance: String,
    /// Credentials: a JSON object, a file with one, or names to be asked for, with commas between
    #[arg(short = 'p', value_name = "CREDENTIALS")]
    pub(crate) credentials: Option<String>,
    /// Where logs of bound apps go
    #[arg(short = 'l', value_name = "URL")]
    pub(crate) syslog_drain_url: Option<String>,
    /// Where requests of bound routes go, https
    #[arg(short = 'r', value_name = "URL")]
    pub(crate) route_service_url: Option<String>,
    /// Tags, with commas between
    #[arg(short = 't', value_name = "TAGS")]
    pub(crate) tags: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct BindService {
    /// The app
    pub(crate) app: String,
    /// The service instance
    pub(crate) instance: String,
    #[command(flatten)]
    pub(crate) parameters: Parameters,
    /// Name under which the app finds it
    #[arg(short = 'n', long, value_name = "NAME")]
    pub(crate) binding_name: Option<String>,
    /// Whether there may be a binding already
    #[arg(long)]
    pub(crate) strategy: Option<Strategy>,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Strategy {
    Single,
    Multiple,
}

#[derive(Args, Debug)]
pub(crate) struct ServiceRoute {
    /// Domain of the route
    pub(crate) domain: String,
    /// The service instance
    pub(crate) instance: String,
    /// Host name of the route
    #[arg(short = 'n', long, value_name = "HOST")]
    pub(crate) hostname: Option<String>,
    /// Path of the route
    #[arg(long)]
    pub(crate) path: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Sharing {
    /// The service instance
    pub(crate) instance: String,
    /// The other space
    #[arg(short = 's', value_name = "SPACE")]
    pub(crate) space: String,
    /// Its org (default: the target org)
    #[arg(short = 'o', value_name = "ORG")]
    pub(crate) org: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Broker {
    /// Its name
    pub(crate) broker: String,
    /// User name at the broker
    pub(crate) user: String,
    /// Password at the broker and its URL; others on this machine may see a password here: leave it out and set
    /// CF_BROKER_PASSWORD, or be asked
    #[arg(num_args = 1..=2, required = true, value_names = ["PASSWORD", "URL"])]
    pub(crate) password_and_url: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Access {
    /// The offering
    pub(crate) offering: String,
    /// Only this plan
    #[arg(short = 'p', value_name = "PLAN")]
    pub(crate) plan: Option<String>,
    /// Only this org
    #[arg(short = 'o', value_name = "ORG")]
    pub(crate) org: Option<String>,
    /// The broker, where several have such an offering
    #[arg(short = 'b', value_name = "BROKER")]
    pub(crate) broker: Option<String>,
}
