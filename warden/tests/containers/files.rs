//! Layers, mounts and logs.

use crate::{
    need_containers,
    support::{World, shell},
};
use flate2::{Compression, write::GzEncoder};
use prost::Message;
use std::{
    fs::{self, File},
    os::unix::{
        fs::{MetadataExt, chown},
        net::UnixDatagram,
    },
    path::{Path, PathBuf},
};
use warden_client::{BindMount, ErrorKind, LogTarget};

fn archive(world: &World, name: &str, files: &[(&str, &str)]) -> PathBuf {
    let path = world.raw.sources[0].join(format!("{name}.tgz"));
    let mut tar = tar::Builder::new(GzEncoder::new(File::create(&path).unwrap(), Compression::fast()));
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(content.len() as u64);
        header.set_mtime(1);
        tar.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_is_shown_to_every_container_as_the_property_of_vcap() {
    need_containers!();
    let world = World::start().await;
    let path = archive(&world, "droplet", &[("app/run", "#!/bin/bash\necho run\n"), ("staging_info.yml", "{}")]);
    world.client.create_layer("droplet", &path, Path::new("/home/vcap")).await.unwrap();
    fs::remove_file(&path).unwrap();
    world.client.create_layer("droplet", &path, Path::new("/home/vcap")).await.unwrap(); // it is there: the archive is not needed
    let mut inodes = vec![];
    for handle in ["one", "two"] {
        let mut asked = shell(handle, "sleep 1000");
        asked.layers = vec!["droplet".into()];
        world.create(&asked).await;
        let (_, text) = world.exec(handle, "stat -c '%u:%g %a %i' /home/vcap/app/run /home/vcap; /home/vcap/app/run; echo mine > /home/vcap/app/run && cat /home/vcap/app/run; touch /home/vcap/new").await;
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("2000:2000 755 ") && lines[1].starts_with("2000:2000 755 "), "{text}");
        assert_eq!(&lines[2..], ["run", "mine"]);
        inodes.push(lines[0].to_owned());
    }
    let mut unknown = shell("unknown", "true");
    unknown.layers = vec!["nothing".into()];
    assert_eq!(world.client.create(&unknown).await.unwrap_err().kind(), Some(ErrorKind::NotFound));
    // Layers in use stay, others go.
    let other = archive(&world, "other", &[("x", "y")]);
    world.client.create_layer("other", &other, Path::new("/home/vcap")).await.unwrap();
    world.client.keep_layers(&[]).await.unwrap();
    assert!(world.raw.state.join("layers/droplet").is_dir() && !world.raw.state.join("layers/other").exists());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_is_no_archive_or_lies_elsewhere_is_refused_and_leaves_nothing() {
    need_containers!();
    let world = World::start().await;
    let create =
        async |name: &str, path: &Path| world.client.create_layer(name, path, Path::new("/home/vcap")).await.unwrap_err().kind();
    let noise = world.raw.sources[0].join("noise");
    fs::write(&noise, "this is no gzip").unwrap();
    assert_eq!(create("noise", &noise).await, Some(ErrorKind::Invalid));
    assert_eq!(create("passwd", Path::new("/etc/passwd")).await, Some(ErrorKind::Invalid));
    std::os::unix::fs::symlink("/etc/passwd", world.raw.sources[0].join("link")).unwrap();
    assert_eq!(create("link", &world.raw.sources[0].join("link")).await, Some(ErrorKind::Invalid));
    assert_eq!(create("../up", &noise).await, Some(ErrorKind::Invalid));
    let folders = fs::read_dir(world.raw.state.join("layers")).unwrap().flatten().filter(|entry| entry.path().is_dir()).count();
    assert_eq!(folders, 0);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_vcap_writes_into_a_mount_belongs_to_the_owner_of_its_source() {
    need_containers!();
    let world = World::start().await;
    let (out, read_only) = (world.raw.sources[0].join("out"), world.raw.sources[0].join("in"));
    for (folder, owner) in [(&out, 12_345), (&read_only, 12_345)] {
        fs::create_dir(folder).unwrap();
        chown(folder, Some(owner), Some(owner)).unwrap();
    }
    fs::write(read_only.join("package"), "bits").unwrap();
    chown(read_only.join("package"), Some(12_345), Some(12_345)).unwrap();
    let mut asked = shell("staging", "sleep 1000");
    asked.mounts = vec![
        BindMount { source: out.clone(), destination: "/home/vcap/out".into(), read_only: false },
        BindMount { source: read_only, destination: "/home/vcap/in".into(), read_only: true },
    ];
    world.create(&asked).await;
    let (_, text) = world
        .exec(
            "staging",
            "cp /home/vcap/in/package /home/vcap/out/droplet && stat -c %u /home/vcap/out/droplet; touch /home/vcap/in/x",
        )
        .await;
    assert!(text.starts_with("2000\n") && text.contains("Read-only file system"), "{text}");
    let about = fs::metadata(out.join("droplet")).unwrap();
    assert_eq!((about.uid(), about.gid()), (12_345, 12_345));
    // Nobody but vcap can make a file there: not even the container's root leaves something of root's on the host.
    let (status, text) = world.exec_as("staging", "root", &["/bin/bash", "-c", "touch /home/vcap/out/root"]).await;
    assert_ne!(status, 0, "{text}");
    let mut outside = shell("outside", "true");
    outside.mounts = vec![BindMount { source: "/etc".into(), destination: "/mnt".into(), read_only: true }];
    assert_eq!(world.client.create(&outside).await.unwrap_err().kind(), Some(ErrorKind::Invalid));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_the_main_process_reach_the_log_agent_and_are_counted() {
    need_containers!();
    let world = World::start().await;
    let agent = UnixDatagram::bind(&world.raw.log_socket).unwrap();
    agent.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    let mut asked = shell("noisy", "echo one; echo two >&2; sleep 1000");
    asked.log = Some(LogTarget {
        source_id: "app".into(),
        instance_id: "0".into(),
        source_type: "APP/PROC/WEB".into(),
        tags: [("process_type".to_owned(), "web".to_owned())].into(),
    });
    world.create(&asked).await;
    let mut lines = vec![];
    while lines.len() < 2 {
        let mut buffer = vec![0; loggregator_client::MAX_DATAGRAM];
        let got = agent.recv(&mut buffer).unwrap();
        for envelope in loggregator_client::EnvelopeBatch::decode(&buffer[..got]).unwrap().batch {
            assert_eq!((envelope.source_id.as_str(), envelope.tags["source_type"].as_str()), ("app", "APP/PROC/WEB"));
            if let Some(loggregator_client::Payload::Log(log)) = envelope.message {
                lines.push((String::from_utf8(log.payload).unwrap(), log.kind));
            }
        }
    }
    lines.sort();
    assert_eq!(lines, [("one".to_owned(), 0), ("two".to_owned(), 1)]);
    assert_eq!(world.client.metrics(&["noisy".into()]).await.unwrap()["noisy"].log_bytes, 6);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a67_a_missing_log_agent_does_not_hold_an_app_up() {
    need_containers!();
    let world = World::start().await;
    let mut asked = shell("noisy", "for i in $(seq 20000); do echo line $i; done; exit 4");
    asked.log =
        Some(LogTarget { source_id: "app".into(), instance_id: "0".into(), source_type: "APP".into(), tags: Default::default() });
    assert_eq!(world.run(&asked).await.status, 4);
    world.end().await;
}
