//! What `cf app`, `push`, `start`, `scale` show of an app.

use super::App;
use crate::{
    api::{Api, ApiError, array, number, query, text},
    ui::{self, say},
};
use serde_json::{Value, json};

/// A process with its instances.
pub(crate) struct Process {
    pub(crate) document: Value,
    pub(crate) instances: Vec<Value>,
}

impl Process {
    pub(crate) fn kind(&self) -> &str {
        text(&self.document, "/type")
    }
    pub(crate) fn running(&self) -> usize {
        self.instances.iter().filter(|instance| text(instance, "/state") == "RUNNING").count()
    }
    pub(crate) fn wanted(&self) -> i64 {
        number(&self.document, "/instances")
    }
}

/// The processes of an app, `web` first.
pub(crate) async fn processes(api: &mut Api, app: &str) -> anyhow::Result<Vec<Process>> {
    let mut all = vec![];
    for listed in api.list(&format!("/v3/apps/{app}/processes")).await? {
        // Lists hide start commands.
        let hidden = listed["command"].as_str().is_some_and(|command| command.starts_with("[PRIVATE DATA"));
        let document = if hidden { api.get(&format!("/v3/processes/{}", text(&listed, "/guid"))).await? } else { listed };
        let instances = stats(api, text(&document, "/guid")).await?;
        all.push(Process { document, instances });
    }
    all.sort_by_key(|process| (process.kind() != "web", process.kind().to_owned()));
    Ok(all)
}

/// The instances of a process.
pub(crate) async fn stats(api: &mut Api, process: &str) -> anyhow::Result<Vec<Value>> {
    let stats = api.get(&format!("/v3/processes/{process}/stats")).await?;
    Ok(array(&stats, "/resources").cloned().collect())
}

/// Everything of an app, as a document for programs.
pub(crate) async fn document(api: &mut Api, app: &App) -> anyhow::Result<Value> {
    let processes: Vec<Value> = processes(api, &app.guid)
        .await?
        .into_iter()
        .map(|process| {
            let mut document = process.document;
            document["stats"] = json!(process.instances);
            document
        })
        .collect();
    let routes = api.list(&format!("/v3/apps/{}/routes", app.guid)).await?;
    let droplet = droplet(api, &app.guid).await?;
    Ok(json!({ "app": app.document, "routes": routes, "droplet": droplet, "processes": processes }))
}

/// Shows an app; `commands` also shows start commands, as push does.
pub(crate) async fn show(api: &mut Api, app: &App, commands: bool) -> anyhow::Result<()> {
    let processes = processes(api, &app.guid).await?;
    let routes = api.list(&format!("/v3/apps/{}/routes", app.guid)).await?;
    let droplet = droplet(api, &app.guid).await?;
    let urls: Vec<&str> = routes.iter().map(|route| text(route, "/url")).collect();
    let mut rows = vec![
        ("name", app.name.clone()),
        ("requested state", text(&app.document, "/state").to_lowercase()),
        ("routes", urls.join(", ")),
    ];
    let of_droplet = |pointer| droplet.as_ref().map(|droplet| text(droplet, pointer).to_owned()).unwrap_or_default();
    rows.push(("last uploaded", droplet.as_ref().map(|_| ui::calendar(&of_droplet("/created_at"))).unwrap_or_default()));
    rows.push(("stack", of_droplet("/stack")));
    rows.push(("buildpacks", String::new()));
    ui::pairs(&rows);
    if let Some(droplet) = &droplet {
        show_buildpacks(droplet);
    }
    for process in &processes {
        say!();
        show_process(process, commands.then(|| text(&process.document, "/command")));
    }
    Ok(())
}

/// The droplet that the app runs; none if it was not staged yet.
async fn droplet(api: &mut Api, app: &str) -> anyhow::Result<Option<Value>> {
    match api.get(&format!("/v3/apps/{app}/droplets/current")).await {
        Ok(droplet) => Ok(Some(droplet)),
        Err(e) if e.downcast_ref::<ApiError>().is_some_and(|e| e.status == 404) => Ok(None),
        Err(e) => Err(e),
    }
}

