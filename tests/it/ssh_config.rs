//! Our reading of an ssh configuration, held against OpenSSH's own: `ssh -G` prints what it would use.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use proptest::sample::select;
use syncfiles::ssh::config::{Around, Asked, Files, Proxy, Settings, Strict, settings};
use tempfile::TempDir;

use crate::support::process::has;

/// The host that is asked for.
const HOST: &str = "nas.lan";

/// What `ssh -G` says about the keywords that both print, several values in one text.
fn by_ssh(file: &Path) -> BTreeMap<String, String> {
    let run =
        Command::new("ssh").arg("-G").arg("-F").arg(file).arg(HOST).stdin(Stdio::null()).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let mut said: BTreeMap<String, String> = BTreeMap::new();
    for line in String::from_utf8(run.stdout).unwrap().lines() {
        let (keyword, value) = line.split_once(' ').unwrap_or((line, ""));
        let all = said.entry(keyword.to_owned()).or_default();
        if !all.is_empty() {
            all.push(' ');
        }
        all.push_str(value);
    }
    said
}

fn by_us(file: &Path) -> Settings {
    let asked = Asked { host: HOST, user: None, port: None, default_port: 22 };
    let around = Around::new("/nowhere", user(), |_: &str| None);
    settings(&Files::named(file), &asked, &around).unwrap_or_else(|error| panic!("{error}"))
}

/// Who runs this, as ssh sees it.
fn user() -> String {
    let run = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(run.stdout).unwrap().trim().to_owned()
}

/// What differs, a line each.
fn differences(file: &Path) -> Vec<String> {
    let (ssh, own) = (by_ssh(file), by_us(file));
    let paths = |paths: &[std::path::PathBuf]| {
        paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ")
    };
    let command = own.proxy.as_ref().map(|proxy| match proxy {
        Proxy::Command(command) => ("proxycommand", command.clone()),
        Proxy::Jump(hops) => ("proxyjump", hops.iter().map(|hop| hop.text()).collect::<Vec<_>>().join(",")),
    });
    let mut pairs = vec![
        ("hostname", own.host.clone()),
        ("user", own.user.clone().unwrap_or_else(user)),
        ("port", own.port.unwrap_or(22).to_string()),
        ("identitiesonly", if own.identities_only { "yes" } else { "no" }.into()),
    ];
    pairs.extend(own.identity_files.as_deref().map(|files| ("identityfile", paths(files))));
    pairs.extend(own.user_known_hosts.as_deref().map(|files| ("userknownhostsfile", paths(files))));
    pairs.extend(own.connect_timeout.map(|time| ("connecttimeout", time.as_secs().to_string())));
    pairs.extend(own.alive_interval.map(|time| ("serveraliveinterval", time.as_secs().to_string())));
    pairs.extend(own.strict.map(|strict| {
        let word = match strict {
            Strict::Yes => "true",
            Strict::Ask => "ask",
            Strict::AcceptNew => "accept-new",
        };
        ("stricthostkeychecking", word.to_owned())
    }));
    let proxied = command.is_some();
    pairs.extend(command);
    let mut wrong: Vec<String> = pairs
        .into_iter()
        .filter(|(keyword, value)| ssh.get(*keyword).map_or("", String::as_str) != value)
        .map(|(keyword, value)| format!("{keyword}: ssh {:?}, here {value:?}", ssh.get(keyword)))
        .collect();
    if !proxied && (ssh.contains_key("proxycommand") || ssh.contains_key("proxyjump")) {
        wrong.push(format!("a proxy is missed: {ssh:?}"));
    }
    wrong
}

/// Lines that both understand. Paths are absolute, because ssh prints them as they were written.
const LINES: &[&str] = &[
    "Host nas.lan",
    "Host nas*",
    "Host *.lan !nas.lan",
    "Host !other *",
    "Host other nas.la?",
    "Host \"nas.lan\" # a comment",
    "Host *",
    "Match all",
    "Match host 10.0.0.7",
    "Match host NAS.LAN,other",
    "Match originalhost nas.lan",
    "Match !originalhost nas.lan",
    "Match host=* user=eva",
    "Match user !eva,*",
    "Match exec true",
    "Match exec \"test %h = 10.0.0.7\"",
    "Match final host 10.0.0.*",
    "Match canonical",
    "  User eva",
    "User = bob",
    "\tPort 2022",
    "port=77 # seventy-seven",
    "HostName 10.0.0.7",
    "HostName %h.example",
    "IdentitiesOnly yes",
    "identitiesonly no",
    "IdentityFile /a",
    "IdentityFile \"/b c\"",
    "IdentityFile /d\\ e",
    "UserKnownHostsFile /k1 '/k 2'",
    "UserKnownHostsFile /k3",
    "ConnectTimeout 1m10s",
    "ConnectTimeout 9",
    "ServerAliveInterval 5",
    "StrictHostKeyChecking ask",
    "StrictHostKeyChecking accept-new",
    "StrictHostKeyChecking yes",
    "ProxyCommand nc \"a b\" # no comment",
    "ProxyCommand none",
    "ProxyJump gate",
    "ProxyJump eva@gate:2022,[::1]:99 # there",
    "ProxyJump none",
    "SendEnv LANG LC_*",
    "Ciphers +aes128-cbc",
    "# a comment",
    "",
    "Include included",
    "Include incl*ed none-such",
];

fn place(home: &TempDir, config: &[&str], included: &[&str]) -> std::path::PathBuf {
    let own = home.path().join("included");
    fs::write(&own, included.join("\n")).unwrap();
    let file = home.path().join("config");
    let text = config.join("\n").replace("incl", &home.path().join("incl").display().to_string());
    fs::write(&file, text).unwrap();
    for path in [&own, &file] {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    file
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::reconcile::config().cases.div_ceil(32), ..crate::reconcile::config() })]

    #[test]
    fn any_configuration_means_to_us_what_it_means_to_ssh(
        config in prop::collection::vec(select(LINES), 0..14),
        included in prop::collection::vec(select(&LINES[..LINES.len() - 2]), 0..6),
    ) {
        if !has("ssh") {
            return Ok(());
        }
        let home = tempfile::tempdir().unwrap();
        let file = place(&home, &config, &included);
        let wrong = differences(&file);
        prop_assert!(wrong.is_empty(), "{}\n{config:#?}\nincluded: {included:#?}", wrong.join("\n"));
    }
}
