//! What builds tell each other in the greetings beyond the fields of version 1: pairs of a name and a value.

/// The pairs of a greeting.
pub type Extensions = [(String, Vec<u8>)];

/// In the hello: bytes of channels a second that System 1 shall send at most, a `u64`, big-endian.
const BWLIMIT: &str = "bwlimit";

/// The pairs of a hello.
pub fn of_hello(bwlimit: Option<u64>) -> Vec<(String, Vec<u8>)> {
    bwlimit.into_iter().map(|rate| (BWLIMIT.to_owned(), rate.to_be_bytes().to_vec())).collect()
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
        assert_eq!(bwlimit(&of_hello(Some(70_000))), Some(70_000));
        assert_eq!(bwlimit(&of_hello(None)), None);
        for value in [vec![], vec![1; 7], vec![1; 9], vec![0; 8]] {
            assert_eq!(bwlimit(&[("bwlimit".into(), value)]), None);
        }
    }
}
