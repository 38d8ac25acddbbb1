//! UAA alone: `cargo run -p uaa --example serve -- uaa/example.toml`.

fn main() -> std::process::ExitCode {
    match std::env::args_os().nth(1) {
        Some(config) => uaa::run(config.as_ref()),
        None => {
            eprintln!("usage: serve <settings file>");
            std::process::ExitCode::from(64)
        }
    }
}
