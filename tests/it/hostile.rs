//! Peers that know the protocol and break it: a server that logged the client in, a client with a valid key.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use syncfiles::core::age::{Age, Timestamp};
use syncfiles::core::digest::Digest;
use syncfiles::core::path::{Name, RelPath};
use syncfiles::core::policy::{ConflictPolicy, May, Policy};
use syncfiles::core::reconcile::reconcile;
use syncfiles::core::side::Sides;
use syncfiles::core::snapshot::Snapshot;
use syncfiles::core::span::Span;
use syncfiles::core::version::{Bits, Content, Standing, Version};
use syncfiles::protocol::codec::{
    decode, decode_hello, decode_welcome, encode, encode_hello, encode_welcome,
};
use syncfiles::protocol::frame::{How, Opening as HeadOf, put_end};
use syncfiles::protocol::listed::{FolderPart, Listed};
use syncfiles::protocol::message::{Begin, Failure, Hello, Message, NO_DIGEST, Need, Refusal, Welcome, Wish};
use syncfiles::protocol::primer::{MAX_PRIMER, Priming};
use syncfiles::protocol::rows::{Row, tree_of};
use syncfiles::session::progress::{Event, Outcome, Progress, Silent};
use syncfiles::session::{Export, Exports, Local, Opening, Options, Remote, SessionError, serve, sync};
use syncfiles::ssh::{
    ClientConfig, Connection, Flow, Grant, Host, Login, ServerConfig, Stream, connect, host_key,
};
use syncfiles::transport::memory;

use zstd::bulk::compress;

use crate::support::pair::Pair;

/// One end of a connection, in the hands of somebody who sends what they like.
#[derive(Clone)]
struct Evil(Connection);

impl Evil {
    async fn say(&self, message: &Message) {
        // The other end may have hung up already, as it should.
        let _ = self.0.send(Bytes::from(encode(message).unwrap())).await;
    }

    /// The next message that is more than a sign of life.
    async fn hear(&self) -> Option<Message> {
        loop {
            match decode(&self.0.receive().await.ok()??).unwrap() {
                Message::Alive => continue,
                message => return Some(message),
            }
        }
    }

    /// What the other end says when it has had enough; nothing else counts.
    async fn refusal(&self) -> Refusal {
        loop {
            match self.hear().await.expect("it was refused before the end") {
                Message::Refuse(refusal) => return refusal,
                _ => continue,
            }
        }
    }

    /// Waits for a sign of life, and passes over everything else.
    async fn hear_alive(&self) {
        while decode(&self.0.receive().await.unwrap().unwrap()).unwrap() != Message::Alive {}
    }

    /// Answers the client's greeting.
    async fn greet(&self) {
        decode_hello(&self.0.receive().await.unwrap().unwrap()).unwrap();
        let (clock, may) = (Timestamp(0), May { write: true, delete: true });
        let welcome = Welcome {
            clock,
            held: 0,
            root: Some([1; 16]),
            runs: vec![],
            rules: vec![],
            may,
            extensions: vec![],
        };
        let _ = self.0.send(Bytes::from(encode_welcome(&Ok(welcome)).unwrap())).await;
    }

    /// Answers the client's greeting, and says that there is something to compare.
    async fn welcome(&self) {
        self.greet().await;
        // It asks before it begins.
        assert!(matches!(self.hear().await, Some(Message::Have(_))));
        assert!(matches!(self.hear().await, Some(Message::List(_))));
        assert!(matches!(self.hear().await, Some(Message::Begin(_))));
        self.say(&Message::Top { digest: None, entries: 0, bytes: 0, problems: vec![] }).await;
    }

