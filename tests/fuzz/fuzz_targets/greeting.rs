//! Any bytes are a hello or a welcome, or refused; also with the magic and a version in front.
#![no_main]

use libfuzzer_sys::fuzz_target;
use syncfiles::protocol::codec::{MAGIC, decode_hello, decode_welcome, encode_hello, encode_welcome};

fuzz_target!(|bytes: &[u8]| {
    let greeting = [&MAGIC[..], &[0, 1, 0, 1], bytes].concat();
    for bytes in [bytes, &greeting] {
        if let Ok((_, hello)) = decode_hello(bytes) {
            let again = encode_hello(&hello).expect("what was read is short enough to be written");
            assert_eq!(decode_hello(&again).expect("what was written can be read").1, hello);
        }
        if let Ok((_, answer)) = decode_welcome(bytes) {
            let again = encode_welcome(&answer).expect("what was read is short enough to be written");
            assert_eq!(decode_welcome(&again).expect("what was written can be read").1, answer);
        }
    }
});
