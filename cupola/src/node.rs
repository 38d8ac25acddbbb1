//! A node: its settings, secrets and certificates, and what follows from them (configuration of each part, programs).

use crate::{
    brokers::{self, OwnBroker},
    certificates::Authority,
    configs,
    files::{self, Owner},
    nats,
    process::{Program, User},
    secrets::Secrets,
    settings::{Port, Settings},
};
use anyhow::Context;
use std::path::{Path, PathBuf};

/// One part of the platform in the order of starting.
pub(crate) struct Part {
    pub(crate) name: &'static str,
    /// Added to `service_uid_base`; `None`: root.
    pub(crate) uid_offset: Option<u32>,
}

/// All parts, in the order of starting.
pub(crate) const PARTS: &[Part] = &[
    Part { name: "nats", uid_offset: Some(1) },
    Part { name: "loggregator_agent", uid_offset: Some(2) },
    Part { name: "warden", uid_offset: None },
    Part { name: "uaa", uid_offset: Some(3) },
    Part { name: "cloud_controller", uid_offset: Some(4) },
    Part { name: "gorouter", uid_offset: Some(5) },
    Part { name: "log_cache", uid_offset: Some(6) },
    Part { name: "dea", uid_offset: Some(7) },
    Part { name: "health_manager", uid_offset: Some(8) },
    Part { name: "postgres_broker", uid_offset: Some(9) },
    Part { name: "mysql_broker", uid_offset: Some(10) },
    Part { name: "redis_broker", uid_offset: Some(11) },
    Part { name: "rabbitmq_broker", uid_offset: Some(12) },
];

/// OAuth clients of the platform's own parts that need a secret.
pub(crate) const CLIENTS: &[&str] = &["cloud_controller", "admin"];

/// Names under the system domain.
pub(crate) const SYSTEM_NAMES: &[&str] = &["api", "uaa", "login", "log-cache", "log-stream", "console", "ssh", "doppler"];

/// A node that was prepared.
pub(crate) struct Node {
    pub(crate) state: PathBuf,
    pub(crate) settings: Settings,
    pub(crate) secrets: Secrets,
    pub(crate) authority: Authority,
    executable: PathBuf,
}

impl Node {
    /// Makes whatever a node needs and does not have yet; changes nothing that is there, except that the configuration
    /// of the parts is written anew from settings and secrets.
    pub(crate) fn prepare(state: &Path, settings: Settings) -> anyhow::Result<Self> {
        files::folder(state, Owner::root(0o755))?;
        settings.write(state)?;
        let names: Vec<String> = PARTS
            .iter()
            .map(|part| format!("bus-{}", part.name))
            .chain(["bus-cupola", "admin", "encryption-key"].map(str::to_owned))
            .chain(brokers::OWN.iter().map(OwnBroker::secret))
            .chain(CLIENTS.iter().map(|client| format!("client-{client}")))
            .collect();
        let secrets = Secrets::open(state, &names, &mut foundation::rng())?;
        let authority = Authority::open(&state.join("certificates"), &format!("Cupola CA of {}", settings.system_domain))?;
        let executable = std::env::current_exe().context("cannot find the program itself")?;
        let node = Self { state: state.to_owned(), settings, secrets, authority, executable };
        node.make_folders()?;
        node.write_admin()?;
        files::write(&node.config_of("nats"), nats::configuration(&node)?.as_bytes(), Owner::service(node.uid("nats"), 0o400))?;
        configs::write(&node)?;
        Ok(node)
    }

    fn make_folders(&self) -> anyhow::Result<()> {
        for folder in ["config", "logs", "certificates", "stacks"] {
            files::folder(&self.state.join(folder), Owner::root(0o755))?;
        }
        for part in PARTS {
            files::folder(
                &self.state_of(part.name),
                Owner::service(self.uid(part.name), if ["warden", "dea"].contains(&part.name) { 0o711 } else { 0o700 }),
            )?;
        }
        files::folder(&self.settings.run_dir, Owner { uid: 0, gid: self.shared_group(), mode: 0o755 })?;
        files::folder(&self.notes(), Owner::root(0o700))?;
        // Sockets are made by the parts themselves, each in a folder of its own.
        for part in ["loggregator_agent", "warden"] {
            let owner = Owner { uid: self.uid(part), gid: self.shared_group(), mode: 0o750 };
            files::folder(&self.settings.run_dir.join(part), owner)?;
        }
        // Only the DEA may speak to Warden.
        files::folder(&self.settings.run_dir.join("warden"), Owner { uid: 0, gid: self.uid("dea"), mode: 0o750 })
    }

