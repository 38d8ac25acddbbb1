//! Staging and launching: what runs inside containers, and the buildpacks that come with the platform.
//!
//! Two static programs: `builder` turns an app's package into a droplet inside a staging container, `launcher` starts a
//! process inside an app's container. Both run as `vcap` (uid 2000) and know nothing of the platform outside: no bus, no
//! cloud controller, no Warden.
//!
//! # What a DEA gives to `builder`
//!
//! | path in the container | what | how |
//! |---|---|---|
//! | `/tmp/lifecycle/builder`, `/tmp/lifecycle/launcher` | the two programs | read-only |
//! | `/tmp/package.zip` | the app | read-only |
//! | `/tmp/buildpacks/<key>/` | an admin buildpack, unpacked; `<key>` is the lower-case hex sha256 of its zip | read-only |
//! | `/tmp/cache.tgz` | the cache that an earlier staging of this app and stack made; may be absent | read-only |
//! | `/tmp/staging.json` | the [`order::Order`], see `buildpacks/example-staging.json` | read-only |
//! | `/tmp/output/` | where the results go; made if absent | writable by uid 2000 |
//!
//! The process is `/tmp/lifecycle/builder` without arguments, working folder `/home/vcap`, as uid and gid 2000, with the
//! staging environment as its environment (user's values included, never through a shell). `/home/vcap` and `/tmp` must be
//! writable by it. Buildpack code runs with the same rights, so a DEA bounds the size of `/tmp/output` and trusts no file
//! in it: it opens the three results as regular files without following links.
//!
//! The app is built in `/home/vcap/app` with dependencies in `/home/vcap/deps`: the absolute paths are the same when it runs,
//! so that tools which write paths into files (virtual environments, gem stubs) need no repair.
//!
//! # What `builder` gives back
//!
//! - `/tmp/output/result.json`: [`result::ResultFile`], that is `cloud_controller_client::Lifecycle` (`buildpack_key`,
//!   `detected_buildpack`, `buildpacks`, `process_types`) plus `sidecars`, and on failure `error {id, message}`. It is written in
//!   both cases, last and by rename; where it is absent, the builder itself was killed.
//! - `/tmp/output/droplet.tgz`: gzip tar with `./app`, `./deps`, `./logs`, `./tmp`, `./profile.d`, `./staging_info.yml`, to be unpacked
//!   in `/home/vcap`. The same input gives the same bytes.
//! - `/tmp/output/cache.tgz`: the build cache for next time; absent when nothing is to be kept. Only after success.
//! - Exit status: 0 staged; 222 no buildpack detected the app (`NoAppDetectedError`); 223 the final buildpack's supply, finalize or
//!   compile failed (`BuildpackCompileFailed`); 224 its release failed (`BuildpackReleaseFailed`); 225 an earlier buildpack's supply
//!   failed, or a buildpack is not one (`StagingError`); 124 out of time (`StagingTimeExpired`); 1 anything else (`StagingError`).
//!   `error.id` in the result says the same; `error.message` is one line that follows the official sentence of that id, names the
//!   buildpack, and says how it ended.
//! - Log lines: standard output and standard error, unbuffered.
//!
//! # What a DEA gives to `launcher`
//!
//! The droplet unpacked in `/home/vcap`, the program read-only at `/tmp/lifecycle/launcher`, and the whole environment, with
//! `PORT`, `CF_INSTANCE_*` and `INSTANCE_*`. The process is `/tmp/lifecycle/launcher /home/vcap/app <command> <process type>`; an empty
//! command means the droplet's own. Exit statuses of its own: 1 no command, 3 the environment is broken, 4 it cannot be started.
//!
//! # Modules
//!
//! [`order`] and [`result`]: the two files above. [`archive`]: zips and tars, in and out, safely. [`run`]: scripts with a deadline.
//! [`stage`]: one staging, from package to droplet. [`processes`]: Procfile, `launch.yml`, release output and their precedence.
//! [`launch`]: environment and start of a process.

pub mod archive;
pub mod buildpack;
pub mod launch;
pub mod order;
pub mod processes;
pub mod result;
pub mod run;
pub mod stage;

mod fetch;
mod profile;
