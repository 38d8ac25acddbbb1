//! The router from outside: real sockets, a bus in memory, apps that answer what they are told.
#![expect(clippy::unwrap_used, reason = "helpers of tests; what fails here fails the test")]

mod errors;
mod harness;
mod headers;
mod hostile;
mod lifecycle;
mod protocols;
mod route_services;
mod routing;
