//! containerd: hosts.toml files that put Shoal first, and whether containerd would go by them.

mod config;
mod config_path;
mod folders;
mod hosts;
mod reading;
mod verdict;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use self::{config::Config, folders::DEFAULT, hosts::Entry};
use crate::{
    Error, Finding, Mirror, Place, Plan, Registry, Report, Version, Weight,
    block::{self, Made, Stripped},
    files, finding, registry,
};

const HOSTS: &str = "hosts.toml";

/// A containerd by its files. Both paths are absolute: the one is written into the other.
#[derive(Clone, Debug)]
pub struct Containerd {
    /// The folder with a folder for each registry.
    pub config_path: PathBuf,
    /// Its own configuration.
    pub config: PathBuf,
    /// Which it is; where that is not known, what is said holds for all that are known.
    pub version: Option<Version>,
}

impl Containerd {
    /// Puts the mirror first for `registries`, or, where there are none, for all that have no folder of their own; with
    /// `set_config_path` also tells containerd of the folder.
    ///
    /// # Errors
    /// When a file cannot be read, or cannot be edited without harm to what is in it.
    pub fn install(&self, registries: &[Registry], mirror: &Mirror, set_config_path: bool) -> Result<Plan, Error> {
        let mut plan = Plan::default();
        registry::refuse_twice(registries)?;
        if registries.is_empty() {
            self.put_first(&mut plan, &self.config_path.join(DEFAULT), None, mirror)?;
        }
        for registry in registries {
            let folder = folders::of(&self.config_path, registry.name());
            if !folder.exists() {
                self.refuse_to_hide_default(&folder, registry.name())?;
            }
            self.put_first(&mut plan, &folder, registry.url(), mirror)?;
        }
        if set_config_path {
            self.set_config_path(&mut plan)?;
        } else {
            self.judge_config(&files::read)?.into_iter().for_each(|finding| plan.note(finding));
        }
        Ok(plan)
    }

    /// Takes out what Shoal wrote: for `registries`, or, where there are none, everything, in containerd's own
    /// configuration too.
    ///
    /// # Errors
    /// When a file cannot be read, or Shoal's marks in it are damaged.
    pub fn uninstall(&self, registries: &[Registry]) -> Result<Plan, Error> {
        let mut plan = Plan::default();
        let folders = if registries.is_empty() {
            files::list(&self.config_path)?.into_iter().map(|name| self.config_path.join(name)).collect()
        } else {
            registries.iter().map(|registry| folders::of(&self.config_path, registry.name())).collect::<Vec<_>>()
        };
        let mut made_folders = BTreeSet::new();
        // A registry may be named twice.
        let mut files: BTreeSet<PathBuf> = folders.iter().map(|folder| folder.join(HOSTS)).collect();
        if registries.is_empty() {
            files.insert(self.config.clone());
        }
        for file in files {
            let Some(text) = files::read(&file)? else { continue };
            let Stripped { base, made } = strip(&file, &text)?;
            if let Some(made) = made {
                made_folders.extend(file.ancestors().skip(1).take(made.folders).map(Path::to_owned));
                plan.restore(&file, text, base, made);
            }
        }
        plan.remove_folders(made_folders);
        Ok(plan)
    }

    /// Whether containerd would ask the mirror first: for `registries`, or, where there are none, for those that Shoal
    /// wrote something for.
    ///
    /// # Errors
    /// When the system refuses to read a file. What is wrong in one is a finding.
    pub fn status(&self, registries: &[Registry], mirror: &Mirror) -> Result<Report, Error> {
        let mut report = Report::default();
        let names: Vec<String> = if registries.is_empty() {
            self.installed(mirror)?
        } else {
            registries.iter().map(|registry| registry.name().to_owned()).collect()
        };
        if names.is_empty() {
            let place = Place { file: self.config_path.clone(), line: 0 };
            report.findings.push(Finding::problem(
                place,
                "no hosts.toml here has Shoal in it",
                "shoal containerd install",
            ));
        }
        for name in &names {
            self.look_at_registry(name, mirror, &mut report)?;
        }
        if names.iter().any(|name| name == DEFAULT) {
            self.look_past_default(&names, &mut report)?;
        }
        match self.judge_config(&files::read) {
            Ok(findings) => report.findings.extend(findings),
            Err(Error::Unfit { place, what }) => report.findings.push(Finding::problem(place, what, "mend this line")),
            Err(error) => return Err(error),
        }
        report.findings.sort();
        report.findings.dedup();
        Ok(report)
    }

