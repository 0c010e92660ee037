//! A table of configurations and what becomes of them.

use super::*;
use proptest::prelude::*;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use tempfile::TempDir;

/// A home with files in it.
struct Home(TempDir);

impl Home {
    fn with(files: &[(&str, &str)]) -> Home {
        let home = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = home.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        }
        Home(home)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn around(&self) -> Around {
        Around::new(self.0.path(), "me", |name| (name == "KEYS").then(|| "/keys".to_owned()))
    }

    fn files(&self) -> Files {
        Files::Usual { user: self.path(".ssh/config"), system: self.path("etc/ssh_config") }
    }

    fn ask(&self, asked: &Asked<'_>) -> Result<Settings, ConfigError> {
        settings(&self.files(), asked, &self.around())
    }
}

fn asked(host: &str) -> Asked<'_> {
    Asked { host, user: None, port: None, default_port: 2222 }
}

/// The settings that a config gives for the host `nas`.
fn of(config: &str) -> Settings {
    Home::with(&[(".ssh/config", config)])
        .ask(&asked("nas"))
        .unwrap_or_else(|error| panic!("{config}: {error}"))
}

fn fault(config: &str) -> String {
    let error = Home::with(&[(".ssh/config", config)]).ask(&asked("nas")).expect_err(config).to_string();
    assert!(!error.contains('\n'), "{error}");
    error
}

#[test]
fn without_a_file_the_host_is_the_host_and_nothing_is_set() {
    let settings = Home::with(&[]).ask(&asked("nas")).unwrap();
    assert_eq!(settings, Settings { host: "nas".into(), ..Settings::default() });
}

#[test]
fn the_first_value_wins_and_what_was_typed_wins_over_all() {
    let home = Home::with(&[
        (
            ".ssh/config",
            "Host n*\n User first\n User second\n Port 22\nHost *\n User third\n HostName %h.lan\n",
        ),
        ("etc/ssh_config", "User system\nConnectTimeout 7\n"),
    ]);
    let seen = home.ask(&asked("nas")).unwrap();
    assert_eq!((seen.user.as_deref(), seen.port, &*seen.host), (Some("first"), Some(22), "nas.lan"));
    assert_eq!(seen.connect_timeout, Some(Duration::from_secs(7)));
    let typed = Asked { user: Some("typed"), port: Some(99), ..asked("nas") };
    let seen = home.ask(&typed).unwrap();
    assert_eq!((seen.user.as_deref(), seen.port), (Some("typed"), Some(99)));
    assert_eq!(home.ask(&asked("other")).unwrap().user.as_deref(), Some("third"));
}

