//! The node's own knowledge, for the admin server.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use prometheus::IntGauge;
use shoal_blob::{Digest, Layout};
use shoal_mirror::MirrorCounts;
use shoal_origin::{Origins, RequestKind};
use shoal_pace::Rate;
use shoal_store::{Holding, Store};

use super::{engine::Planes, tally::Tally};
use crate::{
    admin::{BlobFigures, Figures},
    metrics::{Metrics, catch_up},
};

/// What is asked when somebody looks.
pub(super) struct NodeFigures {
    pub(super) store: Store,
    pub(super) origins: Origins,
    pub(super) planes: Option<Planes>,
    pub(super) mirror: Arc<MirrorCounts>,
    pub(super) tally: Arc<Mutex<Tally>>,
}

fn set(gauge: &IntGauge, value: u64) {
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
}

impl Figures for NodeFigures {
    fn refresh(&self, metrics: &Metrics) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            set(&metrics.tasks, runtime.metrics().num_alive_tasks() as u64);
        }
        let usage = self.store.usage();
        set(&metrics.store_capacity, usage.capacity);
        set(&metrics.store_used, usage.reserved);
        set(&metrics.store_blobs_complete, usage.complete);
        set(&metrics.store_blobs_partial, usage.blobs - usage.complete);

        let origin = self.origins.counters();
        catch_up(&metrics.bytes_from_origin, origin.blob_bytes());
        catch_up(&metrics.origin_retries, origin.retries());
        for kind in RequestKind::ALL {
            catch_up(&metrics.origin_requests.with_label_values(&[kind.name()]), origin.requests(kind));
        }

        catch_up(&metrics.bytes_to_clients, self.mirror.bytes_to_clients());
        set(&metrics.open_readers, self.mirror.open_readers());
        set(&metrics.mirror_connections, self.mirror.open_connections());
        catch_up(&metrics.mirror_connections_refused, self.mirror.refused_connections());
        catch_up(&metrics.mirror_short_bodies, self.mirror.short_bodies());
        catch_up(&metrics.mirror_abandoned_bodies, self.mirror.abandoned_bodies());
        for count in self.mirror.requests() {
            let labels = [count.route.label(), count.status.as_str()];
            catch_up(&metrics.mirror_requests.with_label_values(&labels), count.count);
        }

        let limit = |rate: Option<Rate>| rate.map_or(0, Rate::bytes);
        set(&metrics.limit_origin, limit(self.origins.limit()));
        let Some(planes) = &self.planes else {
            metrics.alone.set(1);
            return;
        };
        let data = planes.endpoint.counts();
        catch_up(&metrics.bytes_from_peers, data.piece_bytes_received);
        set(&metrics.data_connections, data.connections);
        catch_up(&metrics.udp_bytes_sent, data.udp_bytes_sent);
        catch_up(&metrics.udp_bytes_received, data.udp_bytes_received);
        let rates = planes.endpoint.rates();
        set(&metrics.limit_up, limit(rates.up));
        set(&metrics.limit_down, limit(rates.down));
        let refused =
            data.refused_key + data.refused_version + data.refused_late + data.refused_full + data.refused_other;
        catch_up(&metrics.admissions_refused.with_label_values(&["data"]), refused);
        let control = planes.discovery.counters().read();
        set(&metrics.peers_connected, control.peers_connected);
        set(&metrics.alone, control.alone);
        let refused = control.refused_key
            + control.refused_version
            + control.refused_protocol
            + control.refused_timeout
            + control.refused_busy;
        catch_up(&metrics.admissions_refused.with_label_values(&["control"]), refused);
    }

    fn blobs(&self, only: Option<&Digest>, most: usize) -> Vec<BlobFigures> {
        let held: HashMap<Digest, Holding> =
            self.store.list().into_iter().map(|holding| (holding.digest, holding)).collect();
        let tally = self.tally.lock();
        let entries = tally.entries().filter(|entry| only.is_none_or(|only| *only == entry.digest));
        let mut seen: Vec<BlobFigures> = entries
            .map(|entry| {
                let holding = held.get(&entry.digest);
                figures(entry.digest, entry.length, holding, entry.sources.of_origin(), entry.sources.of_peers())
            })
            .take(most)
            .collect();
        drop(tally);
        let mut resting: Vec<&Holding> = held
            .values()
            .filter(|holding| only.is_none_or(|only| *only == holding.digest))
            .filter(|holding| seen.iter().all(|blob| blob.digest != holding.digest))
            .collect();
        resting.sort_by_key(|holding| std::cmp::Reverse(holding.last_use));
        let room = most.saturating_sub(seen.len());
        seen.extend(
            resting.into_iter().take(room).map(|holding| figures(holding.digest, holding.length, Some(holding), 0, 0)),
        );
        seen
    }
}

fn figures(digest: Digest, length: u64, held: Option<&Holding>, from_origin: u64, from_peers: u64) -> BlobFigures {
    BlobFigures {
        digest,
        length,
        pieces: Layout::new(length).map_or(0, |layout| layout.count()),
        held_pieces: held.map_or(0, |holding| holding.held_pieces),
        bytes_from_origin: from_origin,
        bytes_from_peers: from_peers,
        complete: held.is_some_and(|holding| holding.complete),
    }
}
