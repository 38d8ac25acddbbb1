//! A program to run: a server, or a tool that ends.

use crate::{Error, User, error::file, log};
use sha2::{Digest, Sha256};
use std::{ffi::OsString, fs::File, io::Read, path::PathBuf, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Command,
    sync::mpsc,
};

/// What to run, with which arguments and environment. Nothing of our own environment is passed on but `PATH`.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    args: Vec<OsString>,
    env: Vec<(String, OsString)>,
    folder: PathBuf,
    user: User,
    fingerprint: Sha256,
}

/// Where a tool reads from.
#[derive(Debug)]
pub enum Input {
    /// Nothing.
    Empty,
    /// This text.
    Text(String),
    /// This file.
    File(File),
    /// What comes through this channel, until its other end is dropped.
    Pieces(mpsc::Receiver<Vec<u8>>),
}

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Program {
    /// A program of this path (a bare name is looked for in the system's folders), run in `/`.
    pub fn new(path: impl Into<PathBuf>, user: User) -> Self {
        let env = vec![("PATH".to_owned(), PATH.into()), ("LC_ALL".to_owned(), "C.UTF-8".into())];
        Self { path: path.into(), args: vec![], env, folder: "/".into(), user, fingerprint: Sha256::new() }
    }
    /// One more argument.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }
    /// More arguments.
    pub fn args<T: Into<OsString>>(mut self, args: impl IntoIterator<Item = T>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }
    /// One more variable.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }
    /// The folder to run in.
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = folder.into();
        self
    }
    /// The content of a configuration file that the program reads at its start: a server that was started with another one
    /// is not adopted but started again.
    pub fn configured_by(mut self, content: &[u8]) -> Self {
        self.fingerprint.update(content);
        self
    }

    /// What tells two ways of running it apart.
    pub(crate) fn fingerprint(&self) -> String {
        let mut digest = self.fingerprint.clone();
        digest.update(format!("{:?}{:?}{:?}{:?}", self.path, self.args, self.env, self.user));
        digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        &self.path
    }

    pub(crate) fn user(&self) -> User {
        self.user
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.args).current_dir(&self.folder).env_clear().envs(self.env.iter().map(|(k, v)| (k, v)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(uid) = self.user.0 {
            command.uid(uid).gid(uid);
        }
        command
    }

    /// Runs it to its end; returns what it wrote to standard output, up to 1 MiB. It is killed if the caller goes away.
    ///
    /// # Errors
    /// [`Error::Run`]; [`Error::Failed`] with the end of its error output.
    pub async fn output(&self, input: Input) -> Result<Vec<u8>, Error> {
        let mut kept = vec![];
        let keep = |piece: &[u8]| {
            kept.extend_from_slice(&piece[..piece.len().min((1 << 20) - kept.len())]);
            Ok(())
        };
        self.stream_to(input, keep).await?;
        Ok(kept)
    }

    /// Runs it to its end and hands on its output piece by piece; an error of `take` kills it. It is killed too if the caller
    /// goes away.
    ///
    /// # Errors
    /// [`Error::Run`]; [`Error::Failed`] with the end of its error output; what `take` returned.
    pub async fn stream_to(&self, input: Input, mut take: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        let mut command = self.command();
        command.kill_on_drop(true).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let (text, mut pieces) = match input {
            Input::Empty => (None, None),
            Input::File(file) => {
                command.stdin(file);
                (None, None)
            }
            Input::Text(text) => (Some(text), None),
            Input::Pieces(pieces) => (None, Some(pieces)),
        };
        if text.is_some() || pieces.is_some() {
            command.stdin(Stdio::piped());
        }
        let mut child = command.spawn().map_err(|e| Error::Run(self.path.clone(), e))?;
        let (mut stdout, mut stderr, stdin) = (child.stdout.take(), child.stderr.take(), child.stdin.take());
        let feed = async {
            let Some(mut stdin) = stdin else { return };
            // A program that ends early says why by its status
            let _ = stdin.write_all(text.unwrap_or_default().as_bytes()).await;
            while let Some(pieces) = &mut pieces
                && let Some(piece) = pieces.recv().await
            {
                if stdin.write_all(&piece).await.is_err() {
                    return;
                }
            }
        };
        let read = async {
            let mut buffer = vec![0; 64 << 10];
            while let Some(out) = stdout.as_mut() {
                match out.read(&mut buffer).await.map_err(|e| Error::Run(self.path.clone(), e))? {
                    0 => break,
                    length => take(&buffer[..length])?,
                }
            }
            Ok::<(), Error>(())
        };
        let listen = async {
            let mut said: Vec<u8> = vec![];
            let mut buffer = vec![0; 4 << 10];
            while let Some(err) = stderr.as_mut() {
                match err.read(&mut buffer).await {
                    Ok(0) | Err(_) => break,
                    Ok(length) => said.extend_from_slice(&buffer[..length]),
                }
                if said.len() > 16 << 10 {
                    said.drain(..said.len() - (8 << 10));
                }
            }
            Ok::<Vec<u8>, Error>(said)
        };
        let feed = async {
            feed.await;
            Ok::<(), Error>(())
        };
        let ((), (), said) = tokio::try_join!(feed, read, listen)?;
        let status = child.wait().await.map_err(|e| Error::Run(self.path.clone(), e))?;
        if status.success() {
            return Ok(());
        }
        let program = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Err(Error::Failed { program, status: status.to_string(), said: log::last_lines(&said) })
    }

    /// Runs it to its end within this time.
    ///
    /// # Errors
    /// As [`Program::output`]; [`Error::Failed`] too when the time is over.
    pub async fn output_within(&self, time: Duration, input: Input) -> Result<Vec<u8>, Error> {
        match tokio::time::timeout(time, self.output(input)).await {
            Ok(output) => output,
            Err(_) => Err(Error::Failed {
                program: self.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                status: format!("no end after {} s", time.as_secs()),
                said: String::new(),
            }),
        }
    }
}