    fn versions(&self) -> Vec<Version> {
        self.version.map_or_else(|| Version::KNOWN.to_vec(), |version| vec![version])
    }

    fn judge_config(&self, read: config::Read<'_>) -> Result<Vec<Finding>, Error> {
        let config = Config::load(&self.config, read)?;
        let judge = |version| verdict::judge(config.as_ref(), &self.config, &self.config_path, version);
        // A file says which versions it can be for.
        let newest = config.as_ref().and_then(|config| config.files.first()).map_or(1, |file| file.version);
        let versions: Vec<Version> = match self.version {
            Some(version) => vec![version],
            None => Version::KNOWN.into_iter().filter(|version| newest <= version.highest_config()).collect(),
        };
        Ok(finding::over(if versions.is_empty() { &Version::KNOWN } else { &versions }, judge))
    }

    fn put_first(&self, plan: &mut Plan, folder: &Path, server: Option<&str>, mirror: &Mirror) -> Result<(), Error> {
        let file = folder.join(HOSTS);
        let before = files::read(&file)?;
        let Stripped { base, made } = match &before {
            Some(text) => strip(&file, text)?,
            None => Stripped { base: String::new(), made: Some(self.made(folder)?) },
        };
        if reading::is_first(&file, &base, mirror) {
            let what = format!("{mirror} is first here already; Shoal did not write that, and leaves it as it is");
            plan.note(Finding::note(Place { file: file.clone(), line: 0 }, what));
            plan.write(&file, before, base);
            return Ok(());
        }
        let certificates = folders::certificates(folder)?;
        let entry = Entry { mirror, server, certificates: &certificates };
        let after = hosts::put_first(&file, &base, entry, made.unwrap_or_default())?;
        plan.write(&file, before, after);
        Ok(())
    }

    /// What a new file in `folder` has to remember as made. Where the folder above was made for another registry, this
    /// one remembers it too: whichever is taken out last takes it away.
    fn made(&self, folder: &Path) -> Result<Made, Error> {
        let missing = files::missing_folders(folder);
        if missing != 1 {
            return Ok(Made { file: true, folders: missing });
        }
        let mut folders = missing;
        for name in files::list(&self.config_path)? {
            let file = self.config_path.join(name).join(HOSTS);
            if let Some(text) = files::read(&file)? {
                folders = folders.max(strip(&file, &text)?.made.unwrap_or_default().folders);
            }
        }
        Ok(Made { file: true, folders })
    }

    /// A folder of a registry's own takes the place of `_default`, and of what somebody may have written there.
    fn refuse_to_hide_default(&self, folder: &Path, registry: &str) -> Result<(), Error> {
        let default = self.config_path.join(DEFAULT);
        let file = default.join(HOSTS);
        let others = match files::read(&file)? {
            Some(text) => !strip(&file, &text)?.base.trim().is_empty(),
            None => false,
        };
        let certificates = folders::certificates(&default)?;
        if others || !certificates.ca.is_empty() || !certificates.client.is_empty() {
            let what = format!(
                "this is what containerd goes by for {registry}; {} would take its place. Use --all, or make that folder \
                 yourself",
                folder.display()
            );
            return Err(Error::unfit(&default, 0, what));
        }
        Ok(())
    }

