//! The command line as people type it: a test for each group of options.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use super::address::Root;
use super::amount::{Keep, Limit, Units};
use super::args::{Invocation, Usage, command, parse};
use super::exit::ExitCode;
use super::options::{Compress, Conflict, ProgressKind};
use super::serve_args::ServeArgs;
use super::sync_args::{Filter, SyncArgs};
use crate::core::policy::ConflictPolicy;

fn typed(line: &str) -> Result<Invocation, Usage> {
    parse(["syncfiles"].into_iter().chain(line.split_whitespace()).map(OsString::from))
}

fn sync(line: &str) -> SyncArgs {
    match typed(line) {
        Ok(Invocation::Sync(args)) => *args,
        other => panic!("{line}: {other:?}"),
    }
}

fn serve(line: &str) -> ServeArgs {
    match typed(line) {
        Ok(Invocation::Serve(args)) => args,
        other => panic!("{line}: {other:?}"),
    }
}

fn wrong(line: &str) -> String {
    match typed(line) {
        Err(error) => {
            let text = error.to_string();
            assert!(!text.contains('\n'), "{line}: {text}");
            text
        }
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn the_definition_holds_together() {
    command().debug_assert();
}

#[test]
fn what_an_rsync_user_types_runs() {
    let args = sync("-avzP --delete user@host:folder1 ./folder2");
    assert_eq!(args.pair.two, OsString::from("./folder2"));
    assert!(args.options.decide.delete);
    assert_eq!(args.options.show.verbose, 1);
    assert_eq!(args.options.show.progress, Some(ProgressKind::Auto));
    assert_eq!(args.options.connect.compress, Some(Compress::Always));
    for habit in ["-a", "-rlptux", "-aPz", "-zvh", "--archive --partial --progress", "-Pzi", "-vvhn"] {
        sync(&format!("{habit} a b"));
    }
}

#[test]
fn p_i_h_and_u_keep_the_meaning_rsync_gave_them() {
    let args = sync("-piu -h a b");
    assert!(args.options.show.itemize_changes);
    assert_eq!(args.options.show.units(), Units::Decimal);
    assert_eq!(sync("-hh a b").options.show.units(), Units::Binary);
    assert_eq!(args.options.connect.port, None);
}

#[test]
fn what_is_not_synchronised_is_refused_by_name() {
    for (option, text) in [
        ("-H", "-H (--hard-links)"),
        ("-aA", "-A (--acls)"),
        ("-avX", "-X (--xattrs)"),
        ("-S", "-S (--sparse)"),
        ("--owner", "-o (--owner)"),
        ("-g", "-g (--group)"),
        ("-D", "-D (--devices)"),
    ] {
        assert!(wrong(&format!("{option} a b")).starts_with(text), "{option}");
    }
}

#[test]
fn a_watch_cannot_be_a_dry_run() {
    assert!(sync("--watch --delete a b").options.decide.watch);
    let text = wrong("-n --watch a b");
    assert!(text.contains("--watch") && text.contains("--dry-run"), "{text}");
}

#[test]
fn a_mistyped_option_is_answered_with_the_right_one_in_one_line() {
    let text = wrong("--delte a b");
    assert!(text.contains("--delte") && text.contains("(a similar argument exists: '--delete')"), "{text}");
    assert!(wrong("--conflict older a b").contains("keep-both"));
    assert!(wrong("a").contains("TARGET"));
    assert!(wrong("a b c").contains("SOURCE and TARGET are two, and `c` is one more"));
}

#[test]
fn what_is_decided() {
    let plan = "--conflict keep-both --max-delete 10% --new-root --keep-history 30d,10G -n";
    let decide = sync(&format!("{plan} a b")).options.decide;
    assert_eq!(decide.conflict, Some(Conflict::KeepBoth));
    assert_eq!(decide.max_delete, Some(Limit::Percent(10)));
    let room = Some(Limit::Count(10 << 30));
    assert_eq!(decide.keep_history, Some(Keep { age: Duration::from_secs(30 * 86_400), room }));
    assert!(decide.new_root && decide.dry_run && !decide.no_history);
    assert!(wrong("--keep-history 30d --no-history a b").contains("cannot be used with"));
    assert!(wrong("--max-delete some a b").contains("500 or 50%"));
}

#[test]
fn pull_changes_system_two_only_and_push_system_one_only() {
    for (line, one, two) in [("", true, true), ("--pull", false, true), ("--push", true, false)] {
        let may = sync(&format!("{line} h:f b")).policy().may;
        assert_eq!(
            (may.one.write, may.one.delete, may.two.write, may.two.delete),
            (one, one, two, two),
            "{line}"
        );
    }
    assert!(sync("--pull --mirror h:f b").policy().mirror);
    assert!(wrong("--mirror h:f b").contains("--pull or --push"));
    assert!(wrong("--pull --push h:f b").contains("cannot be used with"));
    assert_eq!(sync("--conflict local h:f b").policy().conflict, ConflictPolicy::Two);
}

#[test]
fn patterns_keep_the_order_in_which_they_were_typed() {
    let args = sync("--exclude *.o --include keep.o a b --exclude-from list --exclude=x");
    let expected = [
        Filter::Exclude("*.o".into()),
        Filter::Include("keep.o".into()),
        Filter::ExcludeFrom("list".into()),
        Filter::Exclude("x".into()),
    ];
    assert_eq!(args.filters, expected);
}

#[test]
fn what_is_printed() {
    let show = sync("--json --stats --progress=none a b").options.show;
    assert!(show.json && show.stats && show.progress == Some(ProgressKind::None));
    assert!(wrong("--progress=json a b").contains("needs --json"));
    assert!(wrong("-qv a b").contains("cannot be used with"));
    assert_eq!(sync("-P a b").options.show.progress, Some(ProgressKind::Auto));
    assert_eq!(sync("a b").options.show.progress, None);
}

#[test]
fn how_the_other_system_is_reached() {
    let args = sync("--port 2022 --identity k --known-hosts kh --accept-new --timeout 30 -z h:f b");
    let Root::Remote(remote) = &args.pair.one else { panic!("remote") };
    assert_eq!(remote.port, Some(2022));
    assert_eq!(args.options.connect.timeout, Some(Duration::from_secs(30)));
    assert!(args.options.connect.accept_new);
    let Root::Remote(url) = sync("--port 1 ssh://h:2/f b").pair.one else { panic!("remote") };
    assert_eq!(url.port, Some(2), "an address is more exact than an option");
    assert!(wrong("--port 0 h:f b").contains("--port"));
}

#[test]
fn roots_are_checked_while_they_are_read() {
    assert!(wrong("h:f g:f").contains("at most one"));
    assert!(wrong("h:/srv b").contains("absolute path"));
    assert!(wrong("b -v h:..").contains("`..`"));
    assert!(sync("a h:f").pair.one.local().is_none());
}

#[test]
fn a_folder_named_like_a_command_is_written_with_a_dot() {
    assert!(matches!(typed("serve docs"), Ok(Invocation::Serve(_))));
    assert_eq!(sync("./serve b").pair.one, Root::Local("./serve".into()));
    assert!(wrong("-v serve docs").contains("./serve"));
}

#[test]
fn a_server_exports_folders_under_names() {
    let args =
        serve("serve --listen 127.0.0.1:0 --read-only --no-delete --max-clients 3 /srv/docs photos=/mnt/p/");
    let exports: Vec<_> = args.exports.iter().map(|e| format!("{}={}", e.name, e.dir.display())).collect();
    assert_eq!(exports, ["docs=/srv/docs", "photos=/mnt/p/"]);
    assert_eq!(args.address().to_string(), "127.0.0.1:0");
    assert!(args.read_only && args.no_delete && args.max_clients == Some(3));
    for (listen, address) in [("", "[::]:2222"), ("--listen 80", "[::]:80"), ("--listen ::1", "[::1]:2222")] {
        assert_eq!(serve(&format!("serve {listen} x")).address().to_string(), address);
    }
    assert_eq!(serve("serve ./a=b").exports[0].dir, OsString::from("./a=b"));
}

#[test]
fn exports_that_clash_or_have_no_name_are_refused() {
    assert!(wrong("serve /a/x /b/x").contains("NAME=DIR"));
    assert!(wrong("serve /").contains("NAME=DIR"));
    assert!(wrong("serve ..").contains("NAME=DIR"));
    assert!(wrong("serve a=").contains("names no folder"));
    assert!(wrong("serve .syncfiles").contains("reserved"));
    assert!(wrong("serve").contains("NAME="));
    assert!(wrong("serve --stdio --listen :1 x").contains("cannot be used with"));
    assert!(wrong("serve --lisen :1 x").contains("--listen"));
}

#[test]
fn history_is_looked_at_and_brought_back() {
    let Ok(Invocation::History(history)) = typed("history ./docs a//b/") else { panic!("history") };
    assert_eq!(history.path, Some("a//b/".into()));
    let Ok(Invocation::Restore(restore)) = typed("restore -n ./docs a b --run 7") else { panic!("restore") };
    assert_eq!((restore.paths.len(), restore.run.as_deref(), restore.dry_run), (2, Some("7"), true));
    assert!(matches!(typed("undo ./docs"), Ok(Invocation::Undo(undo)) if undo.run.is_none()));
    for line in ["history ann@h:x", "restore h:x y", "undo ssh://h/x", "history h:"] {
        assert!(wrong(line).contains("history is of a folder on this system: run it on that one"), "{line}");
    }
    assert!(matches!(typed("undo ./h:x"), Ok(Invocation::Undo(undo)) if undo.root == Path::new("./h:x")));
    assert!(wrong("restore ./docs").contains("PATHS"));
}

#[test]
fn the_small_commands() {
    assert!(matches!(typed("demo"), Ok(Invocation::Demo)));
    assert!(matches!(typed("man"), Ok(Invocation::Man)));
    assert!(matches!(typed("completions bash"), Ok(Invocation::Completions(_))));
    let Ok(Invocation::Verify(verify)) = typed("verify -c --exclude x --port 9 h:f b") else {
        panic!("verify")
    };
    assert_eq!((verify.filters.len(), verify.options.compare.checksum), (1, true));
    assert!(wrong("verify --delete h:f b").contains("--delete"));
    for (option, named) in [
        ("-v", "-v (--verbose)"),
        ("-i", "-i (--itemize-changes)"),
        ("--progress=json", "-P (--progress)"),
        ("--stats", "--stats"),
        ("--json", "--json"),
        ("-hh", "-h (--human-readable)"),
        ("--bwlimit 1M", "--bwlimit"),
        ("-z", "-z (--compress)"),
        ("--retries 3", "--retries"),
    ] {
        let said = wrong(&format!("verify {option} h:f b"));
        assert!(said.starts_with(&format!("{named} means nothing to verify")), "{option}: {said}");
    }
    let Ok(Invocation::Print(help)) = typed("verify --help") else { panic!("help") };
    assert!(help.contains("--quiet") && help.contains("--timeout"), "{help}");
    assert!(!["--json", "--stats", "--bwlimit"].iter().any(|option| help.contains(option)), "{help}");
    assert!(wrong("verfy a b").contains("there is no command `verfy`: did you mean `verify`?"));
    assert!(wrong("--port 1 verify a b").contains("`verify` is a command and comes first"));
}

#[test]
fn help_is_asked_for_as_a_command_too() {
    assert!(matches!(typed("help"), Ok(Invocation::Print(text)) if text.contains("--dry-run")));
    assert!(matches!(typed("help serve"), Ok(Invocation::Print(text)) if text.contains("--read-only")));
    assert_eq!(sync("help docs").pair.one, Root::Local("help".into()));
}

#[test]
fn of_an_option_that_is_typed_twice_the_last_counts() {
    let args = sync("--delete --delete --timeout 5 --timeout 6 --conflict skip --conflict local a b");
    assert!(args.options.decide.delete);
    assert_eq!(args.options.connect.timeout, Some(Duration::from_secs(6)));
    assert_eq!(args.options.decide.conflict, Some(Conflict::Local));
    assert!(serve("serve --read-only --read-only --user a --user b x").user == Some("b".into()));
}

#[test]
fn what_rsync_does_in_another_way_is_refused_with_what_to_write_instead() {
    for (option, instead) in [
        ("--backup", "syncfiles history"),
        ("-ab", "syncfiles history"),
        ("--link-dest=../old", "syncfiles history"),
        ("--mkpath", "mkdir -p"),
        ("--inplace", "in one step"),
        ("--append", "resumed"),
        ("--partial-dir .partial", "resumed"),
        ("--rsync-path=/opt/bin/x", "--remote-path"),
        ("--filter=P*.o", "--exclude and --include"),
        ("--info=progress2", "--progress"),
        ("--delete-before", "write --delete"),
        ("--delete-during", "write --delete"),
        ("--delete-after", "write --delete"),
        ("--delete-excluded", "never touched"),
    ] {
        let text = wrong(&format!("{option} a b"));
        assert!(text.contains("is not supported: ") && text.contains(instead), "{option}: {text}");
    }
}

#[test]
fn an_option_that_does_nothing_here_is_never_suggested() {
    for mistyped in ["--inplce", "--acl", "--archiv", "--partal"] {
        let text = wrong(&format!("{mistyped} a b"));
        assert!(!text.contains("similar"), "{text}");
    }
}

#[test]
fn h_alone_is_help_on_a_screen_and_among_others_what_it_is_in_rsync() {
    let Ok(Invocation::Print(screen)) = typed("-h") else { panic!("-h") };
    assert!(screen.contains("--dry-run") && !screen.contains("--known-hosts"), "{screen}");
    for verb in ["serve", "verify", "history"] {
        let asked = format!("{verb} -h");
        assert!(matches!(typed(&asked), Ok(Invocation::Print(text)) if text.contains("Usage: syncfiles")));
    }
    assert_eq!(sync("-h a b").options.show.units(), Units::Decimal);
    assert!(wrong("-h a").contains("TARGET"));
}

#[test]
fn mistyped_options_of_every_group_and_command_are_answered_with_the_right_ones() {
    for (line, right) in [
        ("--dryrun a b", "--dry-run"),
        ("--exlude x a b", "--exclude"),
        ("--itemise-changes a b", "--itemize-changes"),
        ("--acept-new a b", "--accept-new"),
        ("serve --readonly x", "--read-only"),
        ("verify --check-sum a b", "--checksum"),
        ("restore --dry x y", "--dry-run"),
    ] {
        assert!(wrong(line).contains(&format!("'{right}'")), "{line}: {}", wrong(line));
    }
    assert_eq!(wrong("-W a b"), "unexpected argument '-W' found (syncfiles -h shows how)");
    assert!(wrong("--conflict newr a b").contains("'newer'"));
}

#[test]
fn help_and_version_are_no_errors_and_no_arguments_at_all_are() {
    assert!(matches!(typed("--version"), Ok(Invocation::Print(text)) if text.starts_with("syncfiles ")));
    let Ok(Invocation::Print(help)) = typed("--help") else { panic!("help") };
    for section in
        ["What is decided", "What is compared", "What is printed", "How the other system is reached"]
    {
        assert!(help.contains(section), "{section}");
    }
    assert!(help.lines().all(|line| line.chars().count() <= 120), "{help}");
    assert!(matches!(typed("serve --help"), Ok(Invocation::Print(text)) if text.contains("--read-only")));
    assert!(matches!(typed(""), Err(Usage::Help(text)) if text.contains("SOURCE TARGET")));
    for code in ExitCode::ALL {
        assert!(help.contains(&format!("  {:2}  {}", code.number(), code.meaning())), "{code:?}");
    }
}
