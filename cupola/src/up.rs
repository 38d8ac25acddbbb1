//! `cupola up`: first boot, boot, and taking back what runs.

use crate::{
    NodeArgs, block_on,
    control::{self, Answer, Ask},
    down, hosts, must_be_root, nats,
    node::Node,
    ports,
    settings::Settings,
    supervisor::Supervisor,
};
use anyhow::{Context, bail};
use clap::Args;
use nix::fcntl::{Flock, FlockArg};
use std::{
    fs::File,
    io::Write,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tracing::{info, warn};

#[derive(Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// Return once the platform serves; it goes on in the background
    #[arg(long)]
    detach: bool,
    /// Settings of a first boot (TOML, as in `<state>/cupola.toml`)
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Domain of the platform's own names
    #[arg(long)]
    system_domain: Option<String>,
    /// Domain of apps' routes
    #[arg(long)]
    apps_domain: Option<String>,
    /// Address of the router
    #[arg(long)]
    listen: Option<Ipv4Addr>,
    /// HTTP port of the router
    #[arg(long)]
    http_port: Option<u16>,
    /// HTTPS port of the router
    #[arg(long)]
    https_port: Option<u16>,
    /// Environment variable of every staging, `KEY=value` (registries, proxies); may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    staging_env: Vec<(String, String)>,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("it is not KEY=value")?;
    Ok((key.to_owned(), value.to_owned()))
}

pub(crate) fn up(args: UpArgs) -> anyhow::Result<()> {
    must_be_root("`cupola up`")?;
    let mut settings = args.chosen_settings()?;
    let socket = crate::node::control_socket(&settings);
    if let Some(answer) = block_on(control::ask(&socket, &Ask::Status))? {
        let same = |a: &Path, b: &Path| a.canonicalize().ok().zip(b.canonicalize().ok()).is_some_and(|(a, b)| a == b);
        // One that is older than this program does not say where.
        if !answer.state.as_os_str().is_empty() && !same(&answer.state, &args.node.state) {
            bail!(
                "another Cupola is running here, with its state in {}: give this one a folder `run_dir`, ports, a subnet and a table of its own, or stop that one",
                answer.state.display()
            );
        }
        println!("Cupola is already running: {} parts, state in {}.", answer.parts.len(), answer.state.display());
        return Ok(());
    }
    if Settings::read(&args.node.state)?.is_none() && args.settings.is_none() {
        ports::avoid_taken(&mut settings).iter().for_each(|change| println!("{change}"));
    }
    if args.detach {
        settings.write_first(&args.node.state)?;
        return detach(&args.node.state, &socket);
    }
    foundation::init_logs();
    block_on(supervise(&args.node.state, settings))
}

impl UpArgs {
    /// The node's settings, or those of a first boot; flags win.
    fn chosen_settings(&self) -> anyhow::Result<Settings> {
        let mut settings = match (Settings::read(&self.node.state)?, &self.settings) {
            (Some(settings), _) => settings,
            (None, Some(file)) => {
                let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
                toml::from_str(&text).with_context(|| format!("{} is not valid", file.display()))?
            }
            (None, None) => Settings::default(),
        };
        if let Some(domain) = &self.system_domain {
            settings.system_domain.clone_from(domain);
        }
        if let Some(domain) = &self.apps_domain {
            settings.apps_domain.clone_from(domain);
        }
        settings.listen = self.listen.unwrap_or(settings.listen);
        settings.http_port = self.http_port.unwrap_or(settings.http_port);
        settings.https_port = self.https_port.unwrap_or(settings.https_port);
        settings.staging_environment.extend(self.staging_env.iter().cloned());
        Ok(settings)
    }
}

impl Settings {
    fn write_first(&self, state: &Path) -> anyhow::Result<()> {
        crate::files::folder(state, crate::files::Owner::root(0o755))?;
        self.write(state)
    }
}