    /// As a client: has a file `mine` of nine bytes, and has the server ask for it, as item 0.
    async fn offer(&self) {
        let content = Content::File { size: 9, sha256: None };
        let (bits, modified, age) = (Bits::of_mode(0o644), Timestamp(5), Age(7));
        let two = Standing::Holds(Version { content, bits, modified, age });
        let rows = vec![Row { depth: 1, name: Name::parse(b"mine").unwrap(), two, base: None }];
        let tree = tree_of(rows.clone(), &Snapshot::default(), Sides::default()).unwrap();
        let plan = reconcile(&tree, &Policy { delete: true, ..Policy::default() }).digest();
        self.say(&begin()).await;
        self.say(&Message::Rows(rows)).await;
        self.say(&Message::RowsEnd).await;
        self.say(&Message::Compared { run: [1; 16], plan, entries: 1, base: 0, guard: None }).await;
        while !matches!(self.hear().await, Some(Message::NeedsEnd)) {}
    }

    /// Shows an empty folder, and agrees to whatever the client plans.
    async fn agree(&self) {
        self.say(&listing(vec![])).await;
        while !matches!(self.hear().await, Some(Message::Compared { .. })) {}
        self.say(&Message::Agreed { guard: None }).await;
    }
}

fn listing(members: Vec<(Name, Listed)>) -> Message {
    Message::Listing(vec![FolderPart { folder: RelPath::root(), members, spans: vec![], more: false }])
}

fn spans(lasts: &[&str]) -> Message {
    let span = |last: &&str| Span { last: Name::parse(last.as_bytes()).unwrap(), digest: Digest([7; 32]) };
    let spans = lasts.iter().map(span).collect();
    Message::Listing(vec![FolderPart { spans, ..FolderPart::default() }])
}

fn folder(name: &str) -> (Name, Listed) {
    let (bits, modified) = (Bits::of_mode(0o755), Timestamp(0));
    (Name::parse(name.as_bytes()).unwrap(), Listed::Folder { bits, modified, digest: None })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A runtime whose clock goes on by itself as soon as everybody only waits for it: hours pass at once.
fn hasty_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

/// A connection to a host in this process whose every client is handled by `handler`.
async fn connection<H, F>(handler: H) -> Connection
where
    H: Fn(Connection) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let nobody = Arc::new(|_: &str, _: &_, _| None::<Grant>);
    let host = Host::new(ServerConfig::new(vec![host_key::ephemeral()], nobody));
    let dial = move || {
        let (near, far) = memory::pair();
        let (host, handler) = (host.clone(), handler.clone());
        tokio::spawn(async move {
            host.serve_stream(far, &move |connection: Connection, _| handler(connection)).await;
        });
        std::future::ready(Ok(Box::new(near) as Box<dyn Stream>))
    };
    let config = ClientConfig {
        user: "local".into(),
        login: Login::None,
        host_check: Arc::new(|_: &_| Ok(())),
        flow: Flow::default(),
        chacha_first: false,
        deadline: Duration::from_secs(60),
    };
    connect(config, dial).await.unwrap()
}

/// System 2 of `pair`, which holds one file, syncs with a server that plays this part.
fn sync_with<H, F>(pair: &Pair, part: H) -> Result<Outcome, SessionError>
where
    H: Fn(Evil) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    pair.two.write("mine", "1", 10);
    sync_on(&runtime(), pair, |_| {}, part)
}

fn sync_on<H, F>(
    runtime: &tokio::runtime::Runtime,
    pair: &Pair,
    change: impl FnOnce(&mut Options),
    part: H,
) -> Result<Outcome, SessionError>
where
    H: Fn(Evil) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    sync_shown(runtime, pair, change, Arc::new(Silent), part)
}

