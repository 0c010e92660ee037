//! `-e`: System 1 through an outer ssh and `serve --stdio`. Here that ssh is a script; OpenSSH's own is in `sshd.rs`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use syncfiles::core::path::RelPath;
use syncfiles::session::progress::Silent;
use syncfiles::session::{Local, Opening, Options, Remote, SessionError, sync};
use syncfiles::ssh::{self, ClientConfig, Flow, Login, Stream};
use syncfiles::transport::mux::Mux;
use syncfiles::transport::preamble;
use tokio::io::{AsyncWriteExt, BufReader};

use crate::support::process::{Ended, Running, World};
use crate::support::watching::Watch;

/// Takes its arguments as ssh does, and runs the rest in System 1's home as a login shell would.
const SSH: &str = r#"#!/bin/sh
echo "$@" >> log
while getopts p:l:s o; do :; done
shift $((OPTIND - 1))
[ "$1" = nas ] || { echo "ssh: Could not resolve hostname $1" >&2; exit 255; }
shift
home=HOME
(cd "$home" && export HOME="$home" PATH="$home/bin:$PATH" SSH_ORIGINAL_COMMAND="$*" && sh -c SHELL)
status=$?
echo "ended $status" >> log
exit $status
"#;

/// A system whose `syncfiles` is in PATH, and a script on the other that reaches it.
struct Outer {
    world: World,
}

