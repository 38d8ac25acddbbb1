//! Start, run, stop: logs, signals, tasks with an end, exit code.

use crate::config::ConfigError;
use std::{error::Error, future::Future, process::ExitCode, sync::Arc, time::Duration};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

/// The end of a process, and the tasks that must see it. Clones share both.
#[derive(Clone, Default)]
pub struct Shutdown(Arc<Inner>);

#[derive(Default)]
struct Inner {
    token: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// One that nobody asked for yet.
    pub fn new() -> Self {
        Self::default()
    }
    /// Starts a task that is waited for at the end. It should watch [`Shutdown::requested`].
    pub fn spawn<F>(&self, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.0.tasks.spawn(task)
    }
    /// Returns once the end was asked for.
    pub async fn requested(&self) {
        self.0.token.cancelled().await;
    }
    /// True once the end was asked for.
    pub fn is_requested(&self) -> bool {
        self.0.token.is_cancelled()
    }
    /// Asks every task to end.
    pub fn request(&self) {
        self.0.token.cancel();
    }
    /// Asks, waits up to `grace`, and says how many tasks it abandoned.
    pub async fn finish(&self, grace: Duration) -> usize {
        self.request();
        self.0.tasks.close();
        match tokio::time::timeout(grace, self.0.tasks.wait()).await {
            Ok(()) => 0,
            Err(_) => self.0.tasks.len(),
        }
    }
}

/// Runs one service process: logs to standard error, TERM and INT end it, a second one ends it at once.
///
/// `start` returns once the service accepts work. Exit code: 0 stopped, 1 failed, 64 settings that cannot work.
pub fn run<F, Fut>(grace: Duration, start: F) -> ExitCode
where
    F: FnOnce(Shutdown) -> Fut,
    Fut: Future<Output = Result<(), Box<dyn Error>>>,
{
    crate::init_logs();
    crate::tls::install_crypto();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            error!(error = &e as &dyn Error, "no runtime");
            return ExitCode::from(1);
        }
    };
    let code = runtime.block_on(serve(grace, start));
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}

async fn serve<F, Fut>(grace: Duration, start: F) -> ExitCode
where
    F: FnOnce(Shutdown) -> Fut,
    Fut: Future<Output = Result<(), Box<dyn Error>>>,
{
    let shutdown = Shutdown::new();
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        error!("cannot listen for signals");
        return ExitCode::from(1);
    };
    let started = tokio::select! {
        started = start(shutdown.clone()) => started,
        _ = term.recv() => return ExitCode::SUCCESS,
        _ = int.recv() => return ExitCode::SUCCESS,
    };
    if let Err(e) = started {
        error!(error = &*e, "cannot start");
        return ExitCode::from(if e.is::<ConfigError>() { 64 } else { 1 });
    }
    let failed = tokio::select! {
        _ = term.recv() => false,
        _ = int.recv() => false,
        () = shutdown.requested() => true,   // a task of the service gave up
    };
    info!("stopping");
    let abandoned = tokio::select! {
        abandoned = shutdown.finish(grace) => abandoned,
        _ = term.recv() => return ExitCode::from(1),
        _ = int.recv() => return ExitCode::from(1),
    };
    if abandoned > 0 {
        warn!(abandoned, "tasks did not end in time");
    }
    ExitCode::from(u8::from(failed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_end_is_counted_not_waited_for() {
        let shutdown = Shutdown::new();
        shutdown.spawn(std::future::pending::<()>());
        let watching = shutdown.clone();
        shutdown.spawn(async move { watching.requested().await });
        assert_eq!(shutdown.finish(Duration::from_secs(5)).await, 1);
    }
}
