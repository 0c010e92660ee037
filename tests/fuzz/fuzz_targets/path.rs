//! A path that is accepted cannot leave the root, is made of names, and shows nothing that acts on a terminal.
#![no_main]

use libfuzzer_sys::fuzz_target;
use syncfiles::core::path::{Name, RelPath};

fuzz_target!(|bytes: &[u8]| {
    let Ok(path) = RelPath::parse(bytes) else { return };
    let mut joined = RelPath::root();
    for component in path.components() {
        assert!(!matches!(component, b"." | b".." | b".syncfiles"));
        let name = Name::parse(component).expect("a component is a name");
        joined = joined.join(&name).expect("a path that was accepted is not too long");
    }
    assert_eq!(joined, path);
    assert!(!path.to_string().chars().any(char::is_control));
});
