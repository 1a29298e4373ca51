//! Proxies on the way to origins: those of the settings, or those that programs find in the environment.

use std::{fmt, str::FromStr};

use reqwest::{NoProxy, Url};

use crate::config_error::{ConfigError, shown};

/// What a setting says about the proxy: a URL, or `none`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// No proxy, whatever the environment says.
    None,
    /// All requests go through it. The URL has no credentials in it: settings are printed.
    At(Url),
}

/// The proxies that hold where a registry has none of its own. `Debug` shows no credentials.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    http: Option<Url>,
    https: Option<Url>,
    except: String,
}

impl FromStr for Proxy {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        if text.eq_ignore_ascii_case("none") {
            return Ok(Self::None);
        }
        let url = url("proxy", text)?;
        if !url.username().is_empty() || url.password().is_some() {
            let why = "has credentials in it; where a proxy wants some, give it as HTTPS_PROXY and HTTP_PROXY in the \
                       environment, which nobody prints";
            return Err(ConfigError::Proxy { place: "proxy".to_owned(), url: shown(text), why: why.to_owned() });
        }
        Ok(Self::At(url))
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::At(url) => f.write_str(url.as_str().trim_end_matches('/')),
        }
    }
}

impl Proxies {
    /// The proxies of the environment, as curl reads it: `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`, in small
    /// letters or capitals. `variable` tells the value of one.
    ///
    /// # Errors
    /// [`ConfigError::Proxy`] naming the variable, for a value that is no URL of an http or https proxy.
    pub fn of_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let find = |name: &str| {
            let known = [name.to_owned(), name.to_ascii_uppercase()];
            let said = known.into_iter().filter_map(|name| Some((variable(&name)?, name)));
            said.filter(|(value, _)| !value.trim().is_empty()).map(|(value, name)| (name, value)).next()
        };
        let all = find("all_proxy");
        let proxy = |name| {
            let said = find(name).or_else(|| all.clone());
            said.map(|(name, value)| url(&name, value.trim())).transpose()
        };
        let except = find("no_proxy").map(|(_, value)| value).unwrap_or_default();
        Ok(Self { http: proxy("http_proxy")?, https: proxy("https_proxy")?, except })
    }

    /// One proxy for everything but the hosts in `except`: names (with all below them), addresses and networks, or `*`;
    /// with commas between.
    #[must_use]
    pub fn of(proxy: &Proxy, except: &str) -> Self {
        match proxy {
            Proxy::None => Self::default(),
            Proxy::At(url) => Self { http: Some(url.clone()), https: Some(url.clone()), except: except.to_owned() },
        }
    }

    /// What is excepted.
    #[must_use]
    pub fn except(&self) -> &str {
        &self.except
    }

    /// The hosts of the proxies.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = &str> {
        [&self.http, &self.https].into_iter().flatten().filter_map(Url::host_str)
    }

    /// The same for the HTTP client.
    pub(crate) fn for_client(&self) -> Result<Vec<reqwest::Proxy>, reqwest::Error> {
        let http = self.http.iter().map(|url| reqwest::Proxy::http(url.clone()));
        let https = self.https.iter().map(|url| reqwest::Proxy::https(url.clone()));
        http.chain(https).map(|proxy| Ok(proxy?.no_proxy(NoProxy::from_string(&self.except)))).collect()
    }
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = |url: &Option<Url>| url.as_ref().and_then(Url::host_str).map(str::to_owned);
        f.debug_struct("Proxies")
            .field("http", &host(&self.http))
            .field("https", &host(&self.https))
            .field("except", &self.except)
            .finish()
    }
}

/// Reads a proxy's URL; without a scheme it is http. `place` is where it was written.
fn url(place: &str, text: &str) -> Result<Url, ConfigError> {
    let wrong = |why: String| ConfigError::Proxy { place: place.to_owned(), url: shown(text), why };
    let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&whole).map_err(|error| wrong(format!("is not a URL ({error})")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("is not of an http or https proxy; others are not supported".to_owned()));
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() || url.host_str().is_none() {
        return Err(wrong("has more in it than a host and a port".to_owned()));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Proxies, ConfigError> {
        let environment: HashMap<_, _> =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Proxies::of_environment(|name| environment.get(name).cloned())
    }

    #[test]
    fn the_environment_is_read_as_curl_reads_it() {
        let url = |text: &str| Some(Url::parse(text).unwrap());
        let read = of(&[
            ("http_proxy", "proxy:3128"),
            ("HTTP_PROXY", "http://other"),
            ("HTTPS_PROXY", "https://me:hunter2@proxy.corp"),
            ("NO_PROXY", ".corp,10.0.0.0/8"),
        ])
        .unwrap();
        assert_eq!((&read.http, &read.https), (&url("http://proxy:3128"), &url("https://me:hunter2@proxy.corp")));
        assert_eq!(read.except(), ".corp,10.0.0.0/8");
        assert!(!format!("{read:?}").contains("hunter2"), "{read:?}");
        let read = of(&[("ALL_PROXY", "http://proxy"), ("http_proxy", " ")]).unwrap();
        assert_eq!((&read.http, &read.https), (&url("http://proxy"), &url("http://proxy")));
        assert_eq!(of(&[]).unwrap(), Proxies::default());
    }

    #[test]
    fn a_proxy_that_cannot_be_used_is_named_and_its_password_is_not() {
        let error = of(&[("HTTPS_PROXY", "socks5://me:hunter2@proxy")]).unwrap_err().to_string();
        assert!(
            error.contains("HTTPS_PROXY") && error.contains("http or https") && !error.contains("hunter2"),
            "{error}"
        );
        for wrong in ["http://me:hunter2@proxy", "http://proxy/path", "http://", "ftp://proxy"] {
            let error = wrong.parse::<Proxy>().unwrap_err().to_string();
            assert!(error.contains("`proxy`") && !error.contains("hunter2"), "{error}");
        }
        assert_eq!("NONE".parse::<Proxy>().unwrap(), Proxy::None);
        assert_eq!("proxy.corp:3128".parse::<Proxy>().unwrap().to_string(), "http://proxy.corp:3128");
    }
}
