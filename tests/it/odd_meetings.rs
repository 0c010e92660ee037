//! Roots that meet in unusual ways: equal already, in parts, copied, read-only, with rules that change, or unreadable.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use syncfiles::core::guard::MaxDelete;
use syncfiles::core::path::RelPath;
use syncfiles::core::policy::ConflictPolicy;
use syncfiles::replica::filter::{Choice, Rules};
use syncfiles::session::progress::ProblemKind;
use syncfiles::session::{Options, Way};

use crate::support::ordinary::as_ordinary_user;
use crate::support::pair::{Pair, sync_sub};

fn deleting(options: &mut Options) {
    (options.delete, options.max_delete) = (true, MaxDelete::Percent(100));
}

fn excluding(pattern: &str) -> impl FnOnce(&mut Options) {
    let rules = Rules::of_options(&[Choice::Exclude(pattern.into())]).unwrap();
    move |options| {
        options.rules = rules;
        deleting(options);
    }
}

#[test]
fn two_equal_folders_meet_without_a_transfer_and_agree_from_then_on() {
    let pair = Pair::new();
    for side in [&pair.one, &pair.two] {
        side.write("a", "alike", 1000).write("d/b", "alike too", 1000).link("l", "a").folder("e");
    }
    let ran = pair.sync();
    assert_eq!((ran.travelled(), ran.outcome.changed), (0, false));
    pair.one.remove("a");
    pair.sync_deleting();
    assert!(pair.two.read("a").is_none(), "the base was made at the first meeting");
}

#[test]
fn a_copied_root_is_met_anew_and_deletes_nothing() {
    for side in 0..2 {
        let pair = Pair::new();
        pair.one.write("a", "1", 1000).write("b", "2", 1000);
        pair.sync();
        let copied = if side == 0 { &pair.one.root } else { &pair.two.root };
        let copy = copied.with_extension("copy");
        let done = std::process::Command::new("cp").arg("-a").args([copied, &copy]).status().unwrap();
        assert!(done.success());
        fs::remove_file(copy.join("a")).unwrap();
        fs::rename(copied, copied.with_extension("away")).unwrap();
        fs::rename(&copy, copied).unwrap();
        let stopped = pair.try_sync(deleting).map(|_| ()).unwrap_err();
        assert_eq!(stopped.exit_code(), 27, "{stopped}");
        let ran = pair.try_sync(|options| {
            deleting(options);
            options.new_root = true;
        });
        assert_eq!(ran.unwrap().outcome.deleted, (0, 0));
        pair.assert_same();
        assert_eq!(pair.two.read("a").unwrap(), "1");
    }
}

#[test]
fn a_folder_of_an_export_is_a_root_of_its_own() {
    let pair = Pair::new();
    pair.one.write("sub/deep/a", "1", 1000).write("outside", "o", 1000);
    let sub = RelPath::parse(b"sub/deep").unwrap();
    sync_sub(&pair, &sub, deleting).unwrap();
    assert_eq!((pair.two.read("a").unwrap(), pair.two.tree().len()), ("1".into(), 1));
    pair.two.write("b", "2", 100).remove("a");
    sync_sub(&pair, &sub, deleting).unwrap();
    assert_eq!(pair.one.read("sub/deep/b").unwrap(), "2");
    assert!(pair.one.read("sub/deep/a").is_none());
    assert_eq!(pair.one.read("outside").unwrap(), "o");
}

#[test]
fn rules_that_change_between_runs_delete_nothing() {
    let pair = Pair::new();
    pair.one.write("a.o", "object", 1000).write("a.c", "source", 1000).write("d/b.o", "other", 1000);
    pair.sync();
    let ran = pair.try_sync(excluding("*.o")).unwrap();
    assert_eq!(ran.outcome.deleted, (0, 0));
    // Behind the rules' back one side deletes and the other edits.
    pair.one.remove("a.o");
    pair.two.write("d/b.o", "edited", 100);
    pair.try_sync(excluding("*.o")).unwrap();
    assert_eq!(pair.two.read("a.o").unwrap(), "object");
    assert_eq!(pair.one.read("d/b.o").unwrap(), "other");
    pair.try_sync(deleting).unwrap();
    pair.assert_same();
    assert!(pair.two.read("a.o").is_none(), "the rows of hidden paths stayed as they were");
    assert_eq!(pair.one.read("d/b.o").unwrap(), "edited");
}

#[test]
fn an_excluded_file_in_a_folder_that_is_deleted_elsewhere_survives_and_the_folder_is_gone_without_ping_pong()
{
    let pair = Pair::new();
    pair.one.write("d/a", "1", 1000).write("stays", "s", 1000).write(".syncignore", "*.o\n", 1000);
    pair.sync();
    pair.two.write("d/a.o", "made here", 10);
    pair.one.remove("d");
    for _ in 0..3 {
        pair.try_sync(deleting).unwrap();
        assert_eq!(pair.two.read("d/a.o").unwrap(), "made here");
        assert!(pair.two.read("d/a").is_none());
        assert!(!pair.one.path("d").exists(), "the folder must not come back");
    }
    pair.two.write("d/new", "visible", 5);
    pair.try_sync(deleting).unwrap();
    assert_eq!(pair.one.read("d/new").unwrap(), "visible");
}