#[test]
fn each_keyword_means_what_it_means_to_ssh() {
    type Check = fn(&Settings) -> bool;
    let table: &[(&str, Check)] = &[
        ("Port=22", |s| s.port == Some(22)),
        ("port = \"22\" # here", |s| s.port == Some(22)),
        ("HostName 10.0.0.7", |s| s.host == "10.0.0.7"),
        ("HostName ::1", |s| s.host == "::1"),
        ("IdentitiesOnly yes", |s| s.identities_only),
        ("BatchMode true", |s| s.batch),
        ("StrictHostKeyChecking yes", |s| s.strict == Some(Strict::Yes)),
        ("StrictHostKeyChecking ask", |s| s.strict == Some(Strict::Ask)),
        ("StrictHostKeyChecking accept-new", |s| s.strict == Some(Strict::AcceptNew)),
        ("StrictHostKeyChecking no", |s| s.strict == Some(Strict::AcceptNew)),
        ("HostKeyAlias there", |s| s.host_key_alias.as_deref() == Some("there")),
        ("ConnectTimeout 1m30", |s| s.connect_timeout == Some(Duration::from_secs(90))),
        ("ConnectTimeout none", |s| s.connect_timeout.is_none()),
        ("ServerAliveInterval 15\nServerAliveCountMax 2", |s| {
            (s.alive_interval, s.alive_max) == (Some(Duration::from_secs(15)), Some(2))
        }),
        ("ServerAliveInterval 0", |s| s.alive_interval == Some(Duration::ZERO)),
        ("IdentityAgent none", |s| s.agent == Agent::None),
        ("IdentityAgent SSH_AUTH_SOCK", |s| s.agent == Agent::Usual),
        ("IdentityAgent /run/%u/%n", |s| s.agent == Agent::Socket("/run/me/nas".into())),
        ("IdentityAgent $KEYS", |s| s.agent == Agent::Socket("/keys".into())),
        ("IdentityAgent ${KEYS}/a", |s| s.agent == Agent::Socket("/keys/a".into())),
        ("IdentityAgent $NONE", |s| s.agent == Agent::None),
        ("UserKnownHostsFile none", |s| s.user_known_hosts == Some(vec![])),
        ("UserKnownHostsFile /a \"/b c\" # d", |s| {
            s.user_known_hosts == Some(vec!["/a".into(), "/b c".into()])
        }),
        ("GlobalKnownHostsFile /a", |s| s.global_known_hosts == Some(vec!["/a".into()])),
        ("IdentityFile none", |s| s.identity_files == Some(vec![])),
        ("User eva\nIdentityFile /%r/%h/%p\nIdentityFile /b\nIdentityFile /b", |s| {
            s.identity_files == Some(vec!["/eva/nas/2222".into(), "/b".into()])
        }),
        ("CertificateFile /c", |s| s.certificate_files == [PathBuf::from("/c")]),
        ("ProxyCommand nc -X 5 \"%h\" %p # %r", |s| {
            s.proxy == Some(Proxy::Command("nc -X 5 \"nas\" 2222 # me".into()))
        }),
        ("ProxyCommand none", |s| s.proxy.is_none()),
        (
            "ProxyJump a,b@c:22 # d",
            |s| matches!(&s.proxy, Some(Proxy::Jump(hops)) if hops.len() == 2 && hops[1].text() == "b@c:22"),
        ),
        ("ProxyJump %h-gate", |s| matches!(&s.proxy, Some(Proxy::Jump(hops)) if hops[0].host == "nas-gate")),
        ("ProxyJump none\nProxyCommand x", |s| s.proxy == Some(Proxy::Command("x".into()))),
        ("ProxyCommand x\nProxyJump a", |s| s.proxy == Some(Proxy::Command("x".into()))),
        ("ProxyJump a\nProxyCommand x", |s| matches!(s.proxy, Some(Proxy::Jump(_)))),
        ("NoSuchKeyword at \"all\nSendEnv LANG LC_*\nCiphers +x\nRemoteForward ???\nPort 5", |s| {
            s.port == Some(5)
        }),
    ];
    for (config, check) in table {
        let settings = of(config);
        assert!(check(&settings), "{config}: {settings:?}");
    }
}

#[test]
fn a_value_that_cannot_be_used_is_an_error_with_its_line_and_elsewhere_it_is_none() {
    for (config, expected) in [
        ("User eva\nPort many", "config line 2: `many` is not a port"),
        ("Port", "port has no value"),
        ("Port 1 2", "more than one value"),
        ("IdentityFile \"/a", "a quote is not closed"),
        ("IdentityFile /%C", "`%C` is not understood"),
        ("IdentityFile ~bob/x", "home folders of others"),
        ("IdentityFile ${NONE}", "no variable NONE"),
        ("IdentitiesOnly maybe", "neither yes nor no"),
        ("ConnectTimeout 5x", "not a time"),
        ("ConnectTimeout 99999999999", "not a time"),
        ("StrictHostKeyChecking never", "accept-new or no"),
        ("ProxyJump -oX=y", "no host to jump to"),
        ("ProxyCommand nc %h %z", "`%z` is not understood"),
        ("ProxyCommand nc %h %p\nProxyUseFdpass yes", "ProxyUseFdpass is not supported"),
        ("Match", "`Match` has no condition"),
        ("Match host", "has no value"),
    ] {
        let error = fault(config);
        assert!(error.contains(expected), "{config}: {error}");
        let elsewhere = format!("Host other\n{config}");
        if !config.starts_with("Match") {
            assert_eq!(of(&elsewhere).host, "nas", "{elsewhere}");
        }
    }
}