fn sync_shown<H, F>(
    runtime: &tokio::runtime::Runtime,
    pair: &Pair,
    change: impl FnOnce(&mut Options),
    progress: Arc<dyn Progress>,
    part: H,
) -> Result<Outcome, SessionError>
where
    H: Fn(Evil) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let mut options = pair.options();
    change(&mut options);
    let opening = Opening {
        look: false,
        create: false,
        new_root: true,
        state_home: options.state_home.clone(),
        exclusive: None,
    };
    let local = Arc::new(Local::open(&pair.two.root, &RelPath::root(), opening).unwrap());
    let (export, sub) = ("one".into(), RelPath::root());
    let remote = Remote { export, sub, name: "evil".into(), place: "evil".into() };
    runtime.block_on(async {
        let connecting = async || {
            let part = part.clone();
            Ok(connection(move |connection| {
                let (evil, part) = (Evil(connection), part.clone());
                async move {
                    part(evil.clone()).await;
                    // Until the client has had its say.
                    while evil.hear().await.is_some() {}
                }
            })
            .await)
        };
        let run = sync(connecting, local, &remote, &options, progress);
        tokio::time::timeout(DAY, run).await.expect("it hangs")
    })
}

/// Longer than any test takes; on a hasty clock it passes at once, and whoever waits for ever is found out.
const DAY: Duration = Duration::from_secs(86_400);

#[track_caller]
fn assert_broken(pair: &Pair, ended: Result<Outcome, SessionError>, why: &str) {
    let error = ended.map(|_| ()).unwrap_err();
    assert_eq!(error.exit_code(), 12, "{error}");
    assert!(error.to_string().contains(why), "{error}");
    assert_eq!(pair.two.read("mine").unwrap(), "1");
    assert_eq!(pair.two.tree().len(), 1);
}

#[test]
fn a_server_that_needs_an_item_beyond_the_plan_cannot_make_the_client_panic() {
    for item in [1, 77, u32::MAX] {
        let pair = Pair::new();
        let ended = sync_with(&pair, move |evil| async move {
            evil.welcome().await;
            evil.agree().await;
            evil.say(&Message::Needs(vec![Need { item, have: 0 }])).await;
            evil.say(&Message::NeedsEnd).await;
        });
        assert_broken(&pair, ended, "that the plan does not send");
    }
}

#[test]
fn a_server_that_needs_more_than_was_planned_is_no_server() {
    let pair = Pair::new();
    let ended = sync_with(&pair, |evil| async move {
        evil.welcome().await;
        evil.agree().await;
        evil.say(&Message::Needs(vec![Need { item: 0, have: 0 }; 2])).await;
    });
    assert_broken(&pair, ended, "that the plan does not send");
}

#[test]
fn a_server_that_reports_on_items_that_are_not_planned_is_no_server() {
    for report in [
        Message::Failed(vec![(1, Failure::Held)]),
        Message::Failed(vec![(u32::MAX, Failure::Failed("x".into()))]),
        Message::Learned(vec![(9, Digest::of(b""))]),
        Message::NeedsEnd,
    ] {
        let pair = Pair::new();
        let ended = sync_with(&pair, move |evil| {
            let report = report.clone();
            async move {
                evil.welcome().await;
                evil.agree().await;
                evil.say(&Message::NeedsEnd).await;
                assert!(matches!(evil.hear().await, Some(Message::Commit)));
                evil.say(&report).await;
            }
        });
        assert_broken(&pair, ended, "no place");
    }
}

#[test]
fn a_server_that_answers_for_other_spans_than_those_asked_for_is_no_server() {
    let other = FolderPart { folder: RelPath::parse(b"other").unwrap(), ..FolderPart::default() };
    for (answer, why) in [
        (Message::Listing(vec![other]), "not asked for"),
        (listing(vec![folder("b"), folder("a")]), "out of order"),
        (Message::Listing(vec![FolderPart::default(), FolderPart::default()]), "not asked for"),
        (Message::Hashes(vec![]), "something else"),
    ] {
        let pair = Pair::new();
        let ended = sync_with(&pair, move |evil| {
            let answer = answer.clone();
            async move {
                evil.welcome().await;
                evil.say(&spans(&["a", "b"])).await;
                let asked = Message::ListSpans(vec![(RelPath::root(), vec![0, 1])]);
                assert_eq!(evil.hear().await, Some(asked));
                evil.say(&answer).await;
            }
        });
        assert_broken(&pair, ended, why);
    }
}

