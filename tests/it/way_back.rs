//! `history`, `restore` and `undo` as people type them, and what `verify` makes of a root inside a root.

use std::fs;

use crate::support::process::{Ended, World};

/// Two folders of one system, folder2 with `k`, `mine` and `sub/m` of its own, synchronised after each of two edits of `k`
/// and, last, with a run that only receives `newfile`.
fn met() -> World {
    let world = World::new();
    fs::create_dir(world.one.path("folder2")).unwrap();
    let (one, two) = (world.folder1(), there(&world));
    one.write("k", "first", 3000).write("sub/m", "first", 3000);
    two.write("mine", "2", 3000);
    sync(&world, &[]);
    for (content, age) in [("second", 2000), ("third", 1000)] {
        one.write("k", content, age);
        sync(&world, &[]);
    }
    one.write("newfile", "new", 100);
    sync(&world, &[]);
    world
}

fn there(world: &World) -> crate::support::pair::Side {
    crate::support::pair::Side { root: world.one.path("folder2") }
}

fn sync(world: &World, options: &[&str]) {
    world.one.run(&[&["folder1", "folder2"], options].concat()).expect(0);
}

/// Runs it with `-n` and without: what would be done is what is done.
fn shown_and_done(world: &World, args: &[&str]) -> Ended {
    let before = there(world).tree();
    let shown = world.one.run(&[args, &["-n"]].concat()).expect(0);
    assert_eq!(there(world).tree(), before, "{args:?} -n");
    let done = world.one.run(args).expect(0);
    let words = [
        ("would remove ", "removed: "),
        ("would bring back ", "restored: "),
        ("would move back ", "moved back: "),
    ];
    let promised = words.iter().fold(shown.out, |text, (would, did)| text.replace(would, did));
    assert_eq!(promised, done.out, "{args:?}");
    done
}

#[test]
fn undo_takes_back_the_run_that_it_shows_also_one_that_only_received() {
    let world = met();
    assert_eq!(shown_and_done(&world, &["undo", "folder2"]).out, "removed: newfile\n");
    assert!(there(&world).read("newfile").is_none());
    // What it did is a run that can be undone, and a deletion that travels if it may.
    assert_eq!(shown_and_done(&world, &["undo", "folder2"]).out, "restored: newfile\n");
    world.one.run(&["undo", "folder2"]).expect(0);
    sync(&world, &["--delete"]);
    assert!(world.folder1().read("newfile").is_none());
}

#[test]
fn the_first_sync_can_be_undone_and_undo_shows_that_it_takes_all_that_came() {
    let world = World::new();
    fs::create_dir(world.one.path("folder2")).unwrap();
    world.folder1().write("a", "1", 100).write("d/b", "2", 100);
    there(&world).write("mine", "3", 100);
    sync(&world, &[]);
    let done = shown_and_done(&world, &["undo", "folder2"]);
    assert_eq!(done.out, "removed: a\nremoved: d\nremoved: d/b\n");
    assert_eq!(there(&world).tree().len(), 1);
}

#[test]
fn what_a_run_moved_is_shown_and_moved_back() {
    let world = met();
    world.folder1().rename("newfile", "elsewhere");
    sync(&world, &["--delete"]);
    assert_eq!(shown_and_done(&world, &["undo", "folder2"]).out, "moved back: newfile\n");
    assert_eq!(there(&world).read("newfile").unwrap(), "new");
}

#[test]
fn what_was_changed_since_is_left_and_undo_shows_that_it_will_be() {
    let world = met();
    there(&world).write("newfile", "edited since", 10);
    let shown = world.one.run(&["undo", "-n", "folder2"]).expect(0);
    assert_eq!(shown.out, "would leave newfile: it was changed since\n");
    let done = world.one.run(&["undo", "folder2"]).expect(24);
    assert_eq!(done.out, "left: newfile: it was changed since\n");
    assert_eq!(there(&world).read("newfile").unwrap(), "edited since");
}

#[test]
fn a_version_is_restored_once_from_the_run_that_displaced_it_last_however_its_place_is_typed() {
    let inside = ["k", "./k", "folder2/k", "./folder2/k", "folder2/sub/../k"];
    let full = |world: &World| world.one.path("folder2/k").to_str().unwrap().to_owned();
    for at in 0..=inside.len() {
        let world = met();
        let typed = inside.get(at).map_or_else(|| full(&world), |typed| (*typed).to_owned());
        assert_eq!(shown_and_done(&world, &["restore", "folder2", &typed, &typed]).out, "restored: k\n");
        assert_eq!(there(&world).read("k").unwrap(), "second", "{typed}");
    }
}

#[test]
fn a_place_that_is_not_in_the_history_is_named() {
    let world = met();
    world
        .one
        .run(&["history", "folder2", "nofile"])
        .expect(11)
        .says(&["nothing at or below nofile", "folder2"]);
    world
        .one
        .run(&["restore", "folder2", "k", "nofile"])
        .expect(11)
        .says(&["cannot find nofile in the history"]);
    assert_eq!(there(&world).read("k").unwrap(), "third", "all of it or nothing");
    for outside in ["/etc/passwd", "../k", "folder1/../../k"] {
        let ended = world.one.run(&["restore", "-n", "folder2", outside]).expect(1);
        ended.says(&["is not below folder2", outside]);
    }
    let far = world.one.run(&["history", "ann@host:x"]).expect(1);
    far.says(&["history is of a folder on this system", "run it on that one"]);
}

#[test]
fn a_root_inside_a_root_is_noted_by_verify_and_is_no_difference() {
    let world = met();
    fs::create_dir_all(world.one.path("folder2/sub/.syncfiles")).unwrap();
    sync(&world, &[]);
    let same = world.one.run(&["verify", "folder1", "folder2"]).expect(0);
    assert!(
        same.out.contains("\nnot compared: sub/.syncfiles (another root's): it is never synchronised\n"),
        "{same:?}"
    );
    assert!(
        same.out.ends_with("the same but for what is not compared: the digests count its names\n"),
        "{same:?}"
    );
    fs::write(world.one.path("folder2/sub/x"), "1").unwrap();
    let differing = world.one.run(&["verify", "folder1", "folder2"]).expect(23);
    assert!(differing.out.ends_with("differs: sub/x\n"), "{differing:?}");
    world
        .one
        .run(&["verify", "--json", "folder1", "folder2"])
        .expect(1)
        .says(&["--json means nothing to verify"]);
}
