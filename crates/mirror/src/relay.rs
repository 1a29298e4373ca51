//! The origin's listings, passed on: its word is kept, except where it would send a client astray.

use http::{HeaderName, HeaderValue, Response, StatusCode, header};

use crate::{Failure, Relayed, answer, body::Body};

const OCI_FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// Passes an origin's answer on to the client that asked for `path`, with `namespace` where it named one.
///
/// A 404 stays a 404, and nothing else becomes one: a client would take it for "there are no signatures". What would
/// make the client retry here (408, 429), ask us for credentials (401) or go elsewhere (3xx) becomes a failure.
pub(crate) fn pass_on(relayed: Relayed, path: &str, namespace: Option<&str>) -> Result<Response<Body>, Failure> {
    let Relayed { status, headers, body } = relayed;
    let reason = format!("it answered {status}");
    match status {
        StatusCode::UNAUTHORIZED => return Err(Failure::OriginDenied { reason }),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
            return Err(Failure::Overloaded { reason: format!("the origin sheds load, {reason}") });
        }
        status if status.is_redirection() || status.is_informational() => return Err(Failure::OriginFailed { reason }),
        _ => {}
    }
    let mut builder = answer::of(status).header(header::CONTENT_LENGTH, body.len());
    for name in [header::CONTENT_TYPE, OCI_FILTERS_APPLIED, header::WARNING] {
        for value in headers.get_all(&name) {
            builder = builder.header(&name, value);
        }
    }
    for link in headers.get_all(header::LINK) {
        builder = builder.header(header::LINK, rewritten(link, path, namespace).as_ref().unwrap_or(link));
    }
    Ok(answer::with(builder, body))
}

/// A link to the next page, made to lead through the mirror: the next page has the path of this one, the query that the
/// origin gave, and the name of the registry where the client's had it. `None` where it is no such link.
fn rewritten(link: &HeaderValue, path: &str, namespace: Option<&str>) -> Option<HeaderValue> {
    let (target, parameters) = link.to_str().ok()?.trim_start().strip_prefix('<')?.split_once('>')?;
    let next = parameters.split(';').any(|parameter| {
        let parameter = parameter.trim();
        parameter.eq_ignore_ascii_case("rel=next") || parameter.eq_ignore_ascii_case("rel=\"next\"")
    });
    let (_, query) = target.split_once('?').filter(|_| next)?;
    let query = query.split_once('#').map_or(query, |(query, _)| query);
    let namespace = namespace.map(|namespace| format!("&ns={namespace}")).unwrap_or_default();
    HeaderValue::try_from(format!("<{path}?{query}{namespace}>; rel=\"next\"")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_asked_of_the_mirror() {
        let rewritten = |link: &'static str, namespace| {
            let link = HeaderValue::from_static(link);
            let text = rewritten(&link, "/v2/r.io/a/tags/list", namespace);
            text.map(|text| text.to_str().unwrap().to_owned())
        };
        let here = "</v2/r.io/a/tags/list?n=2&last=b>; rel=\"next\"";
        assert_eq!(rewritten("</v2/a/tags/list?n=2&last=b>; rel=\"next\"", None).as_deref(), Some(here));
        assert_eq!(rewritten("<https://o.io/v2/a/tags/list?n=2&last=b>;rel=next", None).as_deref(), Some(here));
        let spaced = "</v2/r.io/a/tags/list?n=2&ns=r.io>; rel=\"next\"";
        assert_eq!(rewritten("<?n=2#x>; rel=\"next\"", Some("r.io")).as_deref(), Some(spaced));
        for other in ["</docs>; rel=\"help\"", "</v2/a/tags/list>; rel=\"next\"", "nonsense", "<"] {
            assert_eq!(rewritten(other, None), None, "{other}");
        }
    }
}
