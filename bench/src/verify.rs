//! Verification: checking pieces against their chain, beside SHA-256 over the same bytes.
//!
//! The runs alternate, and what counts is the median of the ratios within the rounds: a machine that is busy for a while
//! slows both.

use std::{
    fmt,
    hint::black_box,
    time::{Duration, Instant},
};

use anyhow::Context;
use bytesize::ByteSize;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use shoal_blob::{Algorithm, Layout, Link, Midstate, PieceBuffer, PieceIndex};
use shoal_registry::Noise;

use crate::median::median;

/// The arguments of `shoal-bench verify`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// How many rounds of each kind
    #[arg(long, default_value_t = 15, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,

    /// Print one JSON object, and nothing else, on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    bytes: usize,
    piece_bytes: u32,
    rounds: u16,
    /// SHA-256 over all the bytes on one thread.
    pub(crate) raw_bytes_per_second: f64,
    /// The speed of checking on one thread, as a multiple of that; above 1 is faster.
    pub(crate) one_thread: f64,
    /// The speed of checking on two threads, as a multiple of that.
    pub(crate) two_threads: f64,
}

const PIECE_BYTES: u32 = 4 << 20;
const PIECES: usize = 64;
/// How much of a piece comes at a time: what a QUIC stream or an HTTP body gives at most.
const CHUNK_BYTES: usize = 64 << 10;

/// A blob in memory and the links of its pieces.
struct Blob {
    layout: Layout,
    bytes: Vec<u8>,
    links: Vec<(PieceIndex, Link)>,
}

/// Measures.
pub(crate) fn run(args: &Args) -> anyhow::Result<Report> {
    measure(args.rounds)
}

/// Measures in so many rounds.
pub(crate) fn measure(rounds: u16) -> anyhow::Result<Report> {
    let blob = Blob::make()?;
    let measured = (0..rounds).map(|_| {
        let raw = timed(|| {
            black_box(Sha256::digest(black_box(&blob.bytes)));
        });
        let one = timed(|| blob.check(1));
        let two = timed(|| blob.check(2));
        (raw, one, two)
    });
    let measured: Vec<_> = measured.collect();
    let ratio = |of: fn(&(Duration, Duration, Duration)) -> Duration| {
        median(measured.iter().map(|round| round.0.as_secs_f64() / of(round).as_secs_f64()).collect())
    };
    Ok(Report {
        bytes: blob.bytes.len(),
        piece_bytes: PIECE_BYTES,
        rounds,
        raw_bytes_per_second: blob.bytes.len() as f64
            / median(measured.iter().map(|round| round.0.as_secs_f64()).collect()),
        one_thread: ratio(|round| round.1),
        two_threads: ratio(|round| round.2),
    })
}

impl Blob {
    fn make() -> anyhow::Result<Self> {
        let mut bytes = vec![0; PIECES * PIECE_BYTES as usize];
        Noise::new(1).fill(0, &mut bytes);
        let layout = Layout::with_piece_bytes(bytes.len() as u64, PIECE_BYTES)?;
        let mut from = Midstate::initial(Algorithm::Sha256);
        let mut links = Vec::with_capacity(PIECES);
        for (index, piece) in layout.pieces().zip(bytes.chunks(PIECE_BYTES as usize)) {
            let mut buffer = PieceBuffer::new(layout, index);
            buffer.push(piece)?;
            let link = buffer.extend(from)?.link();
            from = link.to;
            links.push((index, link));
        }
        Ok(Self { layout, bytes, links })
    }

    /// Receives every piece in chunks, hashing as they come, and checks it: what happens to each piece that a peer sends.
    fn check(&self, threads: usize) {
        std::thread::scope(|scope| {
            for share in self.links.chunks(PIECES / threads) {
                scope.spawn(move || {
                    for (index, link) in share {
                        self.piece(*index, *link).expect("the links are those of these bytes");
                    }
                });
            }
        });
    }

    fn piece(&self, index: PieceIndex, link: Link) -> anyhow::Result<()> {
        let range = self.layout.byte_range(index);
        let piece = &self.bytes[usize::try_from(range.start)?..usize::try_from(range.end)?];
        let mut buffer = PieceBuffer::hashing_from(self.layout, index, link.from);
        for chunk in piece.chunks(CHUNK_BYTES) {
            buffer.push(black_box(chunk))?;
        }
        black_box(buffer.verify(link).context("check a piece")?);
        Ok(())
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, piece_bytes, rounds, raw_bytes_per_second, one_thread, two_threads } = self;
        let shown = |bytes: u64| ByteSize(bytes).display().iec().to_string();
        let (all, piece) = (shown(*bytes as u64), shown((*piece_bytes).into()));
        writeln!(f, "{all} in pieces of {piece}, the median of {rounds} rounds\n")?;
        writeln!(f, "SHA-256 alone, one thread    {}/s", shown(*raw_bytes_per_second as u64))?;
        writeln!(f, "checking, one thread         {one_thread:.2} x that")?;
        writeln!(f, "checking, two threads        {two_threads:.2} x that")
    }
}
