//! Whether what should run fits the quotas of its space and organization.

use crate::{
    domain::{Error, Result, Scope, Tx, policy::Policy},
    store::{
        limits::{self, Limits},
        processes::{self, Process},
    },
};

/// What all instances of something need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Need {
    memory_mb: i64,
    instances: i64,
    log_rate: i64,
    unlimited_logs: bool,
}

impl Need {
    fn add(&mut self, instances: i32, memory_mb: i32, log_rate: i64) {
        let count = i64::from(instances);
        self.memory_mb += count * i64::from(memory_mb);
        self.instances += count;
        self.log_rate += count * log_rate.max(0);
        self.unlimited_logs |= log_rate < 0 && count > 0;
    }
}

/// Checks processes that are started, or stay started, with these values. `grown_from`: what of them ran before and how.
///
/// Scaling down is always possible. Space before organization; several broken limits come in one text.
///
/// # Errors
/// [`Error::Invalid`] with the quota's words.
pub fn check_running(tx: &mut Tx<'_>, policy: &Policy, scope: &Scope, wanted: &[Process], before: &[Process]) -> Result<()> {
    let mut problems = vec![];
    for process in wanted {
        let most = policy.limits.max_disk_mb;
        if process.disk() > most {
            problems.push(format!(
                "disk_quota too much disk requested (requested {} MB - must be less than {most} MB)",
                process.disk()
            ));
        }
    }
    let (new, old) = (need_of(wanted), need_of(before));
    let ours: Vec<&str> = wanted.iter().chain(before).map(|process| process.guid.as_str()).collect();
    let of_org = limits::of_org(tx.conn, &scope.org)?;
    let of_space = limits::of_space(tx.conn, &scope.space)?;
    if of_space != Limits::default() {
        let others = processes::started_in_space(tx.conn, &scope.space.guid)?;
        let words = Words {
            place: "space",
            memory: "memory space_quota_exceeded",
            instance: "memory space_instance_memory_limit_exceeded",
            instances: "app_instance_limit space_app_instance_limit_exceeded",
            name: &scope.space.name,
        };
        problems.extend(over(&of_space, need_of_others(&others, &ours), new, old, wanted, &words));
    }
    if of_org != Limits::default() {
        let others = processes::started_in_org(tx.conn, &scope.org.guid)?;
        let words = Words {
            place: "organization",
            memory: "memory quota_exceeded",
            instance: "memory instance_memory_limit_exceeded",
            instances: "app_instance_limit app_instance_limit_exceeded",
            name: &scope.org.name,
        };
        problems.extend(over(&of_org, need_of_others(&others, &ours), new, old, wanted, &words));
    }
    if problems.is_empty() { Ok(()) } else { Err(Error::Invalid(problems.join(", "))) }
}

/// Checks that a staging has room.
///
/// # Errors
/// [`Error::Invalid`] with the quota's words.
pub fn check_staging(tx: &mut Tx<'_>, scope: &Scope, memory_mb: u32) -> Result<()> {
    let of_org = limits::of_org(tx.conn, &scope.org)?;
    let of_space = limits::of_space(tx.conn, &scope.space)?;
    let need = i64::from(memory_mb);
    if let Some(most) = of_space.memory_mb {
        let used = need_of_others(&processes::started_in_space(tx.conn, &scope.space.guid)?, &[]).memory_mb;
        if used + need > most {
            let free = free(most, used, "MB");
            let text = format!("space's memory limit exceeded: staging requires {memory_mb}M memory, {free}");
            return Err(Error::invalid(text));
        }
    }
    if let Some(most) = of_org.memory_mb {
        let used = need_of_others(&processes::started_in_org(tx.conn, &scope.org.guid)?, &[]).memory_mb;
        if used + need > most {
            let free = free(most, used, "MB");
            let text = format!("organization's memory limit exceeded: staging requires {memory_mb}M memory, {free}");
            return Err(Error::invalid(text));
        }
    }
    Ok(())
}

struct Words<'a> {
    place: &'a str,
    memory: &'a str,
    instance: &'a str,
    instances: &'a str,
    name: &'a str,
}

/// What is left of a bound, for texts.
fn free(most: i64, used: i64, unit: &str) -> String {
    format!("{} {unit} of {most} {unit} are free", (most - used).max(0))
}

fn over(limits: &Limits, others: Need, new: Need, old: Need, wanted: &[Process], words: &Words<'_>) -> Vec<String> {
    let mut problems = vec![];
    let place = format!("in {} '{}'", words.place, words.name);
    // What more is asked for, and what is free, if that is not enough.
    let over = |of: fn(&Need) -> i64, most: Option<i64>, unit: &str| {
        let (new, old, others) = (of(&new), of(&old), of(&others));
        let most = most.filter(|most| new > old && others + new > *most)?;
        Some(format!("{} {unit} more are asked for, {} {place}", new - old, free(most, others + old, unit)))
    };
    if let Some(figures) = over(|need| need.memory_mb, limits.memory_mb, "MB") {
        problems.push(format!("{}: {figures}", words.memory));
    }
    let largest = wanted.iter().map(|process| i64::from(process.memory_mb)).max().unwrap_or(0);
    if let Some(most) = limits.instance_memory_mb.filter(|most| new.memory_mb > old.memory_mb && largest > *most) {
        problems.push(format!("{}: {largest} MB are asked for, an instance may have {most} MB {place}", words.instance));
    }
    if let Some(figures) = over(|need| need.instances, limits.instances, "instances") {
        problems.push(format!("{}: {figures}", words.instances));
    }
    if limits.log_rate.is_some() && new.unlimited_logs && !old.unlimited_logs {
        problems.push(format!("log_rate_limit cannot be unlimited {place}."));
    } else if let Some(figures) = over(|need| need.log_rate, limits.log_rate, "bytes a second") {
        problems.push(format!("log_rate_limit exceeds {} log rate quota: {figures}", words.place));
    }
    problems
}

fn need_of(processes: &[Process]) -> Need {
    let mut need = Need::default();
    for process in processes {
        need.add(process.instances, process.memory_mb, process.log_rate_limit);
    }
    need
}

fn need_of_others(rows: &[(String, i32, i32, i64)], ours: &[&str]) -> Need {
    let mut need = Need::default();
    for (guid, instances, memory, log_rate) in rows {
        if !ours.contains(&guid.as_str()) {
            need.add(*instances, *memory, *log_rate);
        }
    }
    need
}
