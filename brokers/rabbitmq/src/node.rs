//! The shared node: one Erlang process that serves all instances.
//!
//! It needs no epmd: it starts as a distributed node by itself (`-sname`), with a fixed port on loopback where only a holder
//! of the cookie gets in, and RabbitMQ then leaves out its own search for epmd at the start. Nothing of `/etc/rabbitmq` is read.

use crate::api::{ADMIN, Api};
use async_trait::async_trait;
use engines::{Engine, Error, Program, User, files};
use foundation::{Secret, config::TlsSection};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Where the node listens.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// Applications, with TLS, on the services' address.
    pub service: u16,
    /// AMQP for the broker itself, on loopback.
    pub amqp: u16,
    /// The management API, on loopback.
    pub management: u16,
    /// Erlang's own distribution, on loopback.
    pub distribution: u16,
}

/// What the node is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Folder of the installed server: `/usr/lib/rabbitmq`.
    pub installation: PathBuf,
    /// Folder for everything of the node that is not its data.
    pub folder: PathBuf,
    /// Whom it runs as.
    pub user: User,
    /// Where applications reach it.
    pub address: Ipv4Addr,
    /// Its ports.
    pub ports: Ports,
    /// What it shows to applications.
    pub tls: TlsSection,
    /// Beyond this much memory publishers wait.
    pub memory_mb: u32,
    /// With less free disk than this publishers wait.
    pub disk_reserve_mb: u32,
    /// The broker's own password.
    pub admin_password: Secret,
    /// What lets somebody into the distribution.
    pub cookie: Secret,
}

/// Where nobody listens.
const NO_PORT: &str = "1";

/// The node, for whoever keeps it running.
pub struct Node {
    settings: Settings,
    api: Arc<Api>,
}

/// The installed version, from its folder's name: asking the program itself takes more than a second.
pub fn version(installation: &Path) -> Option<String> {
    let entries = std::fs::read_dir(installation.join("lib")).ok()?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter_map(|name| name.strip_prefix("rabbitmq_server-").map(str::to_owned)).max()
}

impl Node {
    /// A node that is ruled through `api`.
    pub fn new(settings: Settings, api: Arc<Api>) -> Self {
        Self { settings, api }
    }

    fn configuration(&self) -> String {
        let Settings { address, ports, tls, memory_mb, disk_reserve_mb, .. } = &self.settings;
        let loopback = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let lines = [
            "# Made at every start; changes here are lost.".to_owned(),
            format!("listeners.tcp.1 = {}", loopback(ports.amqp)),
            format!("listeners.ssl.1 = {}", SocketAddr::from((*address, ports.service))),
            format!("ssl_options.cacertfile = {}", tls.ca.display()),
            format!("ssl_options.certfile = {}", tls.certificate.display()),
            format!("ssl_options.keyfile = {}", tls.key.display()),
            "ssl_options.verify = verify_none".to_owned(),
            "ssl_options.fail_if_no_peer_cert = false".to_owned(),
            "ssl_options.versions.1 = tlsv1.3".to_owned(),
            "ssl_options.versions.2 = tlsv1.2".to_owned(),
            "management.tcp.ip = 127.0.0.1".to_owned(),
            format!("management.tcp.port = {}", ports.management),
            // The user of the first start; there is no `guest`.
            format!("default_user = {ADMIN}"),
            format!("default_pass = {}", self.settings.admin_password.expose()),
            "loopback_users.1 = cupola".to_owned(),
            format!("vm_memory_high_watermark.absolute = {memory_mb}MB"),
            format!("disk_free_limit.absolute = {disk_reserve_mb}MB"),
            "channel_max = 256".to_owned(),
            "heartbeat = 60".to_owned(),
            "collect_statistics_interval = 30000".to_owned(),
            "log.console = true".to_owned(),
            "log.console.level = warning".to_owned(),
            "log.file = false\n".to_owned(),
        ];
        lines.join("\n")
    }
}

#[async_trait]
impl Engine for Node {
    fn name(&self) -> &'static str {
        "rabbitmq"
    }

    async fn initialize(&self, _data: &Path) -> Result<Option<Program>, Error> {
        Ok(None)
    }

    async fn launch(&self, data: &Path) -> Result<Program, Error> {
        let Settings { folder, user, .. } = &self.settings;
        let configuration = self.configuration();
        files::folder(folder, *user)?;
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            files::write(&path, text.as_bytes(), *user).map(|()| path)
        };
        let file = write("rabbitmq.conf", &configuration)?;
        let plugins = write("enabled_plugins", "[rabbitmq_management].\n")?;
        write(".erlang.cookie", self.settings.cookie.expose())?;
        let distribution = self.settings.ports.distribution;
        // Sleeping schedulers, and few of them: a node that nobody uses must cost nothing.
        let erlang = format!(
            "-sname cupola@localhost -start_epmd false -erl_epmd_port {distribution} \
             -kernel inet_dist_use_interface {{127,0,0,1}} +sbwt none +sbwtdcpu none +sbwtdio none +S 2:2 +A 8"
        );
        Ok(Program::new(self.settings.installation.join("bin/rabbitmq-server"), *user)
            .arg("-noinput")
            .folder(folder)
            .env("HOME", folder)
            .env("RABBITMQ_NODENAME", "cupola@localhost")
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_CONFIG_FILE", &file)
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", folder.join("advanced.config"))
            .env("RABBITMQ_GENERATED_CONFIG_DIR", folder.join("generated"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", &plugins)
            .env("RABBITMQ_PLUGINS_EXPAND_DIR", folder.join("plugins"))
            .env("RABBITMQ_FEATURE_FLAGS_FILE", folder.join("feature_flags"))
            .env("RABBITMQ_MNESIA_BASE", folder)
            .env("RABBITMQ_MNESIA_DIR", data)
            .env("RABBITMQ_LOG_BASE", folder)
            .env("RABBITMQ_LOGS", "-")
            .env("RABBITMQ_PID_FILE", folder.join("pid"))
            .env("RABBITMQ_DIST_PORT", distribution.to_string())
            // The script then becomes the server instead of watching over it.
            .env("RABBITMQ_ALLOW_INPUT", "1")
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", erlang)
            // Once a minute RabbitMQ looks after its registration: without these it would start an epmd after all, or meet the
            // operator's.
            .env("ERL_ZFLAGS", "-start_epmd false")
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_EPMD_PORT", NO_PORT)
            .env("ERL_CRASH_DUMP_BYTES", "0")
            .configured_by(configuration.as_bytes()))
    }

    async fn probe(&self) -> Result<(), Error> {
        self.api.listens(self.settings.ports.service).await
    }
}
