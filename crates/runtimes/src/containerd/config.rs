//! containerd's own configuration, as far as it says where hosts.toml files are looked for.
//!
//! containerd 1 takes the section of a plugin whole from the last file that has it; containerd 2 brings each file to its
//! newest form first and then joins the sections key by key, where what is empty changes nothing.

use std::{
    collections::{BTreeSet, VecDeque},
    path::{Path, PathBuf},
};

use toml_edit::{Item, TableLike};

use crate::{Error, Place, Version, document::Parsed};

/// The section of the CRI plugin in containerd 1.
pub(super) const CRI: &str = "io.containerd.grpc.v1.cri";
/// Its name in a config.toml without `version = 2`.
pub(super) const CRI_V1: &str = "cri";
/// What the images of CRI go by in containerd 2.
pub(super) const IMAGES: &str = "io.containerd.cri.v1.images";

/// All files that containerd reads, in its order.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) files: Vec<ConfigFile>,
}

/// What one of them says.
#[derive(Clone, Debug)]
pub(super) struct ConfigFile {
    /// 1 where none is said.
    pub(super) version: i64,
    pub(super) version_place: Place,
    /// By the name of the plugin.
    pub(super) sections: Vec<(String, Section)>,
    pub(super) disabled: Vec<(String, Place)>,
}

/// What is said of registries in the section of a plugin.
#[derive(Clone, Debug, Default)]
pub(super) struct Section {
    /// Where it begins.
    pub(super) place: Option<Place>,
    /// Its table `registry`.
    pub(super) registry: Option<Place>,
    pub(super) config_path: Option<(String, Place)>,
    /// The first mirror of the old kind.
    pub(super) mirrors: Option<Place>,
    /// The first registry with TLS of the old kind.
    pub(super) tls: Option<Place>,
    pub(super) local_pull: bool,
}

/// What a version of containerd comes to.
#[derive(Clone, Debug)]
pub(super) struct Effective {
    pub(super) section: Section,
    /// The plugin whose section counts in the first file.
    pub(super) name: &'static str,
    /// Whether there is no file.
    pub(super) is_new: bool,
    /// The section that took the place of what another file said of registries, and that file.
    pub(super) lost: Option<(Place, PathBuf)>,
    /// Sections about registries that this version does not read.
    pub(super) unread: Vec<Unread>,
}

/// A section that somebody wrote in vain.
#[derive(Clone, Debug)]
pub(super) struct Unread {
    pub(super) place: Place,
    pub(super) why: String,
    /// Whether it would be read if the file said `version = 2`.
    pub(super) wants_version: bool,
}

/// Reads a file; `None` where there is none.
pub(super) type Read<'a> = &'a dyn Fn(&Path) -> Result<Option<String>, Error>;

impl Config {
    /// Reads a file and all that it imports. `None` where there is no such file: containerd then goes by its defaults.
    pub(super) fn load(path: &Path, read: Read<'_>) -> Result<Option<Self>, Error> {
        let mut files = Vec::new();
        let mut seen = BTreeSet::new();
        let mut pending = VecDeque::from([(path.to_owned(), None)]);
        while let Some((path, import)) = pending.pop_front() {
            if !seen.insert(path.clone()) {
                continue;
            }
            let Some(text) = read(&path)? else {
                return match import {
                    None => Ok(None),
                    Some(Place { file, line }) => {
                        let what =
                            format!("{} is imported and is not there: containerd does not start", path.display());
                        Err(Error::unfit(&file, line, what))
                    }
                };
            };
            let parsed = Parsed::new(&path, &text)?;
            for (import, place) in imports(&path, &parsed)? {
                pending.push_back((import, Some(place)));
            }
            files.push(ConfigFile::read(&parsed));
        }
        Ok(Some(Self { files }))
    }

    /// Plugins that are switched off.
    pub(super) fn disabled(&self) -> impl Iterator<Item = &(String, Place)> {
        self.files.iter().flat_map(|file| &file.disabled)
    }

    /// What holds for a version.
    pub(super) fn effective(&self, version: Version) -> Effective {
        let root = self.files.first().map_or(1, |file| file.version);
        if version.has_images_section() { self.effective_2(root) } else { self.effective_1(root) }
    }

    /// What holds before any of the files is looked into.
    fn nothing_yet(&self, name: &'static str) -> Effective {
        let is_new = self.files.is_empty();
        Effective { section: Section::default(), name, is_new, lost: None, unread: Vec::new() }
    }

    fn effective_1(&self, root: i64) -> Effective {
        let name = if root >= 2 { CRI } else { CRI_V1 };
        let mut effective = self.nothing_yet(name);
        for file in &self.files {
            for (plugin, section) in &file.sections {
                if plugin == name {
                    effective.lost = match (&effective.section.registry, &section.registry, &section.place) {
                        (Some(lost), None, Some(place)) => Some((place.clone(), lost.file.clone())),
                        (None, None, _) => effective.lost,
                        _ => None,
                    };
                    effective.section = section.clone();
                } else if let Some(place) = &section.registry {
                    let why = match plugin.as_str() {
                        IMAGES => "containerd 1 does not read this section".to_owned(),
                        CRI => "containerd 1 does not read this section in a file without version = 2".to_owned(),
                        _ => format!("containerd 1 does not read this section in a file with version = {root}"),
                    };
                    effective.unread.push(Unread { place: place.clone(), why, wants_version: plugin == CRI });
                }
            }
        }
        effective
    }