/// Every such run used to end with "it lists a folder that was not asked for".
#[test]
fn what_system_2_knows_nothing_about_keeps_only_itself_from_being_synced() {
    let pair = Pair::new();
    pair.one.write("d/sub/a", "1", 1000).write("e/sub/a", "1", 1000).write("f", "new", 1000);
    pair.two.write("e/sub/a", "1", 1000);
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, pair.two.path("d"), mode).unwrap();
    pair.two.chmod("e", 0o000);
    for _ in 0..2 {
        let ran = as_ordinary_user(|| pair.try_sync(deleting).unwrap());
        assert_eq!(ran.outcome.problems.iter().map(|p| p.path.to_string()).collect::<Vec<_>>(), ["e"]);
        assert_eq!(pair.two.read("f").as_deref(), Some("new"));
        assert_eq!(pair.one.read("d/sub/a").as_deref(), Some("1"));
    }
    pair.two.chmod("e", 0o755);
    std::fs::remove_file(pair.two.path("d")).unwrap();
    pair.try_sync(|_| {}).unwrap();
    pair.assert_same();
}

#[test]
fn what_cannot_be_read_is_neither_deleted_nor_replaced() {
    let pair = Pair::new();
    pair.one.write("d/a", "1", 1000).write("f", "2", 1000).write("g", "3", 1000);
    pair.sync();
    pair.one.chmod("d", 0o000);
    pair.one.write("f", "edited", 10).chmod("f", 0o000).write("g", "edited too", 10);
    let ran = as_ordinary_user(|| pair.try_sync(deleting).unwrap());
    pair.one.chmod("d", 0o755).chmod("f", 0o644);
    let failed: Vec<_> = ran.outcome.problems.iter().map(|p| (p.path.to_string(), p.kind)).collect();
    assert_eq!(failed, [("d".into(), ProblemKind::Failed), ("f".into(), ProblemKind::Failed)]);
    assert_eq!(["d/a", "f", "g"].map(|name| pair.two.read(name).unwrap()), ["1", "2", "edited too"]);
    pair.sync_deleting();
    pair.assert_same();
    assert_eq!(pair.two.read("f").unwrap(), "edited");
}

#[test]
fn a_conflict_that_is_kept_twice_keeps_every_version_on_both_sides() {
    let pair = Pair::new();
    pair.one.write("a.txt", "agreed", 5000);
    pair.sync();
    for (round, age) in [(1, 4000), (2, 3000)] {
        pair.one.write("a.txt", format!("older {round}"), age);
        pair.two.write("a.txt", format!("younger {round}"), age - 500);
        pair.try_sync(|options| options.conflict = ConflictPolicy::KeepBoth).unwrap();
        pair.assert_same();
    }
    let mut contents: Vec<_> =
        pair.one.tree().into_keys().filter_map(|name| pair.one.read(name.to_str()?)).collect();
    contents.sort();
    assert_eq!(contents, ["older 1", "older 2", "younger 2"], "{contents:?}");
    pair.assert_settled();
}

#[test]
fn bits_that_both_sides_changed_end_alike_and_a_new_time_alone_is_no_change() {
    let pair = Pair::new();
    pair.one.write("a", "1", 1000).write("b", "2", 1000);
    pair.sync();
    pair.one.chmod("a", 0o600).age("b", 5);
    pair.two.chmod("a", 0o640);
    let ran = pair.sync();
    pair.assert_same();
    assert_eq!(ran.travelled(), 0);
    let bits = fs::metadata(pair.one.path("a")).unwrap().permissions().mode() & 0o777;
    assert_eq!(bits, 0o600, "at equal age the smaller ones");
    pair.assert_settled();
}

#[test]
fn a_pull_and_then_a_push_end_like_one_sync() {
    let pair = Pair::new();
    pair.one.write("a", "1", 1000).write("both", "agreed", 1000);
    pair.two.write("b", "2", 1000).write("both", "agreed", 1000);
    pair.try_sync(|options| options.way = Way::Pull).unwrap();
    pair.one.write("both", "edited", 100).remove("a");
    pair.two.write("c", "3", 100);
    for way in [Way::Pull, Way::Push, Way::Pull] {
        pair.try_sync(|options| {
            deleting(options);
            options.way = way;
        })
        .unwrap();
    }
    pair.assert_same();
    assert_eq!(pair.two.read("both").unwrap(), "edited");
    assert!(pair.two.read("a").is_none());
    assert_eq!(pair.one.read("c").unwrap(), "3");
}

#[test]
fn checksum_finds_an_edit_that_hides_behind_size_and_times() {
    let pair = Pair::new();
    pair.one.write("a", "before", 5000);
    pair.two.write("a", "before", 5000);
    pair.sync();
    pair.sync();
    let time = fs::metadata(pair.two.path("a")).unwrap().modified().unwrap();
    fs::write(pair.two.path("a"), "behind").unwrap();
    fs::File::open(pair.two.path("a")).unwrap().set_modified(time).unwrap();
    pair.try_sync(|options| options.checksum = true).unwrap();
    assert_eq!(pair.one.read("a").unwrap(), "behind");
}

#[test]
fn a_root_that_cannot_be_written_is_served_with_its_state_elsewhere() {
    let pair = Pair::new();
    pair.one.write("a", "1", 1000).chmod("", 0o555);
    let sync = || pair.try_sync_serving(deleting, |exports| exports.read_only = true);
    let (served, again) = as_ordinary_user(|| (sync(), sync()));
    pair.one.chmod("", 0o755);
    assert_eq!(served.unwrap().travelled(), 1);
    let again = again.unwrap();
    assert_eq!((again.travelled(), again.notices()), (0, String::new()), "they have met");
    assert_eq!(pair.two.read("a").unwrap(), "1");
    assert!(!Path::new(&pair.one.path(".syncfiles")).exists());
}
