//! What the daemon counts, for Prometheus.

use prometheus::{
    IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
    core::{Collector, GenericCounter},
};

use crate::memory;

/// The metrics of one node, in a registry of its own. Labels are words of this program, never of the network, so that
/// their number is bounded.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    resident: IntGauge,
    descriptors: IntGauge,

    /// Body bytes of blobs received from origins.
    pub bytes_from_origin: IntCounter,
    /// Bytes of pieces received from peers, refused ones included.
    pub bytes_from_peers: IntCounter,
    /// Bytes of pieces sent to peers.
    pub bytes_to_peers: IntCounter,
    /// Body bytes sent to this node's clients.
    pub bytes_to_clients: IntCounter,

    /// UDP payload that the data plane has sent.
    pub udp_bytes_sent: IntCounter,
    /// UDP payload that came to the data plane.
    pub udp_bytes_received: IntCounter,
    /// The limit of what is sent to peers in bytes a second, 0 without one, as the next two.
    pub limit_up: IntGauge,
    /// The limit of what is received from peers.
    pub limit_down: IntGauge,
    /// The limit of what is read from origins.
    pub limit_origin: IntGauge,

    /// Pieces that were verified and stored, from the origin.
    pub pieces_verified_from_origin: IntCounter,
    /// Pieces that were verified and stored, from peers.
    pub pieces_verified_from_peers: IntCounter,
    /// Pieces that were verified again where they lay on disk.
    pub pieces_verified_from_disk: IntCounter,
    /// Pieces that were refused, by `reason`.
    pub pieces_refused: IntCounterVec,

    /// Swarms that this node is in, by `state`.
    pub swarms: IntGaugeVec,
    /// Neighbours over all swarms.
    pub swarm_peers: IntGauge,
    /// Bytes of pieces on their way in, from peers and the origin.
    pub in_flight: IntGauge,
    /// Slots of the uplink that neighbours have.
    pub slots_open: IntGauge,
    /// Swarms that this node coordinates.
    pub swarms_coordinated: IntGauge,
    /// Leases that this node has out as coordinator.
    pub leases_out: IntGauge,
    /// Clients that read blobs which are not complete here, or wait until they can.
    pub swarm_readers: IntGauge,
    /// Leases that this node holds as seed.
    pub leases_held: IntGauge,
    /// Leases that this node granted as coordinator.
    pub leases_granted: IntCounter,
    /// Leases that this node gave back as seed, by `reason`.
    pub leases_returned: IntCounterVec,
    /// How often, as seed, this node went on although no member kept up.
    pub seed_waits_given_up: IntCounter,

    /// The capacity of the store in bytes.
    pub store_capacity: IntGauge,
    /// What admitted blobs have of it, at their full lengths.
    pub store_used: IntGauge,
    /// Blobs in the store that are complete.
    pub store_blobs_complete: IntGauge,
    /// Blobs in the store that are not.
    pub store_blobs_partial: IntGauge,
    /// Blobs that were evicted.
    pub store_evictions: IntCounter,
    /// Errors of the store, by `reason`.
    pub store_errors: IntCounterVec,

    /// Blob bodies being sent to clients.
    pub open_readers: IntGauge,
    /// Connections of clients.
    pub mirror_connections: IntGauge,
    /// Connections of clients that were refused because there were too many.
    pub mirror_connections_refused: IntCounter,
    /// Bodies that the mirror ended before their full length.
    pub mirror_short_bodies: IntCounter,
    /// Bodies that clients left, or took no bytes of, before their full length.
    pub mirror_abandoned_bodies: IntCounter,
    /// Requests of clients, by `route` and `code`.
    pub mirror_requests: IntCounterVec,
    /// Answers from remembered tags because the origin could not be reached.
    pub mirror_stale_tags: IntCounter,

    /// Lines written to the audit log.
    pub audit_lines: IntCounter,
    /// Lines that the audit log's queue or disk did not take.
    pub audit_lost: IntCounter,

    /// Requests to origins, by `kind`.
    pub origin_requests: IntCounterVec,
    /// Requests to origins that were sent again.
    pub origin_retries: IntCounter,

    /// Peers that are connected on the control plane.
    pub peers_connected: IntGauge,
    /// Peers that are connected on the data plane.
    pub data_connections: IntGauge,
    /// Connections of strangers that were refused, by `plane`.
    pub admissions_refused: IntCounterVec,
    /// 1 while this node runs without a peer although it was told to look for some, or without a cluster key.
    pub alone: IntGauge,
    /// Tasks of the runtime.
    pub tasks: IntGauge,
    /// 1 once the node is ready.
    pub ready: IntGauge,
    /// Settings that were read again on SIGHUP, by `outcome`.
    pub reloads: IntCounterVec,
}

