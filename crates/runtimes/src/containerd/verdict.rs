//! Whether containerd reads the hosts.toml files of a folder at all.

use std::path::Path;

use super::config::{CRI, CRI_V1, Config, Effective, IMAGES};
use crate::{Finding, Place, Version, document::quoted};

/// What keeps containerd of a version, with this configuration, from reading hosts.toml files in `folder`. `path` is the
/// file that was looked for; where there is none, containerd goes by its defaults.
pub(super) fn judge(config: Option<&Config>, path: &Path, folder: &Path, version: Version) -> Vec<Finding> {
    let mut findings = Vec::new();
    let whole = Place { file: path.to_owned(), line: 0 };
    let none = Config { files: Vec::new() };
    let effective = config.unwrap_or(&none).effective(version);
    if let Some(file) = config.and_then(|config| config.files.first())
        && file.version > version.highest_config()
    {
        let (says, highest) = (file.version, version.highest_config());
        let what = format!("containerd {version} does not start with version = {says}");
        findings.push(Finding::problem(file.version_place.clone(), what, format!("version = {highest}")));
        return findings;
    }
    for (plugin, place) in config.into_iter().flat_map(Config::disabled) {
        if [CRI, CRI_V1, IMAGES].contains(&plugin.as_str()) {
            let what = "the CRI plugin is switched off: only ctr and nerdctl pull, and they want --hosts-dir";
            findings.push(Finding::problem(
                place.clone(),
                what,
                format!("take {} out of disabled_plugins", quoted(plugin)),
            ));
        }
    }
    let wanted = format!("config_path = {}", quoted(&folder.to_string_lossy()));
    let change = || match (&effective.section.registry, config) {
        (Some(_), _) => wanted.clone(),
        (None, None) => format!("{}\n\n{}", version_line(version), section(&effective, version, &wanted)),
        (None, Some(_)) => section(&effective, version, &wanted),
    };
    let default = version.default_config_path();
    let said = effective.section.config_path.as_ref();
    let is_default = said.is_none_or(|(value, _)| value.is_empty());
    let value = said.map(|(value, _)| value.as_str()).filter(|value| !value.is_empty()).unwrap_or(default);
    let lost = effective.lost.as_ref().map(|(place, _)| place);
    let place = said.map(|(_, place)| place).or(effective.section.registry.as_ref()).or(lost).unwrap_or(&whole).clone();

    if let Some(mirrors) = &effective.section.mirrors {
        let what = if is_default {
            "mirrors of the old kind are set, by which containerd goes in place of hosts.toml files"
        } else {
            "mirrors beside config_path keep the CRI plugin from loading"
        };
        let change = format!("take out all of registry.mirrors, and see that there is\n{wanted}");
        findings.push(Finding::problem(mirrors.clone(), what, change));
    }
    if let (Some(tls), false) = (&effective.section.tls, version.has_images_section()) {
        let what = if is_default {
            "once config_path is set, configs with tls keep the CRI plugin from loading"
        } else {
            "configs with tls beside config_path keep the CRI plugin from loading"
        };
        findings.push(Finding::problem(
            tls.clone(),
            what,
            "take out registry.configs…tls; hosts.toml has ca, client and skip_verify",
        ));
    }
    for unread in &effective.unread {
        let lines = if unread.wants_version {
            "version = 2\nat the top of the file, with the sections of all plugins by their full names".to_owned()
        } else {
            section(&effective, version, &wanted)
        };
        findings.push(Finding::problem(unread.place.clone(), unread.why.clone(), lines));
    }
    // Then it is said already what to change.
    if is_default && (effective.section.mirrors.is_some() || !effective.unread.is_empty()) {
        return findings;
    }

    let listed: Vec<&str> = value.split(':').filter(|part| !part.is_empty()).collect();
    match listed.as_slice() {
        [] => {
            let what = match &effective.lost {
                None => "config_path is empty: containerd reads no hosts.toml".to_owned(),
                Some((_, file)) => format!(
                    "this section takes the place of the whole one in {}, with its config_path: containerd reads no \
                     hosts.toml",
                    file.display()
                ),
            };
            findings.push(Finding::problem(place, what, change()));
        }
        [one] => {
            if Path::new(one) != folder {
                let what = format!("containerd reads hosts.toml files in {one}, not in {}", folder.display());
                findings.push(Finding::problem(place, what, format!("{}\nor use --config-path {one}", change())));
            }
        }
        several => {
            let default = if is_default { " by default" } else { "" };
            if version.transfers() && !effective.section.local_pull {
                let what = format!(
                    "config_path is {value}{default}: the transfer service takes that for one folder, and all hosts.toml \
                     files are passed by"
                );
                findings.push(Finding::problem(place, what, change()));
            } else if !several.iter().any(|one| Path::new(one) == folder) {
                let what = format!("containerd reads hosts.toml files in {value}, not in {}", folder.display());
                findings.push(Finding::problem(place, what, change()));
            } else if Path::new(several[0]) != folder {
                let what = format!("a folder of the registry's name in {} would be taken instead", several[0]);
                findings.push(Finding::note(place, what));
            }
        }
    }
    findings
}

/// The section that would have to be there.
fn section(effective: &Effective, version: Version, wanted: &str) -> String {
    // Where nothing is said yet, a new file is written in the newest form.
    let name = match (effective.name, effective.is_new) {
        (_, true) if version.has_images_section() => IMAGES,
        (_, true) => CRI,
        (name, false) => name,
    };
    format!("{}\n  {wanted}", header(name))
}

/// The header of the table with `config_path`.
pub(super) fn header(plugin: &str) -> String {
    if plugin == CRI_V1 {
        "[plugins.cri.registry]".to_owned()
    } else {
        format!("[plugins.{}.registry]", quoted(plugin))
    }
}

/// What a config.toml that is new begins with.
pub(super) fn version_line(version: Version) -> &'static str {
    if version.has_images_section() { "version = 3" } else { "version = 2" }
}
