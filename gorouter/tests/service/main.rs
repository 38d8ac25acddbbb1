//! The router from outside: real sockets, a bus in memory, apps that answer what they are told.

mod errors;
mod harness;
mod headers;
mod hostile;
mod lifecycle;
mod protocols;
mod routing;
