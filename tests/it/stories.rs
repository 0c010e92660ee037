//! What a user sees, told as stories over the real protocol: put, sync, check.

use std::time::{Duration, SystemTime};

use syncfiles::core::guard::MaxDelete;
use syncfiles::core::policy::ConflictPolicy;
use syncfiles::replica::identity::{self, Id};
use syncfiles::replica::pairs;
use syncfiles::replica::root::Root;
use syncfiles::replica::state::State;
use syncfiles::session::{Export, Exports, Options, SessionError, Way};

use crate::support::pair::{Pair, Side, sync_roots};
use crate::support::wander::date;

#[test]
fn both_folders_hold_everything_and_the_newer_of_what_both_had() {
    let pair = Pair::new();
    pair.one.write("helloworld.py", "print('newer')", 10).write("post_to_irc.sh", "irc", 500).write(
        "tcpserver.py",
        "srv",
        900,
    );
    pair.two.write("helloworld.py", "print('older')", 3600).write("tcpclient.py", "cli", 700);
    let ran = pair.sync();
    pair.assert_same();
    assert_eq!(pair.two.read("helloworld.py").unwrap(), "print('newer')");
    assert_eq!(pair.one.tree().len(), 4);
    assert!(ran.notices().contains("first meeting"));
    assert_eq!(pair.two.displaced(), [b"print('older')"]);
    pair.assert_settled();
}

#[test]
fn a_second_sync_moves_nothing_and_a_third_either() {
    let pair = Pair::new();
    pair.one.write("a/b/c", "deep", 100).folder("empty").link("l", "a/b").chmod("a/b/c", 0o640);
    assert_eq!(pair.sync().travelled(), 1);
    pair.assert_same();
    for _ in 0..2 {
        assert_eq!(pair.sync().travelled(), 0);
    }
    pair.assert_settled();
}

#[test]
fn an_edit_travels_in_each_direction() {
    let pair = Pair::new();
    pair.one.write("a", "1", 1000).write("b", "1", 1000);
    pair.sync();
    pair.one.write("a", "2 from one", 100);
    pair.two.write("b", "2 from two", 200);
    pair.sync();
    pair.assert_same();
    assert_eq!(pair.two.read("a").unwrap(), "2 from one");
    assert_eq!(pair.one.read("b").unwrap(), "2 from two");
    pair.assert_settled();
}

#[test]
fn an_edit_travels_even_when_the_other_side_has_a_younger_time() {
    // With a base, only who changed matters, not whose time is younger.
    let pair = Pair::new();
    pair.one.write("a", "agreed", 100);
    pair.sync();
    pair.two.write("a", "restored from a backup", 5000);
    pair.sync();
    pair.assert_same();
    assert_eq!(pair.one.read("a").unwrap(), "restored from a backup");
}

#[test]
fn a_deletion_comes_back_without_delete_and_travels_with_it() {
    let pair = Pair::new();
    pair.one
        .write("a", "1", 1000)
        .write("d/e", "2", 1000)
        .write("stays", "3", 1000)
        .write("stays too", "4", 1000)
        .write("and this", "5", 1000);
    pair.sync();
    pair.two.remove("a");
    pair.sync();
    assert_eq!(pair.two.read("a").unwrap(), "1");
    pair.two.remove("a").remove("d");
    let ran = pair.sync_deleting();
    pair.assert_same();
    assert_eq!(pair.one.tree().len(), 3);
    assert_eq!(ran.outcome.deleted.0, 3);
    assert_eq!(pair.one.displaced(), [&b"1"[..], b"2"]);
    pair.assert_settled();
}

#[test]
fn a_change_survives_a_deletion_on_the_other_side() {
    let pair = Pair::new();
    pair.one.write("a", "1", 1000).write("b", "1", 1000);
    pair.sync();
    pair.two.remove("a");
    pair.one.write("a", "changed", 10);
    pair.sync_deleting();
    pair.assert_same();
    assert_eq!(pair.two.read("a").unwrap(), "changed");
}

