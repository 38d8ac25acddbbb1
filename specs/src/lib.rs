//! What the platform promises: black-box suites
