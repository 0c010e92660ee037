//! Certificates: what a line with `cert-authority` makes of one (PROTOCOL.certkeys of OpenSSH, and sshd(8)).
//!
//! Where OpenSSH is generous, this is not: a certificate without principals is for nobody, and one that is not understood
//! to its last critical option is refused.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use russh::keys::ssh_key::certificate::CertType;
use russh::keys::{Algorithm, Certificate, HashAlg};

use super::Entry;
use super::command::{Limits, parse_command};
use super::from::AddressList;
use super::quoted;
use crate::ssh::key_text::may_log_in;

/// Who wants to log in.
#[derive(Clone, Copy)]
pub(super) struct Login<'a> {
    /// The name, which a certificate without a list of others in its line must have.
    pub(super) user: &'a str,
    pub(super) from: Option<IpAddr>,
    pub(super) now: SystemTime,
}

/// What a certificate of the line's own authority may do, or why it may not log in.
pub(super) fn judge(certificate: &Certificate, line: &Entry, login: Login<'_>) -> Result<Limits, String> {
    sound(certificate, line, login.now)?;
    let named = certificate.valid_principals();
    let wanted = |name: &String| match &line.options.principals {
        Some(listed) => listed.contains(name),
        None => name == login.user,
    };
    match named.iter().any(wanted) {
        _ if named.is_empty() => return Err("it names no principals; sign it with ssh-keygen -n NAME".into()),
        false => return Err("none of its principals is one that may log in".into()),
        true => {}
    }
    let command = critical(certificate, login.from)?;
    match (&line.options.limits, command) {
        (own, None) => Ok(own.clone()),
        (own, Some(command)) if own.exports.is_none() || *own == command => Ok(command),
        _ => Err("its force-command is another than the command= of the line".into()),
    }
}

/// Whether it is a user's, signed by the line's key as one may sign today, and valid now.
fn sound(certificate: &Certificate, line: &Entry, now: SystemTime) -> Result<(), String> {
    if certificate.cert_type() != CertType::User {
        return Err("it is for a host, not for a user".into());
    }
    may_log_in(certificate.public_key()).map_err(|fault| fault.to_string())?;
    if certificate.signature().algorithm() == (Algorithm::Rsa { hash: None }) {
        return Err("it is signed with SHA-1".into());
    }
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if now < certificate.valid_after() {
        return Err("it is not valid yet".into());
    }
    if now >= certificate.valid_before() {
        return Err("it has expired".into());
    }
    // Again all of it, so that this depends on nobody who asks.
    let authority = line.key.fingerprint(HashAlg::Sha256);
    certificate.validate_at(now, [&authority]).map_err(|_| "its signature is wrong".to_owned())
}