#[test]
fn match_blocks_apply_where_all_their_conditions_hold() {
    let settings = of(
        "Match host other\n User wrong\n StrictHostKeyChecking no\nMatch originalhost nas exec \"test %h = nas\"\n User right\nMatch user right\n Port 7\nMatch all\n Port 8\n",
    );
    assert_eq!((settings.user.as_deref(), settings.port, settings.strict), (Some("right"), Some(7), None));
    let last = of("Match final host nas.lan\n Port 7\nHost nas\n HostName nas.lan\n IdentityFile /a\n");
    assert_eq!((last.port, last.identity_files), (Some(7), Some(vec!["/a".into()])));
}

#[test]
fn a_condition_that_is_not_understood_turns_its_block_off_and_is_told() {
    let settings = of("Match localnetwork 10.0.0.0/8\n User wrong\nHost nas\n Port 7\n");
    assert_eq!((settings.user, settings.port), (None, Some(7)));
    assert!(settings.notices[0].contains("line 1: `Match localnetwork`"), "{:?}", settings.notices);
}

#[test]
fn files_are_included_where_the_line_stands_and_only_where_its_block_applies() {
    let home = Home::with(&[
        (
            ".ssh/config",
            "Include conf.d/*.conf missing/*\nHost other\n Include never\nHost nas\n Port 3\n Include ~/.ssh/inside\n User late\n",
        ),
        (".ssh/conf.d/1.conf", "Host nas\n User one\n"),
        (".ssh/conf.d/2.conf", "User two\nConnectTimeout 2\n"),
        (".ssh/conf.d/.hidden.conf", "BatchMode yes\n"),
        (".ssh/never", "Host *\n HostName wrong\n"),
        (".ssh/inside", "Port 4\nIdentityFile /inside\nHost other\n IdentitiesOnly yes\n"),
    ]);
    let seen = home.ask(&asked("nas")).unwrap();
    assert_eq!((seen.user.as_deref(), seen.port, &*seen.host), (Some("one"), Some(3), "nas"));
    assert_eq!(seen.identity_files, Some(vec!["/inside".into()]));
    assert_eq!(seen.connect_timeout, Some(Duration::from_secs(2)));
    assert!(!seen.batch && !seen.identities_only);
}

#[test]
fn a_file_that_includes_itself_ends_with_an_error() {
    assert!(fault("Include config\nInclude config\n").contains("too many files"));
}

#[test]
fn a_file_that_others_can_write_is_refused_and_a_named_one_is_the_only_one() {
    let home = Home::with(&[
        (".ssh/config", "User own\n"),
        ("other", "User other\n"),
        ("etc/ssh_config", "Port 9\n"),
    ]);
    let named = settings(&Files::named(&home.path("other")), &asked("nas"), &home.around()).unwrap();
    assert_eq!((named.user.as_deref(), named.port), (Some("other"), None));
    let none = settings(&Files::named(Path::new("none")), &asked("nas"), &home.around()).unwrap();
    assert_eq!(none.user, None);
    let missing = settings(&Files::named(&home.path("gone")), &asked("nas"), &home.around());
    assert!(matches!(missing, Err(ConfigError::Read { .. })));
    fs::set_permissions(home.path(".ssh/config"), Permissions::from_mode(0o622)).unwrap();
    let error = home.ask(&asked("nas")).unwrap_err().to_string();
    assert!(error.contains("chmod go-w /"), "{error}");
}

proptest! {
    #[test]
    fn no_configuration_makes_the_reading_panic(
        bytes: Vec<u8>,
        likely in "((Host|Match host|Port|User|IdentityFile|ProxyJump|ProxyCommand|IdentityAgent)[ =\"]{0,2}[a-z0-9*!%~$\\{\\},\" /]{0,9}\n){0,6}",
    ) {
        let home = Home::with(&[(".ssh/config", &likely)]);
        let _ = home.ask(&asked("nas"));
        fs::write(home.path(".ssh/config"), &bytes).unwrap();
        if !String::from_utf8_lossy(&bytes).to_ascii_lowercase().contains("exec") {
            let _ = home.ask(&asked("nas"));
        }
    }
}
