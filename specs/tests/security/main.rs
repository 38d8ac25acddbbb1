//! What a hostile tenant may try, on a whole platform: from an app, from processes run beside it, and from a staging container.
//!
//! Names begin with the case's id; `docs/security.md` has the list. `specs/apps/hostile/probe.py` does the trying.

#![expect(clippy::unwrap_used, reason = "a suite that cannot go on fails where it stands")]

mod resources;
mod runtime;
mod world;
