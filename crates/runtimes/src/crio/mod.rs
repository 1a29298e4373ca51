//! CRI-O, podman, skopeo and buildah: a drop-in for registries.conf that puts Shoal first.
//!
//! Of two entries for one prefix the later file's is taken whole, so the drop-in says again what others have said of a
//! registry, with Shoal's mirror before theirs. Their files are not touched.

mod registries;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use self::registries::Entry;
use crate::{
    Error, Finding, Mirror, Place, Plan, Registry, Report,
    block::{self, Made, Stripped},
    document::quoted,
    files, registry,
};

/// Late in the order of names.
const OWN: &str = "shoal.conf";
const UNDO: &str = "shoal crio uninstall";

/// The configuration of containers/image by its files.
#[derive(Clone, Debug)]
pub struct Crio {
    /// registries.conf.
    pub registries_conf: PathBuf,
    /// registries.conf.d.
    pub drop_ins: PathBuf,
}

/// The drop-in as it is.
struct DropIn {
    path: PathBuf,
    text: Option<String>,
    base: String,
    made: Made,
    /// The registries that Shoal wrote entries for, and those entries.
    own: Vec<Entry>,
}

impl Crio {
    /// Puts the mirror first for `registries`, beside those for which it is already.
    ///
    /// # Errors
    /// When a file cannot be read, or another drop-in has the last word on one of the registries.
    pub fn install(&self, registries: &[Registry], mirror: &Mirror) -> Result<Plan, Error> {
        registry::refuse_twice(registries)?;
        let drop_in = self.drop_in()?;
        let mut names: Vec<String> = drop_in.own.iter().map(|entry| entry.prefix.clone()).collect();
        for registry in registries {
            if !names.iter().any(|name| name == registry.name()) {
                names.push(registry.name().to_owned());
            }
        }
        let base = registries::entries(&drop_in.path, &drop_in.base)?;
        if let Some(last) = self.later()?.iter().chain(&base).find(|entry| names.contains(&entry.prefix)) {
            let name = &last.prefix;
            let what =
                format!("this entry has the last word on {name}: move it to a file whose name sorts before {OWN}");
            return Err(Error::Unfit { place: last.place.clone(), what });
        }
        let after = self.with(&drop_in, &names, registries, mirror)?;
        let mut plan = Plan::default();
        plan.write(&drop_in.path, drop_in.text, after);
        Ok(plan)
    }

    /// Takes out what Shoal wrote: for `registries`, or, where there are none, everything.
    ///
    /// # Errors
    /// When a file cannot be read, or Shoal's marks in it are damaged.
    pub fn uninstall(&self, registries: &[Registry]) -> Result<Plan, Error> {
        let drop_in = self.drop_in()?;
        let mut plan = Plan::default();
        let Some(text) = &drop_in.text else { return Ok(plan) };
        let is_named = |entry: &&Entry| registries.iter().any(|registry| registry.name() == entry.prefix);
        let left: Vec<&Entry> = drop_in.own.iter().filter(|entry| !registries.is_empty() && !is_named(entry)).collect();
        if !left.is_empty() {
            let lines =
                left.into_iter().map(|entry| write_entry(entry, &entry.prefix, None)).collect::<Vec<_>>().join("\n");
            let at = drop_in.base.len();
            let after = block::put(&drop_in.base, at..at, &lines, drop_in.made, UNDO);
            plan.write(&drop_in.path, drop_in.text.clone(), after);
        } else if *text != drop_in.base {
            let folders = drop_in.path.ancestors().skip(1).take(drop_in.made.folders).map(Path::to_owned);
            let folders: BTreeSet<PathBuf> = folders.collect();
            plan.restore(&drop_in.path, text.clone(), drop_in.base, drop_in.made);
            plan.remove_folders(folders);
        }
        Ok(plan)
    }

    /// Whether pulls would go to the mirror first: for `registries`, or, where there are none, for those that Shoal wrote
    /// an entry for.
    ///
    /// # Errors
    /// When the system refuses to read a file. What is wrong in one is a finding.
    pub fn status(&self, registries: &[Registry], mirror: &Mirror) -> Result<Report, Error> {
        let mut report = Report::default();
        match self.look(registries, mirror, &mut report) {
            Ok(()) => {}
            Err(Error::Unfit { place, what }) => report.findings.push(Finding::problem(place, what, "mend this line")),
            Err(error) => return Err(error),
        }
        report.findings.sort();
        report.findings.dedup();
        Ok(report)
    }