/// Makes metrics and puts them into a registry. The names are constants of this file: a clash is a mistake in it.
struct Maker(Registry);

impl Maker {
    fn put<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        let made = made.expect("the name, the help and the labels fit the grammar");
        self.0.register(Box::new(made.clone())).expect("no two metrics have one name");
        made
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.put(GenericCounter::new(name, help))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.put(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.put(IntGauge::new(name, help))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.put(IntGaugeVec::new(Opts::new(name, help), labels))
    }
}

impl Metrics {
    /// All metrics, at zero.
    #[must_use]
    pub fn new() -> Self {
        let make = Maker(Registry::new());
        make.gauges("shoal_build_info", "The version of this daemon; always 1.", &["version"])
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1);
        let bytes =
            make.counters("shoal_bytes_total", "Bytes of content moved, by where from and where to.", &["from", "to"]);
        let verified =
            make.counters("shoal_pieces_verified_total", "Pieces that were verified, by where from.", &["from"]);
        let udp = make.counters("shoal_udp_bytes_total", "UDP payload of the data plane.", &["direction"]);
        let limits = make.gauges("shoal_limit_bytes_per_second", "The limits in force; 0 is none.", &["link"]);
        let blobs = make.gauges("shoal_store_blobs", "Blobs in the store, by state.", &["state"]);
        Self {
            resident: make.gauge("process_resident_memory_bytes", "Resident memory of this process in bytes."),
            descriptors: make.gauge("process_open_fds", "Open file descriptors of this process."),
            bytes_from_origin: bytes.with_label_values(&["origin", "node"]),
            bytes_from_peers: bytes.with_label_values(&["peer", "node"]),
            bytes_to_peers: bytes.with_label_values(&["node", "peer"]),
            bytes_to_clients: bytes.with_label_values(&["node", "client"]),
            udp_bytes_sent: udp.with_label_values(&["sent"]),
            udp_bytes_received: udp.with_label_values(&["received"]),
            limit_up: limits.with_label_values(&["up"]),
            limit_down: limits.with_label_values(&["down"]),
            limit_origin: limits.with_label_values(&["origin"]),
            pieces_verified_from_origin: verified.with_label_values(&["origin"]),
            pieces_verified_from_peers: verified.with_label_values(&["peer"]),
            pieces_verified_from_disk: verified.with_label_values(&["disk"]),
            pieces_refused: make.counters("shoal_pieces_refused_total", "Pieces that were refused.", &["reason"]),
            swarms: make.gauges("shoal_swarms", "Swarms that this node is in.", &["state"]),
            swarm_peers: make.gauge("shoal_swarm_peers", "Neighbours over all swarms."),
            in_flight: make.gauge("shoal_in_flight_bytes", "Bytes of pieces on their way in."),
            slots_open: make.gauge("shoal_slots_open", "Slots of the uplink that neighbours have."),
            swarms_coordinated: make.gauge("shoal_swarms_coordinated", "Swarms that this node coordinates."),
            leases_out: make.gauge("shoal_leases_out", "Leases that this node has out as coordinator."),
            swarm_readers: make.gauge("shoal_swarm_readers", "Clients that wait for blobs or read them as they come."),
            leases_held: make.gauge("shoal_leases_held", "Leases that this node holds as seed."),
            leases_granted: make.counter("shoal_leases_granted_total", "Leases that this node granted as coordinator."),
            leases_returned: make.counters("shoal_leases_returned_total", "Leases given back as seed.", &["reason"]),
            seed_waits_given_up: make
                .counter("shoal_seed_waits_given_up_total", "Times that the seed went on although no member kept up."),
            store_capacity: make.gauge("shoal_store_capacity_bytes", "The capacity of the store."),
            store_used: make.gauge("shoal_store_used_bytes", "What blobs have of the capacity, at their full lengths."),
            store_blobs_complete: blobs.with_label_values(&["complete"]),
            store_blobs_partial: blobs.with_label_values(&["partial"]),
            store_evictions: make.counter("shoal_store_evictions_total", "Blobs that were evicted."),
            store_errors: make.counters("shoal_store_errors_total", "Errors of the store.", &["reason"]),
            open_readers: make.gauge("shoal_mirror_open_readers", "Blob bodies being sent to clients."),
            mirror_connections: make.gauge("shoal_mirror_connections", "Connections of clients."),
            mirror_connections_refused: make
                .counter("shoal_mirror_connections_refused_total", "Connections of clients beyond the limit."),
            mirror_short_bodies: make
                .counter("shoal_mirror_short_bodies_total", "Bodies that were ended before their full length."),
            mirror_abandoned_bodies: make
                .counter("shoal_mirror_abandoned_bodies_total", "Bodies that clients left before their full length."),
            mirror_requests: make.counters("shoal_mirror_requests_total", "Requests of clients.", &["route", "code"]),
            mirror_stale_tags: make
                .counter("shoal_mirror_stale_tags_total", "Answers from remembered tags while the origin was away."),
            audit_lines: make.counter("shoal_audit_lines_total", "Lines written to the audit log."),
            audit_lost: make.counter("shoal_audit_lost_total", "Lines that were to be in the audit log and are not."),
            origin_requests: make.counters("shoal_origin_requests_total", "Requests to origins.", &["kind"]),
            origin_retries: make.counter("shoal_origin_retries_total", "Requests to origins that were sent again."),
            peers_connected: make.gauge("shoal_peers_connected", "Peers connected on the control plane."),
            data_connections: make.gauge("shoal_data_connections", "Peers connected on the data plane."),
            admissions_refused: make.counters(
                "shoal_admissions_refused_total",
                "Connections of strangers that were refused.",
                &["plane"],
            ),
            alone: make.gauge("shoal_alone", "1 while this node runs without the peers that it was to find."),
            tasks: make.gauge("shoal_tasks", "Tasks of the runtime."),
            ready: make.gauge("shoal_ready", "1 once this node is ready."),
            reloads: make.counters("shoal_reloads_total", "Settings read again on SIGHUP.", &["outcome"]),
            registry: make.0,
        }
    }

    /// All metrics in Prometheus' text form.
    #[must_use]
    pub fn render(&self) -> String {
        if let Some(bytes) = memory::resident(std::process::id()) {
            self.resident.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
        self.descriptors.set(memory::descriptors(std::process::id()).map_or(0, |count| count as i64));
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_else(|error| {
            tracing::error!(%error, "the metrics could not be written as text");
            String::new()
        })
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Brings a counter up to a total that is counted elsewhere. One caller at a time, or steps are counted twice.
pub fn catch_up(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_written() {
        let metrics = Metrics::new();
        metrics.bytes_from_origin.inc_by(7);
        metrics.pieces_refused.with_label_values(&["mismatch"]).inc();
        catch_up(&metrics.origin_retries, 5);
        catch_up(&metrics.origin_retries, 5);
        metrics.store_used.set(42);
        let text = metrics.render();
        for line in [
            r#"shoal_bytes_total{from="origin",to="node"} 7"#,
            r#"shoal_bytes_total{from="node",to="client"} 0"#,
            r#"shoal_pieces_refused_total{reason="mismatch"} 1"#,
            "shoal_origin_retries_total 5",
            "shoal_store_used_bytes 42",
            "# TYPE shoal_bytes_total counter",
            concat!(r#"shoal_build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""} 1"#),
        ] {
            assert!(text.lines().any(|written| written == line), "{line:?} is missing in:\n{text}");
        }
        assert!(text.contains("process_resident_memory_bytes "));
    }

    #[test]
    fn counters_end_in_total_and_gauges_do_not() {
        let text = Metrics::new().render();
        for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            assert!(name.starts_with("shoal_") || name.starts_with("process_"), "{line}");
        }
    }

    #[test]
    fn two_nodes_of_one_process_count_apart() {
        let (one, other) = (Metrics::new(), Metrics::new());
        one.leases_granted.inc();
        assert_eq!(other.leases_granted.get(), 0);
    }
}
