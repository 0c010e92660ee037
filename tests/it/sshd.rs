//! System 1 below a stock sshd: as a remote command, as a subsystem, as a forced command. Client and server are OpenSSH's,
//! joined by a pipe, so that no port is needed.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use syncfiles::ssh::host_key::load_or_create;

use crate::support::process::{Ended, World, has};

/// An sshd for System 1, and ssh's configuration on System 2 with which it is `nas`.
struct Site {
    world: World,
}

impl Site {
    /// Nothing where OpenSSH is not installed; that fails on CI.
    fn new() -> Option<Site> {
        let sshd = Path::new("/usr/sbin/sshd").exists() || has("sshd");
        if !sshd || !has("ssh") {
            return None;
        }
        // An sshd that root starts wants it; the service manager usually makes it.
        let _ = fs::create_dir("/run/sshd");
        let site = Site { world: World::new() };
        fs::create_dir(site.one("bin")).unwrap();
        symlink(env!("CARGO_BIN_EXE_syncfiles"), site.one("bin/syncfiles")).unwrap();
        let (host, _) = load_or_create(&site.one("host_key")).unwrap();
        let known = format!("nas {}\n", host.public_key().to_openssh().unwrap());
        fs::write(site.world.two.path("known"), known).unwrap();
        fs::write(site.world.two.path("config"), site.ssh_config()).unwrap();
        site.sshd("");
        // A login shell begins here, and prints.
        let greeting = format!("echo Welcome; echo 'Have a nice day' >&2; cd '{}'\n", site.one("").display());
        for file in [".bashrc", ".zshenv"] {
            fs::write(site.one(file), &greeting).unwrap();
        }
        site.authorize("");
        Some(site)
    }

    fn one(&self, name: &str) -> PathBuf {
        self.world.one.path(name)
    }

    /// sshd's configuration, with more lines.
    fn sshd(&self, more: &str) {
        let (home, bin) = (self.one(""), self.one("bin"));
        let (home, bin) = (home.display(), bin.display());
        let text = format!(
            "HostKey {home}/host_key\nAuthorizedKeysFile {home}/authorized_keys\nStrictModes no\nUsePAM no\n\
             PidFile none\nPasswordAuthentication no\nSetEnv HOME={home} PATH={bin}:/usr/bin:/bin\n{more}\n"
        );
        fs::write(self.one("sshd_config"), text).unwrap();
    }

    fn ssh_config(&self) -> String {
        let (one, two) = (self.one(""), self.world.two.path(""));
        let sshd = if Path::new("/usr/sbin/sshd").exists() { "/usr/sbin/sshd" } else { "sshd" };
        format!(
            "Host nas\n  ProxyCommand {sshd} -i -f {one}/sshd_config 2>>{one}/sshd_log\n  IdentityFile {two}/.ssh/id_ed25519\n  \
             IdentitiesOnly yes\n  IdentityAgent none\n  UserKnownHostsFile {two}/known\n  BatchMode yes\n",
            one = one.display(),
            two = two.display(),
        )
    }

    /// Lets System 2's key in, with these options before it. Returns the line.
    fn authorize(&self, options: &str) -> String {
        let (key, _) = load_or_create(&self.world.two.path(".ssh/id_ed25519")).unwrap();
        let line = format!("{options}{}\n", key.public_key().to_openssh().unwrap());
        let file = self.one("authorized_keys");
        fs::write(&file, &line).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        line
    }

    fn sync(&self, args: &[&str]) -> Ended {
        self.sync_by("ssh -F config", args)
    }

    fn sync_by(&self, ssh: &str, args: &[&str]) -> Ended {
        // The user who runs the tests is the only one that sshd can log in.
        let user = Command::new("id").arg("-un").output().unwrap().stdout;
        let ssh = format!("{ssh} -o User={}", String::from_utf8(user).unwrap().trim());
        let ended = self.world.two.run(&[&["-e", &ssh], args].concat());
        if ended.status.code() != Some(0) {
            eprintln!("sshd: {}", fs::read_to_string(self.one("sshd_log")).unwrap_or_default());
        }
        ended
    }
}

#[test]
fn an_account_and_the_program_are_all_that_is_needed_and_a_chatty_login_shell_does_not_disturb() {
    let Some(site) = Site::new() else { return };
    let (one, two) = (site.world.folder1(), site.world.folder2());
    one.write("it's", "1", 10).write("b/c", vec![7; 5_000_000], 20);
    two.write("d", vec![8; 5_000_000], 30);
    for number in 0..200 {
        one.write(&format!("many/{number}"), format!("{number}"), 10);
    }
    let ran = site.sync(&["nas:folder1", "folder2"]).expect(0);
    assert!(ran.out.starts_with("in sync: sent 1 file"), "{ran:?}");
    site.world.assert_same();
    let again = site.sync(&["nas:folder1", "folder2"]).expect(0);
    assert!(again.out.starts_with("in sync: nothing to do"), "{again:?}");
    let named = one.path("b").display().to_string();
    site.sync(&[&format!("nas:{named}"), "copy"]).expect(0);
    assert_eq!(fs::read(site.world.two.path("copy/c")).unwrap(), vec![7; 5_000_000]);
}

