//! The router from outside: real sockets, a bus in memory, apps that answer what they are told.

mod harness;
mod routing;