#[test]
fn of_two_edits_the_younger_wins_and_the_other_goes_to_history() {
    let pair = Pair::new();
    pair.one.write("a", "agreed", 1000);
    pair.sync();
    pair.one.write("a", "older edit", 500);
    pair.two.write("a", "younger edit", 100);
    let ran = pair.sync();
    pair.assert_same();
    assert_eq!(pair.one.read("a").unwrap(), "younger edit");
    assert_eq!(ran.conflicts(), 1);
    assert_eq!(pair.one.displaced(), [b"older edit"]);
}

#[test]
fn a_time_in_the_future_wins_and_is_told_where_it_decided() {
    let pair = Pair::new();
    pair.one.write("a", "agreed", 1000).write("b", "agreed", 1000);
    pair.sync();
    pair.one.write("a", "from tomorrow", 0).write("b", "taken as a change", 0);
    let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
    ["a", "b"].iter().for_each(|name| date(&pair.one.path(name), tomorrow));
    pair.two.write("a", "edited just now", 0);
    let ran = pair.sync();
    assert!(ran.notices().contains("a: won by a time in the future"), "{}", ran.notices());
    assert_eq!(pair.two.read("a").unwrap(), "from tomorrow");
    pair.two.write("a", "the user's choice", 0);
    pair.one.write("a", "from tomorrow, again", 0);
    date(&pair.one.path("a"), tomorrow);
    let ran = pair.try_sync(|options| options.conflict = ConflictPolicy::Two).unwrap();
    assert_eq!((ran.notices().as_str(), ran.conflicts()), ("", 1));
    pair.assert_same();
}

#[test]
fn each_conflict_policy_ends_as_it_says() {
    for (policy, one, two) in [
        (ConflictPolicy::One, Some("older, one"), Some("older, one")),
        (ConflictPolicy::Two, Some("younger, two"), Some("younger, two")),
        (ConflictPolicy::Newer, Some("younger, two"), Some("younger, two")),
        (ConflictPolicy::Skip, Some("older, one"), Some("younger, two")),
        (ConflictPolicy::KeepBoth, Some("younger, two"), Some("younger, two")),
    ] {
        let pair = Pair::new();
        pair.one.write("a.txt", "agreed", 1000);
        pair.sync();
        pair.one.write("a.txt", "older, one", 500);
        pair.two.write("a.txt", "younger, two", 100);
        let ran = pair.try_sync(|options| options.conflict = policy).unwrap();
        assert_eq!(
            (pair.one.read("a.txt").as_deref(), pair.two.read("a.txt").as_deref()),
            (one, two),
            "{policy:?}"
        );
        let skipped = u64::from(policy == ConflictPolicy::Skip);
        assert_eq!((ran.conflicts(), ran.outcome.conflicts, ran.outcome.skipped), (1, 1 - skipped, skipped));
        if policy == ConflictPolicy::KeepBoth {
            pair.assert_same();
            let kept = pair
                .one
                .tree()
                .into_keys()
                .find(|name| name.to_string_lossy().contains(".conflict-"))
                .unwrap();
            assert_eq!(pair.two.read(kept.to_str().unwrap()).unwrap(), "older, one");
            pair.assert_settled();
        }
    }
}

#[test]
fn a_renamed_folder_moves_without_a_transfer() {
    let pair = Pair::new();
    for n in 0..5 {
        pair.one.write(&format!("album/{n}"), format!("picture {n}"), 1000);
    }
    pair.one.write("other", "x", 1000);
    pair.sync();
    pair.one.rename("album", "renamed");
    let ran = pair.sync_deleting();
    pair.assert_same();
    assert_eq!(ran.travelled(), 0);
    assert_eq!(ran.outcome.deleted, (0, 0), "a move is no deletion");
    assert!(ran.outcome.moved > 0);
    pair.assert_settled();
}

