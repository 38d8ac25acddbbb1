//! One small process beside every container, and its first process inside.
//!
//! Three static programs, each run from one sealed copy in memory that the daemon makes at its start:
//! - `warden_shim`: makes one container with `libcontainer` (which forks, so never from a threaded process), prepares its file
//!   system, limits and network, then becomes the keeper. Also unpacks layers, in a sandbox.
//! - `warden_keeper` ([`keeper`]): the same process, without `libcontainer`: holds the pipes, passes log lines on ([`logs`]), serves
//!   the daemon, reaps, records the exit. If it dies, the kernel kills the container.
//! - `warden_init` ([`init`]): process 1 inside: starts what the keeper orders ([`wire`]), reaps zombies, passes signals on.
//!
//! Processes that come later (`exec`) are started by init, inside, and so have from their first instruction what the main process has:
//! filter, capabilities, namespaces, cgroup. Nothing ever enters a container from outside. (`libcontainer` 0.7 can join a container,
//! but does so without its user namespace and without its system call filter.)

pub mod init;
pub mod keeper;
pub mod logs;
pub mod wire;