    fn look(&self, registries: &[Registry], mirror: &Mirror, report: &mut Report) -> Result<(), Error> {
        let drop_in = self.drop_in()?;
        let whole = Place { file: drop_in.path.clone(), line: 0 };
        let own: Vec<String> = drop_in.own.iter().map(|entry| entry.prefix.clone()).collect();
        let names = match registries {
            [] => own.clone(),
            named => named.iter().map(|registry| registry.name().to_owned()).collect(),
        };
        if names.is_empty() {
            let change = "shoal crio install --registries NAME,…";
            report.findings.push(Finding::problem(whole.clone(), "no registry here has Shoal before it", change));
        }
        let mut entries = self.earlier()?;
        entries.extend(match &drop_in.text {
            Some(text) => registries::entries(&drop_in.path, text)?,
            None => Vec::new(),
        });
        entries.extend(self.later()?);
        for name in &names {
            let Some(entry) = entries.iter().rev().find(|entry| entry.prefix == *name) else {
                report.routes.push((name.clone(), vec!["the registry itself".to_owned()]));
                let change = format!("shoal crio install --registries {name}");
                report.findings.push(Finding::problem(whole.clone(), format!("{name} has no entry"), change));
                continue;
            };
            report.routes.push((name.clone(), hosts(entry)));
            judge(entry, mirror, &mut report.findings);
            let below = entries.iter().filter(|other| other.prefix.starts_with(&format!("{name}/")));
            report.findings.extend(below.filter(|other| !goes_to(other, mirror)).map(|other| {
                let what = format!("images below {} go by this entry, and past Shoal", other.prefix);
                Finding::note(other.place.clone(), what)
            }));
        }
        if drop_in.text.is_some()
            && !own.is_empty()
            && drop_in.text != Some(self.with(&drop_in, &own, registries, mirror)?)
        {
            let what =
                "registries.conf or a drop-in says something else than when this was written: shoal crio install";
            report.findings.push(Finding::note(whole, what));
        }
        Ok(())
    }

    fn drop_in(&self) -> Result<DropIn, Error> {
        let path = self.drop_ins.join(OWN);
        let text = files::read(&path)?;
        let new = || Stripped {
            base: String::new(),
            made: Some(Made { file: true, folders: files::missing_folders(&self.drop_ins) }),
        };
        let Stripped { base, made } = match &text {
            None => new(),
            Some(text) => block::strip(text).map_err(|damaged| {
                let what = "this mark of Shoal's has no other that belongs to it: take out by hand what Shoal wrote";
                Error::unfit(&path, damaged.line, what)
            })?,
        };
        let others = registries::entries(&path, &base)?;
        let mut own = match &text {
            Some(text) => registries::entries(&path, text)?,
            None => Vec::new(),
        };
        own.retain(|entry| others.iter().all(|other| other.prefix != entry.prefix));
        Ok(DropIn { path, text, base, made: made.unwrap_or_default(), own })
    }

    fn earlier(&self) -> Result<Vec<Entry>, Error> {
        let (earlier, _) = registries::sources(&self.registries_conf, &self.drop_ins, OWN)?;
        earlier.iter().map(|path| registries::read(path)).collect::<Result<Vec<_>, _>>().map(|lists| lists.concat())
    }

    fn later(&self) -> Result<Vec<Entry>, Error> {
        let (_, later) = registries::sources(&self.registries_conf, &self.drop_ins, OWN)?;
        later.iter().map(|path| registries::read(path)).collect::<Result<Vec<_>, _>>().map(|lists| lists.concat())
    }