#[test]
fn a_server_that_lists_out_of_order_or_unasked_is_no_server() {
    let other =
        FolderPart { folder: RelPath::parse(b"other").unwrap(), members: vec![], spans: vec![], more: false };
    for (message, why) in [
        (listing(vec![folder("b"), folder("a")]), "out of order"),
        (listing(vec![folder("a"), folder("a")]), "out of order"),
        (Message::Listing(vec![other]), "not asked for"),
        (spans(&["b", "a"]), "out of order"),
        (Message::Hashes(vec![]), "something else"),
    ] {
        let pair = Pair::new();
        let ended = sync_with(&pair, move |evil| {
            let message = message.clone();
            async move {
                evil.welcome().await;
                evil.say(&message).await;
            }
        });
        assert_broken(&pair, ended, why);
    }
}

#[test]
fn a_server_that_asks_for_too_many_hashes_at_once_is_no_server() {
    let pair = Pair::new();
    let ended = sync_with(&pair, |evil| async move {
        evil.welcome().await;
        evil.say(&listing(vec![])).await;
        while !matches!(evil.hear().await, Some(Message::Compared { .. })) {}
        evil.say(&Message::AskHashes(vec![RelPath::parse(b"mine").unwrap(); 4097])).await;
    });
    assert_broken(&pair, ended, "no place");
}

#[test]
fn a_server_that_vanishes_at_any_step_leaves_the_client_as_it_was() {
    for step in 0..4 {
        let pair = Pair::new();
        let ended = sync_with(&pair, move |evil| async move {
            if step > 0 {
                evil.welcome().await;
            }
            if step > 1 {
                evil.agree().await;
            }
            if step > 2 {
                evil.say(&Message::NeedsEnd).await;
                evil.hear().await;
            }
            evil.0.close();
        });
        assert_eq!(ended.map(|_| ()).unwrap_err().exit_code(), 10, "{step}");
        assert_eq!(pair.two.tree().len(), 1);
    }
}

fn hello() -> Hello {
    let wish = Wish {
        dry: false,
        checksum: false,
        whole: false,
        delete: true,
        conflict: ConflictPolicy::Newer,
        write_one: true,
        write_two: true,
        mirror: false,
        new_root: false,
        max_delete: "100%".into(),
        keep: None,
        compress: syncfiles::protocol::packed::Compress::Never,
    };
    let root = Some([7; 16]);
    Hello { export: "one".into(), sub: RelPath::root(), root, wish, rules: vec![], extensions: vec![] }
}

/// A client plays its part against the real server of `pair`, which holds one file; what it is told.
fn refused<F: Future<Output = ()>>(pair: &Pair, hello: Hello, part: impl FnOnce(Evil) -> F) -> Refusal {
    refused_on(&runtime(), pair, hello, part)
}

fn refused_on<F: Future<Output = ()>>(
    runtime: &tokio::runtime::Runtime,
    pair: &Pair,
    hello: Hello,
    part: impl FnOnce(Evil) -> F,
) -> Refusal {
    refused_shown(runtime, pair, hello, Arc::new(Silent), part)
}