/// Critical options are conditions: whoever does not understand one must refuse. Returns the limits that one of them sets.
fn critical(certificate: &Certificate, from: Option<IpAddr>) -> Result<Option<Limits>, String> {
    let mut command = None;
    for (name, value) in certificate.critical_options().iter() {
        match name.as_str() {
            "force-command" => command = Some(parse_command(value.as_bytes())?),
            "source-address" => {
                let list = AddressList::parse_blocks(value.as_bytes())?;
                if !from.is_some_and(|from| list.admits(from)) {
                    return Err("its source-address does not admit this address".into());
                }
            }
            name => return Err(format!("its critical option {} is not supported", quoted(name.as_bytes()))),
        }
    }
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::super::{AuthorizedKeys, Denied};
    use super::*;
    use crate::ssh::host_key::ephemeral;
    use proptest::prelude::*;
    use russh::keys::PrivateKey;
    use russh::keys::key::safe_rng;
    use russh::keys::ssh_key::certificate::Builder;
    use std::time::Duration;

    const HERE: &str = "10.0.0.1";
    const NOW: u64 = 1_000_000;

    /// An authority, and a client whose key it certifies.
    struct Office {
        authority: PrivateKey,
        client: PrivateKey,
    }

    impl Office {
        fn new() -> Office {
            Office { authority: ephemeral(), client: ephemeral() }
        }

        /// Valid for an hour from now, for ann.
        fn certificate(&self, more: impl FnOnce(&mut Builder)) -> Certificate {
            self.dated(NOW, NOW + 3600, |builder| {
                builder.valid_principal("ann").unwrap();
                more(builder);
            })
        }

        fn dated(&self, from: u64, to: u64, more: impl FnOnce(&mut Builder)) -> Certificate {
            let key = self.client.public_key().key_data().clone();
            let mut builder = Builder::new_with_random_nonce(&mut safe_rng(), key, from, to).unwrap();
            more(&mut builder);
            builder.sign(&self.authority).unwrap()
        }

        /// What a file with AUTHORITY and CLIENT for their keys says of a certificate.
        fn judge(&self, file: &str, certificate: &Certificate, now: u64) -> Result<Limits, Denied> {
            let text = |key: &PrivateKey| key.public_key().to_openssh().unwrap();
            let file =
                file.replace("AUTHORITY", &text(&self.authority)).replace("CLIENT", &text(&self.client));
            let (keys, notes) = AuthorizedKeys::parse(file.as_bytes());
            assert!(notes.is_empty(), "{notes:?}");
            let now = UNIX_EPOCH + Duration::from_secs(now);
            keys.certify(certificate, "ann", Some(HERE.parse().unwrap()), now)
        }

        /// Why a certificate is refused where the authority is trusted.
        #[track_caller]
        fn refused(&self, options: &str, certificate: &Certificate) -> String {
            match self.judge(&format!("cert-authority{options} AUTHORITY"), certificate, NOW) {
                Err(Denied::Certificate { line: 1, why }) => why,
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_certificate_of_a_listed_authority_for_the_user_logs_in() {
        let office = Office::new();
        let certificate = office.certificate(|_| {});
        for line in [
            "cert-authority AUTHORITY",
            "restrict,Cert-Authority AUTHORITY c",
            "principals=\"ann\",cert-authority AUTHORITY",
            "CLIENT\ncert-authority AUTHORITY",
        ] {
            assert_eq!(office.judge(line, &certificate, NOW), Ok(Limits::default()), "{line}");
        }
    }

    #[test]
    fn neither_a_plain_line_nor_another_authority_makes_a_certificate_good_nor_is_an_authority_a_client() {
        let office = Office::new();
        let certificate = office.certificate(|_| {});
        for line in ["AUTHORITY", "CLIENT", "cert-authority CLIENT", ""] {
            assert_eq!(office.judge(line, &certificate, NOW), Err(Denied::Authority), "{line}");
        }
        let line = format!("cert-authority {}", office.authority.public_key().to_openssh().unwrap());
        let (keys, _) = AuthorizedKeys::parse(line.as_bytes());
        let now = UNIX_EPOCH + Duration::from_secs(NOW);
        assert_eq!(keys.authorize(office.authority.public_key(), None, now), Err(Denied::Unlisted));
        assert_eq!(keys.authorize(office.client.public_key(), None, now), Err(Denied::Unlisted));
    }

    #[test]
    fn it_is_good_from_its_first_second_until_before_its_last() {
        let office = Office::new();
        let certificate = office.certificate(|_| {});
        let judge = |now| office.judge("cert-authority AUTHORITY", &certificate, now).is_ok();
        assert_eq!([NOW - 1, NOW, NOW + 3599, NOW + 3600].map(judge), [false, true, true, false]);
        let forever = office.dated(0, u64::MAX, |builder| {
            builder.valid_principal("ann").unwrap();
        });
        assert!(office.judge("cert-authority AUTHORITY", &forever, NOW).is_ok());
        let line = "cert-authority,expiry-time=\"19700102Z\" AUTHORITY";
        assert_eq!(office.judge(line, &forever, NOW), Err(Denied::Expired(1)));
    }

    #[test]
    fn a_principal_must_be_the_user_or_among_those_of_the_line_letter_by_letter() {
        let office = Office::new();
        let named = |names: &[&str]| {
            office.dated(NOW, NOW + 9, |builder| {
                builder.all_principals_valid().unwrap();
                names.iter().for_each(|name| {
                    builder.valid_principal(*name).unwrap();
                });
            })
        };
        for (names, options, good) in [
            (&["ann"][..], "", true),
            (&["bob", "ann"], "", true),
            (&["bob"], "", false),
            (&["Ann"], "", false),
            (&["ann "], "", false),
            (&["*"], "", false),
            (&["ann,bob"], "", false),
            (&["ann"], ",principals=\"staff,ann\"", true),
            (&["staff"], ",principals=\"staff,ann\"", true),
            (&["ann"], ",principals=\"staff\"", false),
            (&["staff,ann"], ",principals=\"staff,ann\"", false),
            (&[""], ",principals=\"staff\"", false),
        ] {
            let judged = office.judge(&format!("cert-authority{options} AUTHORITY"), &named(names), NOW);
            assert_eq!(judged.is_ok(), good, "{names:?} {options}: {judged:?}");
        }
        assert!(office.refused("", &named(&[])).contains("names no principals"));
        assert!(office.refused(",principals=\"ann\"", &named(&[])).contains("names no principals"));
    }

    #[test]
    fn a_hosts_certificate_and_one_of_which_a_bit_is_another_are_refused() {
        let office = Office::new();
        let host = office.certificate(|builder| {
            builder.cert_type(CertType::Host).unwrap();
        });
        assert!(office.refused("", &host).contains("for a host"));
        let certificate = office.certificate(|builder| {
            builder.key_id("honest").unwrap();
        });
        let mut bytes = certificate.to_bytes().unwrap();
        let at = bytes.windows(6).position(|part| part == b"honest").unwrap();
        bytes[at] ^= 1;
        let forged = Certificate::from_bytes(&bytes).unwrap();
        assert!(office.refused("", &forged).contains("signature is wrong"));
    }

    #[test]
    fn critical_options_hold_or_refuse_and_others_are_passed_over() {
        let office = Office::new();
        let with = |name: &str, value: &str| {
            office.certificate(|builder| {
                builder.critical_option(name, value).unwrap();
            })
        };
        for (name, value, said) in [
            ("verify-required", "", "is not supported"),
            ("new\x1b[2J", "x", "\\x1b"),
            ("source-address", "10.0.0.2", "does not admit"),
            ("source-address", "*", "more than addresses"),
            ("source-address", "!10.9.9.9,10.0.0.1", "more than addresses"),
            ("source-address", "", "no address"),
            ("force-command", "/bin/sh", "is not \"syncfiles serve"),
            ("force-command", "", "is not \"syncfiles serve"),
        ] {
            let why = office.refused("", &with(name, value));
            assert!(why.contains(said) && !why.contains('\x1b'), "{name}={value}: {why}");
        }
        let judge = |certificate: &Certificate| office.judge("cert-authority AUTHORITY", certificate, NOW);
        assert!(judge(&with("source-address", "192.0.2.0/24,10.0.0.0/8")).is_ok());
        let extended = office.certificate(|builder| {
            builder.extension("permit-pty", "").unwrap();
        });
        assert!(judge(&extended).is_ok());
        let (keys, _) = AuthorizedKeys::parse(
            format!("cert-authority {}", office.authority.public_key().to_openssh().unwrap()).as_bytes(),
        );
        let now = UNIX_EPOCH + Duration::from_secs(NOW);
        let from_nowhere = keys.certify(&with("source-address", "0.0.0.0/0"), "ann", None, now);
        assert!(from_nowhere.is_err(), "an address that is not known is none that is admitted");
    }

    #[test]
    fn a_command_of_the_certificate_or_of_the_line_limits_it_and_two_that_differ_refuse_it() {
        let office = Office::new();
        let command = "syncfiles serve --stdio --read-only /srv/a";
        let certificate = office.certificate(|builder| {
            builder.critical_option("force-command", command).unwrap();
        });
        let limited = |line: &str, certificate: &Certificate| {
            let limits = office.judge(line, certificate, NOW).unwrap();
            limits.read_only && limits.exports.is_some_and(|exports| exports.len() == 1)
        };
        let line = |command: &str| format!("cert-authority,command=\"{command}\" AUTHORITY");
        assert!(limited("cert-authority AUTHORITY", &certificate));
        assert!(limited(&line(command), &office.certificate(|_| {})));
        assert!(limited(&line(command), &certificate));
        for other in ["syncfiles serve --stdio /srv/a", "syncfiles serve --stdio --read-only /srv/b"] {
            let judged = office.judge(&line(other), &certificate, NOW);
            assert!(judged.unwrap_err().to_string().contains("another than the command="), "{other}");
        }
    }

    #[test]
    fn the_address_of_the_line_counts_as_well() {
        let office = Office::new();
        let certificate = office.certificate(|_| {});
        let judge = |from: &str| {
            office.judge(&format!("cert-authority,from=\"{from}\" AUTHORITY"), &certificate, NOW)
        };
        assert!(judge("10.0.0.0/8").is_ok());
        assert_eq!(judge("192.0.2.1"), Err(Denied::Address(1)));
    }

    proptest! {
        #[test]
        fn no_critical_option_but_two_is_ever_passed_over(name in "[a-z-]{1,20}", value in "[ -~]{0,20}") {
            let office = Office::new();
            let certificate =
                office.certificate(|builder| { builder.critical_option(name.as_str(), value).unwrap(); });
            prop_assert!(office.judge("cert-authority AUTHORITY", &certificate, NOW).is_err());
        }
    }
}
