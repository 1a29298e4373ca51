//! Shoal's entry in a hosts.toml.

use std::path::Path;

use toml_edit::Item;

use crate::{
    Error, Mirror,
    block::{self, Made},
    document::{Parsed, lines_around, quoted},
};

/// Takes Shoal's lines out again.
pub(super) const UNDO: &str = "shoal containerd uninstall";

/// Names of files in the folder of a hosts.toml.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Certificates {
    /// What the registry's own certificate is verified with.
    pub(super) ca: Vec<String>,
    /// What containerd shows: certificate and key.
    pub(super) client: Vec<(String, String)>,
}

/// What Shoal says in a hosts.toml.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    /// Whom to ask first.
    pub(super) mirror: &'a Mirror,
    /// The registry itself, where it is not where its name says. Said only where nobody else has said anything.
    pub(super) server: Option<&'a str>,
    /// What containerd would go by if there were no hosts.toml. Said only where nobody else has said anything.
    pub(super) certificates: &'a Certificates,
}

impl Entry<'_> {
    /// These two capabilities and no other: one that is not known makes the whole file invalid. Nothing about TLS, with
    /// which containerd would try HTTPS first on a plain port. Before 2.1 `dial_timeout` is ignored.
    fn host(&self) -> String {
        format!(
            "[host.{}]\n  capabilities = [\"pull\", \"resolve\"]\n  dial_timeout = \"200ms\"\n",
            quoted(self.mirror.url())
        )
    }

    fn root(&self) -> String {
        let list = |items: Vec<String>| items.join(", ");
        let mut lines = String::new();
        if let Some(server) = self.server {
            lines += &format!("server = {}\n", quoted(server));
        }
        let Certificates { ca, client } = self.certificates;
        if !ca.is_empty() {
            lines += &format!("ca = [{}]\n", list(ca.iter().map(|name| quoted(name)).collect()));
        }
        if !client.is_empty() {
            let pairs = client.iter().map(|(cert, key)| format!("[{}, {}]", quoted(cert), quoted(key))).collect();
            lines += &format!("client = [{}]\n", list(pairs));
        }
        if !lines.is_empty() {
            lines.push('\n');
        }
        lines
    }
}

/// Puts Shoal before all hosts of a hosts.toml that has no lines of Shoal's.
pub(super) fn put_first(path: &Path, base: &str, entry: Entry<'_>, made: Made) -> Result<String, Error> {
    // For containerd an empty file is none.
    if base.is_empty() {
        return Ok(block::put(base, 0..0, &(entry.root() + &entry.host()), made, UNDO));
    }
    if base.starts_with('\u{feff}') {
        return Err(Error::unfit(path, 1, "this begins with a byte order mark: take it out first"));
    }
    let parsed = Parsed::new(path, base)?;
    look_at_hosts(path, &parsed, entry.mirror)?;
    let at = before_headers(&parsed);
    let text = block::put(base, at..at, &entry.host(), made, UNDO);
    let first = Parsed::new(path, &text).map(|parsed| {
        let headers = parsed.headers();
        headers.first().map(|header| header.path.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>())
    });
    match first {
        Ok(Some(first)) if first == ["host", entry.mirror.url()] => Ok(text),
        _ => Err(Error::unfit(path, 0, format!("Shoal cannot be put first here; write it by hand:\n{}", entry.host()))),
    }
}

/// What keeps a host from being added.
fn look_at_hosts(path: &Path, parsed: &Parsed<'_>, mirror: &Mirror) -> Result<(), Error> {
    let root = parsed.root();
    let hosts = match root.get("host") {
        None => return Ok(()),
        Some(Item::Table(hosts)) if !hosts.is_dotted() => hosts,
        Some(_) => {
            let line = parsed.place_of(root, "host").line;
            let what =
                "the hosts are written inline, where containerd 2 does not see them: write each as [host.\"URL\"]";
            return Err(Error::unfit(path, line, what));
        }
    };
    match hosts.iter().find(|(host, _)| mirror.is(host)) {
        None => Ok(()),
        Some((host, _)) => {
            let line = parsed.place_of(hosts, host).line;
            Err(Error::unfit(
                path,
                line,
                format!("{mirror} stands here, and Shoal did not write it: take it out first"),
            ))
        }
    }
}

/// Before the first header and the comments right above it; behind everything where there is none.
fn before_headers(parsed: &Parsed<'_>) -> usize {
    let text = parsed.text();
    let Some(first) = parsed.headers().into_iter().next() else { return text.len() };
    let mut at = lines_around(text, &(first.at..first.at)).start;
    while at > first.prefix {
        let above = lines_around(text, &(at - 1..at - 1));
        if above.start < first.prefix || !text[above.clone()].trim_start().starts_with('#') {
            break;
        }
        at = above.start;
    }
    at
}
