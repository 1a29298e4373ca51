//! Names of repositories, references, and the request lines that have them.

use shoal_blob::{Digest, Reference, Repository};

/// A request line; before the first space the path, behind it the query.
pub fn eat(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (path, query) = text.split_once(' ').unwrap_or((text, ""));
    for default in [None, Some("docker.io")] {
        if let Some((repository, what)) = shoal_mirror::fuzzing::target(path, query, default) {
            let again = Repository::new(repository.registry(), repository.path());
            assert_eq!(again.as_ref(), Ok(&repository), "a name fits its own grammar");
            for name in [repository.registry(), repository.path(), &what] {
                let safe = !name.split('/').any(|part| part == ".." || part == "." || part.is_empty());
                let printed = name.chars().all(|letter| letter.is_ascii_graphic() && !r#"\?#%"<>"#.contains(letter));
                assert!(safe && printed, "{name:?} is not safe in a path or a URL");
            }
        }
    }
    if let Ok(reference) = text.parse::<Reference>() {
        assert_eq!(reference.to_string().parse().as_ref(), Ok(&reference));
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
}
