//! What a registry says about how it wants to be asked, and the other headers and answers of which it is asked.

/// The first byte says what the rest is.
pub fn eat(bytes: &[u8]) {
    let Some((&kind, rest)) = bytes.split_first() else { return };
    match kind % 4 {
        0 => shoal_origin::fuzzing::challenge(rest),
        1 => shoal_origin::fuzzing::token(rest),
        2 => shoal_origin::fuzzing::content_range(rest),
        _ => shoal_origin::fuzzing::docker_config(rest),
    }
}
