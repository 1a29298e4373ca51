//! What reads bytes that others wrote, as functions of bytes: none may panic, and what each promises holds.
//!
//! `cargo test -p shoal-fuzz` feeds each the inputs in `corpora`, and inputs like them; cargo-fuzz looks for new ones:
//! `cargo +nightly fuzz run codec --features libfuzzer --sanitizer none fuzz/corpora/codec`.

pub mod challenge;
pub mod codec;
pub mod coordination;
pub mod manifest;
mod menu;
pub mod range;
pub mod reference;
pub mod seeds;
pub mod settings;
pub mod swarm;

/// A function that eats whatever bytes it is given.
pub type Eater = fn(&[u8]);

/// All of them, by name: `fuzz_targets` and `corpora` have the same names.
pub const ALL: [(&str, Eater); 8] = [
    ("challenge", challenge::eat),
    ("codec", codec::eat),
    ("coordination", coordination::eat),
    ("manifest", manifest::eat),
    ("range", range::eat),
    ("reference", reference::eat),
    ("settings", settings::eat),
    ("swarm", swarm::eat),
];
