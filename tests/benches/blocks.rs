//! How fast a file is told in blocks, and found again in a new version: `cargo bench --bench blocks`.
//!
//! Plain timing, best of five: what counts is how far each is from reading the file's SHA-256, which is due anyway.
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

use std::convert::Infallible;
use std::time::Instant;

use syncfiles::core::block::Grid;
use syncfiles::core::digest::Digest;
use syncfiles::replica::blocks::blocks;
use syncfiles::replica::delta::{Piece, delta};
use syncfiles::replica::old_blocks::OldBlocks;

const SIZE: usize = 256 << 20;

fn main() {
    let mut old = vec![0; SIZE];
    let mut noise = Digest([0; 32]);
    for part in old.chunks_mut(32) {
        noise = Digest::of(&noise.0);
        part.copy_from_slice(&noise.0);
    }
    let mut new = old.clone();
    new[SIZE / 2..][..1 << 20].fill(7);
    new.splice(4096..4096, *b"0123456789");

    time("sha256", || assert_ne!(Digest::of(&old), Digest([0; 32])));
    for log2 in [13, 16, 19] {
        let grid = Grid::new(log2, 1).unwrap();
        let mut list = Vec::new();
        time(&format!("tell, {} KiB", grid.length() / 1024), || {
            list.clear();
            blocks(&grid, reading(&old), |block| {
                list.push(block);
                true
            })
            .unwrap();
        });
        let mut fresh = 0;
        time(&format!("find, {} KiB", grid.length() / 1024), || {
            let known = OldBlocks::new(SIZE as u64);
            known.begin(grid);
            assert!(known.add(&list));
            known.end();
            fresh = 0;
            let count = |piece: Piece<'_>| {
                fresh += if let Piece::Literal(bytes) = piece { bytes.len() } else { 0 };
                Ok(())
            };
            delta(&known, reading(&new), count).unwrap();
        });
        println!("{:>6} blocks told, {fresh} bytes new", list.len());
    }
}

fn reading(mut bytes: &[u8]) -> impl FnMut(&mut [u8]) -> Result<usize, Infallible> {
    move |buffer| {
        let count = buffer.len().min(bytes.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        bytes = &bytes[count..];
        Ok(count)
    }
}

fn time(what: &str, mut act: impl FnMut()) {
    let best = (0..5).map(|_| {
        let start = Instant::now();
        act();
        start.elapsed().as_secs_f64()
    });
    println!("{what:<24} {:6.2} GB/s", SIZE as f64 / best.fold(f64::MAX, f64::min) / 1e9);
}
