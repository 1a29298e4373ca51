//! The parsers of what registries answer, for a fuzzer: each takes whatever there is and checks what it promises.

use http::{HeaderMap, HeaderValue, header};

use crate::{
    authority::read_token,
    challenge::{Challenge, with_scope},
    content_range::ContentRange,
    docker_config::DockerConfig,
    manifest::own_type,
    token::jwt_life,
};

fn headers(name: &header::HeaderName, bytes: &[u8]) -> HeaderMap {
    // A line for each header of that name.
    let values = bytes.split(|&byte| byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok());
    values.map(|value| (name.clone(), value)).collect()
}

/// `WWW-Authenticate`.
pub fn challenge(bytes: &[u8]) {
    let headers = headers(&header::WWW_AUTHENTICATE, bytes);
    if let Some(Challenge::Bearer(bearer)) = Challenge::read(&headers) {
        assert!(bearer.realm.has_host() || bearer.realm.cannot_be_a_base() || !bearer.realm.scheme().is_empty());
    }
    for value in headers.values().filter_map(|value| value.to_str().ok()) {
        let relayed = with_scope(value, "library/alpine");
        assert!(HeaderValue::from_str(&relayed).is_ok() && relayed.starts_with(value));
        // What makes no sense is relayed without sense.
        if http_auth::parse_challenges(&relayed).is_ok() {
            assert_eq!(with_scope(&relayed, "library/alpine"), relayed, "one scope is enough");
        }
    }
}

/// The answer of a token service.
pub fn token(bytes: &[u8]) {
    if let Some(token) = read_token(bytes) {
        let _ = token.holds();
        assert!(format!("{token:?}").len() < 200, "a token that shows itself");
    }
    let _ = std::str::from_utf8(bytes).ok().and_then(jwt_life);
}

/// `Content-Range`.
pub fn content_range(bytes: &[u8]) {
    if let Some(range) = ContentRange::read(&headers(&header::CONTENT_RANGE, bytes)) {
        assert!(range.bytes.start < range.bytes.end);
        assert!(range.total.is_none_or(|total| range.bytes.end <= total));
    }
}

/// A docker `config.json`.
pub fn docker_config(bytes: &[u8]) {
    if let Err(why) = DockerConfig::parse(bytes) {
        assert!(why.len() < 2048, "an error that may have a password in it");
    }
}

/// A manifest, of which nothing but its type is looked at.
pub fn manifest(bytes: &[u8]) {
    let own = own_type(bytes);
    assert!(own.len() <= 255 && HeaderValue::from_str(&own).is_ok(), "{own:?} cannot be a Content-Type");
}
