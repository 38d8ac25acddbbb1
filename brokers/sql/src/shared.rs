//! Care for the servers: sizes, certificates, spare databases, and whether anybody needs the shared one.

use crate::{SqlBroker, broker::Inner};
use engines::{Error, Phase, files};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;
use tracing::{info, warn};

/// Databases are dropped when no other was given up for so long,
const SWEEP_AFTER: Duration = Duration::from_secs(1);
/// or the first of them waited so long.
const SWEEP_AT_LAST: Duration = Duration::from_secs(10);

impl SqlBroker {
    /// Looks at sizes, at the stock of spare databases, at certificates, and whether anybody needs the server.
    pub(crate) async fn watch(self) {
        let Inner { shutdown, config, .. } = &*self.0;
        let mut every = tokio::time::interval(config.engine.check_interval.min(Duration::from_secs(30)));
        let mut checked = Instant::now();
        let mut idle_since = None;
        loop {
            tokio::select! {
                _ = every.tick() => {}
                () = self.0.taken.notified() => {}
                () = shutdown.requested() => return,
            }
            if !matches!(self.0.server.phase(), Phase::Running { .. }) {
                continue;
            }
            let look = checked.elapsed() >= config.engine.check_interval;
            if look {
                checked = Instant::now();
            }
            if let Err(e) = self.round(look, &mut idle_since).await {
                warn!(error = &e as &dyn std::error::Error, "a round of checks failed");
            }
        }
    }

    /// Looks at the servers of instances' own: each by itself, so that one that hangs keeps nobody from looking at the others.
    pub(crate) async fn watch_own(self) {
        let Some(dedicated) = &self.0.dedicated else { return };
        let Inner { shutdown, config, .. } = &*self.0;
        let mut every = tokio::time::interval(config.engine.check_interval);
        let mut looks = JoinSet::new();
        let (mut looking, mut silent) = (BTreeSet::new(), BTreeSet::new());
        loop {
            tokio::select! {
                _ = every.tick() => {
                    let instances = dedicated.instances();
                    silent.retain(|instance| instances.contains(instance));
                    for instance in instances {
                        if looking.insert(instance.clone()) {
                            looks.spawn(self.clone().look_at(instance));
                        }
                    }
                }
                Some(looked) = looks.join_next() => match looked {
                    Ok((instance, looked)) => {
                        looking.remove(&instance);
                        tell(&instance, looked, &mut silent);
                    }
                    Err(e) => {
                        warn!(error = &e as &dyn std::error::Error, "looking at a server broke off");
                        looking.clear();
                    }
                },
                () = shutdown.requested() => return,
            }
        }
    }

    async fn look_at(self, instance: String) -> (String, Result<(), String>) {
        let Some(dedicated) = &self.0.dedicated else { return (instance, Ok(())) };
        let looked = match dedicated.look(&instance).await {
            Ok(cluster) => cluster.enforce(None).await.map_err(|e| e.chain()),
            Err(failure) => Err(failure.description().to_owned()),
        };
        (instance, looked)
    }

    /// Drops databases that were taken away, many together and not while others are being made.
    pub(crate) async fn sweep(self) {
        let Inner { shutdown, retired, cluster, .. } = &*self.0;
        loop {
            tokio::select! {
                () = retired.notified() => {}
                () = shutdown.requested() => return,
            }
            let first = Instant::now();
            while first.elapsed() < SWEEP_AT_LAST && tokio::time::timeout(SWEEP_AFTER, retired.notified()).await.is_ok() {}
            let _guard = self.0.use_of_server.read().await;
            match cluster.sweep().await {
                Ok(0) => {}
                Ok(dropped) => info!(dropped, "dropped databases"),
                // At its next start they are dropped too
                Err(e) => warn!(error = &e as &dyn std::error::Error, "cannot drop databases"),
            }
        }
    }

    async fn round(&self, look: bool, idle_since: &mut Option<Instant>) -> Result<(), Error> {
        let Inner { cluster, config, folder, .. } = &*self.0;
        if look {
            cluster.enforce(None).await?;
            if files::copy_tls(&config.engine.tls, &folder.join("tls"), config.engine.user)? {
                info!("the certificate changed");
                cluster.reload().await?;
            }
        }
        if cluster.instances().await? > 0 {
            *idle_since = None;
            return cluster.stock(config.spare).await;
        }
        let since = *idle_since.get_or_insert_with(Instant::now);
        if since.elapsed() < config.engine.idle_stop {
            return Ok(());
        }
        // Whoever is about to make an instance holds this
        if let Ok(_nobody) = self.0.use_of_server.try_write()
            && cluster.instances().await? == 0
        {
            info!("nobody needs the server");
            self.0.server.release().await?;
            *idle_since = None;
        }
        Ok(())
    }
}

/// Says once that a server does not answer, and once that it does again.
fn tell(instance: &str, looked: Result<(), String>, silent: &mut BTreeSet<String>) {
    match looked {
        Ok(()) if silent.remove(instance) => info!(instance.id = instance, "its server answers again"),
        Ok(()) => {}
        Err(why) => {
            if silent.insert(instance.to_owned()) {
                warn!(instance.id = instance, "its server does not answer: {why}");
            }
        }
    }
}
