//! The daemon's socket: who may connect, and what each request becomes.

use crate::{
    error::{Error, Result},
    host::Host,
};
use foundation::Shutdown;
use std::{
    fs, io,
    os::{
        fd::OwnedFd,
        unix::fs::{PermissionsExt, chown},
    },
    path::Path,
};
use tokio::net::{UnixListener, UnixStream};
use tracing::{debug, error, warn};
use warden_client::{Request, Response, frame};

/// Listens; only root and `owner` may connect.
pub(crate) fn listen(path: &Path, owner: u32) -> io::Result<UnixListener> {
    crate::error::ignore_missing(fs::remove_file(path))?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    chown(path, Some(owner), None)?;
    Ok(listener)
}

/// Serves until the end is asked for.
pub(crate) async fn serve(listener: UnixListener, owner: u32, host: Host, shutdown: Shutdown) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.requested() => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(e) => {
                warn!(error = &e as &dyn std::error::Error, "cannot accept");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        match stream.peer_cred() {
            Ok(peer) if peer.uid() == 0 || peer.uid() == owner => {}
            _ => {
                warn!("a stranger connected");
                continue;
            }
        }
        let (host, ending) = (host.clone(), shutdown.clone());
        shutdown.spawn(async move {
            tokio::select! {
                done = converse(stream, &host) => {
                    if let Err(e) = done {
                        debug!(error = &e as &dyn std::error::Error, "a connection broke");
                    }
                }
                () = ending.requested() => {}
            }
        });
    }
}

async fn converse(mut stream: UnixStream, host: &Host) -> io::Result<()> {
    while let Some((request, descriptors)) = frame::receive::<Request>(&mut stream).await? {
        let response = match request {
            Request::Events => return tell(stream, host).await,
            Request::Exec { handle, process } => {
                // A client that goes away takes its process with it.
                let exec = host.exec(&handle, process, descriptors);
                let done = tokio::select! {
                    done = exec => done,
                    () = hung_up(&stream) => return Ok(()),
                };
                done.map(Response::Exited)
            }
            other => answer(other, host, descriptors).await,
        };
        let response = response.unwrap_or_else(|e| {
            if matches!(e, Error::Internal(..)) {
                error!(error = &e as &dyn std::error::Error, "a request failed");
            }
            e.response()
        });
        frame::send(&mut stream, &response, &[]).await?;
    }
    Ok(())
}

async fn answer(request: Request, host: &Host, _unused: Vec<OwnedFd>) -> Result<Response> {
    Ok(match request {
        Request::Capacity => host.capacity(),
        Request::Create(spec) => Response::Container(host.create(*spec).await?),
        Request::List { labels } => Response::Containers { containers: host.list(&labels) },
        Request::Info { handle } => Response::Container(host.info(&handle)?),
        Request::Metrics { handles } => Response::Metrics { metrics: host.metrics(&handles).await },
        Request::Stop { handle, grace_ms } => Response::Exited(host.stop(&handle, grace_ms).await?),
        Request::SetEgress { handle, endpoints } => host.set_egress(&handle, endpoints).await.map(|()| Response::Ok)?,
        Request::Destroy { handle } => host.destroy(&handle).map(|()| Response::Ok)?,
        Request::CreateLayer { layer, archive, prefix } => {
            host.create_layer(&layer, &archive, &prefix).await.map(|()| Response::Ok)?
        }
        Request::KeepLayers { keep } => host.keep_layers(keep).await.map(|()| Response::Ok)?,
        Request::ListVolumes => Response::Volumes { volumes: host.volumes() },
        Request::DeleteVolume { id } => host.delete_volume(&id).await.map(|()| Response::Ok)?,
        Request::Exec { .. } | Request::Events => Response::Ok,
    })
}

/// Returns once the peer has closed its end.
async fn hung_up(stream: &UnixStream) {
    let mut byte = [0];
    loop {
        if stream.readable().await.is_err() {
            return;
        }
        match stream.try_read(&mut byte) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            // Nothing may be asked before the answer; whoever does is not worth a process.
            _ => return,
        }
    }
}

async fn tell(mut stream: UnixStream, host: &Host) -> io::Result<()> {
    let (ended, mut events) = host.events();
    for event in ended {
        frame::send(&mut stream, &event, &[]).await?;
    }
    // A reader that fell behind is dropped: it asks again and gets the present state.
    while let Ok(event) = events.recv().await {
        frame::send(&mut stream, &event, &[]).await?;
    }
    Ok(())
}