    /// The drop-in with an entry for each of `names`: what others say of it, with the mirror first.
    fn with(
        &self,
        drop_in: &DropIn,
        names: &[String],
        registries: &[Registry],
        mirror: &Mirror,
    ) -> Result<String, Error> {
        let earlier = self.earlier()?;
        let write = |name: &String| {
            let said = earlier.iter().rev().find(|entry| entry.prefix == *name);
            // Where it is: as others said, as was said now, as was said before, or as the name says.
            let url = registries.iter().find(|registry| registry.name() == name).and_then(Registry::url);
            let before = drop_in.own.iter().find(|entry| entry.prefix == *name);
            let entry = match (said, url, before) {
                (Some(said), _, _) => said.clone(),
                (None, Some(url), _) => entry_at(name, url),
                (None, None, Some(before)) => Entry { mirrors: Vec::new(), ..before.clone() },
                (None, None, None) => entry_at(name, &format!("https://{name}")),
            };
            write_entry(&entry, name, Some(mirror))
        };
        let lines = names.iter().map(write).collect::<Vec<_>>().join("\n");
        let at = drop_in.base.len();
        Ok(block::put(&drop_in.base, at..at, &lines, drop_in.made, UNDO))
    }
}

fn entry_at(name: &str, url: &str) -> Entry {
    let (scheme, location) = url.split_once("://").unwrap_or(("https", url));
    Entry {
        prefix: name.to_owned(),
        place: Place { file: PathBuf::new(), line: 0 },
        location: location.trim_end_matches('/').to_owned(),
        blocked: false,
        digest_only: false,
        rest: if scheme == "http" { vec!["insecure = true".to_owned()] } else { Vec::new() },
        mirrors: Vec::new(),
    }
}

/// As the drop-in has it, ending in a line end; with the mirror first where one is given.
fn write_entry(entry: &Entry, name: &str, mirror: Option<&Mirror>) -> String {
    let location = if entry.location.is_empty() { name } else { &entry.location };
    let mut lines = format!("[[registry]]\nprefix = {}\nlocation = {}\n", quoted(name), quoted(location));
    entry.rest.iter().for_each(|line| lines += &format!("{line}\n"));
    if let Some(mirror) = mirror {
        lines += &format!("\n[[registry.mirror]]\nlocation = {}\n", quoted(&location_at(mirror, name)));
        if mirror.is_plain() {
            lines += "insecure = true\n";
        }
    }
    let is_own = |location: &str| mirror.is_some_and(|mirror| location == location_at(mirror, name));
    for other in entry.mirrors.iter().filter(|other| !is_own(&other.location)) {
        lines += "\n[[registry.mirror]]\n";
        other.lines.iter().for_each(|line| lines += &format!("{line}\n"));
    }
    lines
}

/// These clients send no `ns`: the registry's name goes into the path.
fn location_at(mirror: &Mirror, name: &str) -> String {
    format!("{}/{name}", mirror.authority())
}

fn hosts(entry: &Entry) -> Vec<String> {
    let itself = if entry.location.is_empty() { &entry.prefix } else { &entry.location };
    entry.mirrors.iter().map(|mirror| mirror.location.clone()).chain([itself.clone()]).collect()
}

fn goes_to(entry: &Entry, mirror: &Mirror) -> bool {
    entry.mirrors.first().is_some_and(|first| first.location.starts_with(&format!("{}/", mirror.authority())))
}

fn judge(entry: &Entry, mirror: &Mirror, findings: &mut Vec<Finding>) {
    let name = &entry.prefix;
    let own = location_at(mirror, name);
    let problem = |what: String, change: &str| Finding::problem(entry.place.clone(), what, change);
    let change = format!("[[registry.mirror]]\nlocation = {}\ninsecure = true", quoted(&own));
    match entry.mirrors.iter().position(|mirror| mirror.location == own) {
        None => findings.push(problem(
            format!("{own} is not among the mirrors of {name}, and this entry has the last word"),
            &change,
        )),
        Some(0) if mirror.is_plain() && !entry.mirrors[0].insecure => {
            findings.push(problem(format!("HTTPS is spoken to {own}, which is plain HTTP"), "insecure = true"));
        }
        Some(0) => {}
        Some(_) => findings.push(problem(format!("{} is asked before Shoal", entry.mirrors[0].location), &change)),
    }
    if entry.blocked {
        findings.push(problem(format!("{name} is blocked"), "blocked = false"));
    }
    if entry.digest_only {
        findings.push(Finding::note(entry.place.clone(), "with mirror-by-digest-only, images by tag go past Shoal"));
    }
}