    fn set_config_path(&self, plan: &mut Plan) -> Result<(), Error> {
        let path = &self.config;
        let before = files::read(path)?;
        let stripped = before.as_deref().map(|text| strip(path, text)).transpose()?;
        let is_own = |stripped: &Stripped| stripped.made.unwrap_or_default().file && stripped.base.trim().is_empty();
        let base = stripped.as_ref().filter(|stripped| !is_own(stripped)).map(|stripped| &stripped.base);
        let config = Config::load(path, &|asked| match base {
            Some(base) if asked == path => Ok(Some(base.clone())),
            None if asked == path => Ok(None),
            _ => files::read(asked),
        })?;
        let after = match (base, &config) {
            (Some(base), Some(config)) => {
                let version = self.version.unwrap_or(Version::KNOWN[0]);
                let is_well = self.judge_text(path, base)?.iter().all(|finding| finding.weight != Weight::Problem);
                if is_well {
                    base.clone()
                } else {
                    config_path::set(path, base, config.effective(version).name, &self.config_path)?
                }
            }
            _ => {
                let version = self.version.ok_or_else(|| {
                    let what =
                        "this is not there, and has to be written for a version: say which with --containerd-version";
                    Error::unfit(path, 0, what)
                })?;
                let folders = files::missing_folders(files::folder_of(path));
                let made = stripped.and_then(|stripped| stripped.made).unwrap_or(Made { file: true, folders });
                config_path::create(version, &self.config_path, made)
            }
        };
        for finding in self.judge_text(path, &after)? {
            if finding.weight == Weight::Problem {
                let change = finding.change.unwrap_or_default().replace('\n', "\n    ");
                let Place { file, line } = finding.place;
                let what = format!("{}. --set-config-path does not mend that; it takes\n    {change}", finding.what);
                return Err(Error::unfit(&file, line, what));
            }
            plan.note(finding);
        }
        plan.write(path, before, after);
        Ok(())
    }

    /// What there is to say if containerd's own configuration were `text`.
    fn judge_text(&self, path: &Path, text: &str) -> Result<Vec<Finding>, Error> {
        self.judge_config(&|asked| if asked == path { Ok(Some(text.to_owned())) } else { files::read(asked) })
    }

    /// The folders that have the mirror in them, or lines of Shoal's.
    fn installed(&self, mirror: &Mirror) -> Result<Vec<String>, Error> {
        let mut names = Vec::new();
        for name in files::list(&self.config_path)? {
            let Some(text) = files::read(&self.config_path.join(&name).join(HOSTS))? else { continue };
            if text.contains(mirror.url()) || block::strip(&text).is_ok_and(|stripped| stripped.made.is_some()) {
                names.push(folders::registry(&name));
            }
        }
        Ok(names)
    }

    fn look_at_registry(&self, name: &str, mirror: &Mirror, report: &mut Report) -> Result<(), Error> {
        let own = folders::of(&self.config_path, name);
        let folder = if own.exists() { own.clone() } else { self.config_path.join(DEFAULT) };
        let file = folder.join(HOSTS);
        let Some(text) = files::read(&file)? else {
            let file = if folder == own || !folder.exists() { own.join(HOSTS) } else { file };
            let place = Place { file, line: 0 };
            report.routes.push((name.to_owned(), vec!["the registry itself".to_owned()]));
            report.findings.push(Finding::problem(
                place,
                "this is not there",
                format!("shoal containerd install --registries {name}"),
            ));
            return Ok(());
        };
        let found = finding::over(&self.versions(), |version| reading::judge(&file, &text, mirror, version));
        report.findings.extend(found);
        let hosts = reading::hosts(&file, &text).unwrap_or_else(|_| vec!["the registry itself".to_owned()]);
        report.routes.push((name.to_owned(), hosts));
        Ok(())
    }

    /// Registries with a folder of their own are none of `_default`'s.
    fn look_past_default(&self, names: &[String], report: &mut Report) -> Result<(), Error> {
        for name in files::list(&self.config_path)? {
            let folder = self.config_path.join(&name);
            if folder.is_dir() && !names.contains(&folders::registry(&name)) {
                let what = format!(
                    "containerd goes by this folder and not by {DEFAULT}: shoal containerd install --registries {}",
                    folders::registry(&name)
                );
                report.findings.push(Finding::note(Place { file: folder, line: 0 }, what));
            }
        }
        Ok(())
    }
}

fn strip(path: &Path, text: &str) -> Result<Stripped, Error> {
    block::strip(text).map_err(|damaged| {
        let what =
            "this mark of Shoal's has no other that belongs to it: take out by hand what Shoal wrote, with its marks";
        Error::unfit(path, damaged.line, what)
    })
}
