//! The `Range` header.

use crate::menu::Menu;

/// The first eight bytes are the blob's length; the rest is the header.
pub fn eat(bytes: &[u8]) {
    let mut menu = Menu(bytes);
    let length = menu.u64() >> menu.of(64);
    let Ok(parts) = shoal_mirror::fuzzing::ranges(menu.0, length) else { return };
    let sum: u128 = parts.iter().map(|part| u128::from(part.end - part.start)).sum();
    for part in &parts {
        assert!(part.start < part.end && part.end <= length, "{part:?} of {length}");
    }
    assert!(sum <= u128::from(length) && parts.len() <= 1024, "{} parts have {sum} of {length} bytes", parts.len());
}
