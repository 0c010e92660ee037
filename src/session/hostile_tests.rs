//! A System 1 that keeps to the protocol up to a point, and then does not.

use std::sync::Arc;
use std::time::Duration;

use crate::core::path::RelPath;
use crate::core::policy::May;
use crate::protocol::codec;
use crate::protocol::listed::FolderPart;
use crate::protocol::message::{Failure, Message, Need, Welcome};
use crate::session::control::Control;
use crate::session::progress::Silent;
use crate::session::{Local, Opening, Options, Remote, SessionError};
use crate::ssh::{self, ClientConfig, Connection, Flow, Host, Login, ServerConfig, Stream};

/// No test takes this long, on any machine.
const STUCK: Duration = Duration::from_secs(600);

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

/// An empty System 1 that agrees with the client's plan, and then says `last`.
async fn act(connection: Connection, last: Vec<Message>) -> Result<(), SessionError> {
    let control = Control::new(connection, Duration::MAX, "the client");
    codec::decode_hello(&control.receive_bytes().await?)?;
    let welcome = Welcome {
        clock: super::clock::Clock::default().now(),
        held: 0,
        root: Some([1; 16]),
        runs: Vec::new(),
        rules: Vec::new(),
        may: May { write: true, delete: true },
        extensions: Vec::new(),
    };
    control.send_bytes(codec::encode_welcome(&Ok(welcome))?).await?;
    control.receive().await?;
    control.send(&Message::Top { digest: None, entries: 0, bytes: 0, problems: vec![] }).await?;
    control.receive().await?;
    let folder = FolderPart { folder: RelPath::root(), members: vec![], spans: vec![], more: false };
    control.send(&Message::Listing(vec![folder])).await?;
    while !matches!(control.receive().await?, Message::Compared { .. }) {}
    for message in last {
        control.send(&message).await?;
    }
    // Whatever the client does, it must not wait for more than it was told.
    while control.receive().await.is_ok() {}
    Ok(())
}

/// What a client with one file, `a`, makes of it.
fn met(last: Vec<Message>) -> SessionError {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("root");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(root.join("a"), "content").unwrap();
    let options = Options::new(temp.path().join("state"));
    let opening = Opening {
        look: false,
        create: false,
        new_root: false,
        state_home: options.state_home.clone(),
        exclusive: None,
    };
    let local = Arc::new(Local::open(&root, &RelPath::root(), opening).unwrap());
    let remote =
        Remote { export: "x".into(), sub: RelPath::root(), name: "evil".into(), place: "remote:evil".into() };
    let nobody = Arc::new(|_: &str, _: &_, _| None::<ssh::Grant>);
    let host = Host::new(ServerConfig::new(vec![ssh::host_key::ephemeral()], nobody));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let dial = move || {
        let (near, far) = crate::transport::memory::pair();
        let (host, last) = (host.clone(), last.clone());
        tokio::spawn(async move {
            let handler = move |connection: Connection, _| {
                let last = last.clone();
                async move {
                    let _ = act(connection, last).await;
                }
            };
            host.serve_stream(far, &handler).await;
        });
        std::future::ready(Ok(Box::new(near) as Box<dyn Stream>))
    };
    let config = ClientConfig {
        user: "local".into(),
        login: Login::None,
        host_check: Arc::new(|_: &_| Ok(())),
        flow: Flow::default(),
        chacha_first: false,
        deadline: STUCK,
    };
    let connect =
        async { ssh::connect(config, dial).await.map_err(|error| SessionError::connecting("it", error)) };
    let run = super::client::sync_once(connect, local, &remote, &options, Arc::new(Silent));
    let ended = runtime.block_on(async { tokio::time::timeout(STUCK, run).await });
    ended.expect("the client does not hang").unwrap_err()
}

#[test]
fn a_server_that_asks_for_what_the_plan_does_not_send_is_refused() {
    let agreed = Message::Agreed { guard: None };
    for items in [vec![7], vec![u32::MAX], vec![0, 0]] {
        let needs = items.into_iter().map(|item| Need { item, have: 0 }).collect();
        let error = met(vec![agreed.clone(), Message::Needs(needs), Message::NeedsEnd]);
        assert!(matches!(&error, SessionError::Protocol(text) if text.contains("does not send")), "{error}");
    }
}

#[test]
fn a_server_that_asks_for_hashes_of_other_files_than_it_takes_is_refused() {
    let error = met(vec![Message::AskHashes(vec![path("a"), path("b")])]);
    assert!(matches!(&error, SessionError::Protocol(text) if text.contains("not to take")), "{error}");
}

#[test]
fn a_server_that_reports_on_items_that_are_not_in_the_plan_is_refused() {
    let failed = vec![(9, Failure::Failed("no".into()))];
    let error = met(vec![Message::Agreed { guard: None }, Message::NeedsEnd, Message::Failed(failed)]);
    assert!(matches!(&error, SessionError::Protocol(_)), "{error}");
}