/// Starts the supervisor in the background and shows how far it is.
fn detach(state: &Path, socket: &Path) -> anyhow::Result<()> {
    let logs = state.join("logs");
    std::fs::create_dir_all(&logs)?;
    let log_path = logs.join("supervisor.log");
    let log = std::fs::OpenOptions::new().create(true).append(true).open(&log_path)?;
    let mut child = Command::new("setsid")
        .arg(std::env::current_exe()?)
        .args(["up", "--state"])
        .arg(state)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start the supervisor")?;
    let began = Instant::now();
    let mut shown = String::new();
    while began.elapsed() < Duration::from_secs(90) {
        if let Some(status) = child.try_wait()? {
            bail!("the supervisor ended ({status}); the end of {}:\n{}", log_path.display(), tail(&log_path));
        }
        if let Ok(Some(answer)) = block_on(control::ask(socket, &Ask::Status)) {
            show(&answer, &mut shown, began.elapsed());
            if answer.ready {
                println!("The platform serves its API after {:.1} s.", began.elapsed().as_secs_f64());
                return Ok(());
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!("the platform did not serve its API in 90 s; `cupola status` and the logs in {} say more", logs.display())
}

fn show(answer: &Answer, shown: &mut String, elapsed: Duration) {
    let running = answer.parts.iter().filter(|part| part.pid.is_some()).count();
    let waiting = answer.parts.iter().filter_map(|part| Some(format!("{}: {}", part.service, part.problem.as_ref()?)));
    let mut line = format!("{running} of {} parts run", answer.parts.len());
    waiting.for_each(|problem| line += &format!(" ({problem})"));
    if line != *shown {
        println!("{:5.1} s  {line}", elapsed.as_secs_f64());
        let _ = std::io::stdout().flush();
        *shown = line;
    }
}

fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

/// The supervisor itself: until somebody says down, or TERM.
async fn supervise(state: &Path, settings: Settings) -> anyhow::Result<()> {
    settings.write_first(state)?;
    let _lock = lock(state)?;
    let node = Node::prepare(state, settings)?;
    let supervisor = Arc::new(Supervisor::new(&node)?);
    if !supervisor.runs("gorouter") {
        ports_are_free(&node.settings)?;
    }
    let names = node.names();
    if names.iter().any(|name| !hosts::resolves(name, node.settings.listen)) {
        hosts::add(&node.state.display().to_string(), node.settings.listen, &names)?;
    }
    let listener = control::listen(&node.control_socket())?;
    let (ready_sender, ready) = watch::channel(false);
    let booting = boot(&node, &supervisor, ready_sender);
    tokio::pin!(booting);
    let mut booted = false;
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut logs = tokio::time::interval(Duration::from_secs(30));
    let caller = loop {
        tokio::select! {
            result = &mut booting, if !booted => {
                booted = true;
                result?;
                info!("the platform serves its API");
            }
            _ = logs.tick() => supervisor.rotate_logs(),
            _ = term.recv() => break None,
            _ = int.recv() => break None,
            connection = listener.accept() => {
                let Ok((mut stream, _)) = connection else { continue };
                match control::read(&mut stream).await {
                    Ok(Ask::Down) => break Some(stream),
                    Ok(Ask::Status) => {
                        let answer = Answer { ready: *ready.borrow(), parts: supervisor.status(), state: node.state.clone() };
                        let _ = control::answer(&mut stream, &answer).await;
                    }
                    Err(error) => warn!(error = &*error, "unreadable question"),
                }
            }
        }
    };
    let stopped = down::stop_everything(&node, &supervisor).await;
    let _ = std::fs::remove_file(node.control_socket());
    if let Some(mut stream) = caller {
        let _ =
            control::answer(&mut stream, &Answer { ready: false, parts: supervisor.status(), state: node.state.clone() }).await;
    }
    stopped
}

async fn boot(node: &Node, supervisor: &Supervisor, ready: watch::Sender<bool>) -> anyhow::Result<()> {
    supervisor.keep("nats");
    nats::prepare(node).await?;
    supervisor.keep_rest();
    let url = format!("http://{}:{}/", node.settings.listen, node.settings.http_port);
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build()?;
    // The API document comes from the cloud controller, the login document from UAA; both through the router.
    for (name, path) in [("api", ""), ("login", "login")] {
        loop {
            let request = client.get(format!("{url}{path}")).header("Host", format!("{name}.{}", node.settings.system_domain));
            match request.header("Accept", "application/json").send().await {
                Ok(answer) if answer.status().is_success() => break,
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }
    ready.send_replace(true);
    Ok(())
}

/// One supervisor a node. The lock goes with the process, however it ends.
pub(crate) fn lock(state: &Path) -> anyhow::Result<Flock<File>> {
    let path = state.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|_| anyhow::anyhow!("another supervisor holds {}; `cupola status` shows it", path.display()))
}

fn ports_are_free(settings: &Settings) -> anyhow::Result<()> {
    for (key, port) in [("http_port", settings.http_port), ("https_port", settings.https_port)] {
        TcpListener::bind((settings.listen, port)).map(drop).with_context(|| {
            let flag = key.replace('_', "-");
            format!("port {port} of {} cannot be used; stop what listens there, or choose another with --{flag}", settings.listen)
        })?;
    }
    Ok(())
}
