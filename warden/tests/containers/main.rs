//! Real containers under a real daemon. As root, with `bin/build-static` and `bin/stack --minimal --name test target/stacks` done;
//! otherwise each test says visibly that it is skipped.

#![expect(clippy::unwrap_used, reason = "a test that fails here says where")]

mod egress;
mod files;
mod hostile;
mod lifecycle;
mod limits;
mod network;
mod services;
mod speed;
mod support;
mod volumes;
