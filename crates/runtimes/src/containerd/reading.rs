//! How containerd reads a hosts.toml, and what it makes of Shoal's entry.

use std::path::Path;

use toml_edit::{Array, Item, TableLike, Value};

use crate::{
    Error, Finding, Mirror, Place, Version,
    document::{Parsed, quoted},
};

/// The hosts in the order in which they are asked, as containerd 2 sees them: those with a header of their own. The
/// registry itself comes last.
pub(super) fn hosts(path: &Path, text: &str) -> Result<Vec<String>, Error> {
    let parsed = Parsed::new(path, text)?;
    let mut hosts = ordered(&parsed);
    let server = parsed.root().get("server").and_then(Item::as_str);
    hosts.push(server.map_or_else(|| "the registry itself".to_owned(), str::to_owned));
    Ok(hosts)
}

/// Whether the mirror is asked before all others.
pub(super) fn is_first(path: &Path, text: &str, mirror: &Mirror) -> bool {
    hosts(path, text).is_ok_and(|hosts| hosts.first().is_some_and(|first| mirror.is(first)))
}

fn ordered(parsed: &Parsed<'_>) -> Vec<String> {
    let mut hosts: Vec<String> = Vec::new();
    for header in parsed.headers() {
        if let ["host", host, ..] = header.path.as_slice()
            && !hosts.iter().any(|seen| seen == host)
        {
            hosts.push((*host).to_owned());
        }
    }
    hosts
}

/// What keeps containerd of a version from asking the mirror first.
pub(super) fn judge(path: &Path, text: &str, mirror: &Mirror, version: Version) -> Vec<Finding> {
    let parsed = match Parsed::new(path, text) {
        Ok(parsed) => parsed,
        Err(Error::Unfit { place, what }) => {
            return vec![Finding::problem(
                place,
                format!("{what}; containerd passes the whole file by"),
                "mend this line",
            )];
        }
        Err(error) => {
            return vec![Finding::problem(
                Place { file: path.to_owned(), line: 0 },
                error.to_string(),
                "mend this file",
            )];
        }
    };
    let mut reader = Reader { parsed: &parsed, version, findings: Vec::new() };
    reader.file(mirror);
    reader.findings
}

struct Reader<'a> {
    parsed: &'a Parsed<'a>,
    version: Version,
    findings: Vec<Finding>,
}

