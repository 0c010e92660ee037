//! Any rows are a tree or refused, also against a snapshot that has members of its own.
#![no_main]

use libfuzzer_sys::fuzz_target;
use syncfiles::core::age::Timestamp;
use syncfiles::core::path::Name;
use syncfiles::core::side::Sides;
use syncfiles::core::snapshot::{Folder, Node, Unknown};
use syncfiles::protocol::codec::decode;
use syncfiles::protocol::message::Message;
use syncfiles::protocol::rows::tree_of;

fn own() -> Folder {
    let name = |byte: u8| Name::parse(&[byte]).expect("a letter is a name");
    let inner = Folder { members: vec![(name(b'b'), Node::Unknown(Unknown::Special))], ..Folder::default() };
    Folder { members: vec![(name(b'a'), Node::Folder(inner))], ..Folder::default() }
}

fuzz_target!(|bytes: &[u8]| {
    // 7 is the number of `Message::Rows`.
    if let Ok(Message::Rows(rows)) = decode(&[&[7], bytes].concat()) {
        let now = Sides { one: Timestamp(0), two: Timestamp(0) };
        let _ = tree_of(rows.clone(), &Folder::default(), now);
        let _ = tree_of(rows, &own(), now);
    }
});
