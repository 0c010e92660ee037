//! Any bytes are a control message or refused, and what is read is written as it was meant.
#![no_main]

use libfuzzer_sys::fuzz_target;
use syncfiles::protocol::codec::{decode, encode};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = decode(bytes) {
        let again = encode(&message).expect("what was read is short enough to be written");
        assert_eq!(decode(&again).expect("what was written can be read"), message);
    }
});