impl Reader<'_> {
    fn file(&mut self, mirror: &Mirror) {
        let root = self.parsed.root();
        self.host(root);
        let Some(hosts) = root.get("host") else { return self.missing(mirror) };
        let Some(table) = hosts.as_table_like() else {
            return self.problem(
                root,
                "host",
                "this is not a table of hosts, and containerd passes the whole file by",
                "[host.\"URL\"]",
            );
        };
        for (_, host) in table.iter() {
            if let Some(host) = host.as_table_like() {
                self.host(host);
            }
        }
        let seen = ordered(self.parsed);
        let Some((name, own)) = table.iter().find(|(host, _)| mirror.is(host)) else { return self.missing(mirror) };
        match seen.iter().position(|host| mirror.is(host)) {
            None if self.version.major >= 2 => {
                self.problem(
                    table,
                    name,
                    "containerd 2 sees only hosts with a header of their own",
                    &format!("[host.{}]", quoted(name)),
                );
            }
            Some(0) | None => {}
            Some(_) => {
                let what = format!("containerd asks {} before Shoal", seen[0]);
                self.problem(table, name, &what, "move this part before all other hosts");
            }
        }
        if let Some(own) = own.as_table_like() {
            self.own(own, mirror);
        }
    }

    fn missing(&mut self, mirror: &Mirror) {
        let what = format!("{mirror} is not among the hosts");
        self.findings.push(Finding::problem(self.parsed.place(None), what, "shoal containerd install"));
    }

    /// What holds for every host, and for the registry itself at the root: one fault makes the whole file invalid.
    fn host(&mut self, host: &dyn TableLike) {
        const PASSED: &str = "containerd passes the whole file by";
        if let Some(item) = host.get("capabilities") {
            let known = self.version.capabilities();
            match item.as_array().and_then(texts) {
                None => self.problem(
                    host,
                    "capabilities",
                    &format!("this is not a list of texts, and {PASSED}"),
                    PULL_RESOLVE,
                ),
                Some(words) => {
                    let (fit, unfit): (Vec<&str>, Vec<&str>) =
                        words.iter().partition(|word| known.contains(&word.to_lowercase().as_str()));
                    if let Some(unknown) = unfit.first() {
                        let what = format!("the capability {} is unknown, and {PASSED}", quoted(unknown));
                        let fit: Vec<String> = fit.into_iter().map(quoted).collect();
                        self.problem(host, "capabilities", &what, &format!("capabilities = [{}]", fit.join(", ")));
                    }
                }
            }
        }
        let version = self.version;
        let mut expect = |key: &str, fits: &dyn Fn(&Item) -> bool, what: &str, change: &str| {
            if host.get(key).is_some_and(|item| !fits(item)) {
                self.problem(host, key, &format!("this is not {what}, and {PASSED}"), change);
            }
        };
        expect("server", &|item| item.is_str(), "a text", "server = \"https://HOST\"");
        expect("skip_verify", &|item| item.is_bool(), "true or false", "skip_verify = false");
        expect("override_path", &|item| item.is_bool(), "true or false", "override_path = false");
        expect("ca", &is_texts, "a text or a list of texts", "ca = \"FILE\"");
        expect("client", &is_pairs, "a file, or a list of files or pairs of files", "client = [[\"CERT\", \"KEY\"]]");
        let is_header =
            |item: &Item| item.as_table_like().is_some_and(|table| table.iter().all(|(_, item)| is_texts(item)));
        expect("header", &is_header, "a table of texts", "[host.\"URL\".header]");
        if version >= Version::new(2, 1) {
            expect(
                "dial_timeout",
                &|item| item.as_str().is_some_and(is_duration),
                "a duration",
                "dial_timeout = \"200ms\"",
            );
        }
    }

    /// What holds for the mirror's entry besides.
    fn own(&mut self, own: &dyn TableLike, mirror: &Mirror) {
        if mirror.is_plain() {
            for key in ["skip_verify", "ca", "client"].into_iter().filter(|key| own.contains_key(key)) {
                let what = format!("with {key}, containerd tries HTTPS on the mirror's plain port first");
                self.problem(own, key, &what, "take this line out");
            }
        }
        if own.get("override_path").and_then(Item::as_bool) == Some(true) {
            self.problem(
                own,
                "override_path",
                "containerd leaves /v2 out of what it asks the mirror",
                "take this line out",
            );
        }
        let words = own.get("capabilities").and_then(Item::as_array).and_then(texts).unwrap_or_default();
        let has = |word: &str| words.iter().any(|given| given.eq_ignore_ascii_case(word));
        if !own.contains_key("capabilities") || words.is_empty() || has("push") {
            self.problem(
                own,
                "capabilities",
                "containerd would push to the mirror, which takes no pushes",
                PULL_RESOLVE,
            );
        } else if !has("pull") || !has("resolve") {
            self.problem(own, "capabilities", "the mirror needs both pull and resolve", PULL_RESOLVE);
        }
    }

    fn problem(&mut self, table: &dyn TableLike, key: &str, what: &str, change: &str) {
        let place = match table.get(key) {
            Some(_) => self.parsed.place_of(table, key),
            None => self.parsed.place(table.iter().find_map(|(key, _)| table.key(key).and_then(toml_edit::Key::span))),
        };
        self.findings.push(Finding::problem(place, what, change));
    }
}

const PULL_RESOLVE: &str = "capabilities = [\"pull\", \"resolve\"]";

fn texts(array: &Array) -> Option<Vec<&str>> {
    array.iter().map(Value::as_str).collect()
}

fn is_texts(item: &Item) -> bool {
    item.is_str() || item.as_array().and_then(texts).is_some()
}

fn is_pairs(item: &Item) -> bool {
    let is_entry =
        |value: &Value| value.is_str() || value.as_array().and_then(texts).is_some_and(|pair| pair.len() == 2);
    item.is_str() || item.as_array().is_some_and(|entries| entries.iter().all(is_entry))
}

/// As Go writes durations: `200ms`, `1m30s`, `1.5h`.
fn is_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" || text.is_empty() {
        return true;
    }
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(rest.len());
        let after = &rest[digits..];
        let unit = ["ns", "us", "µs", "ms", "s", "m", "h"]
            .into_iter()
            .filter(|unit| after.starts_with(unit))
            .max_by_key(|unit| unit.len());
        let Some(unit) = unit.filter(|_| rest[..digits].parse::<f64>().is_ok()) else { return false };
        rest = &after[unit.len()..];
    }
    true
}
