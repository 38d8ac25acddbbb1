//! The API: desired state, packages, droplets, routes
