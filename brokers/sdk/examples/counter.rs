//! A broker for counters: each instance is a folder, each binding a file in it.

use broker_sdk::{osb::*, *};
use std::{fs, path::PathBuf, process::ExitCode};

struct Counters(PathBuf);

impl Counters {
    fn folder(&self, id: &str) -> Result<PathBuf, Failure> {
        if id.contains('/') || id.starts_with('.') {
            return Err(Failure::invalid("this id cannot be the name of a folder"));
        }
        Ok(self.0.join(id))
    }
}

#[async_trait]
impl Broker for Counters {
    fn catalog(&self) -> Catalog {
        let mut plan = Plan { name: "small".into(), description: "Counts up to a million".into(), ..Default::default() };
        plan.id = "5f4aa0d9-6a1b-4f59-8f7c-0a8b6b0c6a11".into();
        let mut counter = ServiceOffering { name: "counter".into(), bindable: true, plans: vec![plan], ..Default::default() };
        counter.id = "0d1c1d3b-51c5-4cc0-9d3a-3c9b5f6f8a10".into();
        counter.description = "A number that only grows".into();
        Catalog { services: vec![counter] }
    }

    async fn provision(&self, _: &Operation, request: &Provision) -> Result<Provisioned, Failure> {
        fs::create_dir_all(self.folder(&request.instance_id)?)?;
        Ok(Provisioned::default())
    }

    async fn deprovision(&self, _: &Operation, instance: &Instance) -> Result<Removed, Failure> {
        let folder = self.folder(&instance.id)?;
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        Ok(Removed::default())
    }

    async fn bind(&self, _: &Operation, instance: &Instance, request: &Bind) -> Result<Bound, Failure> {
        let file = self.folder(&instance.id)?.join(&request.binding_id);
        fs::write(&file, "0")?;
        let credentials = [("file", file.display().to_string())].into_iter().collect();
        Ok(Bound { credentials: Some(credentials), ..Bound::default() })
    }

    async fn unbind(&self, _: &Operation, instance: &Instance, binding: &BoundTo) -> Result<(), Failure> {
        let file = self.folder(&instance.id)?.join(&binding.id);
        if file.exists() {
            fs::remove_file(file)?;
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    let state = std::env::var_os("BROKER_STATE").map_or_else(|| PathBuf::from("state"), PathBuf::from);
    broker_sdk::run(Counters(state.join("counters")), Settings::from_env())
}