    fn write_admin(&self) -> anyhow::Result<()> {
        let password = self.secrets.get("admin")?.expose();
        files::write(&self.admin_password(), format!("{password}\n").as_bytes(), Owner::root(0o600))
    }

    /// The file with the password of the user `admin`.
    pub(crate) fn admin_password(&self) -> PathBuf {
        self.state.join("admin-password")
    }
    /// The folder with the notes about running processes.
    pub(crate) fn notes(&self) -> PathBuf {
        notes(&self.settings)
    }
    /// The supervisor's socket.
    pub(crate) fn control_socket(&self) -> PathBuf {
        control_socket(&self.settings)
    }
    /// A part's own state folder.
    pub(crate) fn state_of(&self, part: &str) -> PathBuf {
        self.state.join(part)
    }
    /// A part's configuration file.
    pub(crate) fn config_of(&self, part: &str) -> PathBuf {
        self.state.join("config").join(if part == "nats" { "nats.conf".to_owned() } else { format!("{part}.toml") })
    }
    /// A part's user id; 0 for root.
    pub(crate) fn uid(&self, part: &str) -> u32 {
        let offset = PARTS.iter().find(|known| known.name == part).and_then(|known| known.uid_offset);
        offset.map_or(0, |offset| self.settings.service_uid_base + offset)
    }
    /// The group of all parts.
    pub(crate) fn shared_group(&self) -> u32 {
        self.settings.service_uid_base
    }
    /// Where producers send their log envelopes.
    pub(crate) fn agent_socket(&self) -> PathBuf {
        self.settings.run_dir.join("loggregator_agent/agent.sock")
    }
    /// Where the DEA reaches Warden.
    pub(crate) fn warden_socket(&self) -> PathBuf {
        self.settings.run_dir.join("warden/warden.sock")
    }
    /// Where the stacks lie.
    pub(crate) fn stacks(&self) -> PathBuf {
        self.settings.stacks_dir.clone().unwrap_or_else(|| self.state.join("stacks"))
    }
    /// Where the bus is.
    pub(crate) fn bus_url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.settings.port(Port::Bus))
    }
    /// The file beside the program with this name.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.executable.with_file_name(name)
    }
    /// `https://<name>.<system domain>`, with the port where it is not 443.
    pub(crate) fn url(&self, name: &str) -> String {
        let port = match self.settings.https_port {
            443 => String::new(),
            port => format!(":{port}"),
        };
        format!("https://{name}.{}{port}", self.settings.system_domain)
    }
    /// Names that clients must be able to resolve.
    pub(crate) fn names(&self) -> Vec<String> {
        SYSTEM_NAMES.iter().map(|name| format!("{name}.{}", self.settings.system_domain)).collect()
    }

    /// What to run, in order.
    pub(crate) fn programs(&self) -> anyhow::Result<Vec<Program>> {
        let on = |part: &&Part| OwnBroker::of(part.name).is_none_or(|broker| broker.is_on(&self.settings));
        PARTS.iter().filter(on).map(|part| self.program(part)).collect()
    }

    fn program(&self, part: &Part) -> anyhow::Result<Program> {
        let config = self.config_of(part.name).display().to_string();
        let argv = match part.name {
            "nats" => vec![nats::find(self.beside("nats-server"))?.display().to_string(), "--config".into(), config],
            name => vec![self.executable.display().to_string(), "run".into(), name.into(), "--config".into(), config],
        };
        let user = part.uid_offset.map(|_| User {
            uid: self.uid(part.name),
            shared_group: self.shared_group(),
            low_ports: part.name == "gorouter",
        });
        Ok(Program { name: part.name, argv, user, log: self.state.join("logs").join(format!("{}.log", part.name)) })
    }
}

/// The folder with the notes about running processes of a node with these settings.
pub(crate) fn notes(settings: &Settings) -> PathBuf {
    settings.run_dir.join("pids")
}

/// The supervisor's socket of a node with these settings.
pub(crate) fn control_socket(settings: &Settings) -> PathBuf {
    settings.run_dir.join("cupola.sock")
}
