//! The guide's recipes, run as they stand there: blocks marked `sh SYSTEM` or `cron SYSTEM`, in their order.

use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use syncfiles::ssh::host_key::load_or_create;

use crate::support::pair::Side;
use crate::support::process::{Ended, Running, Server, System, World};

/// The sections that have such blocks; each has a test below.
const RECIPES: [&str; 7] = [
    "The first ten minutes",
    "Backup to a NAS",
    "Laptop and desktop through a hub",
    "Code on another machine",
    "From cron",
    "A read-only mirror",
    "Getting something back",
];

/// Commands for one system, as in the guide.
#[derive(Debug)]
struct Block {
    system: String,
    script: String,
}

fn guide() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/guide.md")).unwrap()
}

/// The blocks of one section.
fn blocks(section: &str) -> VecDeque<Block> {
    let mut found = VecDeque::new();
    for fenced in section.split("```").skip(1).step_by(2) {
        let (info, script) = fenced.split_once('\n').unwrap();
        let Some((kind, system)) = info.split_once(' ') else { continue };
        // Of a line of a crontab, what follows the five fields is what runs.
        let command = |line: &str| line.splitn(6, ' ').last().unwrap_or_default().to_owned();
        let script = match kind {
            "sh" => script.to_owned(),
            "cron" => script.lines().map(command).collect::<Vec<_>>().join("\n"),
            other => panic!("{other}"),
        };
        found.push_back(Block { system: system.to_owned(), script });
    }
    found
}

/// A recipe that is being followed.
struct Recipe {
    world: World,
    desktop: System,
    server: Option<Server>,
    blocks: VecDeque<Block>,
}