fn show_buildpacks(droplet: &Value) {
    let row = |buildpack: &Value| {
        let cell = |name: &str| text(buildpack, &format!("/{name}")).to_owned();
        vec![format!("\t{}", cell("name")), cell("version"), cell("detect_output"), cell("buildpack_name")]
    };
    let rows: Vec<_> = array(droplet, "/buildpacks").map(row).collect();
    if !rows.is_empty() {
        ui::table(&["\tname", "version", "detect output", "buildpack name"], &rows);
    }
}

fn show_process(process: &Process, command: Option<&str>) {
    let mut rows = vec![
        ("type", process.kind().to_owned()),
        ("sidecars", String::new()),
        ("instances", format!("{}/{}", process.running(), process.wanted())),
        ("memory usage", format!("{}M", number(&process.document, "/memory_in_mb"))),
    ];
    if let Some(command) = command.filter(|command| !command.is_empty()) {
        rows.push(("start command", ui::harmless(command)));
    }
    ui::pairs(&rows);
    if process.instances.is_empty() {
        say!("There are no running instances of this process.");
        return;
    }
    let rows: Vec<_> = process.instances.iter().map(instance).collect();
    ui::table(&["", "state", "since", "cpu", "memory", "disk", "logging", "cpu entitlement", "details", "ready"], &rows);
}

fn instance(instance: &Value) -> Vec<String> {
    let bytes = |pointer: &str| ui::size(u64::try_from(number(instance, pointer)).unwrap_or(0));
    let percent = |pointer: &str| instance.pointer(pointer).and_then(Value::as_f64).map(|part| format!("{:.1}%", part * 100.0));
    let limit = match number(instance, "/log_rate_limit") {
        -1 => "unlimited".to_owned(),
        rate => format!("{}/s", ui::size(u64::try_from(rate).unwrap_or(0))),
    };
    vec![
        format!("#{}", number(instance, "/index")),
        text(instance, "/state").to_lowercase(),
        instance["uptime"].as_u64().map(ui::began).unwrap_or_default(),
        percent("/usage/cpu").unwrap_or_else(|| "0.0%".into()),
        format!("{} of {}", bytes("/usage/mem"), bytes("/mem_quota")),
        format!("{} of {}", bytes("/usage/disk"), bytes("/disk_quota")),
        format!("{}/s of {limit}", bytes("/usage/log_rate")),
        percent("/usage/cpu_entitlement").unwrap_or_default(),
        ui::harmless(text(instance, "/details")),
        instance["routable"].as_bool().map(|ready| ready.to_string()).unwrap_or_default(),
    ]
}

/// The newest crash of an app: what ended it, in the platform's words.
pub(crate) async fn last_crash(api: &mut Api, app: &str) -> anyhow::Result<Option<String>> {
    let pairs = [
        ("target_guids", app),
        ("types", "audit.app.process.crash"),
        ("order_by", "-created_at"),
        ("per_page", "1"),
        ("page", "1"),
    ];
    let event = api.first(&query("/v3/audit_events", &pairs)).await?;
    let said = event.map(|event| match text(&event, "/data/exit_description") {
        "" => text(&event, "/data/reason").to_owned(),
        description => description.to_owned(),
    });
    Ok(said.filter(|said| !said.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_a_row() {
        let stats = json!({
            "index": 1, "state": "RUNNING", "uptime": 5, "mem_quota": 268_435_456, "disk_quota": 1_073_741_824_u64, "log_rate_limit": -1,
            "usage": { "cpu": 0.0123, "mem": 12_582_912, "disk": 2048, "log_rate": 0 }, "details": null, "routable": true,
        });
        let row = instance(&stats);
        assert_eq!(row[..2], ["#1", "running"]);
        assert_eq!(row[3..], ["1.2%", "12M of 256M", "2K of 1G", "0B/s of unlimited", "", "", "true"]);
        let starting = instance(
            &json!({ "index": 0, "state": "STARTING", "usage": {}, "mem_quota": null, "details": "no DEA has 2 GB free" }),
        );
        assert_eq!((starting[1].as_str(), starting[8].as_str()), ("starting", "no DEA has 2 GB free"));
    }
}
