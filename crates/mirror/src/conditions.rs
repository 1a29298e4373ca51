//! Conditional requests: content is named by its digest, so the digest is the entity tag.

use http::{HeaderMap, HeaderValue, header};
use shoal_blob::Digest;

/// The strong entity tag of whatever has this digest.
pub(crate) fn etag(digest: &Digest) -> HeaderValue {
    HeaderValue::try_from(format!("\"{digest}\"")).expect("a digest is plain ASCII")
}

/// Whether the client says with `If-None-Match` that it already has this.
pub(crate) fn is_known(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(|value| {
        value.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
    })
}

/// Whether a `Range` counts: `If-Range` is absent, or names exactly this. A date never does.
pub(crate) fn range_counts(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    headers.get(header::IF_RANGE).is_none_or(|value| value == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_compared_as_rfc_9110_says() {
        let tag = etag(&Digest::Sha256([7; 32]));
        let text = tag.to_str().unwrap();
        let with = |name: header::HeaderName, value: &str| {
            HeaderMap::from_iter([(name, HeaderValue::try_from(value).unwrap())])
        };
        for (value, known) in [
            (text.to_owned(), true),
            (format!("W/{text}"), true),
            (format!("\"x\" , {text}"), true),
            ("*".to_owned(), true),
            ("\"x\"".to_owned(), false),
            (text.trim_matches('"').to_owned(), false),
        ] {
            assert_eq!(is_known(&with(header::IF_NONE_MATCH, &value), &tag), known, "{value}");
        }
        assert!(!is_known(&HeaderMap::new(), &tag));
        assert!(range_counts(&HeaderMap::new(), &tag));
        assert!(range_counts(&with(header::IF_RANGE, text), &tag));
        assert!(!range_counts(&with(header::IF_RANGE, &format!("W/{text}")), &tag));
        assert!(!range_counts(&with(header::IF_RANGE, "Sat, 29 Oct 1994 19:43:31 GMT"), &tag));
    }
}
