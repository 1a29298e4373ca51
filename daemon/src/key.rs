//! New cluster keys.

use rand::{TryRng, rngs::SysRng};
use shoal_proto::ClusterKey;
use zeroize::Zeroizing;

/// A key made of 32 bytes of the system's randomness.
///
/// # Errors
/// When the system has none to give.
pub fn new() -> anyhow::Result<ClusterKey> {
    let mut bytes = Zeroizing::new([0; 32]);
    SysRng
        .try_fill_bytes(bytes.as_mut())
        .map_err(|error| anyhow::anyhow!("cannot make a key: the system gives no randomness: {error}"))?;
    Ok(ClusterKey::from_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_proto::ClusterKeys;

    #[test]
    fn a_key_is_a_line_of_64_digits_that_a_key_file_takes() {
        let (one, other) = (new().unwrap().to_line(), new().unwrap().to_line());
        assert_ne!(*one, *other);
        assert_eq!(one.len(), 64);
        assert!(one.bytes().all(|digit| digit.is_ascii_hexdigit()));
        assert!(ClusterKeys::parse(&one).is_ok());
    }
}