fn refused_shown<F: Future<Output = ()>>(
    runtime: &tokio::runtime::Runtime,
    pair: &Pair,
    hello: Hello,
    progress: Arc<dyn Progress>,
    part: impl FnOnce(Evil) -> F,
) -> Refusal {
    pair.one.write("theirs", "1", 10);
    let folder = Export { name: "one".into(), path: pair.one.root.clone() };
    let exports = Arc::new(Exports::new(vec![folder], pair.options().state_home.join("server")));
    let handler = move |connection| {
        let (exports, progress) = (exports.clone(), progress.clone());
        async move {
            let _ = serve(connection, &exports, progress).await;
        }
    };
    let refusal = runtime.block_on(async {
        let evil = Evil(connection(handler).await);
        evil.0.send(Bytes::from(encode_hello(&hello).unwrap())).await.unwrap();
        let answer = loop {
            let bytes = evil.0.receive().await.unwrap().unwrap();
            // A server that is slow to open its root says meanwhile that it is alive.
            match decode(&bytes) {
                Ok(Message::Alive) => {}
                _ => break decode_welcome(&bytes).unwrap().1,
            }
        };
        match answer {
            Err(refusal) => refusal,
            Ok(_) => {
                part(evil.clone()).await;
                let refusal = evil.refusal();
                tokio::time::timeout(DAY, refusal).await.expect("it hangs")
            }
        }
    });
    assert_eq!(pair.one.read("theirs").unwrap(), "1");
    assert_eq!(pair.one.tree().len(), 1);
    refusal
}

fn begin() -> Message {
    Message::Begin(Begin { uncertainty: 0, delay: 0, clock: Timestamp(0), base: None })
}

#[test]
fn a_client_that_asks_too_much_or_out_of_turn_is_refused_and_nothing_changes() {
    let theirs = RelPath::parse(b"theirs").unwrap();
    let row = |depth, name: &str| Row {
        depth,
        name: Name::parse(name.as_bytes()).unwrap(),
        two: Standing::Absent,
        base: None,
    };
    let compared =
        Message::Compared { run: [1; 16], plan: Digest::of(b"x"), entries: 0, base: 0, guard: None };
    for (messages, why) in [
        (vec![Message::Commit], "beginning"),
        (vec![begin(), begin()], "no place"),
        (vec![begin(), Message::List(vec![(RelPath::root(), true); 4097])], "asks too much"),
        (vec![begin(), Message::AskHashes(vec![theirs.clone(); 4097])], "asks too much"),
        (vec![begin(), Message::List(vec![(theirs.clone(), false)])], "no folder"),
        (vec![begin(), Message::ListSpans(vec![(theirs.clone(), vec![0])])], "no folder"),
        (vec![begin(), Message::ListSpans(vec![(theirs, vec![])])], "no folder has"),
        (vec![begin(), Message::ListSpans(vec![(RelPath::root(), vec![0]); 2])], "no folder has"),
        (vec![begin(), Message::ListSpans(vec![(RelPath::root(), vec![7])])], "no folder has"),
        (vec![begin(), Message::Rows(vec![row(2, "a")]), Message::RowsEnd], "no tree"),
        (vec![begin(), Message::Rows(vec![row(1, "b"), row(1, "a")]), Message::RowsEnd], "no tree"),
        (vec![begin(), compared.clone()], "no place"),
        (vec![begin(), Message::RowsEnd, Message::AskHashes(vec![])], "no place"),
        (vec![begin(), Message::RowsEnd, Message::Rows(vec![])], "no place"),
        (vec![begin(), Message::RowsEnd, compared], "another plan"),
    ] {
        let pair = Pair::new();
        let refusal = refused(&pair, hello(), |evil| async move {
            for message in &messages {
                evil.say(message).await;
            }
        });
        assert_eq!(refusal.code, 12, "{refusal:?}");
        assert!(refusal.text.contains(why), "{refusal:?}");
    }
}

#[test]
fn what_is_asked_before_the_beginning_is_answered_unless_both_roots_are_the_same() {
    let whole = Hello { wish: Wish { whole: true, ..hello().wish }, ..hello() };
    let refusal = refused(&Pair::new(), whole, |evil| async move {
        let Some(Message::Top { digest: Some(digest), .. }) = evil.hear().await else { panic!("no top") };
        let everything = Message::List(vec![(RelPath::root(), true)]);
        for (half, answered) in [(NO_DIGEST, true), ([9; 16], true), (digest.half(), false)] {
            evil.say(&Message::Have(vec![(RelPath::root(), half)])).await;
            evil.say(&everything).await;
            if answered {
                assert!(matches!(evil.hear().await, Some(Message::Listing(_))));
            }
        }
        evil.say(&begin()).await;
        evil.say(&Message::AskHashes(vec![])).await;
        assert_eq!(evil.hear().await, Some(Message::Hashes(vec![])));
        evil.say(&Message::Commit).await;
    });
    assert!(refusal.text.contains("no place before the plan"), "{refusal:?}");
}

