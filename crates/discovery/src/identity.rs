//! One name on both planes: a [`NodeId`] is an Ed25519 key, and a libp2p peer id of such a key holds the key itself.

use libp2p::{PeerId, identity};
use shoal_proto::{NodeId, NodeKey};

/// The multihash "identity", 36 bytes; then, in protobuf, key type 1 (Ed25519) and a key of 32 bytes.
const PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/// The libp2p key pair of a node.
pub(crate) fn keypair(key: &NodeKey) -> identity::Keypair {
    let mut seed = key.seed();
    identity::Keypair::ed25519_from_bytes(seed.as_mut_slice()).expect("32 bytes are an Ed25519 secret key")
}

/// The libp2p name of a node.
pub(crate) fn peer_id(node: NodeId) -> PeerId {
    let mut bytes = [0; 38];
    bytes[..6].copy_from_slice(&PREFIX);
    bytes[6..].copy_from_slice(node.as_bytes());
    PeerId::from_bytes(&bytes).expect("an identity multihash of 36 bytes is a peer id")
}

/// The node of a libp2p name; `None` for a key of another kind.
pub(crate) fn node_id(peer: &PeerId) -> Option<NodeId> {
    let bytes = peer.to_bytes();
    let key = bytes.strip_prefix(&PREFIX)?;
    Some(NodeId::from_bytes(key.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_translate_both_ways() {
        let key = NodeKey::from_seed(&[7; 32]);
        let theirs = keypair(&key).public().to_peer_id();
        assert_eq!(peer_id(key.id()), theirs);
        assert_eq!(node_id(&theirs), Some(key.id()));
        assert_eq!(node_id(&PeerId::random()), None);
    }
}
