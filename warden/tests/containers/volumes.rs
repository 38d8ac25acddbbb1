//! Disks that outlive containers.

use crate::{
    need_containers,
    support::{World, shell, spec},
};
use std::{collections::BTreeMap, fs, path::PathBuf};
use warden_client::{ContainerSpec, ErrorKind, VolumeInfo, VolumeMount};

fn volume(id: &str, size_mb: u64) -> VolumeMount {
    VolumeMount { id: id.into(), size_mb, path: "/data".into(), read_only: false, noexec: false }
}

fn with_volume(handle: &str, volume: VolumeMount) -> ContainerSpec {
    let mut asked = spec(handle, &["/bin/sleep", "1000"]);
    asked.volumes = vec![volume];
    asked
}

async fn destroy(world: &World, handle: &str) {
    world.client.destroy(handle).await.unwrap();
}

fn image(world: &World, id: &str) -> PathBuf {
    world.raw.state.join("volumes").join(id).join("disk.img")
}

#[tokio::test(flavor = "multi_thread")]
async fn data_is_there_for_the_next_container_with_its_owners_and_after_a_restart_of_the_daemon() {
    need_containers!();
    let mut world = World::start().await;
    let first = world.create(&with_volume("first", volume("db", 32))).await;
    let write = "ls -A /data; echo kept > /data/file && mkdir /data/own && chmod 700 /data/own && sync && stat -c '%u:%g %a' /data /data/file /data/own; grep ' /data ' /proc/self/mounts";
    let (_, text) = world.exec("first", write).await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(&lines[..3], ["2000:2000 755", "2000:2000 644", "2000:2000 700"], "empty, and vcap's: {text}");
    assert!(lines[3].contains("nosuid") && lines[3].contains("nodev"), "{text}");
    world.exec_as("first", "root", &["/bin/bash", "-c", "echo root > /data/of-root"]).await;
    assert_eq!(
        world.client.volumes().await.unwrap(),
        [VolumeInfo { id: "db".into(), size_mb: 32, container: Some("first".into()) }]
    );
    destroy(&world, "first").await;
    world.all_gone().await;
    assert_eq!(world.client.volumes().await.unwrap(), [VolumeInfo { id: "db".into(), size_mb: 32, container: None }]);
    world.halt().await;
    world.boot().await;
    let second = world.create(&with_volume("second", volume("db", 32))).await;
    assert_ne!(first.address, second.address, "another slot, and so other ids");
    let (_, text) = world.exec("second", "cat /data/file; stat -c '%u:%g' /data/file /data/of-root /data/own").await;
    assert_eq!(text, "kept\n2000:2000\n0:0\n2000:2000\n");
    // With a container on it, a restart of the daemon changes nothing either.
    world.halt().await;
    world.boot().await;
    assert_eq!(world.client.volumes().await.unwrap()[0].container.as_deref(), Some("second"));
    assert_eq!(world.exec("second", "echo more >> /data/file && cat /data/file").await.1, "kept\nmore\n");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_has_one_container_at_a_time() {
    need_containers!();
    let world = World::start().await;
    world.create(&with_volume("holder", volume("db", 16))).await;
    let refused = world.client.create(&with_volume("second", volume("db", 16))).await.unwrap_err();
    assert_eq!(refused.kind(), Some(ErrorKind::Conflict));
    assert!(refused.to_string().contains("`db`") && refused.to_string().contains("`holder`"), "{refused}");
    assert_eq!(world.client.delete_volume("db").await.unwrap_err().kind(), Some(ErrorKind::Conflict));
    world.exec("holder", "echo mine > /data/file").await;
    // Killed without a chance to sync or unmount: the next one waits until the kernel has let go, and finds the data whole.
    for round in 0..5 {
        let (old, new) = if round % 2 == 0 { ("holder", "second") } else { ("second", "holder") };
        destroy(&world, old).await;
        world.create(&with_volume(new, volume("db", 16))).await;
        assert_eq!(world.exec(new, "cat /data/file").await.1, "mine\n");
    }
    // One whose process has ended has it no more.
    let mut short = shell("short", "sync; echo done > /data/short");
    destroy(&world, "second").await;
    short.volumes = vec![volume("db", 16)];
    assert_eq!(world.run(&short).await.status, 0);
    world.create(&with_volume("after", volume("db", 16))).await;
    assert_eq!(world.exec("after", "cat /data/short").await.1, "done\n");
    destroy(&world, "short").await;
    world.exec("after", "cat /data/short").await;
    assert_eq!(world.client.volumes().await.unwrap()[0].container.as_deref(), Some("after"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a39_a_full_volume_is_full_inside_and_harms_nobody() {
    need_containers!();
    let world = World::start().await;
    world.create(&with_volume("full", volume("db", 16))).await;
    world.create(&with_volume("other", volume("other", 16))).await;
    let fill = "dd if=/dev/zero of=/data/big bs=1M count=40 2>&1 | grep -o 'No space left on device'; stat -c %s /data/big";
    let (_, text) = world.exec("full", fill).await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "No space left on device", "{text}");
    assert!((8 << 20..16 << 20).contains(&lines[1].parse::<u64>().unwrap()), "{text}");
    assert_eq!(world.exec("full", "echo x > /home/vcap/x && rm /data/big && echo y > /data/y && cat /data/y").await.1, "y\n");
    assert_eq!(world.exec("other", "echo z > /data/z && cat /data/z").await.1, "z\n");
    // All of it was taken when it was made.
    use std::os::unix::fs::MetadataExt;
    assert!(fs::metadata(image(&world, "db")).unwrap().blocks() * 512 >= 16 << 20);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_volume_leaves_nothing_and_one_of_that_name_is_empty() {
    need_containers!();
    let world = World::start().await;
    world.create(&with_volume("first", volume("db", 16))).await;
    world.exec("first", "echo secret > /data/file").await;
    destroy(&world, "first").await;
    world.all_gone().await;
    world.client.delete_volume("db").await.unwrap();
    world.client.delete_volume("db").await.unwrap(); // again is a success
    assert_eq!(world.client.volumes().await.unwrap(), []);
    assert_eq!(fs::read_dir(world.raw.state.join("volumes")).unwrap().count(), 0);
    let loops = std::process::Command::new("losetup").args(["-l", "-n", "-O", "BACK-FILE"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&loops.stdout).contains(&world.raw.state.join("volumes").display().to_string()));
    world.create(&with_volume("second", volume("db", 16))).await;
    assert_eq!(world.exec("second", "ls -A /data").await.1, "");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_are_promised_disk_grow_and_never_shrink() {
    need_containers!();
    let world = World::start_with(|raw| raw.capacity.disk_mb = 256).await; // each container has 64 of its own
    world.create(&with_volume("first", volume("db", 64))).await;
    world.exec("first", "echo kept > /data/file").await;
    assert_eq!(world.client.capacity().await.unwrap().disk_bytes, (256 - 64) << 20);
    let big = world.client.create(&with_volume("big", volume("big", 128))).await.unwrap_err();
    assert_eq!(big.kind(), Some(ErrorKind::NoRoom));
    assert!(big.to_string().contains("192 MB of disk asked, 128 MB free"), "{big}");
    destroy(&world, "first").await;
    world.all_gone().await;
    assert_eq!(world.client.create(&with_volume("small", volume("db", 32))).await.unwrap_err().kind(), Some(ErrorKind::Invalid));
    world.create(&with_volume("grown", volume("db", 96))).await;
    let (_, text) = world.exec("grown", "cat /data/file; df -m --output=size /data | tail -1").await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "kept");
    assert!(lines[1].trim().parse::<u64>().unwrap() > 80, "{text}");
    assert_eq!(world.client.volumes().await.unwrap()[0].size_mb, 96);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_cannot_be_made_leaves_no_volume() {
    need_containers!();
    let world = World::start().await;
    let mut asked = with_volume("box", volume("db", 16));
    asked.process.argv = vec!["/no/such/program".into()];
    assert_eq!(world.client.create(&asked).await.unwrap_err().kind(), Some(ErrorKind::Invalid));
    assert_eq!(world.client.volumes().await.unwrap(), []);
    for (id, size_mb, path) in [("../up", 16, "/data"), ("db", 1, "/data"), ("db", 16, "/proc/data"), ("db", 16, "data")] {
        let asked =
            with_volume("box", VolumeMount { id: id.into(), size_mb, path: path.into(), read_only: false, noexec: false });
        assert_eq!(world.client.create(&asked).await.unwrap_err().kind(), Some(ErrorKind::Invalid), "{id} {size_mb} {path}");
    }
    assert_eq!(fs::read_dir(world.raw.state.join("volumes")).unwrap().count(), 0);
    assert_eq!(world.client.list(&BTreeMap::new()).await.unwrap(), []);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a7_a_mount_target_that_is_a_link_of_the_tenant_stays_inside_and_a_read_only_volume_stays_so() {
    need_containers!();
    let world = World::start().await;
    world.create(&with_volume("writer", volume("db", 16))).await;
    world.exec("writer", "cp /bin/true /data/program; ln -s /etc /data/link").await;
    destroy(&world, "writer").await;
    let mut asked = with_volume("reader", VolumeMount { read_only: true, noexec: true, ..volume("db", 16) });
    asked.volumes.push(VolumeMount { path: "/data/link/below".into(), ..volume("other", 16) });
    match world.client.create(&asked).await {
        // The link is followed inside, where it is read-only or nothing: refused, or below the container's own /etc.
        Err(e) => assert!(matches!(e.kind(), Some(ErrorKind::Internal | ErrorKind::Invalid)), "{e}"),
        Ok(_) => assert_eq!(world.exec("reader", "stat -c %m /etc/below").await.1, "/etc/below\n"),
    }
    assert!(!std::path::Path::new("/etc/below").exists());
    destroy(&world, "reader").await;
    world.all_gone().await;
    asked.volumes.truncate(1);
    world.create(&asked).await;
    let (_, text) =
        world.exec("reader", "touch /data/x 2>&1 | grep -o Read-only; /data/program 2>&1 | grep -o 'Permission denied'").await;
    assert_eq!(text, "Read-only\nPermission denied\n");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_ask_for_a_volume_at_once_one_gets_it_also_after_a_restart() {
    need_containers!();
    let mut world = World::start().await;
    let race = async |world: &World, round: u32| {
        let asked: Vec<_> = (0..5).map(|n| with_volume(&format!("box-{round}-{n}"), volume("db", 16))).collect();
        let answers = futures::future::join_all(asked.iter().map(|spec| world.client.create(spec))).await;
        let mut winners = vec![];
        for answer in answers {
            match answer {
                Ok(info) => winners.push(info.handle),
                Err(e) => assert_eq!(e.kind(), Some(ErrorKind::Conflict), "{e}"),
            }
        }
        assert_eq!(winners.len(), 1, "{winners:?}");
        winners.remove(0)
    };
    let first = race(&world, 0).await;
    world.exec(&first, "echo mine > /data/file").await;
    world.halt().await;
    world.boot().await;
    let refused = world.client.create(&with_volume("late", volume("db", 16))).await.unwrap_err();
    assert_eq!(refused.kind(), Some(ErrorKind::Conflict));
    assert!(refused.to_string().contains(&first), "{refused}");
    // The daemon ends while the container is being taken away: the next one waits for that too.
    destroy(&world, &first).await;
    world.halt().await;
    world.boot().await;
    let second = race(&world, 1).await;
    assert_eq!(world.exec(&second, "cat /data/file").await.1, "mine\n");
    assert_eq!(world.client.volumes().await.unwrap()[0].container, Some(second.clone()));
    let mounted = std::process::Command::new("losetup").args(["-l", "-n", "-O", "BACK-FILE"]).output().unwrap();
    let mounted = String::from_utf8(mounted.stdout).unwrap();
    assert_eq!(mounted.lines().filter(|line| line.contains(image(&world, "db").to_str().unwrap())).count(), 1, "{mounted}");
    world.end().await;
}

/// The former tenant of a volume, or who made a layer, has put links where the next container's volumes and files are to appear.
#[tokio::test(flavor = "multi_thread")]
async fn a7_links_in_layers_and_volumes_lead_no_mount_and_no_file_to_the_host() {
    need_containers!();
    let world = World::start().await;
    let outside = world.folder.join("outside");
    fs::create_dir_all(&outside).unwrap();
    let target = outside.to_str().unwrap();
    world.create(&with_volume("writer", volume("db", 16))).await;
    let links = format!(
        "cd /data && ln -s {target} absolute && ln -s ../../../../../../../..{target} relative && ln -s /proc/1/root{target} root && ln -s /proc/self/cwd cwd && ln -s /etc etc"
    );
    assert_eq!(world.exec("writer", &links).await, (0, String::new()));
    destroy(&world, "writer").await;
    world.all_gone().await;
    let names = ["absolute", "relative", "root", "cwd", "etc"];
    for (number, at) in names.iter().flat_map(|name| [format!("/data/{name}"), format!("/data/{name}/below")]).enumerate() {
        let handle = format!("box-{number}");
        let mut asked = with_volume(&handle, volume("db", 16));
        asked.volumes.push(VolumeMount { path: at.clone().into(), ..volume("other", 16) });
        asked.files.push(warden_client::InjectedFile {
            path: format!("{at}/injected").into(),
            mode: 0o644,
            user_owned: false,
            content: "x".into(),
        });
        match world.client.create(&asked).await {
            Err(e) => assert!(matches!(e.kind(), Some(ErrorKind::Internal | ErrorKind::Invalid)), "{at}: {e}"),
            Ok(_) => {
                let (_, text) = world.exec(&handle, "echo alive").await;
                assert_eq!(text, "alive\n", "{at}");
            }
        }
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{at}");
        assert!(!std::path::Path::new("/etc/below").exists() && !std::path::Path::new("/etc/injected").exists(), "{at}");
        destroy(&world, &handle).await;
        world.all_gone().await;
    }
    // The same from a layer, which lies under the mounts.
    let layer = world.raw.sources[0].join("links.tgz");
    let gzip = flate2::write::GzEncoder::new(fs::File::create(&layer).unwrap(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(gzip);
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_mode(0o777);
    header.set_size(0);
    tar.append_link(&mut header, "app", target).unwrap_or_default();
    tar.into_inner().unwrap().finish().unwrap();
    // Refused when it is unpacked, or followed inside.
    if world.client.create_layer("links", &layer, std::path::Path::new("/home/vcap")).await.is_ok() {
        for at in ["/home/vcap/app", "/home/vcap/app/below"] {
            let mut asked = with_volume("layered", VolumeMount { path: at.into(), ..volume("db", 16) });
            asked.layers = vec!["links".into()];
            if let Err(e) = world.client.create(&asked).await {
                assert!(matches!(e.kind(), Some(ErrorKind::Internal | ErrorKind::Invalid)), "{at}: {e}");
            }
            assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{at}");
            let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
            assert!(!mounts.contains(target), "{mounts}");
            destroy(&world, "layered").await;
            world.all_gone().await;
        }
    }
    world.end().await;
}
