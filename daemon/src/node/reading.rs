//! The seed's hand: reads pieces from the origin, hashes them in order, stores them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use shoal_blob::{Midstate, PieceBuffer, PieceIndex, Repository};
use shoal_origin::{ErrorKind, OriginError, Origins, RunEvent, RunSettings, Runs};
use shoal_proto::coordination::Refusal;
use shoal_swarm::trade::Source;
use tokio::{sync::mpsc, time::timeout};

use super::{
    mailbox::{Mailbox, Told},
    receiving,
    shelf::Shelf,
};

/// Without a byte for so long the lease goes back: another node may fare better.
const STALLED_AFTER: Duration = Duration::from_secs(10);

/// A piece to read, and what is known of the midstates around it.
pub(super) struct Order {
    pub(super) piece: PieceIndex,
    pub(super) from: Option<Midstate>,
    pub(super) to: Option<Midstate>,
}

/// What reading under one lease needs.
pub(super) struct Reading {
    pub(super) origins: Origins,
    pub(super) repository: Repository,
    pub(super) settings: RunSettings,
    pub(super) shelf: Arc<Shelf>,
    /// Tells this reading from an earlier one.
    pub(super) id: u64,
    pub(super) mailbox: Mailbox,
}

/// A piece whose bytes are coming.
struct Coming {
    order: Order,
    buffer: Option<PieceBuffer>,
    whole: bool,
}

/// Reads what is ordered until the last order is in and nobody can give another, or the origin fails.
pub(super) async fn read(reading: Reading, mut orders: mpsc::UnboundedReceiver<Order>) {
    let Reading { origins, repository, settings, shelf, id, mailbox } = reading;
    let (digest, layout) = (*shelf.digest(), *shelf.layout());
    let mut runs = Runs::new(origins.clone(), repository.clone(), digest, layout.length(), settings);
    let mut coming: BTreeMap<u32, Coming> = BTreeMap::new();
    let mut reached: Option<(u32, Midstate)> = None;
    let fail = |refusal| mailbox.tell(Told::OriginFailed { digest, reading: id, refusal });
    loop {
        let event = tokio::select! {
            order = orders.recv() => {
                let Some(order) = order else { return };
                let range = layout.byte_range(order.piece);
                let number = order.piece.get();
                // A blob of no bytes has one piece, for which there is nothing to ask.
                let empty = range.is_empty();
                if !empty {
                    runs.want(number, range);
                }
                coming.insert(number, Coming { order, buffer: None, whole: empty });
                if !empty {
                    continue;
                }
                None
            }
            event = timeout(STALLED_AFTER + origins.held_back(), runs.next()), if !runs.is_idle() => match event {
                Ok(event) => event,
                Err(_) => {
                    tracing::warn!(%digest, %repository, "the origin has sent nothing for {STALLED_AFTER:?}");
                    return fail(Refusal::Stalled);
                }
            },
        };
        match event {
            Some(RunEvent::Chunk { piece, bytes }) => {
                shelf.sources.add(Source::Origin, bytes.len() as u64);
                let Some(coming) = coming.get_mut(&piece) else { continue };
                let from = coming.order.from.or_else(|| reached.filter(|(at, _)| *at == piece).map(|(_, state)| state));
                let index = coming.order.piece;
                let buffer = coming.buffer.get_or_insert_with(|| {
                    let buffer = match from {
                        Some(from) => PieceBuffer::hashing_from(layout, index, from),
                        None => PieceBuffer::new(layout, index),
                    };
                    buffer.reusing(&shelf.spares)
                });
                if buffer.push(&bytes).is_err() {
                    return fail(Refusal::WrongBytes);
                }
                continue;
            }
            Some(RunEvent::Done { piece }) => {
                if let Some(coming) = coming.get_mut(&piece) {
                    coming.whole = true;
                }
            }
            Some(RunEvent::Failed { error, .. }) => {
                tracing::warn!(%digest, %repository, %error, "the seed cannot read on");
                return fail(refusal(&error));
            }
            None => {}
        }
        while let Some(entry) = coming.first_entry() {
            let known = entry.get().order.from;
            let from = known.or_else(|| reached.filter(|(at, _)| at == entry.key()).map(|(_, state)| state));
            let (true, Some(from)) = (entry.get().whole, from) else { break };
            let Coming { order, buffer, .. } = entry.remove();
            let buffer = buffer.unwrap_or_else(|| PieceBuffer::new(layout, order.piece));
            let verified = match buffer.extend(from) {
                Ok(verified) if order.to.is_none_or(|to| to == verified.link().to) => verified,
                _ => {
                    tracing::error!(%digest, %repository, piece = %order.piece, "the origin's bytes are not what the digest says");
                    return fail(Refusal::WrongBytes);
                }
            };
            reached = Some((order.piece.get() + 1, verified.link().to));
            mailbox.tell(receiving::store(&shelf, verified, Source::Origin));
        }
    }
}

/// What a failed request means for the lease.
pub(super) const fn refusal(error: &OriginError) -> Refusal {
    match error.kind {
        ErrorKind::Unauthorized => Refusal::Unauthorized,
        ErrorKind::Forbidden => Refusal::Forbidden,
        ErrorKind::NotFound => Refusal::NotFound,
        ErrorKind::RegistryNotConfigured | ErrorKind::AddressRefused { .. } => Refusal::NotConfigured,
        ErrorKind::Stalled(_) => Refusal::Stalled,
        ErrorKind::WrongBytes(_) => Refusal::WrongBytes,
        _ => Refusal::Unavailable,
    }
}