impl Recipe {
    fn of(title: &str) -> Recipe {
        let text = guide();
        let section = text.split("\n## ").find(|section| section.starts_with(title)).unwrap();
        let (world, desktop) = (World::new(), System::new());
        let keys = [&world.two, &desktop].map(public_key);
        world.authorize(&keys.join("\n"));
        for system in [&world.one, &world.two, &desktop] {
            // The same program, on a port of its own; and nothing else is different.
            let shim = "#!/bin/sh\nif [ \"$1\" = serve ]; then shift; set -- serve --listen 127.0.0.1:0 \"$@\"; fi\n";
            let program = system.path("bin/syncfiles");
            fs::create_dir(system.path("bin")).unwrap();
            fs::write(&program, format!("{shim}exec '{}' \"$@\"\n", env!("CARGO_BIN_EXE_syncfiles")))
                .unwrap();
            fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Recipe { world, desktop, server: None, blocks: blocks(section) }
    }

    fn nas(&self, folder: &str) -> Side {
        side(&self.world.one, folder)
    }

    fn laptop(&self, folder: &str) -> Side {
        side(&self.world.two, folder)
    }

    fn desktop(&self, folder: &str) -> Side {
        side(&self.desktop, folder)
    }

    /// Follows the next block, which is for the NAS and ends in a server.
    fn serve(&mut self) {
        // As the shell itself, so that it ends with the test.
        let script = format!("\n{}", self.next("nas")).replace("\nsyncfiles serve", "\nexec syncfiles serve");
        let server = Server::start(shell(&self.world.one, &script));
        let (host, _) = load_or_create(&self.world.one.path(".config/syncfiles/host_key")).unwrap();
        let host = host.public_key().to_openssh().unwrap();
        for client in [&self.world.two, &self.desktop] {
            let line = format!("[127.0.0.1]:{} {host}\n", server.port);
            fs::write(client.path(".ssh/known_hosts"), line).unwrap();
        }
        self.server = Some(server);
    }

    /// Follows the next block, which is for this system and ends.
    #[track_caller]
    fn follow(&mut self, system: &str) -> Ended {
        let block = self.next(system);
        let script = self.on_loopback(&block);
        let system = match system {
            "nas" => &self.world.one,
            "laptop" => &self.world.two,
            _ => &self.desktop,
        };
        Running::start(shell(system, &script)).end().expect(0)
    }

    /// Anything else on the laptop.
    #[track_caller]
    fn laptop_runs(&self, script: &str) -> Ended {
        Running::start(shell(&self.world.two, &self.on_loopback(script))).end().expect(0)
    }

    fn on_loopback(&self, script: &str) -> String {
        let port = self.server.as_ref().map_or(0, |server| server.port);
        script.replace("ann@nas:", &format!("ssh://ann@127.0.0.1:{port}/"))
    }

    #[track_caller]
    fn next(&mut self, system: &str) -> String {
        let block = self.blocks.pop_front().unwrap();
        assert_eq!(block.system, system, "{block:?}");
        block.script
    }

    /// Checks that nothing of the recipe was left out.
    fn done(self) {
        assert!(self.blocks.is_empty(), "{:?}", self.blocks);
    }
}

fn side(system: &System, folder: &str) -> Side {
    Side { root: system.path(folder) }
}

fn public_key(system: &System) -> String {
    let (key, _) = load_or_create(&system.path(".ssh/id_ed25519")).unwrap();
    key.public_key().to_openssh().unwrap()
}

fn shell(system: &System, script: &str) -> std::process::Command {
    let mut command = system.command("sh", &["-euc", script]);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", system.path("bin").display())).env("USER", "ann");
    command
}

#[test]
fn every_recipe_of_the_guide_has_a_test() {
    let text = guide();
    let sections = text.split("\n## ").filter(|section| !blocks(section).is_empty());
    let titles: Vec<&str> = sections.map(|section| section.lines().next().unwrap()).collect();
    assert_eq!(titles, RECIPES);
}

#[test]
fn the_first_ten_minutes_end_with_two_equal_folders() {
    let mut recipe = Recipe::of("The first ten minutes");
    recipe.nas("photos").write("lake.raw", "water", 100);
    recipe.laptop("photos").write("hill.raw", "grass", 100);
    fs::remove_file(recipe.world.one.path(".config/syncfiles/authorized_keys")).unwrap();
    let key = format!("{} ann@laptop", public_key(&recipe.world.two));
    let block = recipe.blocks.front_mut().unwrap();
    assert!(block.script.contains("'ssh-ed25519 AAAA... ann@laptop'"), "{block:?}");
    block.script = block.script.replace("ssh-ed25519 AAAA... ann@laptop", &key);
    recipe.serve();
    let both = recipe.follow("laptop");
    assert!(both.out.starts_with("dry run, nothing was changed: to send 1 file"), "{both:?}");
    assert!(both.out.lines().last().unwrap().starts_with("in sync: sent 1 file"), "{both:?}");
    assert_eq!(recipe.nas("photos").tree(), recipe.laptop("photos").tree());
    recipe.laptop("photos").remove("lake.raw");
    recipe.follow("laptop");
    assert!(recipe.nas("photos").read("lake.raw").is_none());
    recipe.done();
}

#[test]
fn a_backup_goes_to_the_nas_and_the_nas_keeps_what_it_lost() {
    let mut recipe = Recipe::of("Backup to a NAS");
    recipe.laptop("documents").write("letter.txt", "dear", 100).write("draft.tmp", "", 100);
    recipe.laptop("documents").write("old.txt", "old", 100);
    recipe.nas("documents").write("on the nas", "only", 100);
    recipe.serve();
    let first = recipe.blocks.front().unwrap().script.clone();
    recipe.follow("laptop");
    recipe.laptop("documents").write("letter.txt", "dearest", 10).remove("old.txt");
    recipe.laptop_runs(&first);
    let nas = recipe.nas("documents");
    assert_eq!((nas.read("letter.txt").unwrap().as_str(), nas.read("old.txt")), ("dearest", None));
    assert_eq!((nas.read("draft.tmp"), recipe.laptop("documents").read("on the nas")), (None, None));
    let mut displaced = nas.displaced();
    displaced.sort();
    assert_eq!(displaced, [b"dear".to_vec(), b"old".to_vec()]);
    nas.remove("on the nas");
    let whole = recipe.follow("laptop");
    assert!(
        whole.out.ends_with("the same but for what is excluded: the digests count its names\n"),
        "{whole:?}"
    );
    recipe.done();
}

#[test]
fn what_is_edited_on_the_desktop_is_on_the_laptop_after_a_run_on_each() {
    let mut recipe = Recipe::of("Laptop and desktop through a hub");
    recipe.nas("docs").write("plan.md", "first", 1000);
    recipe.serve();
    recipe.laptop("docs").write("laptop.md", "from the laptop", 100);
    recipe.follow("laptop");
    recipe.desktop("docs").write("plan.md", "second", 50);
    recipe.follow("desktop");
    recipe.follow("laptop");
    let hub = recipe.nas("docs").tree();
    assert_eq!((&recipe.laptop("docs").tree(), &recipe.desktop("docs").tree()), (&hub, &hub));
    assert_eq!(recipe.laptop("docs").read("plan.md").unwrap(), "second");
    recipe.done();
}

#[test]
fn code_travels_without_what_each_side_builds() {
    let mut recipe = Recipe::of("Code on another machine");
    recipe.nas("code").write("main.c", "int", 100).write("lib/main.o", "there", 100);
    recipe.serve();
    recipe.laptop("code").write("gen.c", "void", 50).write("target/debug/x", "here", 50);
    let quiet = recipe.follow("laptop");
    assert_eq!(quiet.out, "");
    assert_eq!(recipe.laptop("code").read("main.c").unwrap(), "int");
    assert_eq!(recipe.nas("code").read("gen.c").unwrap(), "void");
    assert!(!recipe.nas("code").path("target").exists());
    assert!(!recipe.laptop("code").path("lib/main.o").exists());
    recipe.done();
}

#[test]
fn cron_says_nothing_while_all_is_well() {
    let mut recipe = Recipe::of("From cron");
    recipe.nas("docs").write("a", "1", 100);
    recipe.server = Some(Server::start(shell(&recipe.world.one, "exec syncfiles serve ~/docs")));
    recipe.laptop_runs("syncfiles --accept-new ann@nas:docs ~/docs");
    recipe.nas("docs").write("b", "2", 10);
    let quiet = recipe.follow("laptop");
    assert_eq!((quiet.out.as_str(), quiet.err.as_str()), ("", ""));
    assert_eq!(recipe.laptop("docs").read("b").unwrap(), "2");
    recipe.done();
}

#[test]
fn a_mirror_becomes_what_the_server_has_whatever_happened_to_it() {
    let mut recipe = Recipe::of("A read-only mirror");
    recipe.nas("release").write("v1", "one", 1000).write("v2", "two", 500);
    recipe.serve();
    recipe.laptop("release").write("v1", "tampered with", 1).write("extra", "x", 1).write("more", "y", 1);
    let released = recipe.nas("release").tree();
    recipe.follow("laptop");
    assert_eq!((&recipe.laptop("release").tree(), &recipe.nas("release").tree()), (&released, &released));
    recipe.done();
}

#[test]
fn what_was_deleted_comes_back_and_travels_as_an_edit() {
    let mut recipe = Recipe::of("Getting something back");
    recipe.nas("documents").write("letter.txt", "dear", 100).write("other.txt", "", 100);
    recipe.server = Some(Server::start(shell(&recipe.world.one, "exec syncfiles serve ~/documents")));
    let sync = "syncfiles --accept-new --delete ann@nas:documents ~/documents";
    recipe.laptop_runs(sync);
    recipe.laptop("documents").remove("letter.txt");
    recipe.laptop_runs(sync);
    assert!(recipe.nas("documents").read("letter.txt").is_none());
    let said = recipe.follow("nas");
    assert!(said.out.contains("deleted") && said.out.ends_with("restored: letter.txt\n"), "{said:?}");
    recipe.laptop_runs(sync);
    assert_eq!(recipe.laptop("documents").read("letter.txt").unwrap(), "dear");
    recipe.done();
}

#[test]
fn one_way_copies_go_the_way_that_the_table_for_rsyncs_users_says() {
    let text = guide();
    for row in ["`syncfiles --push --mirror src host:dst`", "`syncfiles --pull --mirror src dst`"] {
        assert!(text.contains(row), "{row}");
    }
    let world = World::new();
    let (src, dst, far) = (side(&world.two, "src"), side(&world.two, "dst"), world.folder1());
    for (side, name, age) in [(&src, "a", 100), (&dst, "a", 5), (&dst, "extra", 5), (&far, "extra", 5)] {
        side.write(name, format!("{age} {name}"), age).write("same", "alike", 100);
    }
    let wanted = src.tree();
    world.two.run(&["--pull", "--mirror", "--max-delete", "100%", "src", "dst"]).expect(0);
    assert_eq!((&src.tree(), &dst.tree()), (&wanted, &wanted));
    let server = world.serve();
    let far_name = format!("ssh://alice@127.0.0.1:{}/folder1", server.port);
    let push = ["--push", "--mirror", "--accept-new", "--max-delete", "100%", "src", &far_name];
    world.two.run(&push).expect(0);
    assert_eq!((&src.tree(), &far.tree()), (&wanted, &wanted));
}
