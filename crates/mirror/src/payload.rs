//! What hyper holds of a body: bytes, or a stand-in for bytes that the wire sends from a file.
//!
//! hyper knows nothing of files. It keeps what a body gives in a queue and hands the wire a list of slices; it copies nothing
//! where the wire says that it takes lists. So a lent part goes through hyper as slices of one static that nobody reads, as
//! long together as the part is. The wire knows them by their address, and sends from the file in their place.

use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// Never sent. Not zeros, so that no other constant of this program is merged with it.
static STAND_IN: [u8; 64 << 10] = [b'#'; 64 << 10];

/// One chunk of a body in hyper's queue.
#[derive(Debug)]
pub(crate) enum Payload {
    Bytes(Bytes),
    /// So many bytes of what was lent to the wire.
    Lent(usize),
}

/// Whether a slice stands in for lent bytes.
pub(crate) fn is_stand_in(slice: &[u8]) -> bool {
    STAND_IN.as_ptr_range().contains(&slice.as_ptr())
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl Buf for Payload {
    fn remaining(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Lent(left) => *left,
        }
    }

    /// # Panics
    /// For lent bytes: this is how one copies, and what would be copied are not they. hyper does it only where the wire does
    /// not take lists, or where answers to pipelined requests are gathered; neither is so here.
    fn chunk(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Lent(0) => &[],
            Self::Lent(_) => panic!("lent bytes are not here to be copied"),
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Bytes(bytes) => bytes.advance(count),
            Self::Lent(left) => *left = left.checked_sub(count).expect("no more was sent than was lent"),
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.chunks_vectored(slices),
            Self::Lent(left) => {
                let starts = (0..*left).step_by(STAND_IN.len());
                slices
                    .iter_mut()
                    .zip(starts)
                    .map(|(slice, at)| *slice = IoSlice::new(&STAND_IN[..STAND_IN.len().min(left - at)]))
                    .count()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lent_bytes_are_slices_of_the_stand_in_as_long_as_they_are() {
        let mut lent = Payload::Lent(150_000);
        let mut slices = [IoSlice::new(&[]); 8];
        assert_eq!(lent.chunks_vectored(&mut slices), 3);
        assert_eq!(slices.iter().map(|slice| slice.len()).sum::<usize>(), 150_000);
        assert!(slices[..3].iter().all(|slice| is_stand_in(slice)));
        lent.advance(149_999);
        let mut slices = [IoSlice::new(&[]); 8];
        assert_eq!(lent.chunks_vectored(&mut slices), 1);
        assert_eq!((slices[0].len(), lent.remaining()), (1, 1));
    }

    #[test]
    fn other_bytes_are_not_taken_for_the_stand_in() {
        let copy = STAND_IN.to_vec();
        assert!(!is_stand_in(&copy) && !is_stand_in(&[]) && !is_stand_in(b"#"));
    }

    #[test]
    #[should_panic(expected = "not here to be copied")]
    fn lent_bytes_cannot_be_copied() {
        let _ = Payload::Lent(10).copy_to_bytes(5);
    }
}
