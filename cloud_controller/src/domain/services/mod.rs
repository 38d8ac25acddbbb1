//! Services: brokers and their catalogs, instances, bindings, and the work at brokers that goes with them.
//!
//! What the parts have for each other:
//! - `operations`: the engine of work at brokers; read its page first. `context::of`: the `context` of broker bodies.
//! - `instances`: `readable`, `writable`, `offered`, `target`, `busy`, `create_failed`, `deleting`, `in_progress`,
//!   `usable_plan`, `visible_in`, `begin_delete`, `purge_unchecked`. `parameters::check`: parameters against a plan's schema.
//! - `bindings` has for instances: `begin_delete(tx, &Binding, Option<Originator>) -> Result<()>` (deletes at once what no broker
//!   knows; else begins a `binding.delete` without a job, unless one is under way; its end writes `op_type` "delete" with
//!   `op_state` "failed" into the row, or removes it, and wakes `Kind::InstanceDelete` of the instance),
//!   `purge(tx, &Binding) -> Result<()>` (forgets it and its operations without the broker),
//!   `follow_user_provided(tx, &Instance) -> Result<()>` (a user-provided instance has changed).
//! - `usage::record(tx, state, &Instance, &Scope) -> Result<()>` writes a usage event.

pub mod backups;
pub mod binding_answer;
pub mod binding_events;
pub mod binding_work;
pub mod bindings;
pub mod brokers;
pub mod catalog;
pub mod context;
pub mod decision;
pub mod egress;
pub mod files;
pub mod instance_update;
pub mod instances;
pub mod mitigation;
pub mod operations;
pub mod owners;
pub mod parameters;
pub mod plans;
pub mod provisioning;
pub mod route_bindings;
pub mod sharing;
pub mod teardown;
pub mod usage;
pub mod vcap;
pub mod visibility;
pub mod volumes;
