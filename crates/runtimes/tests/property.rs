//! Whatever was there, installing and uninstalling gives it back: bytes, modes, links, folders.

// Every one of these is a test.
#![allow(clippy::unwrap_used)]

mod house;

use std::fmt::Write;

use house::{House, Tree, registries};
use proptest::{prelude::*, sample::subsequence};
use shoal_runtimes::{Mirror, Plan, Version};

const NAMES: [&str; 4] = ["docker.io", "ghcr.io", "r.lan:5000", "r.lan:5000=http://r.lan:5000"];
const FOLDERS: [&str; 6] = ["docker.io", "ghcr.io", "r.lan:5000", "r.lan_5000_", "_default", "other"];

/// What somebody has in a folder of a registry.
#[derive(Clone, Debug)]
enum Folder {
    None,
    Empty,
    Certificates,
    Hosts(String),
    Both(String),
}

/// What somebody does.
#[derive(Clone, Debug)]
enum Step {
    Install { names: Vec<&'static str>, port: u16, set: bool, version: Option<Version> },
    Uninstall(Vec<&'static str>),
}

/// Lines as they are, joined with either line end, and with or without one at the end.
fn text(lines: impl Strategy<Value = Vec<String>>) -> impl Strategy<Value = String> {
    (lines, prop::bool::weighted(0.2), any::<bool>()).prop_map(|(lines, dos, ended)| {
        let end = if dos { "\r\n" } else { "\n" };
        let text = lines.join("\n").replace('\n', end);
        if ended && !text.is_empty() { text + end } else { text }
    })
}

fn space() -> impl Strategy<Value = String> {
    prop_oneof![Just(""), Just("\n"), Just("# why\n"), Just("\n# one\n  # two\n"), Just("#shoal\n")]
        .prop_map(str::to_owned)
}

fn hosts() -> impl Strategy<Value = String> {
    let root = prop_oneof![
        Just("server = \"https://registry.corp\""),
        Just("ca = [\n  \"a.pem\",\n  # and\n  \"b.pem\",\n]"),
        Just("note = \"\"\"\n# in a text\n[host.\"x\"]\n\"\"\""),
        Just("client = \"c.pem\" # mine"),
        Just("# alone"),
        Just(""),
    ];
    let host = prop_oneof![
        Just("[host.\"https://HOST\"]\n  capabilities = [\"pull\"]"),
        Just("  [host.\"https://HOST\"]\n  ca = \"x\"\n  [host.\"https://HOST\".header]\n    a = [\"b\"]"),
        Just("[ host . 'https://HOST' ]"),
        Just("[header]\nHOST = \"1\""),
        Just("[host]"),
        Just("[host.\"http://127.0.0.1:5050\"]"),
        Just("not toml = HOST = 1"),
    ];
    let lines = (prop::collection::vec((space(), root), 0..3), prop::collection::vec((space(), host), 0..4), space())
        .prop_map(|(root, hosts, last)| {
            let mut seen = Vec::new();
            let mut lines = Vec::new();
            for (space, line) in root {
                // A key can be given once.
                let key = line.split('=').next().unwrap_or_default().to_owned();
                if !seen.contains(&key) {
                    lines.push(format!("{space}{line}"));
                    seen.push(key);
                }
            }
            for (index, (space, host)) in hosts.into_iter().enumerate() {
                lines.push(format!("{space}{}", host.replace("HOST", &format!("h{index}"))));
            }
            lines.push(last);
            lines
        });
    text(lines)
}

fn config() -> impl Strategy<Value = String> {
    let version = prop_oneof![Just(""), Just("version = 2"), Just("version = 3")];
    let part = prop_oneof![
        Just("[plugins]"),
        Just("[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"\""),
        Just("[plugins.\"io.containerd.grpc.v1.cri\".registry]\n\tconfig_path = '/a:/b' # two"),
        Just("[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors]"),
        Just("    [plugins.'io.containerd.cri.v1.images'.registry]"),
        Just("[plugins.cri.registry]\nconfig_path = \"/ROOT/certs.d\""),
        Just("[plugins.\"io.containerd.grpc.v1.cri\"]\nregistry.config_path = \"\""),
        Just("[grpc]\n  address = \"/run/x\""),
    ];
    text((version, prop::collection::vec((space(), part), 0..3), space()).prop_map(|(version, parts, last)| {
        let parts = parts.into_iter().map(|(space, part)| format!("{space}{part}"));
        [version.to_owned()].into_iter().chain(parts).chain([last]).collect()
    }))
}

fn folder() -> impl Strategy<Value = Folder> {
    prop_oneof![
        3 => Just(Folder::None),
        1 => Just(Folder::Empty),
        1 => Just(Folder::Certificates),
        4 => hosts().prop_map(Folder::Hosts),
        1 => hosts().prop_map(Folder::Both),
    ]
}

fn names() -> impl Strategy<Value = Vec<&'static str>> {
    subsequence(NAMES.to_vec(), 0..3)
}

fn step() -> impl Strategy<Value = Step> {
    let version = prop::option::of(prop::sample::select(Version::KNOWN.to_vec()));
    let install = (names(), prop_oneof![Just(5050), Just(6060)], prop::bool::weighted(0.3), version)
        .prop_map(|(names, port, set, version)| Step::Install { names, port, set, version });
    prop_oneof![3 => install, 1 => names().prop_map(Step::Uninstall)]
}

fn mode() -> impl Strategy<Value = u32> {
    prop::sample::select(vec![0o600, 0o640, 0o644, 0o664])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn containerd_is_as_it_was(
        folders in prop::collection::vec((folder(), mode()), FOLDERS.len()),
        config in prop::option::of((config(), mode())),
        has_root in any::<bool>(),
        steps in prop::collection::vec(step(), 1..4),
    ) {
        let house = House::new(&Tree::new());
        if has_root {
            house.add_folder("certs.d", 0o700);
        }
        for (name, (folder, mode)) in FOLDERS.iter().zip(folders) {
            let file = |name: &str, text: &str| house.add(name, text, mode);
            let (hosts, certificate) = (format!("certs.d/{name}/hosts.toml"), format!("certs.d/{name}/ca.crt"));
            match folder {
                Folder::None => {}
                Folder::Empty => house.add_folder(&format!("certs.d/{name}"), 0o750),
                Folder::Certificates => file(&certificate, "PEM"),
                Folder::Hosts(text) => file(&hosts, &text),
                Folder::Both(text) => {
                    file(&hosts, &text);
                    file(&certificate, "PEM");
                }
            }
        }
        if let Some((text, mode)) = config {
            house.add("config.toml", &text, mode);
        }
        let before = house.snapshot();
        for step in &steps {
            let now = house.snapshot();
            match step {
                Step::Install { names, port, set, version } => {
                    let mirror: Mirror = format!("http://127.0.0.1:{port}").parse().unwrap();
                    let containerd = house.containerd(*version);
                    let install = || containerd.install(&registries(names), &mirror, *set);
                    let Ok(plan) = install() else {
                        prop_assert_eq!(house.snapshot(), now, "a refusal changes nothing");
                        continue;
                    };
                    let shown = plan.to_string();
                    prop_assert_eq!(house.snapshot(), now, "a plan changes nothing");
                    plan.apply().unwrap();
                    let again = install().unwrap();
                    prop_assert!(again.is_empty(), "{}\nand then\n{}", shown, again);
                    let report = containerd.status(&registries(names), &mirror).unwrap();
                    for (name, hosts) in &report.routes {
                        prop_assert!(!names.iter().any(|wanted| wanted.starts_with(name.as_str())) || hosts[0] == mirror.url(), "{}", report);
                    }
                }
                Step::Uninstall(names) => house.containerd(None).uninstall(&registries(names)).unwrap().apply().unwrap(),
            }
        }
        house.containerd(None).uninstall(&[]).unwrap().apply().unwrap();
        prop_assert_eq!(house.snapshot(), before);
        prop_assert!(house.containerd(None).uninstall(&[]).unwrap().is_empty());
    }

    #[test]
    fn crio_is_as_it_was(
        files in prop::collection::vec(prop::option::of((registries_conf(), mode())), 4),
        steps in prop::collection::vec((any::<bool>(), names(), prop_oneof![Just(5050), Just(6060)]), 1..4),
    ) {
        let house = House::new(&Tree::new());
        let names = ["registries.conf", "registries.conf.d/10-site.conf", "registries.conf.d/shoal.conf", "registries.conf.d/zz.conf"];
        for (name, file) in names.iter().zip(files) {
            if let Some((text, mode)) = file {
                house.add(name, &text, mode);
            }
        }
        let before = house.snapshot();
        for (install, names, port) in &steps {
            let now = house.snapshot();
            let mirror: Mirror = format!("http://127.0.0.1:{port}").parse().unwrap();
            let plan = || -> Result<Plan, _> {
                if *install { house.crio().install(&registries(names), &mirror) } else { house.crio().uninstall(&registries(names)) }
            };
            let Ok(first) = plan() else {
                prop_assert_eq!(house.snapshot(), now, "a refusal changes nothing");
                continue;
            };
            let mut shown = String::new();
            write!(shown, "{first}").unwrap();
            first.apply().unwrap();
            let again = plan().unwrap();
            prop_assert!(again.is_empty(), "{}\nand then\n{}", shown, again);
        }
        if let Ok(plan) = house.crio().uninstall(&[]) {
            plan.apply().unwrap();
        }
        prop_assert_eq!(house.snapshot(), before);
    }
}

fn registries_conf() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("unqualified-search-registries = [\"docker.io\"]"),
        Just("[[registry]]\nlocation = \"docker.io\"\n[[registry.mirror]]\nlocation = \"cache.lan\" # ours"),
        Just("[[registry]]\nprefix = \"ghcr.io\"\nlocation = \"127.0.0.1:6060/ghcr.io\"\ninsecure = true"),
        Just("[[registry]]\nprefix = \"*.corp\"\nblocked = true"),
        Just("[aliases]\n\"a\" = \"b/a\""),
        Just("[registries.search]\nregistries = []"),
        Just("not toml"),
    ];
    text((prop::collection::vec((space(), part), 0..3), space()).prop_map(|(parts, last)| {
        let parts = parts.into_iter().map(|(space, part)| format!("{space}{part}"));
        parts.chain([last]).collect()
    }))
}
