//! What was measured, for programs and for people.

use std::fmt;

use bytesize::ByteSize;
use serde::Serialize;
use shoal_blob::Digest;

/// The outcome of a demonstration. As JSON it is what `shoal demo --json` prints; as text the final table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The weight layer.
    pub blob: BlobReport,
    /// Each node, in order.
    pub nodes: Vec<NodeReport>,
    /// The origin.
    pub origin: OriginReport,
    /// From the first request until the last client had its last byte.
    pub seconds: f64,
}

/// The weight layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BlobReport {
    /// Its digest.
    pub digest: Digest,
    /// Its length.
    pub bytes: u64,
}

/// One node and its client.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeReport {
    /// Its name.
    pub name: String,
    /// From the first request until its client had its last byte.
    pub seconds: f64,
    /// Bytes of the weight layer that it read from the origin.
    pub bytes_from_origin: u64,
    /// Bytes of the weight layer that it read from peers.
    pub bytes_from_peers: u64,
    /// Whether the client's copy, read again from disk, has the right digest.
    pub verified: bool,
}

/// What the origin sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OriginReport {
    /// Bytes of the weight layer.
    pub blob_bytes_sent: u64,
    /// GETs for the weight layer.
    pub blob_gets: u64,
    /// HEADs for the weight layer.
    pub blob_heads: u64,
    /// GETs for manifests.
    pub manifest_gets: u64,
}

impl Report {
    /// What is wrong with the outcome, each a sentence; nothing when every copy is right and the origin sent the layer
    /// once at most.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let wrong = self.nodes.iter().filter(|node| !node.verified);
        let mut faults: Vec<String> = wrong.map(|node| format!("the copy of {} is not right", node.name)).collect();
        if self.origin.blob_bytes_sent > self.blob.bytes {
            let more = self.origin.blob_bytes_sent - self.blob.bytes;
            faults.push(format!("the origin sent {more} bytes more than the layer once"));
        }
        faults
    }

    /// How often the origin sent the layer.
    fn times(&self) -> f64 {
        self.origin.blob_bytes_sent as f64 / self.blob.bytes.max(1) as f64
    }
}

fn shown(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}  {}\n", self.blob.digest, shown(self.blob.bytes))?;
        writeln!(f, "{:<9}{:>9}{:>18}{:>14}   SHA-256", "node", "seconds", "from the origin", "from peers")?;
        writeln!(f, "{}", "─".repeat(60))?;
        for node in &self.nodes {
            let (origin, peers) = (shown(node.bytes_from_origin), shown(node.bytes_from_peers));
            let verdict = if node.verified { "ok" } else { "WRONG" };
            writeln!(f, "{:<9}{:>9.2}{origin:>18}{peers:>14}   {verdict}", node.name, node.seconds)?;
        }
        writeln!(f, "{}", "─".repeat(60))?;
        let OriginReport { blob_gets, blob_heads, manifest_gets, .. } = self.origin;
        writeln!(
            f,
            "The origin sent {:.2} x the layer ({blob_gets} GET, {blob_heads} HEAD, {manifest_gets} GET for manifests).",
            self.times(),
        )?;
        let all = self.blob.bytes.saturating_mul(self.nodes.len() as u64);
        let rate = shown((all as f64 / self.seconds.max(0.001)) as u64);
        writeln!(f, "All nodes ({}) had it after {:.2} s: {rate}/s together.", self.nodes.len(), self.seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn report() -> Report {
        let node = |name: &str, bytes_from_origin, bytes_from_peers| NodeReport {
            name: name.to_owned(),
            seconds: 1.5,
            bytes_from_origin,
            bytes_from_peers,
            verified: true,
        };
        Report {
            blob: BlobReport { digest: Digest::Sha256([0; 32]), bytes: 1 << 30 },
            nodes: vec![node("node-0", 1 << 30, 0), node("node-1", 0, 1 << 30)],
            origin: OriginReport { blob_bytes_sent: 1 << 30, blob_gets: 32, blob_heads: 1, manifest_gets: 2 },
            seconds: 2.0,
        }
    }

    #[test]
    fn the_json_has_these_fields_and_no_other() {
        let expected = json!({
            "blob": { "digest": format!("sha256:{}", "0".repeat(64)), "bytes": 1 << 30 },
            "nodes": [
                { "name": "node-0", "seconds": 1.5, "bytes_from_origin": 1 << 30, "bytes_from_peers": 0, "verified": true },
                { "name": "node-1", "seconds": 1.5, "bytes_from_origin": 0, "bytes_from_peers": 1 << 30, "verified": true },
            ],
            "origin": { "blob_bytes_sent": 1 << 30, "blob_gets": 32, "blob_heads": 1, "manifest_gets": 2 },
            "seconds": 2.0,
        });
        assert_eq!(serde_json::to_value(report()).unwrap(), expected);
    }

    #[test]
    fn a_wrong_copy_and_a_byte_too_many_are_faults() {
        assert!(report().faults().is_empty());
        let mut wrong = report();
        wrong.nodes[1].verified = false;
        wrong.origin.blob_bytes_sent += 1;
        let faults = wrong.faults().join("\n");
        assert!(faults.contains("node-1") && faults.contains("1 bytes more"), "{faults}");
        assert!(wrong.to_string().contains("WRONG"));
    }

    #[test]
    fn the_table_has_a_line_a_node() {
        let text = report().to_string();
        assert!(text.contains("node-0        1.50           1.0 GiB           0 B   ok"), "{text}");
        assert!(text.contains("The origin sent 1.00 x the layer"), "{text}");
    }
}
