//! `serve` as a service: the lines of authorized_keys as each key's limits, signals, the log.

use std::fs;

use crate::support::process::World;

/// The public key that logs in from System 2.
fn key(world: &World) -> String {
    let (key, _) = syncfiles::ssh::host_key::load_or_create(&world.two.path(".ssh/id_ed25519")).unwrap();
    key.public_key().to_openssh().unwrap()
}

#[test]
fn a_relative_folder_of_a_forced_command_starts_at_the_home_folder_as_under_an_sshd() {
    let world = World::new();
    let line = format!("restrict,command=\"syncfiles serve --stdio photos=own\" {}", key(&world));
    world.authorize(&line);
    for (folder, content) in [("own", "mine"), ("elsewhere/own", "another's"), ("elsewhere/folder1", "")] {
        fs::create_dir_all(world.one.path(folder)).unwrap();
        fs::write(world.one.path(folder).join("a"), content).unwrap();
    }
    let server = world.serve_limited("cd elsewhere && exec \"$0\" \"$@\"");
    let port = server.port.to_string();
    let sync = |root: &str| world.two.run(&[root, "folder2", "--accept-new", "--port", &port]);
    sync("alice@127.0.0.1:photos").expect(0);
    assert_eq!(world.folder2().read("a").unwrap(), "mine");
    // What the server itself exports is not this key's.
    sync("alice@127.0.0.1:folder1").expect(5).says(&["cannot find the export", "offers photos"]);
}