/// Reads a small text file.
pub(crate) fn read_text(path: &std::path::Path) -> Result<String, Error> {
    let mut text = String::new();
    File::open(path).and_then(|open| open.take(1 << 20).read_to_string(&mut text)).map_err(file("read", path))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Program {
        Program::new("/bin/sh", User(None)).args(["-c", script])
    }

    #[tokio::test]
    async fn a_failing_tool_says_why() {
        let error = shell("echo out; echo 'no such thing' >&2; exit 3").output(Input::Empty).await.unwrap_err();
        assert_eq!(error.to_string(), "sh failed (exit status: 3): no such thing");
        let missing = Program::new("/no/such/tool", User(None)).output(Input::Empty).await.unwrap_err();
        assert!(missing.to_string().contains("is its package installed?"), "{missing}");
    }

    #[tokio::test]
    async fn a_tool_reads_and_writes_much_at_once() {
        let text = "x".repeat(3 << 20);
        let mut length = 0;
        let count = |piece: &[u8]| {
            length += piece.len();
            Ok(())
        };
        shell("cat").stream_to(Input::Text(text.clone()), count).await.unwrap();
        assert_eq!(length, text.len());
    }

    #[tokio::test]
    async fn a_reader_that_has_enough_ends_the_tool() {
        let full = shell("yes").stream_to(Input::Empty, |_| Err(Error::TooLarge { limit_bytes: 1 })).await;
        assert!(matches!(full, Err(Error::TooLarge { .. })));
    }

    #[test]
    fn another_configuration_is_another_fingerprint() {
        let one = shell("x").configured_by(b"a").fingerprint();
        assert_eq!(one, shell("x").configured_by(b"a").fingerprint());
        assert_ne!(one, shell("x").configured_by(b"b").fingerprint());
        assert_ne!(one, shell("y").configured_by(b"a").fingerprint());
    }
}