impl Outer {
    fn new() -> Outer {
        let world = World::new();
        fs::create_dir(world.one.path("bin")).unwrap();
        symlink(env!("CARGO_BIN_EXE_syncfiles"), world.one.path("bin/syncfiles")).unwrap();
        let outer = Outer { world };
        outer.runs(r#""$*""#);
        outer
    }

    /// What the script runs in place of a shell with the client's command.
    fn runs(&self, shell: &str) -> &Outer {
        let home = format!("'{}'", self.world.one.path("").display());
        let file = self.world.two.path("ssh");
        fs::write(&file, SSH.replace("=HOME", &format!("={home}")).replace("SHELL", shell)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    fn sync(&self, args: &[&str]) -> Ended {
        self.world.two.run(&[&["-e", "./ssh"], args].concat())
    }

    /// What the script was called with, and how it ended.
    fn log(&self) -> Vec<String> {
        let log = fs::read_to_string(self.world.two.path("log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }
}

#[test]
fn two_folders_are_synchronised_through_a_command_that_ends_before_the_client_does() {
    let outer = Outer::new();
    let (one, two) = (outer.world.folder1(), outer.world.folder2());
    one.write("a", "1", 10).write("b/c", vec![7; 3_000_000], 20);
    two.write("d", vec![8; 2_000_000], 30).write("a", "older", 60);
    let ran = outer.sync(&["ann@nas:folder1", "folder2", "--port", "2022"]).expect(0);
    assert!(ran.out.starts_with("in sync: sent 1 file"), "{ran:?}");
    outer.world.assert_same();
    assert_eq!(two.displaced(), [b"older"]);
    assert_eq!(outer.log(), ["-p 2022 -l ann nas syncfiles serve --stdio -- ./folder1", "ended 0"]);
    let again = outer.sync(&["nas:folder1/b/", "folder2/b"]).expect(0);
    assert!(again.out.starts_with("in sync: nothing to do"), "{again:?}");
    assert_eq!(outer.log()[2..], ["nas syncfiles serve --stdio -- ./folder1", "ended 0"]);
    let verified = outer.world.two.run(&["verify", "-e", "./ssh", "nas:folder1", "folder2"]).expect(0);
    assert_eq!(verified.out.lines().count(), 2, "{verified:?}");
}

#[test]
fn a_watch_goes_through_a_command() {
    let outer = Outer::new();
    let (one, two) = (outer.world.folder1(), outer.world.folder2());
    one.write("a", "1", 100);
    let args = ["-e", "./ssh", "--watch", "--json", "nas:folder1", "folder2"];
    let mut watch = Watch::start(outer.world.two.syncfiles(&args));
    watch.until_read(&two, "a", "1");
    two.write("b", "2", 0);
    watch.until_read(&one, "b", "2");
    watch.until_quiet();
    watch.interrupt();
    assert_eq!(outer.log()[0], "nas syncfiles serve --stdio -- ./folder1");
}

#[test]
fn any_name_of_a_folder_survives_the_shell_over_there() {
    let outer = Outer::new();
    let names = [
        "two words",
        "it's",
        "say \"hi\"",
        "$HOME",
        "`id`",
        "$(id>x)",
        "a=b",
        "-n",
        "--",
        "~ann",
        "*",
        "a;b&c|d",
        "#1",
        "!!",
        "back\\slash\\",
        "new\nline",
        "tab\t",
        "{a,b}",
        "größe",
        " ",
    ];
    for (number, name) in names.iter().enumerate() {
        let folder = outer.world.one.path(name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("name"), name).unwrap();
        let target = format!("copy{number}");
        outer.sync(&[&format!("nas:{name}"), &target]).expect(0);
        let came = fs::read_to_string(outer.world.two.path(&target).join("name"));
        assert_eq!(came.ok().as_deref(), Some(*name));
    }
    assert!(!outer.world.one.path("x").exists());
}

#[test]
fn a_folder_is_found_from_the_home_folder_or_from_the_top() {
    let outer = Outer::new();
    outer.world.folder1().write("sub/a", "1", 10);
    let top = outer.world.one.path("folder1/sub");
    let from_top = format!("nas:{}", top.display());
    for (number, root) in ["nas:~/folder1/sub", "nas:./folder1//sub", &from_top].iter().enumerate() {
        let target = format!("copy{number}");
        outer.sync(&[root, &target]).expect(0);
        assert_eq!(fs::read_to_string(outer.world.two.path(&target).join("a")).unwrap(), "1", "{root}");
    }
    assert!(outer.log()[4].ends_with(&format!("serve --stdio -- {}", top.display())), "{:?}", outer.log());
    outer.sync(&["nas:~", "folder2"]).expect(1).says(&["home folder", "name a folder"]);
    outer.world.two.run(&[&from_top, "folder2"]).expect(1).says(&["absolute path", "-e ssh"]);
    let missing = outer.sync(&["nas:nowhere", "folder2"]).expect(11);
    missing.says(&["nowhere"]);
}

#[test]
fn what_a_login_shell_prints_before_is_passed_over_up_to_a_bound() {
    let outer = Outer::new();
    outer.world.folder1().write("a", "1", 10);
    for noise in [
        "echo Welcome to nas",
        "printf \"\\0syncfiles pip\\0\"",
        "yes | head -c 60000",
        "echo Warning: disk is 97% full >&2",
    ] {
        outer.runs(&format!("'{noise}\n'\"$*\""));
        let ran = outer.sync(&["nas:folder1", "folder2"]).expect(0);
        assert_eq!(ran.err.contains("ssh: Warning: disk is 97% full"), noise.contains("Warning"), "{ran:?}");
        assert!(!ran.out.contains("Welcome"), "{ran:?}");
    }
    outer.runs("'yes \"\u{1b}[2J evil\"'");
    let ran = outer.sync(&["nas:folder1", "folder2"]).expect(5);
    ran.says(&["syncfiles on nas", "\\x1b[2J evil", "serve --stdio"]);
}

#[test]
fn each_way_in_which_it_cannot_start_is_one_line_with_what_to_do() {
    let outer = Outer::new();
    let roots = ["nas:folder1", "folder2"];
    for (shell, code, words) in [
        ("'exec no-such-program'", 5, &["cannot find syncfiles on nas", "not found", "--remote-path"][..]),
        ("'exit 255'", 10, &["cannot reach nas through ./ssh", "said nothing"]),
        ("'echo Permission denied >&2; exit 255'", 10, &["cannot reach nas", "Permission denied"]),
        ("'echo This account is not available.; exit 1'", 5, &["account is not available", "status 1"]),
        ("'syncfiles serve --stdioo -- ./x'", 5, &["status 1", "--stdioo", "the same version"]),
        ("'kill -9 $$'", 5, &["cannot start syncfiles on nas"]),
        ("'exit 0'", 5, &["status 0"]),
        ("'printf \"hello\\0syncfiles pipe\\011\"'", 2, &["version 9", "same version"]),
    ] {
        outer.runs(shell);
        outer.sync(&roots).expect(code).says(words);
    }
    // It speaks, and is gone.
    outer.runs("'printf \"\\0syncfiles pipe\\1\"; echo oh no >&2; exit 3'");
    outer
        .sync(&roots)
        .expect(10)
        .mentions(&["nas: the connection was lost at once: ./ssh ended with status 3: oh no"]);
    outer.sync(&["elsewhere:folder1", "folder2"]).expect(10).says(&["resolve hostname elsewhere"]);
    let missing = outer.world.two.run(&[&["-e", "no-such-ssh -x"][..], &roots].concat()).expect(5);
    missing.says(&["cannot run no-such-ssh", "-e CMD"]);
}

#[test]
fn a_peer_that_greets_and_then_sends_no_frames_is_let_go() {
    let outer = Outer::new();
    // It speaks as a pipe does, and then says what is no frame.
    outer.runs("'printf \"\\0syncfiles pipe\\1\"; yes'");
    outer.sync(&["nas:folder1", "folder2"]).expect(10).says(&["nas", "lost"]);
}

#[test]
fn options_that_make_no_sense_with_it_or_without_it_are_refused() {
    let outer = Outer::new();
    outer.sync(&["nas:folder1", "folder2", "--identity", "key"]).expect(1).says(&["--identity", "--rsh"]);
    outer.world.two.run(&["nas:folder1", "folder2", "--remote-path", "x"]).expect(1).says(&["--rsh"]);
    for wrong in ["", "  ", "ssh 'open"] {
        outer
            .world
            .two
            .run(&["-e", wrong, "nas:folder1", "folder2"])
            .expect(1)
            .says(&["-e", "is no command"]);
    }
}

#[test]
fn the_command_is_split_into_words_and_the_program_over_there_is_left_to_its_shell() {
    let outer = Outer::new();
    outer.world.folder1().write("a", "1", 10);
    let args =
        ["-e", "./ssh -p '22 22'  -l\"an n\"", "nas:folder1", "folder2", "--remote-path", "~/bin/syncfiles"];
    outer.world.two.run(&args).expect(0);
    assert_eq!(outer.log()[0], "-p 22 22 -lan n nas ~/bin/syncfiles serve --stdio -- ./folder1");
    let elsewhere = outer.sync(&["nas:folder1", "folder2", "--remote-path", "bin/none"]).expect(5);
    elsewhere.says(&["cannot find bin/none on nas", "not found"]);
}

#[test]
fn a_forced_command_decides_what_there_is_and_the_client_only_names_it() {
    let outer = Outer::new();
    outer.world.folder1().write("a", "1", 10);
    fs::create_dir(outer.world.one.path("secret")).unwrap();
    outer.runs("'exec syncfiles serve --stdio --read-only photos=folder1'");
    outer.world.folder2().write("b", "2", 10);
    outer.sync(&["nas:photos", "folder2"]).expect(0);
    assert_eq!(outer.world.folder2().read("a").unwrap(), "1");
    assert!(outer.world.folder1().read("b").is_none());
    for other in ["nas:secret", "nas:folder1", "nas:/etc"] {
        outer.sync(&[other, "folder3"]).expect(5).says(&["cannot find the export", "offers photos"]);
    }
    // With the subsystem of an sshd it is the same: its name is all that the client says.
    outer.world.two.run(&["-e", "./ssh -s", "nas:photos", "folder2"]).expect(0);
    assert_eq!(outer.log().iter().rev().nth(1).unwrap(), "-s nas syncfiles");
    outer.world.folder2().remove("a");
    outer.runs("'exec syncfiles serve --stdio --no-delete photos=folder1'");
    outer.sync(&["nas:photos", "folder2", "--delete", "--max-delete", "100%"]).expect(0);
    assert_eq!(outer.world.folder1().read("a").unwrap(), "1");
    assert_eq!(outer.world.folder1().read("b").unwrap(), "2");
}

#[test]
fn a_line_that_is_cut_ends_the_run_and_the_next_one_makes_it_whole() {
    let outer = Outer::new();
    for number in 0..30 {
        outer.world.folder1().write(&format!("f{number}"), vec![number; 100_000], 10);
    }
    // What a shell gives to a command in the background as its input is nothing.
    let cut = "'exec 3<&0; mkfifo cut; '\"$*\"' <&3 >cut & dd bs=8k count=COUNT <cut; kill -9 $!; rm cut'";
    for count in ["1", "9", "90"] {
        outer.runs(&cut.replace("COUNT", count));
        outer.sync(&["nas:folder1", "folder2", "--compress=never"]).expect(10);
    }
    outer.runs(r#""$*""#).sync(&["nas:folder1", "folder2"]).expect(0);
    outer.world.assert_same();
}

#[test]
fn a_client_that_is_interrupted_says_so_whatever_became_of_its_ssh() {
    let outer = Outer::new();
    let mut command = outer.world.two.syncfiles(&["-e", "./ssh", "nas:folder1", "folder2"]);
    let fifo = outer.world.two.path("up");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    fs::write(outer.world.two.path("ssh"), "#!/bin/sh\necho up > up\nexec sleep 1000\n").unwrap();
    command.stdin(Stdio::null());
    let running = Running::start(command);
    // Returns once the script is there.
    assert_eq!(fs::read_to_string(fifo).unwrap(), "up\n");
    running.signal(rustix::process::Signal::TERM);
    running.end().expect(20).says(&["interrupted"]);
}

#[test]
fn stdin_that_is_no_client_ends_the_server_with_one_line() {
    let world = World::new();
    for (said, code, word) in [
        ("", 10, "ended before it spoke"),
        ("GET / HTTP/1.0\r\n", 12, "\"G\""),
        ("\0syncfiles pipe\u{9}", 2, "version 9"),
    ] {
        fs::write(world.one.path("said"), said).unwrap();
        let mut command = world.one.syncfiles(&["serve", "--stdio", "folder1"]);
        command.stdin(fs::File::open(world.one.path("said")).unwrap());
        let ended = Running::start(command).end().expect(code);
        ended.says(&["no syncfiles client on stdin", word]);
        assert!(ended.out.starts_with("\0syncfiles pipe"), "{ended:?}");
    }
    let wrong = world.one.run(&["serve", "--stdio", "--listen", "1", "folder1"]).expect(1);
    wrong.says(&["--listen", "--stdio"]);
}

/// Syncs folder1 and folder2 through `serve --stdio` with these measures of the carrier; twice over the same pipes.
/// Returns how many connections that took.
async fn sync_twice(world: &World, flow: Flow) -> usize {
    let mut command = tokio::process::Command::from(world.one.syncfiles(&["serve", "--stdio", "folder1"]));
    let mut child =
        command.stdin(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    preamble::find(&mut output).await.unwrap();
    input.write_all(&preamble::greeting()).await.unwrap();
    let mux = Arc::new(Mux::client(output, input));
    let (streams, count) = (mux.clone(), Arc::new(AtomicUsize::new(0)));
    let counter = count.clone();
    let dial = move || {
        counter.fetch_add(1, Ordering::Relaxed);
        let opened = streams.open();
        std::future::ready(opened.map(|stream| Box::new(stream) as Box<dyn Stream>))
    };
    let config = ClientConfig {
        user: "alice".into(),
        login: Login::None,
        host_check: Arc::new(|_: &_| Ok(())),
        flow,
        chacha_first: false,
        deadline: Duration::from_secs(60),
    };
    let connect = async || {
        let connected = ssh::connect(config.clone(), dial.clone()).await;
        connected.map_err(|error| SessionError::Connection(error.to_string()))
    };
    let options = Options::new(world.two.path("state"));
    let remote =
        Remote { export: "folder1".into(), sub: RelPath::root(), name: "one".into(), place: "test".into() };
    for round in 0..2 {
        let opening = Opening {
            look: false,
            create: false,
            new_root: false,
            state_home: options.state_home.clone(),
            exclusive: Some(Duration::from_secs(60)),
        };
        let local = Arc::new(Local::open(&world.folder2().root, &RelPath::root(), opening).unwrap());
        let outcome = sync(&connect, local, &remote, &options, Arc::new(Silent)).await.unwrap();
        assert_eq!((outcome.problems.len(), outcome.changed), (0, round == 0));
        world.assert_same();
    }
    mux.flush().await;
    drop((mux, dial));
    assert!(child.wait().await.unwrap().success());
    count.load(Ordering::Relaxed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worn_connection_is_renewed_over_the_same_pipes_and_so_is_a_second_one() {
    let world = World::new();
    for number in 0..300 {
        world.folder1().write(&format!("one/{number}"), format!("{number}"), 10);
        world.folder2().write(&format!("two/{number}"), format!("{number}"), 10);
    }
    world.folder1().write("bulk", vec![1; 8_000_000], 10);
    world.folder2().write("more", vec![2; 8_000_000], 10);
    let connections = sync_twice(&world, Flow { recycle_channels: Some(20), ..Flow::default() }).await;
    assert!(connections > 2, "{connections}");
}
