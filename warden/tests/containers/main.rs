//! Real containers under a real daemon. As root, with `bin/build-static` and `bin/stack --minimal --name test target/stacks` done;
//! otherwise each test says visibly that it is skipped.

mod files;
mod hostile;
mod lifecycle;
mod limits;
mod network;
mod speed;
mod support;