#[test]
fn a_rename_by_case_alone_and_a_swap_of_two_files_are_moves() {
    let pair = Pair::new();
    pair.one.write("readme", "r", 1000).write("a", "this is a", 1000).write("b", "this is b", 1000);
    pair.sync();
    pair.one.rename("readme", "README").rename("a", "t").rename("b", "a").rename("t", "b");
    let ran = pair.sync_deleting();
    pair.assert_same();
    assert_eq!(pair.two.read("a").unwrap(), "this is b");
    assert!(ran.travelled() <= 2);
    pair.assert_settled();
}

#[test]
fn a_file_takes_the_place_of_a_folder_and_a_folder_that_of_a_file() {
    let pair = Pair::new();
    pair.one.write("x/inside", "1", 1000).write("y", "file", 1000).write("z", "z", 1000);
    pair.sync();
    pair.one.remove("x").write("x", "now a file", 10);
    pair.two.remove("y").write("y/inside", "now a folder", 10);
    pair.sync_deleting();
    pair.assert_same();
    assert_eq!(pair.two.read("x").unwrap(), "now a file");
    assert_eq!(pair.one.read("y/inside").unwrap(), "now a folder");
    assert_eq!(pair.two.displaced(), [b"1"]);
    pair.assert_settled();
}

#[test]
fn permission_bits_travel_alone_and_set_id_bits_never() {
    let pair = Pair::new();
    pair.one.write("a", "1", 1000).chmod("a", 0o644);
    pair.sync();
    pair.one.chmod("a", 0o4755);
    let ran = pair.sync();
    assert_eq!(ran.travelled(), 0);
    use std::os::unix::fs::PermissionsExt;
    let bits = std::fs::metadata(pair.two.path("a")).unwrap().permissions().mode() & 0o7777;
    assert_eq!(bits, 0o755);
}

#[test]
fn links_travel_as_links_and_are_never_followed() {
    let pair = Pair::new();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "s").unwrap();
    pair.one.link("out", outside.path()).link("dangling", "nowhere/at/all");
    pair.sync();
    pair.assert_same();
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    pair.assert_settled();
}

#[test]
fn awkward_names_are_names_like_any_other() {
    use std::os::unix::ffi::OsStrExt;
    let pair = Pair::new();
    for name in [&b"new\nline"[..], b"\xff\xfe not utf-8", b" leading", b"-rf", b"*", &[b'x'; 255]] {
        std::fs::write(pair.one.root.join(std::ffi::OsStr::from_bytes(name)), "content").unwrap();
    }
    pair.sync();
    pair.assert_same();
    assert_eq!(pair.two.tree().len(), 6);
    pair.assert_settled();
}