#[test]
fn what_is_missing_over_there_is_one_line_with_what_to_do() {
    let Some(site) = Site::new() else { return };
    fs::remove_file(site.one(".bashrc")).unwrap();
    fs::remove_file(site.one("bin/syncfiles")).unwrap();
    let missing = site.sync(&["nas:folder1", "folder2"]).expect(5);
    missing.says(&["cannot find syncfiles on nas", "--remote-path PROG"]);
    let program = env!("CARGO_BIN_EXE_syncfiles");
    let from_top = format!("nas:{}", site.one("folder1").display());
    site.sync(&[&from_top, "folder2", "--remote-path", program]).expect(0);
    fs::write(site.one("authorized_keys"), "").unwrap();
    let refused = site.sync(&["nas:folder1", "folder2"]).expect(10);
    refused.says(&["cannot reach nas through ssh", "Permission denied"]);
    fs::write(site.world.two.path("known"), "").unwrap();
    site.sync(&["nas:folder1", "folder2"]).expect(10).says(&["Host key verification failed"]);
}

#[test]
fn a_subsystem_of_sshd_exports_what_its_configuration_says() {
    let Some(site) = Site::new() else { return };
    let folder = site.one("folder1");
    let serve = format!("{} serve --stdio --read-only", env!("CARGO_BIN_EXE_syncfiles"));
    site.sshd(&format!("Subsystem syncfiles {serve} photos={}", folder.display()));
    site.world.folder1().write("a", "1", 10);
    site.world.folder2().write("b", "2", 10);
    let sync = |root: &str| site.sync_by("ssh -s -F config", &[root, "folder2"]);
    sync("nas:photos").expect(0);
    assert_eq!(site.world.folder2().read("a").unwrap(), "1");
    assert_eq!(site.world.folder1().read("b"), None);
    sync("nas:folder1").expect(5).mentions(&["cannot find the export folder1", "offers photos"]);
    site.sshd("");
    sync("nas:photos").expect(10).says(&["cannot reach nas", "subsystem request failed"]);
}

#[test]
fn one_line_of_authorized_keys_means_the_same_under_sshd_and_under_serve() {
    let Some(site) = Site::new() else { return };
    let (one, two) = (site.world.folder1(), site.world.folder2());
    one.write("a", "1", 10);
    two.write("b", "2", 10);
    fs::create_dir(site.one("secret")).unwrap();
    let folder = site.one("folder1");
    let options = |flags: &str| {
        format!("restrict,command=\"syncfiles serve --stdio {flags} photos={}\" ", folder.display())
    };
    let server = |line: &str| {
        site.world.authorize(line.trim());
        let secret = format!("secret={}", site.one("secret").display());
        site.world.serve_with(&[&secret])
    };
    let line = site.authorize(&options("--read-only"));
    let embedded = server(&line);
    let port = embedded.port.to_string();
    let over_tcp = |root: &str| {
        let root = format!("alice@127.0.0.1:{root}");
        site.world.two.run(&[&root, "folder3", "--port", &port, "--accept-new"])
    };
    for name in ["secret", "folder1"] {
        for ended in [site.sync(&[&format!("nas:{name}"), "folder3"]), over_tcp(name)] {
            ended.expect(5).mentions(&["cannot find the export", "offers photos"]);
        }
    }
    let secret = format!("nas:{}", site.one("secret").display());
    site.sync(&[&secret, "folder3"]).expect(5).mentions(&["offers photos"]);
    over_tcp("photos").expect(0);
    assert_eq!(fs::read_to_string(site.world.two.path("folder3/a")).unwrap(), "1");
    site.sync(&["nas:photos", "folder2"]).expect(0);
    assert_eq!((two.read("a").unwrap().as_str(), one.read("b")), ("1", None));
    // The same folder, with more that a key may do.
    site.authorize(&options("--no-delete"));
    site.sync(&["nas:photos", "folder2"]).expect(0);
    site.world.assert_same();
    two.remove("a");
    site.sync(&["nas:photos", "folder2", "--delete"]).expect(0);
    assert_eq!(one.read("a").unwrap(), "1");
}

#[test]
fn below_an_sshd_the_server_is_confined_as_well_and_its_log_says_so() {
    let Some(site) = Site::new() else { return };
    let (folder, log) = (site.one("folder1"), site.one("log"));
    site.world.folder1().write("a", "1", 10);
    site.world.folder2().write("b", "2", 10);
    site.authorize(&format!(
        "restrict,command=\"syncfiles serve --stdio --log-format json --log-file {} photos={}\" ",
        log.display(),
        folder.display()
    ));
    site.sync(&["nas:photos", "folder2"]).expect(0);
    site.world.assert_same();
    let said = fs::read_to_string(&log).unwrap();
    let confined = said.contains("\"event\":\"confined to the exports and the state\",\"landlock\":");
    assert!(confined || said.contains("not confined to the exports"), "{said}");
    if !confined {
        eprintln!("skipped: {said}");
    }
    assert!(said.contains("\"event\":\"served\"") && said.contains("\"root\":\"photos\""), "{said}");
}
