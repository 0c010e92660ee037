//! A checksum of a window that moves over a file byte by byte.

/// Adler-32's modulus: the largest prime below 2^16.
const PRIME: u32 = 65_521;

/// The Adler-32 of a window. A step costs a few additions, whatever the window's length.
#[derive(Clone, Debug)]
pub struct Roll {
    low: u32,
    high: u32,
    /// What each byte takes with it out of `high` when it leaves: its value times the window's length.
    leaving: [u32; 256],
}

impl Roll {
    /// Of a first window.
    pub fn new(window: &[u8]) -> Roll {
        let sum = simd_adler32::adler32(&window);
        let length = (window.len() % PRIME as usize) as u32;
        let leaving = std::array::from_fn(|byte| byte as u32 * length % PRIME);
        Roll { low: sum & 0xffff, high: sum >> 16, leaving }
    }

    /// The Adler-32 of the window as it is.
    pub fn sum(&self) -> u32 {
        self.high << 16 | self.low
    }

    /// Moves on by a byte: `first` leaves the window, `next` enters it.
    pub fn step(&mut self, first: u8, next: u8) {
        self.low = wrapped(wrapped(self.low + u32::from(next)) + PRIME - u32::from(first));
        self.high = wrapped(self.high + PRIME - self.leaving[usize::from(first)]);
        self.high = wrapped(wrapped(self.high + self.low) + PRIME - 1);
    }
}

/// `sum`, which is less than twice the modulus.
fn wrapped(sum: u32) -> u32 {
    if sum >= PRIME { sum - PRIME } else { sum }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_the_checksum_of_every_window(
            content in proptest::collection::vec(prop_oneof![Just(0u8), Just(255), any::<u8>()], 2..400),
            part in 0.0f64..1.0,
        ) {
            let length = 1 + ((content.len() - 2) as f64 * part) as usize;
            let mut roll = Roll::new(&content[..length]);
            for at in 0..content.len() - length {
                prop_assert_eq!(roll.sum(), simd_adler32::adler32(&&content[at..at + length]));
                roll.step(content[at], content[at + length]);
            }
        }
    }

    #[test]
    fn a_long_window_of_the_largest_bytes_does_not_overflow() {
        let content = vec![255; (1 << 21) + 9];
        let mut roll = Roll::new(&content[..1 << 21]);
        (0..9).for_each(|at| roll.step(content[at], content[at + (1 << 21)]));
        assert_eq!(roll.sum(), simd_adler32::adler32(&&content[9..]));
    }
}
