//! Where the daemon of a node listens.

use std::{fmt, str::FromStr};

use http::{Uri, uri::Scheme};

/// The base URL of the mirror: `http://` or `https://`, a host and a port, and no path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    url: String,
    authority: String,
    plain: bool,
}

impl Mirror {
    /// As in `http://127.0.0.1:5050`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// As in `127.0.0.1:5050`.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// Whether it speaks plain HTTP.
    pub(crate) fn is_plain(&self) -> bool {
        self.plain
    }

    /// Whether somebody's host means this mirror.
    pub(crate) fn is(&self, host: &str) -> bool {
        host.trim_end_matches('/') == self.url
    }
}

impl fmt::Display for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

impl FromStr for Mirror {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let uri: Uri = text.parse().ok()?;
            let (scheme, authority) = (uri.scheme()?, uri.authority()?);
            let plain = *scheme == Scheme::HTTP;
            let fits = (plain || *scheme == Scheme::HTTPS)
                && uri.path_and_query().is_none_or(|rest| rest == "/")
                && authority.port_u16().is_some_and(|port| port > 0)
                && !authority.as_str().contains('@');
            fits.then(|| Self { url: format!("{scheme}://{authority}"), authority: authority.to_string(), plain })
        };
        read().ok_or_else(|| "expected the mirror's URL with its port, such as http://127.0.0.1:5050".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_is_a_url_with_a_port_and_without_a_path() {
        let mirror: Mirror = "http://127.0.0.1:5050/".parse().unwrap();
        assert_eq!(
            (mirror.url(), mirror.authority(), mirror.is_plain()),
            ("http://127.0.0.1:5050", "127.0.0.1:5050", true)
        );
        assert!(!"https://mirror.lan:443".parse::<Mirror>().unwrap().is_plain());
        for wrong in
            ["", "127.0.0.1:5050", "http://127.0.0.1", "ftp://a:1", "http://a:1/v2", "http://u:p@a:1", "http://a:0"]
        {
            assert!(wrong.parse::<Mirror>().is_err(), "{wrong:?} was taken");
        }
    }
}