#[test]
fn a_client_that_changes_its_mind_between_rounds_is_refused() {
    let watching = || Hello { extensions: vec![("watch".into(), vec![])], ..hello() };
    let other_sub = RelPath::parse(b"theirs").unwrap();
    for next in [
        Hello { root: Some([9; 16]), ..watching() },
        Hello { sub: other_sub, ..watching() },
        Hello { export: "two".into(), ..watching() },
        hello(),
    ] {
        let refusal = refused(&Pair::new(), watching(), |evil| async move {
            evil.say(&begin()).await;
            evil.say(&Message::Done).await;
            let next = Bytes::from(encode_hello(&next).unwrap());
            evil.0.send(next).await.unwrap();
            // The answer to the hello; then the session ends with the same.
            while decode_welcome(&evil.0.receive().await.unwrap().unwrap()).is_err() {}
        });
        assert!(refusal.code == 12 || refusal.text.contains("cannot find the export two"), "{refusal:?}");
    }
    let refusal = refused(&Pair::new(), watching(), |evil| async move {
        evil.say(&begin()).await;
        evil.say(&Message::Done).await;
        evil.say(&Message::Done).await;
    });
    assert_eq!(refusal.code, 12, "{refusal:?}");
}

#[test]
fn a_server_that_cannot_watch_is_said_to_be_too_old() {
    let pair = Pair::new();
    let ended = sync_on(
        &runtime(),
        &pair,
        |options| options.watch = true,
        |evil| async move {
            evil.greet().await;
        },
    );
    let error = ended.map(|_| ()).unwrap_err();
    assert_eq!(error.exit_code(), 2, "{error}");
    assert!(error.to_string().contains("cannot keep watching"), "{error}");
}

#[test]
fn a_client_that_names_no_export_or_bad_rules_is_refused_before_anything_is_scanned() {
    for (hello, code) in [
        (Hello { export: "../one".into(), ..hello() }, 5),
        (Hello { export: String::new(), ..hello() }, 5),
        (Hello { sub: RelPath::parse(b"not/there").unwrap(), ..hello() }, 11),
        (Hello { sub: RelPath::parse(b"theirs").unwrap(), ..hello() }, 11),
        (Hello { rules: vec!["x".into(); 1001], ..hello() }, 12),
    ] {
        let refusal = refused(&Pair::new(), hello, |_| async {});
        assert_eq!(refusal.code, code, "{refusal:?}");
    }
}

/// A file that cannot all be under way at once, so that whoever sends it has to wait for the other end.
fn large(side: &crate::support::pair::Side, name: &str) {
    std::fs::File::create(side.path(name)).unwrap().set_len(64 << 20).unwrap();
}

#[test]
fn a_reason_that_a_server_gives_during_the_transfers_is_the_one_that_is_shown() {
    let pair = Pair::new();
    large(&pair.two, "mine");
    let ended = sync_on(
        &runtime(),
        &pair,
        |_| {},
        |evil| async move {
            evil.welcome().await;
            evil.agree().await;
            evil.say(&Message::Needs(vec![Need { item: 0, have: 0 }])).await;
            evil.say(&Message::NeedsEnd).await;
            let channel = evil.0.accept().await;
            evil.say(&Message::Refuse(Refusal { code: 11, text: "its disk is on fire".into() })).await;
            evil.0.close();
            drop(channel);
        },
    );
    let error = ended.unwrap_err();
    assert_eq!((error.exit_code(), error.to_string().as_str()), (11, "its disk is on fire"));
}