    fn effective_2(&self, root: i64) -> Effective {
        let has = |plugin: &str| {
            self.files.first().is_some_and(|file| {
                file.sections.iter().any(|(name, section)| name == plugin && section.registry.is_some())
            })
        };
        let name = match root {
            ..=1 => CRI_V1,
            // Both are read; one that is there decides.
            2 if has(IMAGES) && !has(CRI) => IMAGES,
            2 => CRI,
            _ => IMAGES,
        };
        let mut effective = self.nothing_yet(name);
        for file in &self.files {
            let mut own = Section::default();
            for (plugin, section) in &file.sections {
                match (plugin.as_str(), file.version) {
                    (IMAGES, _) => own = section.clone(),
                    // The older section takes the newer one's place.
                    (CRI, ..=2) | (CRI_V1, ..=1) => {
                        if section.registry.is_some() {
                            own = Section { local_pull: own.local_pull, ..section.clone() };
                        }
                    }
                    _ => {
                        if let Some(place) = &section.registry {
                            let why = format!(
                                "containerd 2 does not read this section in a file with version = {}",
                                file.version
                            );
                            effective.unread.push(Unread { place: place.clone(), why, wants_version: false });
                        }
                    }
                }
            }
            effective.section.join(own);
        }
        effective
    }
}

impl ConfigFile {
    fn read(parsed: &Parsed<'_>) -> Self {
        let root = parsed.root();
        let mut sections = Vec::new();
        if let Some(plugins) = root.get("plugins").and_then(Item::as_table_like) {
            for (name, item) in plugins.iter().filter(|(name, _)| [CRI, CRI_V1, IMAGES].contains(name)) {
                if let Some(table) = item.as_table_like() {
                    let place = Some(parsed.place_of(plugins, name));
                    sections.push((name.to_owned(), Section { place, ..Section::read(parsed, table) }));
                }
            }
        }
        // The newer section first, whatever the order of the file: the older one takes its place.
        sections.sort_by_key(|(name, _)| name != IMAGES);
        let disabled = root.get("disabled_plugins").and_then(Item::as_array).into_iter().flatten();
        let disabled = disabled.filter_map(|value| Some((value.as_str()?.to_owned(), parsed.place(value.span()))));
        let version = root.get("version").and_then(Item::as_integer).unwrap_or(1);
        Self { version, version_place: parsed.place_of(root, "version"), sections, disabled: disabled.collect() }
    }
}

impl Section {
    fn read(parsed: &Parsed<'_>, plugin: &dyn TableLike) -> Self {
        let local_pull = plugin.get("use_local_image_pull").and_then(Item::as_bool).unwrap_or(false);
        let Some(item) = plugin.get("registry") else { return Self { local_pull, ..Self::default() } };
        let Some(registry) = item.as_table_like() else { return Self { local_pull, ..Self::default() } };
        let first = |key: &str, fits: &dyn Fn(&Item) -> bool| {
            let table = registry.get(key)?.as_table_like()?;
            let (name, item) = table.iter().find(|(_, item)| fits(item))?;
            let place = parsed.place_of(table, name);
            Some(if place.line == 0 { parsed.place(item.span()) } else { place })
        };
        let has_tls = |item: &Item| item.as_table_like().is_some_and(|config| config.contains_key("tls"));
        let config_path = registry.get("config_path").and_then(Item::as_str);
        let place = parsed.place(item.span());
        Self {
            place: None,
            registry: Some(if place.line == 0 { parsed.place_of(plugin, "registry") } else { place }),
            config_path: config_path.map(|path| (path.to_owned(), parsed.place_of(registry, "config_path"))),
            mirrors: first("mirrors", &|_| true),
            tls: first("configs", &has_tls),
            local_pull,
        }
    }

    /// What a later file says is added; what is empty there changes nothing.
    fn join(&mut self, later: Self) {
        if later.config_path.as_ref().is_some_and(|(path, _)| !path.is_empty()) || self.config_path.is_none() {
            self.config_path = later.config_path.or(self.config_path.take());
        }
        self.registry = self.registry.take().or(later.registry);
        self.mirrors = self.mirrors.take().or(later.mirrors);
        self.tls = self.tls.take().or(later.tls);
        self.local_pull |= later.local_pull;
    }
}

/// The files that a file imports, with the place where it says so. A pattern that fits nothing imports nothing.
fn imports(path: &Path, parsed: &Parsed<'_>) -> Result<Vec<(PathBuf, Place)>, Error> {
    let mut found = Vec::new();
    for value in parsed.root().get("imports").and_then(Item::as_array).into_iter().flatten() {
        let (Some(import), place) = (value.as_str(), parsed.place(value.span())) else { continue };
        let import = path.parent().unwrap_or(Path::new("/")).join(import);
        let pattern = import.to_string_lossy();
        if !pattern.contains('*') {
            found.push((import, place));
            continue;
        }
        let matches = glob::glob(&pattern)
            .map_err(|error| Error::unfit(path, place.line, format!("this pattern cannot be read: {error}")))?;
        for import in matches {
            let import = import.map_err(|error| Error::io("list", error.path())(error.into()))?;
            found.push((import, place.clone()));
        }
    }
    Ok(found)
}
