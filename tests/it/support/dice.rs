//! Chance that can be had again: a seed gives the same throws for ever, so a failure can be walked once more.

/// SplitMix64.
#[derive(Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    pub fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.throw() % end.max(1) as u64) as usize
    }

    /// Whether something with a chance of `percent` happens.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// How many rounds a walk takes: `SYNCFILES_ROUNDS`, or the slice that every run of the suite takes.
pub fn rounds(slice: usize) -> usize {
    std::env::var("SYNCFILES_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(slice)
}

/// The seeds of `walks` walks: `SYNCFILES_SEED` alone, if it is set.
pub fn seeds(walks: usize) -> Vec<u64> {
    match std::env::var("SYNCFILES_SEED").ok().and_then(|n| n.parse().ok()) {
        Some(seed) => vec![seed],
        None => (0..walks as u64).collect(),
    }
}

/// Says, when a test fails, how to walk the same way again.
pub struct Way(pub u64);

impl Drop for Way {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("to walk this way again: SYNCFILES_SEED={}", self.0);
        }
    }
}
