//! A broker for counters: each instance is a folder, each binding a file in it.

use broker_sdk::osb::{Catalog, Plan, ServiceOffering};
use broker_sdk::{
    Bind, Bound, BoundTo, Broker, Failure, Instance, Operation, Provision, Provisioned, Removed, Settings, async_trait,
};
use std::{fs, path::PathBuf, process::ExitCode};

struct Counters {
    folder: PathBuf,
}

impl Counters {
    fn instance(&self, id: &str) -> Result<PathBuf, Failure> {
        if id.contains('/') || id.starts_with('.') {
            return Err(Failure::invalid("this id cannot be the name of a folder"));
        }
        Ok(self.folder.join(id))
    }
}

#[async_trait]
impl Broker for Counters {
    fn catalog(&self) -> Catalog {
        let plan = Plan {
            id: "5f4aa0d9-6a1b-4f59-8f7c-0a8b6b0c6a11".into(),
            name: "small".into(),
            description: "Counts up to a million".into(),
            ..Plan::default()
        };
        let counter = ServiceOffering {
            id: "0d1c1d3b-51c5-4cc0-9d3a-3c9b5f6f8a10".into(),
            name: "counter".into(),
            description: "A number that only grows".into(),
            bindable: true,
            plans: vec![plan],
            ..ServiceOffering::default()
        };
        Catalog { services: vec![counter] }
    }

    async fn provision(&self, _: &Operation, request: &Provision) -> Result<Provisioned, Failure> {
        fs::create_dir_all(self.instance(&request.instance_id)?)?;
        Ok(Provisioned::default())
    }

    async fn deprovision(&self, _: &Operation, instance: &Instance) -> Result<Removed, Failure> {
        let folder = self.instance(&instance.id)?;
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        Ok(Removed::default())
    }

    async fn bind(&self, _: &Operation, instance: &Instance, request: &Bind) -> Result<Bound, Failure> {
        let file = self.instance(&instance.id)?.join(&request.binding_id);
        fs::write(&file, "0")?;
        let credentials = [("file", file.display().to_string())].into_iter().collect();
        Ok(Bound { credentials: Some(credentials), ..Bound::default() })
    }

    async fn unbind(&self, _: &Operation, instance: &Instance, binding: &BoundTo) -> Result<(), Failure> {
        let file = self.instance(&instance.id)?.join(&binding.id);
        if file.exists() {
            fs::remove_file(file)?;
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    let folder = std::env::var_os("BROKER_STATE").map_or_else(|| PathBuf::from("state"), PathBuf::from);
    broker_sdk::run(Counters { folder: folder.join("counters") }, Settings::from_env())
}
