//! One staging, from package to droplet.

mod failure;
mod scripts;

pub use failure::Failure;

use crate::{
    archive::{self, Times, size_text},
    buildpack::{Buildpack, Missing},
    fetch,
    launch::{Environment, StagingInfo},
    order::{Candidate, Order},
    processes::{About, Processes},
    profile,
    result::{ResultFile, UsedBuildpack},
    run::Deadline,
};
use scripts::Scripts;
use sha2::{Digest, Sha256};
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

/// A Procfile, `launch.yml` or `config.yml` larger than this is none, and all processes together must fit into it too: the result
/// travels through several hands.
const LARGEST_TEXT: usize = 64 << 10;
/// Names, versions and what `detect` says are cut here.
const LONGEST_NAME: usize = 200;

/// Where things lie.
#[derive(Clone, Debug)]
pub struct Places {
    /// The app, a zip.
    pub package: PathBuf,
    /// Unpacked admin buildpacks.
    pub buildpacks: PathBuf,
    /// The cache of an earlier staging; may be absent.
    pub cache: PathBuf,
    /// The order.
    pub order: PathBuf,
    /// Where results go.
    pub output: PathBuf,
    /// Where app, deps, tmp, logs and profile.d lie; home of the scripts.
    pub home: PathBuf,
    /// Room for fetched buildpacks and the unpacked cache.
    pub work: PathBuf,
}

/// Stages, says in the log how it went, writes the result file, and returns the exit status.
#[must_use]
pub fn main(places: &Places, env: &Environment) -> u8 {
    let mut result = ResultFile::default();
    let status = match stage(places, env, &mut result) {
        Ok(()) => 0,
        Err(failure) => {
            eprintln!("{}", failure.log_line());
            result.error = Some(failure.for_user());
            failure.exit_status()
        }
    };
    let file = places.output.join("result.json");
    if let Err(e) = fs::create_dir_all(&places.output).and_then(|()| result.write(&file)) {
        eprintln!("Cannot write {}: {e}", file.display());
        return status.max(1);
    }
    status
}

/// Stages; `result` holds what is known so far when it fails.
///
/// # Errors
/// [`Failure`]: everything that can go wrong, in the user's words.
pub fn stage(places: &Places, env: &Environment, result: &mut ResultFile) -> Result<(), Failure> {
    let order = read_order(&places.order)?;
    let deadline = Deadline::after(Duration::from_secs(order.timeout_s));
    let staging = Staging { places, order: &order, deadline, scripts: Scripts::new(places, &order, env, deadline) };
    staging.prepare()?;
    let buildpacks = staging.buildpacks()?;
    let chosen = if order.skip_detect { chosen(buildpacks)? } else { staging.detect(buildpacks)? };
    staging.build(&chosen, result)?;
    staging.pack(result)
}

struct Staging<'a> {
    places: &'a Places,
    order: &'a Order,
    deadline: Deadline,
    scripts: Scripts<'a>,
}

/// Those that take part.
struct Chosen {
    /// They supply only.
    supply: Vec<Buildpack>,
    last: Buildpack,
    /// What the last one's `detect` said, if it ran.
    detected: String,
}

impl Chosen {
    /// The name of a dependency folder, padded to the width of the largest.
    fn index(&self, number: usize) -> String {
        let width = self.supply.len().to_string().len();
        format!("{number:0width$}")
    }
}

fn chosen(buildpacks: Vec<Result<Buildpack, Missing>>) -> Result<Chosen, Failure> {
    let mut all = buildpacks.into_iter().collect::<Result<Vec<_>, _>>().map_err(Failure::NoBuildpack)?;
    let last = all.pop().ok_or(Failure::NotDetected)?;
    for buildpack in &all {
        if buildpack.script("supply").is_none() {
            return Err(Failure::NoSupply(buildpack.name.clone()));
        }
    }
    Ok(Chosen { supply: all, last, detected: String::new() })
}

fn read_order(path: &Path) -> Result<Order, Failure> {
    let text = fs::read(path).map_err(|e| Failure::File(path.to_owned(), e))?;
    serde_json::from_slice(&text).map_err(|e| Failure::File(path.to_owned(), e.into()))
}

