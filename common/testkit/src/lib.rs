//! Worlds, fakes and waits for tests