#[test]
fn a_server_that_falls_silent_before_the_transfers_is_given_up_with_30() {
    for step in 0..3 {
        let pair = Pair::new();
        pair.two.write("mine", "1", 10);
        let ended = sync_on(
            &hasty_runtime(),
            &pair,
            |_| {},
            move |evil| async move {
                if step > 0 {
                    evil.welcome().await;
                }
                if step > 1 {
                    evil.agree().await;
                }
                std::future::pending::<()>().await;
            },
        );
        let error = ended.unwrap_err();
        assert_eq!(error.exit_code(), 30, "{step}: {error}");
        assert!(error.to_string().contains("evil gave no sign of life for 60 s"), "{step}: {error}");
    }
}

#[test]
fn a_server_that_falls_silent_during_the_transfers_is_given_up_with_30() {
    for accepts in [false, true] {
        let pair = Pair::new();
        large(&pair.two, "mine");
        let quick = |options: &mut Options| options.timeout = Duration::from_secs(1);
        let ended = sync_on(&runtime(), &pair, quick, move |evil| async move {
            evil.welcome().await;
            evil.agree().await;
            evil.say(&Message::Needs(vec![Need { item: 0, have: 0 }])).await;
            evil.say(&Message::NeedsEnd).await;
            let channel = if accepts { evil.0.accept().await } else { None };
            std::future::pending::<()>().await;
            drop(channel);
        });
        assert_eq!(ended.unwrap_err().exit_code(), 30, "{accepts}");
    }
}

#[test]
fn a_server_that_works_for_an_hour_and_says_so_is_waited_for() {
    let pair = Pair::new();
    pair.two.write("mine", "1", 10);
    let ended = sync_on(
        &hasty_runtime(),
        &pair,
        |_| {},
        |evil| async move {
            evil.welcome().await;
            for _ in 0..120 {
                tokio::time::sleep(Duration::from_secs(30)).await;
                evil.say(&Message::Alive).await;
            }
            evil.say(&Message::Refuse(Refusal { code: 11, text: "after an hour".into() })).await;
        },
    );
    assert_eq!(ended.unwrap_err().to_string(), "after an hour");
}

#[test]
fn a_client_that_falls_silent_before_the_plan_is_dropped() {
    for messages in [vec![], vec![begin()], vec![begin(), Message::List(vec![(RelPath::root(), true)])]] {
        let refusal = refused_on(&hasty_runtime(), &Pair::new(), hello(), |evil| async move {
            for message in &messages {
                evil.say(message).await;
            }
        });
        assert_eq!(refusal.code, 30, "{refusal:?}");
        assert!(refusal.text.contains("the client gave no sign of life for 60 s"), "{refusal:?}");
    }
}

#[test]
fn a_client_that_never_brings_what_was_asked_for_is_dropped() {
    for word in [None, Some(Message::Commit)] {
        let refusal = refused_on(&hasty_runtime(), &Pair::new(), hello(), |evil| async move {
            evil.offer().await;
            for word in word.iter() {
                evil.say(word).await;
            }
        });
        assert_eq!(refusal.code, 30, "{refusal:?}");
    }
}

/// Primers that are none, or one too many.
fn wrong_primers() -> Vec<Vec<Message>> {
    let told = Priming::new(b"once upon a time").unwrap().1;
    let bomb = compress(&vec![0; MAX_PRIMER + 1], 1).unwrap();
    let wrong = [b"garbage".to_vec(), vec![], bomb].map(|told| vec![Message::Primer(told)]);
    wrong.into_iter().chain([vec![Message::Primer(told); 2]]).collect()
}

