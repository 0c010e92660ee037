//! What builds tell each other in the greetings beyond the fields of version 1: pairs of a name and a value.

/// The pairs of a greeting.
pub type Extensions = [(String, Vec<u8>)];

/// In the hello: bytes of channels a second that System 1 shall send at most, a `u64`, big-endian.
const BWLIMIT: &str = "bwlimit";

/// In the hello: further rounds over this connection are wanted. In the welcome: they are understood. Empty.
const WATCH: &str = "watch";

/// The pairs of a hello.
pub fn of_hello(bwlimit: Option<u64>, watch: bool) -> Vec<(String, Vec<u8>)> {
    let bwlimit = bwlimit.map(|rate| (BWLIMIT.to_owned(), rate.to_be_bytes().to_vec()));
    bwlimit.into_iter().chain(of_watch(watch)).collect()
}

/// The pairs of a welcome.
pub fn of_welcome(watch: bool) -> Vec<(String, Vec<u8>)> {
    of_watch(watch).into_iter().collect()
}

fn of_watch(watch: bool) -> Option<(String, Vec<u8>)> {
    watch.then(|| (WATCH.to_owned(), Vec::new()))
}

/// Whether a greeting speaks of further rounds.
pub fn watch(extensions: &Extensions) -> bool {
    find(extensions, WATCH).is_some()
}

/// The rate that System 1 shall keep to; none where it is not told, or not told in a way that makes sense.
pub fn bwlimit(extensions: &Extensions) -> Option<u64> {
    let rate = u64::from_be_bytes(find(extensions, BWLIMIT)?.try_into().ok()?);
    (rate > 0).then_some(rate)
}

fn find<'a>(extensions: &'a Extensions, name: &str) -> Option<&'a [u8]> {
    extensions.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_read_as_it_was_told_and_nonsense_is_no_rate() {
        assert_eq!(bwlimit(&of_hello(Some(70_000), true)), Some(70_000));
        assert_eq!(bwlimit(&of_hello(None, true)), None);
        for value in [vec![], vec![1; 7], vec![1; 9], vec![0; 8]] {
            assert_eq!(bwlimit(&[("bwlimit".into(), value)]), None);
        }
    }

    #[test]
    fn further_rounds_are_spoken_of_by_whoever_wants_them() {
        assert!(watch(&of_hello(Some(1), true)) && watch(&of_welcome(true)));
        assert!(!watch(&of_hello(Some(1), false)) && !watch(&of_welcome(false)));
    }
}