impl Staging<'_> {
    fn app(&self) -> PathBuf {
        self.places.home.join("app")
    }

    fn deps(&self) -> PathBuf {
        self.places.home.join("deps")
    }

    fn cache(&self) -> PathBuf {
        self.places.work.join("cache")
    }

    /// Unpacks the app and the cache, and makes the droplet's folders.
    fn prepare(&self) -> Result<(), Failure> {
        for folder in ["deps", "profile.d", "logs", "tmp"] {
            make(&self.places.home.join(folder))?;
        }
        let unzipped = archive::unzip(&self.places.package, &self.app(), self.order.limits.app()).map_err(Failure::Package)?;
        println!("Unpacked app package ({} in {} entries)", size_text(unzipped.bytes), unzipped.files);
        let cache = self.cache();
        make(&cache)?;
        if !self.places.cache.is_file() {
            return Ok(());
        }
        if let Err(e) = archive::unpack_cache(&self.places.cache, &cache) {
            println!("The build cache cannot be used and is thrown away: {e}");
            fs::remove_dir_all(&cache).map_err(|e| Failure::File(cache.clone(), e))?;
            make(&cache)?;
        }
        Ok(())
    }

    fn buildpacks(&self) -> Result<Vec<Result<Buildpack, Missing>>, Failure> {
        let numbered = self.order.buildpacks.iter().enumerate();
        numbered.map(|(number, candidate)| self.buildpack(number, candidate)).collect()
    }

    fn buildpack(&self, number: usize, candidate: &Candidate) -> Result<Result<Buildpack, Missing>, Failure> {
        let name = &candidate.name;
        let folder = match (&candidate.url, &candidate.key) {
            (Some(url), _) => {
                let parent = self.places.work.join("buildpackdownloads");
                make(&parent)?;
                let folder = parent.join(number.to_string());
                if let Err(why) =
                    fetch::fetch(url, &folder, self.deadline, &|name| self.scripts.command(name), &|line| println!("{line}"))
                {
                    return Ok(Err(Missing::Fetch(redacted(name), why)));
                }
                folder
            }
            (None, Some(key)) if !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') => {
                self.places.buildpacks.join(key)
            }
            _ => return Ok(Err(Missing::Folder(name.clone()))),
        };
        Ok(Buildpack::open(name, &folder))
    }

    fn detect(&self, buildpacks: Vec<Result<Buildpack, Missing>>) -> Result<Chosen, Failure> {
        for buildpack in buildpacks {
            let buildpack = match buildpack {
                Ok(buildpack) => buildpack,
                Err(missing) => {
                    eprintln!("{missing}");
                    continue;
                }
            };
            if let Some(detected) = self.scripts.detect(&buildpack)? {
                return Ok(Chosen { supply: Vec::new(), last: buildpack, detected: cut(&detected) });
            }
        }
        Err(Failure::NotDetected)
    }

    fn build(&self, chosen: &Chosen, result: &mut ResultFile) -> Result<(), Failure> {
        self.keep_caches(chosen)?;
        let scripts = self.run_scripts(chosen);
        // Also when they failed: the cloud controller names them in the error.
        self.describe(chosen, result);
        scripts?;
        self.processes(chosen, result)?;
        profile::complete(&self.deps(), &self.places.home.join("profile.d")).map_err(|e| Failure::File(self.deps(), e))
    }

    fn run_scripts(&self, chosen: &Chosen) -> Result<(), Failure> {
        for (number, buildpack) in chosen.supply.iter().enumerate() {
            let (index, cache) = (chosen.index(number), self.cache_of(Some(&buildpack.name)));
            make(&self.deps().join(&index))?;
            self.scripts.supply(buildpack, &cache, &index)?;
        }
        let index = chosen.index(chosen.supply.len());
        make(&self.deps().join(&index))?;
        self.scripts.finalize(&chosen.last, &self.cache_of(None), &index, !chosen.supply.is_empty())
    }

    /// Who takes part, and what they say of themselves so far.
    fn describe(&self, chosen: &Chosen, result: &mut ResultFile) {
        let used = chosen.supply.iter().chain([&chosen.last]).enumerate().map(|(number, buildpack)| {
            let about = self.about(&chosen.index(number));
            UsedBuildpack {
                key: buildpack.name.clone(),
                name: about.name,
                version: about.version.unwrap_or_default(),
                detect_output: String::new(),
            }
        });
        result.buildpacks = used.collect();
        if let Some(last) = result.buildpacks.last_mut() {
            last.detect_output.clone_from(&chosen.detected);
            result.buildpack_key.clone_from(&last.key);
            result.detected_buildpack = if chosen.detected.is_empty() { last.name.clone() } else { chosen.detected.clone() };
        }
    }

    fn about(&self, index: &str) -> About {
        let text = read_text(&self.deps().join(index).join("config.yml")).ok().flatten();
        // It only describes: a broken one must not stop the staging.
        let mut about = text.and_then(|text| About::parse(&text).ok()).unwrap_or_default();
        about.name = cut(&about.name);
        about.version = about.version.map(|version| cut(&version));
        about
    }

    fn processes(&self, chosen: &Chosen, result: &mut ResultFile) -> Result<(), Failure> {
        let mut processes = Processes::default();
        for number in 0..chosen.supply.len() {
            self.add_launch(&mut processes, &chosen.supply[number], &chosen.index(number))?;
        }
        if !self.add_launch(&mut processes, &chosen.last, &chosen.index(chosen.supply.len()))? {
            let text = self.scripts.release(&chosen.last)?;
            processes.add_release(&text).map_err(|e| Failure::ReleaseOutput(chosen.last.name.clone(), e.to_string()))?;
        }
        let procfile = self.app().join("Procfile");
        if let Some(text) = read_text(&procfile).map_err(|e| Failure::File(procfile, e))? {
            processes.add_procfile(&text).map_err(|e| Failure::Procfile(e.to_string()))?;
        }
        let bytes: usize = processes.types.iter().map(|(kind, command)| kind.len() + command.len()).sum();
        if bytes > LARGEST_TEXT {
            return Err(Failure::ReleaseOutput(chosen.last.name.clone(), "the start commands are larger than 64 KiB".into()));
        }
        result.process_types = processes.types;
        result.sidecars = processes.sidecars.into_values().collect();
        if !result.process_types.contains_key("web") {
            eprintln!("No start command specified by buildpack or via Procfile.");
            eprintln!("App will not start unless a command is provided at runtime.");
        }
        Ok(())
    }

    fn add_launch(&self, processes: &mut Processes, buildpack: &Buildpack, index: &str) -> Result<bool, Failure> {
        let path = self.deps().join(index).join("launch.yml");
        match read_text(&path).map_err(|e| Failure::File(path, e))? {
            Some(text) => {
                processes
                    .add_launch(&text)
                    .map_err(|e| Failure::ReleaseOutput(buildpack.name.clone(), format!("launch.yml: {e}")))?;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// The cache folder of a buildpack: the final one's is always the same, so that it survives a change of the others.
    fn cache_of(&self, supply: Option<&str>) -> PathBuf {
        self.cache().join(supply.map_or_else(|| "final".to_owned(), hash))
    }

    /// Throws away the caches of buildpacks that take no part any more.
    fn keep_caches(&self, chosen: &Chosen) -> Result<(), Failure> {
        let mut keep = vec![self.cache_of(None)];
        keep.extend(chosen.supply.iter().map(|buildpack| self.cache_of(Some(&buildpack.name))));
        let failed = |e| Failure::File(self.cache(), e);
        for entry in fs::read_dir(self.cache()).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if !keep.contains(&path) {
                if path.is_dir() && !path.is_symlink() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }
                    .map_err(failed)?;
            }
        }
        keep.iter().try_for_each(|folder| make(folder))
    }

    /// Writes droplet and cache.
    fn pack(&self, result: &ResultFile) -> Result<(), Failure> {
        let home = &self.places.home;
        let config = result.buildpacks.len().checked_sub(1).map(|last| {
            let width = last.to_string().len();
            self.about(&format!("{last:0width$}")).config
        });
        let info = StagingInfo {
            detected_buildpack: result.detected_buildpack.clone(),
            start_command: result.process_types.get("web").cloned().unwrap_or_default(),
            config: config.unwrap_or_default(),
        };
        let file = home.join(StagingInfo::FILE);
        let text = serde_json::to_vec(&info).map_err(|e| Failure::File(file.clone(), e.into()))?;
        fs::write(&file, text).map_err(|e| Failure::File(file, e))?;
        for folder in ["tmp", "logs"] {
            empty(&home.join(folder))?;
        }
        make(&self.places.output)?;
        let limit = self.order.limits.droplet_bytes;
        let names = ["app", "deps", "logs", "profile.d", "staging_info.yml", "tmp"];
        let droplet = archive::pack(home, &names, &self.places.output.join("droplet.tgz"), Times::Stable, limit)
            .map_err(Failure::Droplet)?;
        if droplet.left_out > 0 {
            println!("**WARNING** {} sockets, pipes or devices are not part of the droplet", droplet.left_out);
        }
        let cache = self.pack_cache(limit);
        println!(
            "Droplet: {}, build artifacts cache: {}",
            size_text(droplet.bytes),
            cache.map_or_else(|| "none".to_owned(), size_text)
        );
        Ok(())
    }

    /// A cache that cannot be kept costs time later, not the staging.
    fn pack_cache(&self, limit: u64) -> Option<u64> {
        let file = self.places.output.join("cache.tgz");
        let mut names = Vec::new();
        for entry in fs::read_dir(self.cache()).ok()?.flatten() {
            if fs::read_dir(entry.path()).is_ok_and(|mut inside| inside.next().is_some()) {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        if names.is_empty() {
            return None;
        }
        names.sort();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        match archive::pack(&self.cache(), &names, &file, Times::Kept, limit) {
            Ok(packed) => Some(packed.bytes),
            Err(e) => {
                println!("**WARNING** the build cache is not kept: {e}");
                // Half of it is worse than nothing.
                let _ = fs::remove_file(file);
                None
            }
        }
    }
}

fn make(folder: &Path) -> Result<(), Failure> {
    fs::create_dir_all(folder).map_err(|e| Failure::File(folder.to_owned(), e))
}

fn empty(folder: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Failure::File(folder.to_owned(), e)),
        _ => make(folder),
    }
}

/// A text file of sensible size; `None` when there is none.
fn read_text(path: &Path) -> io::Result<Option<String>> {
    match fs::metadata(path) {
        Ok(meta) if meta.len() > LARGEST_TEXT as u64 => {
            Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 64 KiB"))
        }
        Ok(meta) if !meta.is_file() => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file")),
        Ok(_) => fs::read_to_string(path).map(Some),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn cut(text: &str) -> String {
    text.chars().take(LONGEST_NAME).collect()
}

fn hash(name: &str) -> String {
    Sha256::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn redacted(name: &str) -> String {
    url::Url::parse(name).map_or_else(|_| name.to_owned(), |url| fetch::redacted(&url))
}