#[test]
fn a_server_that_tells_a_primer_that_is_none_or_two_is_no_server() {
    for primers in wrong_primers() {
        let pair = Pair::new();
        large(&pair.two, "mine");
        let part = move |evil: Evil| {
            let primers = primers.clone();
            async move {
                evil.welcome().await;
                evil.agree().await;
                evil.say(&Message::Needs(vec![Need { item: 0, have: 0 }])).await;
                evil.say(&Message::NeedsEnd).await;
                for primer in &primers {
                    evil.say(primer).await;
                }
                // As long as nobody reads it the client is not done.
                let channel = evil.0.accept().await;
                evil.hear().await;
                drop(channel);
            }
        };
        let error = sync_on(&runtime(), &pair, |_| {}, part).unwrap_err();
        assert_eq!(error.exit_code(), 12, "{error}");
        assert!(error.to_string().contains("a primer"), "{error}");
    }
}

#[test]
fn a_client_that_tells_a_primer_that_is_none_or_two_is_refused() {
    for primers in wrong_primers() {
        let refusal = refused(&Pair::new(), hello(), |evil| async move {
            evil.offer().await;
            for primer in &primers {
                evil.say(primer).await;
            }
        });
        assert_eq!(refusal.code, 12, "{refusal:?}");
        assert!(refusal.text.contains("a primer"), "{refusal:?}");
    }
}

#[test]
fn a_file_that_needs_a_primer_nobody_told_or_another_fails_alone() {
    let told = Priming::new(b"once upon a time").unwrap().1;
    for (told, packed) in [(None, compress(b"whatever!", 1).unwrap()), (Some(told), b"garbage".to_vec())] {
        let pair = Pair::new();
        let refusal = refused(&pair, hello(), |evil| async move {
            evil.offer().await;
            for told in told.iter() {
                evil.say(&Message::Primer(told.clone())).await;
            }
            let mut channel = evil.0.open().await.unwrap();
            let opening = HeadOf { push: true, how: How::Whole, item: 0, offset: 0 }.encode();
            let mut bytes = BytesMut::from(&opening[..]);
            bytes.extend_from_slice(&[&[8, 0, 0, packed.len() as u8], &packed[..]].concat());
            put_end(&mut bytes, &Digest::of(b"whatever!"));
            channel.writer.send(bytes.freeze()).await.unwrap();
            channel.writer.finish().await.unwrap();
            evil.say(&Message::Commit).await;
            let Some(Message::Failed(failed)) = evil.hear().await else { panic!("nothing failed") };
            assert!(
                matches!(&failed[..], [(0, Failure::Failed(text))] if text.contains("malformed")),
                "{failed:?}"
            );
            assert!(matches!(evil.hear().await, Some(Message::Committed { .. })));
            evil.say(&Message::Commit).await;
        });
        assert_eq!(refusal.code, 12, "{refusal:?}");
    }
}

/// Holds up a scan until it is opened.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

impl Progress for Gate {
    fn event(&self, event: &Event) {
        if matches!(event, Event::Scanned { .. }) {
            let waiting = self.opened.wait_while(self.open.lock().unwrap(), |open| !*open);
            drop(waiting.unwrap());
        }
    }
}

#[test]
fn a_client_that_scans_for_long_says_that_it_is_alive() {
    let (pair, gate) = (Pair::new(), Arc::new(Gate::default()));
    let opener = gate.clone();
    let ended = sync_shown(
        &runtime(),
        &pair,
        |_| {},
        gate,
        move |evil| {
            let opener = opener.clone();
            async move {
                evil.greet().await;
                evil.hear_alive().await;
                opener.open();
                evil.say(&Message::Refuse(Refusal { code: 11, text: "heard it".into() })).await;
            }
        },
    );
    assert_eq!(ended.unwrap_err().to_string(), "heard it");
}

#[test]
fn a_server_that_scans_for_long_says_that_it_is_alive() {
    let gate = Arc::new(Gate::default());
    let opener = gate.clone();
    let refusal = refused_shown(&runtime(), &Pair::new(), hello(), gate, |evil| async move {
        evil.hear_alive().await;
        opener.open();
        assert!(matches!(evil.hear().await, Some(Message::Top { .. })));
        evil.say(&Message::Commit).await;
    });
    assert!(refusal.text.contains("beginning"), "{refusal:?}");
}
