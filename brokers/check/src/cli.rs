//! The command line.

use crate::{
    case::Severity,
    cases::CASES,
    options::{Credentials, Options, Version},
    report::{self, Report},
    scene,
};
use anstream::ColorChoice;
use clap::ValueEnum;
use foundation::Secret;
use std::{
    error::Error,
    io::Read,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

const CANNOT_RUN: u8 = 2;

/// Runs the contract of the Open Service Broker API against a broker
///
/// Makes instances and bindings of each plan, and removes them again. Exit code: 0 if the broker keeps all rules, 1 if it breaks
/// any, 2 if the check could not be made to its end.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Address of the broker: everything before /v2
    #[arg(required_unless_present = "list")]
    url: Option<String>,
    /// User of the platform at the broker; the password comes from --password-file or the variable BROKER_PASSWORD
    #[arg(long, env = "BROKER_USER")]
    user: Option<String>,
    /// File whose first line is the password (- for standard input)
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Only this offering, by name or id; may be repeated
    #[arg(long = "service", value_name = "NAME")]
    services: Vec<String>,
    /// Only this plan, by name or id; may be repeated
    #[arg(long = "plan", value_name = "NAME")]
    plans: Vec<String>,
    /// JSON file with the parameters to use: {"offering/plan": {"provision": {}, "update": {}, "bind": {}}}; a plan's id or * will do too
    #[arg(long, value_name = "FILE")]
    parameters: Option<PathBuf>,
    /// Version of the API to announce; cases of later versions are left out
    #[arg(long, value_name = "VERSION", default_value_t = Version::LATEST, value_parser = |text: &str| text.parse::<Version>())]
    osb_version: Version,
    /// Check also what older checkers want beyond the specification
    #[arg(long)]
    strict_legacy: bool,
    /// Advice counts as a finding
    #[arg(long)]
    strict: bool,
    /// Leave out a case, or a group of them (auth); may be repeated
    #[arg(long = "skip", value_name = "CASE")]
    skip: Vec<String>,
    /// PEM file with authorities to trust besides the system's
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Accept any certificate
    #[arg(long)]
    skip_tls_check: bool,
    /// Time for one answer
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    request_timeout: u64,
    /// Time for one asynchronous operation; a plan's own maximum_polling_duration counts if it is shorter
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    poll_timeout: u64,
    /// Time for everything, without the final clean-up
    #[arg(long, value_name = "SECONDS", default_value_t = 1_800, value_parser = clap::value_parser!(u64).range(1..))]
    time_limit: u64,
    /// Write the report as JUnit XML to this file
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Print each verdict as it is reached
    #[arg(long, short)]
    verbose: bool,
    /// When to use colours
    #[arg(long, value_enum, default_value_t = Color::Auto)]
    color: Color,
    /// Print all cases, and check nothing
    #[arg(long)]
    list: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

/// Checks a broker as the command line says, prints the report, and says how the process should end.
pub fn main(args: Args) -> ExitCode {
    match args.color {
        Color::Auto => ColorChoice::Auto,
        Color::Always => ColorChoice::Always,
        Color::Never => ColorChoice::Never,
    }
    .write_global();
    if args.list {
        list();
        return ExitCode::SUCCESS;
    }
    match check(&args) {
        Ok(report) => ExitCode::from(&report),
        Err(error) => {
            let mut text = error.to_string();
            let mut next = error.source();
            while let Some(cause) = next {
                text += &format!(": {cause}");
                next = cause.source();
            }
            anstream::eprintln!("check-broker: {text}");
            ExitCode::from(CANNOT_RUN)
        }
    }
}

fn list() {
    for case in CASES {
        let severity = if case.severity == Severity::Must { "must" } else { "should" };
        let legacy = if case.legacy { " (only with --strict-legacy)" } else { "" };
        anstream::println!("{:<36} {severity:<7} {}: {}{legacy}", case.id, case.section, case.title);
    }
}

fn check(args: &Args) -> Result<Report, Box<dyn Error>> {
    let options = options(args)?;
    foundation::tls::install_crypto();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let verbose = args.verbose && !args.json;
    let progress = |entry: &report::Entry| {
        if verbose {
            anstream::println!("{}", report::line(entry));
        }
    };
    let report = runtime.block_on(async { scene::run(options, Box::new(foundation::rng()), stop(), progress).await })?;
    if let Some(path) = &args.junit {
        std::fs::write(path, report::junit(&report)?).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    }
    match args.json {
        true => anstream::println!("{:#}", report::json(&report)),
        false => anstream::print!("{}", report::text(&report)),
    }
    Ok(report)
}

/// Ends when somebody wants the check to end; a second time, the process does.
async fn stop() {
    let interrupted = tokio::signal::ctrl_c();
    let Ok(mut terminated) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupted => {}
        _ = terminated.recv() => {}
    }
    anstream::eprintln!("Stopping: removing what was made. Once more leaves it behind.");
    tokio::spawn(async move {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminated.recv() => {}
        }
        std::process::exit(i32::from(CANNOT_RUN));
    });
}

fn options(args: &Args) -> Result<Options, Box<dyn Error>> {
    let mut options = Options::new(args.url.as_deref().unwrap_or_default())?.without(&args.skip)?;
    options.credentials = credentials(args)?;
    if let Some(path) = &args.parameters {
        let parameters = serde_json::from_slice(&read(path)?).map_err(|e| format!("{} is not JSON: {e}", path.display()))?;
        options = options.with_parameters(&parameters)?;
    }
    if let Some(path) = &args.ca {
        options.authorities = read(path)?;
    }
    options.services.clone_from(&args.services);
    options.plans.clone_from(&args.plans);
    options.version = args.osb_version;
    options.strict_legacy = args.strict_legacy;
    options.strict = args.strict;
    options.any_certificate = args.skip_tls_check;
    options.limits.request = Duration::from_secs(args.request_timeout);
    options.limits.polling = Duration::from_secs(args.poll_timeout);
    options.limits.total = Duration::from_secs(args.time_limit);
    Ok(options)
}

fn credentials(args: &Args) -> Result<Option<Credentials>, Box<dyn Error>> {
    let Some(user) = args.user.clone() else {
        if args.password_file.is_some() {
            return Err("--password-file needs --user".into());
        }
        return Ok(None);
    };
    let password = match &args.password_file {
        Some(path) => {
            let bytes = read(path)?;
            let text = String::from_utf8(bytes).map_err(|_| format!("{} is not text", path.display()))?;
            text.lines().next().unwrap_or_default().to_owned()
        }
        None => std::env::var("BROKER_PASSWORD").map_err(|_| "--user needs --password-file or the variable BROKER_PASSWORD")?,
    };
    Ok(Some(Credentials { user, password: Secret::new(password) }))
}

fn read(path: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
    if path == Path::new("-") {
        let mut bytes = vec![];
        std::io::stdin().read_to_end(&mut bytes)?;
        return Ok(bytes);
    }
    std::fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()).into())
}
