//! Pieces at rest, checked again on several cores: after an unclean stop, or on a doubt.

use std::{
    io,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{ClaimedChain, PieceBuffer, PieceIndex, Refuted};

/// Reads the given pieces with `read`, hashes each on one of `threads` threads, and closes the links of those that are
/// right. Returns the pieces that are not, each with the reason.
///
/// A piece whose link the chain does not know counts as [`Refuted::Mismatch`]. `read` fills the whole slice with the
/// piece's bytes; at most `threads` pieces are in memory at once.
///
/// # Errors
/// The first error of `read`; links that were closed by then stay closed.
pub fn recheck(
    chain: &mut ClaimedChain,
    pieces: &[PieceIndex],
    threads: usize,
    read: impl Fn(PieceIndex, &mut [u8]) -> io::Result<()> + Sync,
) -> io::Result<Vec<(PieceIndex, Refuted)>> {
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::with_capacity(pieces.len()));
    let chain_then: &ClaimedChain = chain;
    let work = || -> io::Result<()> {
        while let Some(&index) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
            let verdict = check(chain_then, index, &read)?;
            found.lock().expect("no checker panics while it holds the list").push((index, verdict));
        }
        Ok(())
    };
    let outcome = std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads.min(pieces.len())).map(|_| scope.spawn(work)).collect();
        let mine = work();
        helpers.into_iter().fold(mine, |sum, helper| sum.and(helper.join().expect("a checker does not panic")))
    });
    let mut refuted = Vec::new();
    for (index, verdict) in found.into_inner().expect("all checkers have ended") {
        match verdict {
            Ok(link) => {
                chain.close_link(index, link).expect("the link came from this chain");
            }
            Err(reason) => refuted.push((index, reason)),
        }
    }
    refuted.sort_by_key(|(index, _)| *index);
    outcome.map(|()| refuted)
}

fn check(
    chain: &ClaimedChain,
    index: PieceIndex,
    read: impl Fn(PieceIndex, &mut [u8]) -> io::Result<()>,
) -> io::Result<Result<crate::Link, Refuted>> {
    let Some(link) = chain.link(index) else {
        return Ok(Err(Refuted::Mismatch { index }));
    };
    let mut bytes = vec![0; chain.layout().piece_len(index) as usize];
    read(index, &mut bytes)?;
    let mut buffer = PieceBuffer::new(*chain.layout(), index);
    buffer.push(&bytes).expect("the bytes of one piece are not too many for it");
    Ok(buffer.verify(link).map(|piece| piece.link()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Algorithm, Digest, Layout, Midstate};
    use sha2::Digest as _;

    #[test]
    fn finds_exactly_the_spoilt_pieces() {
        let data: Vec<u8> = (0..100_000u32).map(|i| (i / 3) as u8).collect();
        let layout = Layout::with_piece_bytes(data.len() as u64, 1024).unwrap();
        let digest = Digest::Sha256(sha2::Sha256::digest(&data).into());
        let mut chain = ClaimedChain::new(digest, layout);
        let mut at = Midstate::initial(Algorithm::Sha256);
        for index in layout.pieces() {
            let range = layout.byte_range(index);
            let mut buffer = PieceBuffer::new(layout, index);
            buffer.push(&data[range.start as usize..range.end as usize]).unwrap();
            at = buffer.extend(at).unwrap().link().to;
            chain.claim(index.get() + 1, &[at]).unwrap();
        }
        let pieces: Vec<_> = layout.pieces().collect();
        for threads in [1, 2, 5] {
            let mut chain = chain.clone();
            let refuted = recheck(&mut chain, &pieces, threads, |index, out| {
                let range = layout.byte_range(index);
                out.copy_from_slice(&data[range.start as usize..range.end as usize]);
                if index.get() % 10 == 3 {
                    out[0] ^= 1;
                }
                Ok(())
            })
            .unwrap();
            let spoilt: Vec<u32> = refuted.iter().map(|(index, _)| index.get()).collect();
            assert_eq!(spoilt, (0..layout.count()).filter(|i| i % 10 == 3).collect::<Vec<_>>());
            assert_eq!(chain.closed().held() as usize, pieces.len() - spoilt.len());
        }
    }

    #[test]
    fn a_read_error_is_told() {
        let layout = Layout::with_piece_bytes(5000, 1024).unwrap();
        let mut chain = ClaimedChain::new(Digest::Sha256([1; 32]), layout);
        chain.claim(1, &[Midstate::Sha256([9; 8])]).unwrap();
        let pieces: Vec<_> = layout.pieces().take(1).collect();
        let error = recheck(&mut chain, &pieces, 2, |_, _| Err(io::Error::other("bad sector"))).unwrap_err();
        assert_eq!(error.to_string(), "bad sector");
    }
}
