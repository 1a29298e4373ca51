//! Who is near to whom, in Kademlia's metric.

use std::collections::HashSet;

use libp2p::{PeerId, kad::KBucketKey};
use shoal_blob::Digest;
use shoal_proto::NodeId;

use crate::identity;

/// How many of the nodes closest to a digest are told.
pub(crate) const CLOSEST: usize = 20;

fn place(node: NodeId) -> KBucketKey<PeerId> {
    KBucketKey::from(identity::peer_id(node))
}

/// The nodes nearest to `target`, nearest first, as Kademlia counts.
pub(crate) fn nearest(nodes: impl IntoIterator<Item = NodeId>, target: NodeId, most: usize) -> Vec<NodeId> {
    sorted(nodes, &place(target), most)
}

fn sorted<T>(nodes: impl IntoIterator<Item = NodeId>, target: &KBucketKey<T>, most: usize) -> Vec<NodeId> {
    let mut nodes: Vec<_> = nodes.into_iter().map(|node| (place(node).distance(target), node)).collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes.truncate(most);
    nodes.into_iter().map(|(_, node)| node).collect()
}

/// The nodes closest to a digest where all are known.
pub(crate) fn closest(nodes: impl IntoIterator<Item = NodeId>, digest: &Digest) -> Vec<NodeId> {
    let mut nodes: Vec<_> = nodes.into_iter().collect();
    nodes.sort_unstable_by_key(|node| node.distance(digest));
    nodes.dedup();
    nodes.truncate(CLOSEST);
    nodes
}

/// The nodes closest to a digest where a walk through Kademlia found some and others are connected. First the choice of
/// the walk's own metric, then the order of [`NodeId::distance`]: whoever is connected to whom, all come to the same
/// twenty, and so to the same first.
pub(crate) fn closest_found(nodes: impl IntoIterator<Item = NodeId>, digest: &Digest) -> Vec<NodeId> {
    closest(sorted(nodes, &KBucketKey::new(digest.as_bytes()), CLOSEST), digest)
}

/// With whom to stay connected, of more nodes than there can be connections: half the limit goes to the nearest, the
/// rest evenly to each distance beyond, the farthest first, as Kademlia's table has it. The same nodes are chosen each time.
pub(crate) fn mesh(me: NodeId, nodes: impl IntoIterator<Item = NodeId>, limit: usize) -> HashSet<NodeId> {
    let mine = place(me);
    let ranked = nearest(nodes, me, usize::MAX);
    if ranked.len() <= limit {
        return ranked.into_iter().collect();
    }
    let (near, far) = ranked.split_at(limit / 2);
    let mut chosen: HashSet<_> = near.iter().copied().collect();
    let mut buckets: Vec<Vec<NodeId>> = Vec::new();
    let mut last = None;
    for &node in far {
        let bucket = mine.distance(&place(node)).ilog2();
        if last != Some(bucket) {
            buckets.push(Vec::new());
            last = Some(bucket);
        }
        if let Some(bucket) = buckets.last_mut() {
            bucket.push(node);
        }
    }
    for round in 0.. {
        let mut any = false;
        for node in buckets.iter().rev().filter_map(|bucket| bucket.get(round)) {
            if chosen.len() >= limit {
                return chosen;
            }
            any |= chosen.insert(*node);
        }
        if !any {
            break;
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nodes(count: u32) -> Vec<NodeId> {
        let node = |i: u32| {
            let mut bytes = [0; 32];
            bytes[..4].copy_from_slice(&i.to_be_bytes());
            NodeId::from_bytes(bytes)
        };
        (1..=count).map(node).collect()
    }

    proptest! {
        #[test]
        fn the_mesh_is_bounded_has_the_nearest_and_reaches_far(count in 1u32..600, limit in 8usize..140) {
            let me = NodeId::from_bytes([0; 32]);
            let all = nodes(count);
            let mesh = mesh(me, all.clone(), limit);
            prop_assert_eq!(mesh.len(), limit.min(all.len()));
            for node in nearest(all.clone(), me, limit / 2) {
                prop_assert!(mesh.contains(&node));
            }
            let halves = |set: &mut dyn Iterator<Item = NodeId>| {
                set.filter(|node| place(me).distance(&place(*node)).ilog2() == Some(255)).count()
            };
            if halves(&mut all.iter().copied()) > 0 && all.len() > limit {
                prop_assert!(halves(&mut mesh.iter().copied()) > 0, "nobody from the far half");
            }
        }

        #[test]
        fn whoever_is_connected_to_whom_the_closest_are_the_same(byte in any::<u8>(), extra in 0usize..200) {
            let all = nodes(300);
            let digest = Digest::Sha256([byte; 32]);
            let found = sorted(all.clone(), &KBucketKey::new(digest.as_bytes()), CLOSEST);
            let with_more = found.iter().chain(&all[..extra]).copied();
            prop_assert_eq!(closest_found(with_more, &digest), closest_found(found.clone(), &digest));
        }
    }

    #[test]
    fn closest_is_in_the_order_of_the_distance() {
        let digest = Digest::Sha256([3; 32]);
        let closest = closest(nodes(50), &digest);
        assert_eq!(closest.len(), CLOSEST);
        assert!(closest.windows(2).all(|pair| pair[0].distance(&digest) < pair[1].distance(&digest)));
    }
}
