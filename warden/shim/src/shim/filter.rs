//! The filter of system calls: the default profile, without 32-bit calls and with few socket families.
//!
//! It is the same for all containers, so it is made before a shim knows its own, and loaded by the first process in the moment before it runs
//! init: everything inside has it from its first instruction.

use crate::kernel;
use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall, error::SeccompError};
use std::io;

/// A filter, ready to be loaded.
#[derive(Clone, Debug)]
pub(crate) struct Filter(Vec<libc::sock_filter>);

impl Filter {
    /// Loads it for this process and all that come from it. They must have lost the way to new privileges before.
    pub(crate) fn load(&self) -> io::Result<()> {
        kernel::load_filter(&self.0)
    }
}

fn allowed() -> impl Iterator<Item = &'static str> {
    include_str!("seccomp.txt").lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace)
}

/// Makes the filter.
pub(crate) fn build() -> Result<Filter, Box<dyn std::error::Error>> {
    let context = describe()?;
    let mut program = std::fs::File::from(rustix::fs::memfd_create("filter", rustix::fs::MemfdFlags::CLOEXEC)?);
    context.export_bpf(&program)?;
    let mut bytes = vec![];
    io::Seek::rewind(&mut program)?;
    io::Read::read_to_end(&mut program, &mut bytes)?;
    let (instructions, rest) = bytes.as_chunks::<8>();
    if instructions.is_empty() || !rest.is_empty() {
        return Err("half an instruction".into());
    }
    let instruction = |[c0, c1, jt, jf, k0, k1, k2, k3]: &[u8; 8]| libc::sock_filter {
        code: u16::from_ne_bytes([*c0, *c1]),
        jt: *jt,
        jf: *jf,
        k: u32::from_ne_bytes([*k0, *k1, *k2, *k3]),
    };
    Ok(Filter(instructions.iter().map(instruction).collect()))
}

fn describe() -> Result<ScmpFilterContext, SeccompError> {
    // Calls of other architectures end the process: that is what the library does unless it is told otherwise.
    let mut filter = ScmpFilterContext::new(ScmpAction::Errno(libc::EPERM))?;
    filter.add_arch(ScmpArch::X8664)?;
    for name in allowed() {
        // What this library does not know, this kernel is not asked for.
        if let Ok(call) = ScmpSyscall::from_name(name) {
            filter.add_rule(ScmpAction::Allow, call)?;
        }
    }
    let equal = |at: u32, value: u64| ScmpArgCompare::new(at, ScmpCompareOp::Equal, value);
    let mut allow = |name: &str, conditions: &[ScmpArgCompare]| {
        filter.add_rule_conditional(ScmpAction::Allow, ScmpSyscall::from_name(name)?, conditions).map(drop)
    };
    for family in [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6] {
        allow("socket", &[equal(0, family.unsigned_abs().into())])?;
    }
    // Of netlink only the list of addresses and routes, which resolvers read.
    let netlink = [equal(0, libc::AF_NETLINK.unsigned_abs().into()), equal(2, libc::NETLINK_ROUTE.unsigned_abs().into())];
    allow("socket", &netlink)?;
    for persona in [0, 0x8, 0x2_0000, 0x2_0008, 0xFFFF_FFFF] {
        allow("personality", &[equal(0, persona)])?;
    }
    // No new namespaces.
    allow("clone", &[ScmpArgCompare::new(0, ScmpCompareOp::MaskedEqual(0x7E02_0000), 0)])?;
    // `clone3` hides its flags behind a pointer: told that there is no such call, libraries fall back to `clone`.
    filter.add_rule(ScmpAction::Errno(libc::ENOSYS), ScmpSyscall::from_name("clone3")?)?;
    Ok(filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_names_no_call_twice_and_none_of_the_dangerous_ones() {
        let mut names: Vec<&str> = allowed().collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
        let closed = [
            "socket",
            "clone",
            "clone3",
            "bpf",
            "io_uring_setup",
            "userfaultfd",
            "perf_event_open",
            "open_by_handle_at",
            "kexec_load",
            "init_module",
            "quotactl",
            "swapon",
            "syslog",
            "settimeofday",
            "reboot",
            "acct",
            "mount",
            "umount2",
            "pivot_root",
            "chroot",
            "fsopen",
            "open_tree",
            "move_mount",
            "mount_setattr",
            "unshare",
            "setns",
            "keyctl",
            "add_key",
            "request_key",
            "personality",
        ];
        for call in closed {
            assert!(!names.contains(&call), "{call}");
        }
    }

    #[test]
    fn the_filter_is_a_program_that_the_kernel_takes() {
        let filter = build().unwrap();
        assert!((50..4096).contains(&filter.0.len()), "{} instructions", filter.0.len());
    }
}
