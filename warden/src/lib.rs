//! Containers: namespaces, cgroups, mounts, limits, network
