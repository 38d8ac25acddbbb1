//! Token verification and a client of UAA
