//! Runs and stages instances through Warden