#[test]
fn what_is_no_file_is_skipped_with_a_notice_and_never_opened() {
    let pair = Pair::new();
    pair.one.write("a", "1", 100);
    rustix::fs::mknodat(rustix::fs::CWD, pair.one.path("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .unwrap();
    let ran = pair.sync();
    assert!(!pair.two.path("pipe").exists());
    assert_eq!(pair.two.read("a").unwrap(), "1");
    let _ = ran;
}

#[test]
fn an_excluded_path_is_invisible_on_both_sides_and_survives_a_move_of_its_folder() {
    let pair = Pair::new();
    pair.one.write("d/a", "content of a", 1000).write("stays", "s", 1000).write(".syncignore", "*.o\n", 1000);
    pair.sync();
    pair.two.write("d/a.o", "made here", 10);
    pair.one.rename("d", "moved");
    pair.sync_deleting();
    assert_eq!(pair.two.read("moved/a").unwrap(), "content of a");
    assert!(pair.two.read("moved/a.o").or(pair.two.read("d/a.o")).is_some(), "an ignored file is never lost");
    assert!(!pair.one.path("moved/a.o").exists());
}

#[test]
fn pull_changes_only_the_client_and_push_only_the_server() {
    for way in [Way::Pull, Way::Push] {
        let pair = Pair::new();
        pair.one.write("from one", "1", 100);
        pair.two.write("from two", "2", 100);
        let ran = pair.try_sync(|options| options.way = way).unwrap();
        assert_eq!(pair.two.read("from one").is_some(), way == Way::Pull);
        assert_eq!(pair.one.read("from two").is_some(), way == Way::Push);
        assert_eq!(ran.outcome.suppressed, 1);
    }
}

#[test]
fn a_mirror_becomes_equal_and_its_extras_go_to_history() {
    let pair = Pair::new();
    pair.one.write("a", "the original", 5000);
    pair.two.write("a", "a younger edit", 10).write("extra", "x", 10);
    let mirror = pair.try_sync(|options| {
        (options.way, options.mirror, options.max_delete) = (Way::Pull, true, MaxDelete::Percent(100));
    });
    mirror.unwrap();
    pair.assert_same();
    assert_eq!(pair.two.read("a").unwrap(), "the original");
    assert_eq!(pair.two.displaced(), [&b"a younger edit"[..], b"x"]);
}

#[test]
fn a_read_only_server_is_never_changed() {
    let pair = Pair::new();
    pair.one.write("a", "1", 5000);
    pair.two.write("a", "2", 10).write("b", "new", 10);
    let ran = pair.try_sync_serving(|_| {}, |exports| exports.read_only = true).unwrap();
    assert_eq!(pair.one.read("a").unwrap(), "1");
    assert!(pair.one.read("b").is_none());
    assert_eq!(ran.outcome.suppressed, 2);
}

#[test]
fn a_dry_run_creates_nothing_on_either_side() {
    let pair = Pair::new();
    pair.one.write("a", "1", 100);
    let ran = pair.try_sync(|options| options.dry = true).unwrap();
    assert!(!pair.two.path("a").exists());
    assert!(!pair.one.path(".syncfiles").exists() && !pair.two.path(".syncfiles").exists());
    assert!(!ran.outcome.changed);
}

#[test]
fn an_emptied_side_stops_the_run_and_says_how_to_go_on() {
    let pair = Pair::new();
    pair.one.write("a", "1", 100).write("b", "2", 100);
    pair.sync();
    pair.two.remove("a").remove("b");
    let stopped = pair.try_sync(|options| options.delete = true).map(|_| ()).unwrap_err();
    assert_eq!(stopped.exit_code(), 27, "{stopped}");
    assert!(stopped.to_string().contains("--max-delete 100%"), "{stopped}");
    assert_eq!(pair.one.tree().len(), 2);
    let all = pair.try_sync(|options| (options.delete, options.max_delete) = (true, MaxDelete::Percent(100)));
    all.unwrap();
    assert_eq!(pair.one.tree().len(), 0);
}

#[test]
fn more_deletions_than_allowed_stop_the_run() {
    let pair = Pair::new();
    for n in 0..10 {
        pair.one.write(&n.to_string(), n.to_string(), 100);
    }
    pair.sync();
    for n in 0..6 {
        pair.two.remove(&n.to_string());
    }
    let stopped = pair.try_sync(|options| options.delete = true).map(|_| ()).unwrap_err();
    assert_eq!(stopped.exit_code(), 25, "{stopped}");
    assert_eq!(pair.one.tree().len(), 10);
    pair.try_sync(|options| (options.delete, options.max_delete) = (true, MaxDelete::Count(6))).unwrap();
    assert_eq!(pair.one.tree().len(), 4);
}

#[test]
fn a_missing_or_replaced_root_stops_the_run_until_new_root_accepts_it() {
    let pair = Pair::new();
    pair.one.write("a", "1", 100);
    pair.sync();
    std::fs::rename(&pair.two.root, pair.two.root.with_extension("away")).unwrap();
    let missing = pair.try_sync(|_| {}).map(|_| ()).unwrap_err();
    assert_eq!(missing.exit_code(), 27, "{missing}");
    assert!(!pair.two.root.exists(), "a known place is never created");
    std::fs::create_dir(&pair.two.root).unwrap();
    let replaced = pair.try_sync(|options| options.delete = true).map(|_| ()).unwrap_err();
    assert_eq!(replaced.exit_code(), 27, "{replaced}");
    assert_eq!(pair.one.tree().len(), 1);
    pair.try_sync(|options| options.new_root = true).unwrap();
    pair.assert_same();
}

/// Both ends waited for each other, for ever.
#[test]
fn a_folder_is_not_synchronised_with_itself() {
    let pair = Pair::new();
    pair.one.write("a", "1", 100);
    pair.sync();
    let folder = Export { name: "same".into(), path: pair.two.root.clone() };
    let exports = Exports::new(vec![folder], pair.options().state_home);
    let error = sync_roots(exports, &pair.two.root, &pair.options()).map(|_| ()).unwrap_err();
    assert!(error.exit_code() == 11 && error.to_string().contains("itself"), "{error}");
}

/// A root that was known as SOURCE only used to be made anew when it was named as TARGET.
#[test]
fn a_missing_root_is_missed_in_whatever_role_it_is_named() {
    let pair = Pair::new().beside();
    pair.one.write("a", "1", 100);
    pair.sync();
    let away = pair.one.root.with_extension("away");
    std::fs::rename(&pair.one.root, &away).unwrap();
    for missing in [pair.try_sync(|_| {}), pair.sync_swapped(|_| {})] {
        let error = missing.map(|_| ()).unwrap_err();
        let says = format!("cannot sync {}: no folder stands there", pair.one.root.display());
        assert!(error.exit_code() == 27 && error.to_string().contains(&says), "{error}");
        assert!(!pair.one.root.exists());
    }
    std::fs::rename(&away, &pair.one.root).unwrap();
    assert_eq!(pair.sync_swapped(|_| {}).unwrap().notices(), "");
}

#[test]
fn losing_the_state_of_either_side_deletes_nothing() {
    for side in 0..2 {
        let pair = Pair::new();
        pair.one.write("a", "1", 100).write("b", "2", 100);
        pair.sync();
        pair.two.remove("a");
        let lost = if side == 0 { &pair.one } else { &pair.two };
        std::fs::remove_file(lost.path(".syncfiles/state.db")).unwrap();
        let _ = std::fs::remove_file(lost.path(".syncfiles/state.db-wal"));
        let ran = pair.try_sync(|options| (options.delete, options.new_root) = (true, true));
        ran.unwrap();
        pair.assert_same();
        assert_eq!(pair.two.read("a").unwrap(), "1");
    }
}

#[test]
fn a_side_restored_from_a_backup_is_met_anew() {
    for rolled_back in 0..2 {
        let pair = Pair::new();
        let side = [&pair.one, &pair.two][rolled_back];
        pair.one.write("a", "1", 100);
        pair.sync();
        let (state, backup) = (side.path(".syncfiles"), side.root.with_extension("backup"));
        copy_files(&state, &backup);
        pair.one.write("b", "2", 50);
        pair.sync();
        // Nothing to do: System 2 shows that it was not killed before it had written what was agreed.
        pair.sync();
        // The database is back where it was a run ago; its folder is the same.
        for file in ["state.db-wal", "state.db-shm"] {
            let _ = std::fs::remove_file(state.join(file));
        }
        copy_files(&backup, &state);
        pair.two.remove("a");
        let ran = pair.sync_deleting();
        assert!(ran.notices().contains("restored from a backup"), "{}", ran.notices());
        assert_eq!(pair.two.read("a").unwrap(), "1", "a first meeting deletes nothing");
        pair.assert_same();
    }
}

fn copy_files(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

#[test]
fn a_tie_without_a_base_ends_alike_on_both_sides_and_is_told() {
    let pair = Pair::new();
    pair.one.write("a", "this", 100);
    pair.two.write("a", "that", 100);
    let time = std::fs::metadata(pair.one.path("a")).unwrap().modified().unwrap();
    std::fs::File::open(pair.two.path("a")).unwrap().set_modified(time).unwrap();
    let ran = pair.sync();
    pair.assert_same();
    assert_eq!(ran.conflicts(), 1);
}

#[test]
fn an_unknown_export_is_refused() {
    let pair = Pair::new();
    let refused = pair.try_sync_serving(|_| {}, |exports| exports.folders[0].path = "/nowhere/at/all".into());
    let refused = refused.map(|_| ()).unwrap_err();
    assert!(matches!(refused, SessionError::Root(_)), "{refused}");
}

/// The base that a root had kept as System 2 was used again after it had served: what the other root's base had
/// agreed on meanwhile did not show in it, and a file that came back was deleted again.
#[test]
fn swapped_roles_delete_nothing_by_an_old_base() {
    for pair in [Pair::new(), Pair::new().beside()] {
        pair.one.write("x", "restored", 1000).write("y", "stays", 1000);
        pair.sync_deleting();
        let ran = pair.sync_swapped(deleting).unwrap();
        assert_eq!(ran.outcome.deleted, (0, 0));
        // Both agree that x goes, and later System 1 restores it from an archive.
        pair.two.remove("x");
        pair.sync_swapped(deleting).unwrap();
        assert!(pair.one.read("x").is_none());
        pair.one.write("x", "restored", 1000);
        pair.try_sync(deleting).unwrap();
        pair.assert_same();
        assert_eq!(pair.two.read("x").unwrap(), "restored");
    }
}

fn deleting(options: &mut Options) {
    (options.delete, options.max_delete) = (true, MaxDelete::Percent(100));
}

#[test]
fn local_roots_that_swap_roles_go_on_from_what_they_agreed_on() {
    let pair = Pair::new().beside();
    for name in ["a", "b", "c", "d"] {
        pair.one.write(name, "agreed", 5000);
    }
    pair.sync();
    pair.one.remove("a").write("b", "edited", 4000);
    let ran = pair.sync_swapped(deleting).unwrap();
    assert_eq!((ran.outcome.deleted, ran.conflicts(), ran.notices()), ((1, 0), 0, String::new()));
    pair.assert_same();
    assert_eq!((pair.two.read("a"), pair.two.read("b").unwrap()), (None, "edited".into()));
    pair.two.remove("c").write("b", "edited again", 3000);
    pair.one.write("d", "edited", 3000);
    let ran = pair.try_sync(deleting).unwrap();
    assert_eq!((ran.outcome.deleted, ran.conflicts(), ran.notices()), ((1, 0), 0, String::new()));
    pair.assert_same();
    assert_eq!((pair.one.read("c"), pair.one.read("b").unwrap()), (None, "edited again".into()));
    pair.assert_settled();
}

/// System 1 had announced the run, and System 2 has not committed its base.
#[test]
fn local_roots_that_were_killed_after_they_swapped_roles_still_have_what_they_agreed_on() {
    for swapped_again in [false, true] {
        let pair = Pair::new().beside();
        pair.one.write("a", "agreed", 5000).write("b", "agreed", 5000);
        pair.sync();
        let state = |side: &Side| State::open(&Root::open(&side.root).unwrap()).unwrap();
        let (one, two) = (state(&pair.one), state(&pair.two));
        let peer = identity::look(&one).unwrap().unwrap();
        let last = pairs::agreed(&two, peer).unwrap().unwrap().run;
        pairs::announce(&two, peer, Some(last), Id::random().unwrap()).unwrap();
        drop((one, two));
        pair.one.remove("a");
        let ran = if swapped_again { pair.sync_swapped(deleting) } else { pair.try_sync(deleting) }.unwrap();
        assert_eq!(ran.notices(), "");
        assert_eq!(pair.two.read("a"), None);
        pair.two.remove("b");
        let ran = if swapped_again { pair.try_sync(deleting) } else { pair.sync_swapped(deleting) };
        // The last deletion empties both, which a guard would stop; the limit of 100% accepts it.
        assert_eq!(ran.unwrap().notices(), "");
        assert_eq!(pair.one.read("b"), None);
    }
}

#[test]
fn roots_on_two_systems_that_swap_roles_meet_anew_and_are_told_so() {
    let pair = Pair::new();
    pair.one.write("a", "agreed", 5000).write("b", "agreed", 5000);
    pair.sync();
    pair.one.remove("a");
    let ran = pair.sync_swapped(deleting).unwrap();
    assert!(ran.notices().contains("they meet anew, nothing is deleted"), "{}", ran.notices());
    assert!(ran.notices().contains("first meeting of two non-empty folders"), "{}", ran.notices());
    assert_eq!(pair.one.read("a").unwrap(), "agreed");
}

#[test]
fn two_folders_that_agreed_on_nothing_have_met() {
    for pair in [Pair::new(), Pair::new().beside()] {
        assert_eq!(pair.sync().notices(), "");
        pair.one.write("a", "1", 1000);
        pair.two.write("b", "2", 1000);
        assert_eq!(pair.sync().notices(), "");
        pair.assert_same();
    }
}

/// The second run used to decide as the first one did, and to say nothing of it.
#[test]
fn two_folders_that_could_not_agree_on_anything_meet_for_the_first_time_again() {
    for pair in [Pair::new(), Pair::new().beside()] {
        pair.one.write("a", "1", 1000);
        pair.two.write("a", "2", 500);
        let skipping = |options: &mut Options| options.conflict = ConflictPolicy::Skip;
        for _ in 0..2 {
            let notices = pair.try_sync(skipping).unwrap().notices();
            assert!(notices.contains("first meeting of two non-empty folders"), "{notices}");
        }
        pair.sync();
        pair.assert_same();
        assert_eq!(pair.sync().notices(), "");
        pair.one.write("a", "3", 100);
        assert_eq!(pair.sync().notices(), "");
        pair.assert_same();
    }
}

/// The folder that its files had left used to count.
#[test]
fn a_folder_that_was_renamed_and_changed_inside_counts_as_no_deletion() {
    let pair = Pair::new();
    pair.one.write("d/a", "1", 1000).write("d/s/b", "2", 1000).write("gone/c", "3", 1000);
    pair.sync();
    pair.one.rename("d", "e").write("e/new", "n", 10);
    let strict = |options: &mut Options| (options.delete, options.max_delete) = (true, MaxDelete::Count(0));
    let ran = pair.try_sync(strict).unwrap();
    assert_eq!((ran.travelled(), ran.outcome.moved), (1, 2));
    pair.assert_same();
    pair.one.rename("e/a", "a").remove("e/new").rename("gone", "went").remove("went/c");
    let error = pair.try_sync(strict).map(|_| ()).unwrap_err();
    assert!(error.exit_code() == 25 && error.to_string().contains("deleting 3 of"), "{error}");
}

/// A run that did nothing else used to say that there was nothing to do.
#[test]
fn a_copy_that_is_made_of_what_is_there_is_counted() {
    let pair = Pair::new();
    pair.one.write("a", "content", 1000);
    pair.sync();
    pair.one.write("b", "content", 500);
    let ran = pair.sync();
    assert_eq!((ran.travelled(), ran.outcome.moved, ran.outcome.changed), (0, 1, true));
    pair.assert_same();
}

/// Its old bits stayed, and were then taken for a change made there.
#[test]
fn what_was_renamed_and_got_other_bits_arrives_with_these() {
    let pair = Pair::new();
    pair.one.write("d/s/a", "in a folder", 1000).write("b", "alone", 1000).write("stays", "s", 1000);
    pair.sync();
    pair.one.rename("d", "e").rename("b", "c").chmod("e", 0o700).chmod("e/s/a", 0o600).chmod("c", 0o640);
    let ran = pair.sync_deleting();
    assert_eq!((ran.travelled(), ran.outcome.moved), (0, 2));
    pair.assert_same();
    pair.assert_settled();
}

#[test]
fn what_was_renamed_and_given_other_bits_has_both_on_the_other_side() {
    let pair = Pair::new();
    pair.one.write("a", "file", 1000).write("d/b", "inner", 1000).write("d/s/c", "deep", 1000);
    pair.one.write("p", "first", 1000).write("q", "second", 1000);
    pair.sync();
    pair.one.rename("a", "z").chmod("z", 0o600);
    pair.one.chmod("d/b", 0o640).chmod("d/s/c", 0o444).chmod("d/s", 0o555).rename("d", "e").chmod("e", 0o700);
    pair.one.rename("p", "t").rename("q", "p").rename("t", "q").chmod("p", 0o400);
    let ran = pair.sync_deleting();
    assert_eq!(ran.travelled(), 0);
    pair.assert_same();
    pair.assert_settled();
}

/// Only the side that moved a file knew its hash, and the base got no row: the next deletion came back.
#[test]
fn what_arrived_by_a_move_is_agreed_like_what_was_sent() {
    let pair = Pair::new();
    pair.one.write("a", "content of a", 1000).write("stays", "s", 1000).write("too", "t", 1000);
    pair.sync();
    pair.two.rename("a", "b");
    assert_eq!(pair.sync_deleting().outcome.moved, 1);
    pair.one.remove("b");
    pair.sync_deleting();
    pair.assert_same();
    assert!(pair.one.read("b").is_none());
}

#[test]
fn sides_that_change_their_roles_never_decide_by_what_they_agreed_on_in_the_old_ones() {
    let mut pair = Pair::new();
    pair.one.write("f", "first", 5000).write("stays", "stays", 5000);
    pair.sync();
    std::mem::swap(&mut pair.one, &mut pair.two);
    pair.one.write("f", "second", 1000);
    pair.sync();
    std::mem::swap(&mut pair.one, &mut pair.two);
    // Were the base of the first sync used, this edit would look like what both agreed on.
    pair.one.write("f", "first", 100);
    pair.sync();
    pair.assert_same();
    assert_eq!(pair.two.read("f").unwrap(), "first");
    pair.assert_settled();
}

#[test]
fn a_deletion_travels_also_of_what_was_a_move_on_the_server_a_run_before() {
    let pair = Pair::new();
    pair.one.write("a", "content", 1000).write("stays", "1", 1000).write("this too", "2", 1000);
    pair.sync();
    // Written anew, so that no index knows its hash: the server asks for it.
    pair.two.remove("a").write("b", "content", 500);
    assert_eq!(pair.sync_deleting().travelled(), 0);
    pair.two.remove("b");
    pair.sync_deleting();
    assert_eq!(pair.one.read("b"), None);
    pair.assert_settled();
}

#[test]
fn thousands_of_empty_folders_are_listed_in_messages_of_a_size_that_is_taken() {
    let pair = Pair::new();
    let name = "n".repeat(240);
    (0..4500).for_each(|number| {
        pair.one.folder(&format!("{name}{number}"));
    });
    let ran = pair.try_sync(|options| options.dry = true).unwrap();
    assert_eq!(ran.outcome.problems, []);
}

#[test]
fn a_client_without_history_does_not_make_a_server_forget_what_it_lost() {
    let pair = Pair::new();
    pair.one.write("a", "the server's own", 1000);
    pair.two.write("a", "the client's younger one", 10);
    let least = Some(syncfiles::protocol::message::Keep::default());
    pair.try_sync_serving(|options| options.history = false, |exports| exports.least = least).unwrap();
    pair.assert_same();
    assert_eq!(pair.one.displaced(), [b"the server's own"]);
}

/// More large files than may be in flight at once, both ways: they wait for one another and all arrive.
#[test]
fn many_large_files_travel_both_ways_at_once() {
    let pair = Pair::new();
    for n in 0..80u8 {
        pair.one.write(&format!("one/{n}"), vec![n; 200_000], 100);
        pair.two.write(&format!("two/{n}"), vec![n; 200_000], 100);
    }
    assert_eq!(pair.sync().travelled(), 160);
    pair.assert_same();
}
