//! Uploads: matched files, hostile archives, cut and refused ones.

use super::{
    World,
    push::{app, build, package, space, upload, zipped},
    tenancy,
};
use crate::domain::archive::hex;
use reqwest::Method;
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use std::{
    io::{Cursor, Read, Write},
    time::Duration,
};
use tokio::io::AsyncWriteExt;
use zip::{ZipArchive, ZipWriter, write::SimpleFileOptions};

async fn new_package(world: &World, user: &str, app: &str) -> String {
    let body = json!({ "type": "bits", "relationships": { "app": { "data": { "guid": app } } } });
    world.post(user, "/v3/packages", body).await.expect(201)["guid"].as_str().unwrap().to_owned()
}

fn resource(content: &str, path: &str) -> Value {
    json!({ "path": path, "mode": "755", "checksum": { "value": hex(&Sha1::digest(content)) }, "size_in_bytes": content.len() })
}

async fn known_files_need_not_be_sent_again(world: World) {
    let space = space(&world).await;
    let app = app(&world, &space, "dora").await;
    let big = "x".repeat(100_000);
    let first = new_package(&world, "dev", &app).await;
    let bits = Some(("package.zip", zipped(&[("public/big.js", &big), ("run", "r")])));
    upload(&world, "dev", &format!("/v3/packages/{first}/upload"), bits, Some(json!([]))).await.expect(200);
    let wanted = json!({ "resources": [resource(&big, "public/big.js"), resource(&big, "copy.js"), resource("y", "small")] });
    let mut matched = Value::Null;
    for _ in 0..200 {
        // They are kept just after the package is ready.
        matched = world.post("dev", "/v3/resource_matches", wanted.clone()).await.expect(201);
        if matched["resources"].as_array().unwrap().len() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(
        matched["resources"],
        json!([resource(&big, "public/big.js"), resource(&big, "copy.js")]),
        "each entry comes back as it was sent"
    );
    let second = new_package(&world, "dev", &app).await;
    let bits = Some(("package.zip", zipped(&[("run", "new")])));
    let ready = upload(&world, "dev", &format!("/v3/packages/{second}/upload"), bits, Some(matched["resources"].clone()))
        .await
        .expect(200);
    assert_eq!(ready["state"], "READY");
    let download = world.request(Method::GET, "dev", &format!("/v3/packages/{second}/download")).send().await.unwrap();
    let mut zip = ZipArchive::new(Cursor::new(download.bytes().await.unwrap())).unwrap();
    let mut text = String::new();
    zip.by_name("copy.js").unwrap().read_to_string(&mut text).unwrap();
    assert_eq!((text.len(), zip.len(), zip.by_name("public/big.js").unwrap().unix_mode().unwrap() & 0o777), (100_000, 3, 0o755));
}

async fn a73_files_of_another_space_are_neither_matched_nor_given(world: World) {
    let space = space(&world).await;
    let app = app(&world, &space, "dora").await;
    let secret = "s".repeat(100_000);
    let own = new_package(&world, "dev", &app).await;
    upload(&world, "dev", &format!("/v3/packages/{own}/upload"), Some(("p.zip", zipped(&[("f", &secret)]))), None)
        .await
        .expect(200);
    let wanted = json!({ "resources": [resource(&secret, "f")] });
    for _ in 0..200 {
        let matched = world.post("dev", "/v3/resource_matches", wanted.clone()).await.expect(201);
        if !matched["resources"].as_array().unwrap().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let org = tenancy::org(&world, "evil").await;
    let other = tenancy::space(&world, &org, "lair").await;
    tenancy::role(&world, "eve", "space_developer", &other).await;
    assert_eq!(world.post("eve", "/v3/resource_matches", wanted.clone()).await.expect(201)["resources"], json!([]));
    let body = json!({ "name": "thief", "relationships": { "space": { "data": { "guid": other } } } });
    let thief = world.post("eve", "/v3/apps", body).await.expect(201)["guid"].as_str().unwrap().to_owned();
    let package = new_package(&world, "eve", &thief).await;
    let taken = upload(&world, "eve", &format!("/v3/packages/{package}/upload"), None, Some(wanted["resources"].clone())).await;
    assert_eq!(taken.detail(400), "The app package is invalid: the file `f` is not known here; upload it");
}

async fn hostile_packages_are_refused_with_the_reason(world: World) {
    let space = space(&world).await;
    let app = app(&world, &space, "dora").await;
    let link = |target: &str| {
        let mut zip = ZipWriter::new(Cursor::new(vec![]));
        zip.add_symlink("l", target, SimpleFileOptions::default()).unwrap();
        zip.finish().unwrap().into_inner()
    };
    let bomb = || {
        let mut zip = ZipWriter::new(Cursor::new(vec![]));
        zip.start_file("zeros", SimpleFileOptions::default()).unwrap();
        let block = vec![0; 1 << 20];
        (0..140).for_each(|_| zip.write_all(&block).unwrap());
        zip.finish().unwrap().into_inner()
    };
    for (bits, reason) in [
        (link("/etc/passwd"), "The link `l` leads out of the app: `/etc/passwd`"),
        (link("../../x"), "The link `l` leads out of the app: `../../x`"),
        (bomb(), "The zip file unpacks to more than 200 times its size"),
    ] {
        let guid = new_package(&world, "dev", &app).await;
        let answered = upload(&world, "dev", &format!("/v3/packages/{guid}/upload"), Some(("p.zip", bits)), None).await;
        assert_eq!(answered.detail(400), format!("The app package is invalid: {reason}"));
        let shown = world.get("dev", &format!("/v3/packages/{guid}")).await.expect(200);
        assert_eq!((&shown["state"], &shown["data"]["error"]), (&json!("FAILED"), &json!(reason)));
        let staged = world.post("dev", "/v3/builds", json!({ "package": { "guid": guid } })).await;
        assert_eq!(staged.detail(400), "Bad request: Cannot stage package whose state is not ready.");
    }
    let guid = new_package(&world, "dev", &app).await;
    let answered = upload(&world, "dev", &format!("/v3/packages/{guid}/upload"), Some(("p.zip", b"no zip".to_vec())), None).await;
    assert!(answered.detail(400).starts_with("The app package is invalid: The zip file is broken"));
    assert_eq!(
        upload(&world, "dev", &format!("/v3/packages/{guid}/upload"), None, Some(json!([]))).await.detail(400),
        "Bits may be uploaded only once. Create a new package to upload different bits."
    );
}

async fn b24_odd_forms_are_refused_and_bits_are_uploaded_once(world: World) {
    use reqwest::multipart::{Form, Part};
    let space = space(&world).await;
    let app = app(&world, &space, "dora").await;
    let guid = new_package(&world, "dev", &app).await;
    let path = format!("/v3/packages/{guid}/upload");
    let send = |form: Form| world.finish(world.request(Method::POST, "dev", &path).multipart(form));
    let zip = || Part::bytes(zipped(&[("f", "x")])).file_name("../../etc/passwd");
    assert_eq!(send(Form::new().text("nothing", "here")).await.detail(422), "Upload must include either resources or bits");
    assert_eq!(send(Form::new().text("resources", "[{]")).await.detail(422), "Resources must be valid JSON.");
    assert_eq!(send(Form::new().part("bits", zip()).part("bits", zip())).await.status, 400);
    let many = (0..30).fold(Form::new(), |form, n| form.text(format!("part{n}"), "x"));
    assert_eq!(send(many).await.status, 400);
    let plain = world.request(Method::POST, "dev", &path).body("no form");
    assert_eq!(world.finish(plain).await.status, 400);
    assert_eq!(world.get("dev", &format!("/v3/packages/{guid}")).await.expect(200)["state"], "AWAITING_UPLOAD");
    // A field that names a path of the server means nothing; parts in the other order are fine.
    let odd = Form::new().text("bits_path", "/etc/passwd").part("bits", zip()).text("resources", "[]");
    assert_eq!(send(odd).await.expect(200)["state"], "READY");
    assert_eq!(
        send(Form::new().part("bits", zip())).await.detail(400),
        "Bits may be uploaded only once. Create a new package to upload different bits."
    );
}

async fn an_upload_that_is_cut_leaves_the_package_waiting_and_no_file(world: World) {
    let space = space(&world).await;
    let app = app(&world, &space, "dora").await;
    let guid = new_package(&world, "dev", &app).await;
    let mut stream = tokio::net::TcpStream::connect(world.addresses.public).await.unwrap();
    let head = format!(
        "POST /v3/packages/{guid}/upload HTTP/1.1\r\nHost: api\r\nAuthorization: bearer {}\r\nContent-Length: 1000000\r\n\
         Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\nContent-Disposition: form-data; name=\"bits\"; filename=\"p.zip\"\r\n\r\n",
        world.token("dev")
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![7; 300_000]).await.unwrap();
    let under_way = world.folder().join("state/blobs/under-way");
    let files = || std::fs::read_dir(&under_way).unwrap().count();
    for _ in 0..500 {
        if files() > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(files() > 0, "it is written while it arrives");
    drop(stream);
    for _ in 0..500 {
        if files() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(files(), 0, "nothing stays behind");
    assert_eq!(world.get("dev", &format!("/v3/packages/{guid}")).await.expect(200)["state"], "AWAITING_UPLOAD");
}

async fn bits(world: &World, package: &str) -> Vec<u8> {
    let answered = world.request(Method::GET, "dev", &format!("/v3/packages/{package}/download")).send().await.unwrap();
    answered.bytes().await.unwrap().to_vec()
}

async fn packages_are_copied_downloaded_and_deleted(world: World) {
    let space = space(&world).await;
    let (from, to) = (app(&world, &space, "from").await, app(&world, &space, "to").await);
    let source = package(&world, &from).await;
    let body = json!({ "relationships": { "app": { "data": { "guid": to } } } });
    let copied = world.post("dev", &format!("/v3/packages?source_guid={source}"), body).await.expect(201);
    assert_eq!(copied["state"], "READY");
    let guid = copied["guid"].as_str().unwrap();
    assert_eq!(bits(&world, &source).await, bits(&world, guid).await);
    tenancy::role(&world, "auditor", "space_auditor", &space).await;
    assert_eq!(world.get("auditor", &format!("/v3/packages/{guid}/download")).await.status, 403, "B6");
    let deleted = world.delete("dev", &format!("/v3/packages/{guid}")).await;
    assert_eq!(world.job(deleted).await["state"], "COMPLETE");
    let build = build(&world, &source).await;
    assert_eq!(world.get("dev", &format!("/v3/builds/{build}")).await.expect(200)["state"], "STAGING");
}

async fn a_droplet_can_be_uploaded_and_brings_its_command(world: World) {
    let space = space(&world).await;
    let app = app(&world, &space, "dora").await;
    let body = json!({ "relationships": { "app": { "data": { "guid": app } } } });
    let made = world.post("dev", "/v3/droplets", body).await.expect(201);
    assert_eq!(made["state"], "AWAITING_UPLOAD");
    let guid = made["guid"].as_str().unwrap();
    let path = format!("/v3/droplets/{guid}/upload");
    let refused = upload(&world, "dev", &path, Some(("d.tgz", b"junk".to_vec())), None).await;
    assert!(refused.detail(422).starts_with("Uploaded droplet file is invalid: "));
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(vec![], flate2::Compression::fast()));
    let mut header = tar::Header::new_gnu();
    let info = br#"{"detected_buildpack":"x","start_command":"./serve"}"#;
    header.set_size(info.len() as u64);
    tar.append_data(&mut header, "staging_info.yml", info.as_slice()).unwrap();
    let tgz = tar.into_inner().unwrap().finish().unwrap();
    let answered = upload(&world, "dev", &path, Some(("d.tgz", tgz.clone())), None).await;
    assert_eq!((&answered.body["state"], &answered.body["process_types"]), (&json!("STAGED"), &json!({ "web": "./serve" })));
    assert_eq!(world.job(answered).await["operation"], "droplet.upload");
    let bytes =
        world.request(Method::GET, "dev", &format!("/v3/droplets/{guid}/download")).send().await.unwrap().bytes().await.unwrap();
    assert_eq!(bytes, tgz);
    world
        .patch("dev", &format!("/v3/apps/{app}/relationships/current_droplet"), json!({ "data": { "guid": guid } }))
        .await
        .expect(200);
    assert_eq!(
        world.delete("dev", &format!("/v3/droplets/{guid}")).await.detail(422),
        format!("The droplet is currently used by app with guid \"{app}\".")
    );
}

async fn bits_may_be_larger_than_other_bodies(world: World) {
    let space = space(&world).await;
    let app = app(&world, &space, "dora").await;
    let guid = new_package(&world, "dev", &app).await;
    let mut zip = ZipWriter::new(Cursor::new(vec![]));
    zip.start_file("big", SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored)).unwrap();
    zip.write_all(&vec![7; 20 << 20]).unwrap();
    let bits = Some(("p.zip", zip.finish().unwrap().into_inner()));
    assert_eq!(upload(&world, "dev", &format!("/v3/packages/{guid}/upload"), bits, None).await.expect(200)["state"], "READY");
    let build = build(&world, &guid).await;
    let file = world.folder().join("large");
    std::fs::write(&file, vec![9; 20 << 20]).unwrap();
    let open = || tokio::fs::File::open(&file);
    let uploaded = world.internal("dea").upload(build.parse().unwrap(), "droplet", open().await.unwrap()).await.unwrap();
    assert_eq!(uploaded.size_bytes, 20 << 20);
    // Sent again, it takes the place of the first.
    let again = world.internal("dea").upload(build.parse().unwrap(), "droplet", open().await.unwrap()).await.unwrap();
    assert_eq!(uploaded, again);
}

async fn blobs_that_nothing_speaks_of_are_swept(world: World) {
    let space = space(&world).await;
    let app = app(&world, &space, "dora").await;
    let kept = package(&world, &app).await;
    let lost = types::PackageId::random(&mut <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(3)).to_string();
    let folder = world.folder().join("state/blobs/kept/packages");
    std::fs::write(folder.join(&lost), "nobody's").unwrap();
    crate::reconcile::blobs::compare(&world.api).await.unwrap();
    assert!(folder.join(&lost).exists(), "it may belong to something under way");
    // The files are of today, the world's clock is not.
    world.clock.advance(Duration::from_secs(60 * 365 * 86_400));
    crate::reconcile::blobs::compare(&world.api).await.unwrap();
    assert!(!folder.join(&lost).exists() && folder.join(&kept).exists());
}

super::scenarios! {
    known_files_need_not_be_sent_again,
    a73_files_of_another_space_are_neither_matched_nor_given,
    hostile_packages_are_refused_with_the_reason,
    b24_odd_forms_are_refused_and_bits_are_uploaded_once,
    an_upload_that_is_cut_leaves_the_package_waiting_and_no_file,
    packages_are_copied_downloaded_and_deleted,
    a_droplet_can_be_uploaded_and_brings_its_command,
    bits_may_be_larger_than_other_bodies,
    blobs_that_nothing_speaks_of_are_swept,
}
