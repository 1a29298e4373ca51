//! The settings of `shoal daemon` as an operator meets them: the real program, its flags, its environment, its file.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use shoal::config::{Layer, table};
use tempfile::TempDir;

/// Runs `shoal` with an environment in which nothing of Shoal is set but what is given.
fn shoal(args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shoal"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SHOAL_")) {
        command.env_remove(name);
    }
    command.args(args).envs(env.iter().copied()).output().unwrap()
}

/// What would be in force.
fn in_force(args: &[&str], env: &[(&str, &str)]) -> Layer {
    let output = shoal(&[&["daemon", "--check"], args].concat(), env);
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{err}");
    toml::from_str(&out).unwrap_or_else(|error| panic!("{error}\n{out}"))
}

/// The error with which it refuses to start.
fn refused(args: &[&str], env: &[(&str, &str)]) -> String {
    let output = shoal(&[&["daemon", "--check"], args].concat(), env);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

fn assert_says(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "{part:?} is missing in: {error}");
    }
}

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn settings(&self, text: &str) -> PathBuf {
        self.write("shoal.toml", text, 0o644)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn defaults_hold_where_nothing_is_said() {
    assert_eq!(in_force(&[], &[]), Layer::defaults());
}

#[test]
fn a_flag_wins_over_the_environment_over_the_file_over_the_default() {
    let files = Files::new();
    let file =
        files.settings("capacity = \"1GiB\"\nmin_free = \"1GiB\"\nzone = \"file\"\nregistry = [\"a.io\", \"b.io\"]\n");
    let config = ["--config", text(&file)];
    let env = [("SHOAL_CAPACITY", "2GiB"), ("SHOAL_MIN_FREE", "2GiB")];

    let all = in_force(&[&config[..], &["--capacity", "3GiB"]].concat(), &env);
    let read = |size: Option<shoal::config::Size>| size.unwrap().0 >> 30;
    assert_eq!((read(all.capacity), read(all.min_free)), (3, 2));
    assert_eq!(all.zone.unwrap().0, "file");
    assert_eq!(all.registry, ["a.io", "b.io"]);
    assert_eq!(all.mirror_listen, Layer::defaults().mirror_listen);

    // A list is taken whole, and the file can be named in the environment too.
    let env = [("SHOAL_CONFIG", text(&file)), ("SHOAL_REGISTRY", "c.io,d.io=http://d.io:5000")];
    assert_eq!(in_force(&[], &env).registry, ["c.io", "d.io=http://d.io:5000"]);
    assert_eq!(in_force(&["--registry", "e.io"], &env).registry, ["e.io"]);
}

#[test]
fn each_setting_can_be_written_in_each_place() {
    let files = Files::new();
    let key = files.write("key", &format!("{}\n", "ab".repeat(32)), 0o640);
    let values = |key_of: &str| match key_of {
        "data_dir" => "/data",
        "mirror_listen" => "127.0.0.1:1",
        "peer_listen" => "[::]:2",
        "admin_listen" => "127.0.0.1:3",
        "bootstrap" => "peers.example:5051",
        "advertise" => "10.0.0.7:5051",
        "cluster_key_file" => text(&key),
        "registry" => "r.io=https://10.0.0.9",
        "allow_any_registry" => "true",
        "credentials" => "/etc/config.json",
        "access" => "r.io=node",
        "ca_file" => "r.io=/etc/ca.pem",
        "proxy" => "http://proxy.example:3128",
        "no_proxy" => "internal.example",
        "capacity" => "5GiB",
        "min_free" => "6GiB",
        "zone" => "z",
        "alone_after" => "7s",
        "in_flight" => "64MiB",
        "origin_in_flight" => "8MiB",
        "origin_connections" => "9",
        "limit_up" => "200mbit",
        "limit_down" => "1gbit",
        "limit_origin" => "26214400B/s",
        "mirror_connections" => "10",
        "mirror_readers" => "12",
        "audit_log" => "/var/log/audit",
        "drain" => "11s",
        "log_format" => "json",
        "log" => "debug",
        other => panic!("the test does not know `{other}`"),
    };
    let rows = table::rows();
    let flags: Vec<String> =
        rows.iter().map(|row| format!("{}={}", row.flag.split(' ').next().unwrap(), values(&row.key))).collect();
    let env: Vec<(&str, &str)> = rows.iter().map(|row| (row.env.as_str(), values(&row.key))).collect();
    let lists = ["bootstrap", "advertise", "registry", "credentials", "access", "ca_file", "no_proxy"];
    let lines: Vec<String> = rows
        .iter()
        .map(|row| match (row.key.as_str(), values(&row.key)) {
            ("allow_any_registry", value) => format!("allow_any_registry = {value}"),
            (list, value) if lists.contains(&list) => format!("{list} = [{value:?}]"),
            (key, value) => format!("{key} = {value:?}"),
        })
        .collect();
    let file = files.settings(&lines.join("\n"));

    let by_flags = in_force(&flags.iter().map(String::as_str).collect::<Vec<_>>(), &[]);
    for row in &rows {
        let said = toml::to_string(&by_flags).unwrap();
        assert!(said.contains(values(&row.key)), "{} has no effect:\n{said}", row.flag);
    }
    assert_eq!(in_force(&[], &env), by_flags);
    assert_eq!(in_force(&["--config", text(&file)], &[]), by_flags);
}

#[test]
fn a_flag_lifts_a_limit_of_the_file() {
    let files = Files::new();
    let file = files.settings("limit_up = \"25MiB/s\"\nlimit_down = \"2.5gbit\"\n");
    let read = in_force(&["--config", text(&file), "--limit-up", "none"], &[]);
    let said = toml::to_string(&read).unwrap();
    for line in ["limit_up = \"none\"", "limit_down = \"2500mbit\"", "limit_origin = \"none\""] {
        assert!(said.contains(line), "{line} is missing in:\n{said}");
    }
}

#[test]
fn a_wrong_value_is_named_in_all_three_places() {
    let files = Files::new();
    let expected = "a size such as 512MiB";
    assert_says(&refused(&["--capacity", "lots"], &[]), &["--capacity", "lots", expected]);
    assert_says(&refused(&[], &[("SHOAL_CAPACITY", "lots")]), &["SHOAL_CAPACITY", "lots", expected]);
    for (line, parts) in [
        ("capacity = \"lots\"", &["capacity", "lots", expected][..]),
        ("capacity = true", &["capacity", "true", expected]),
        ("bootstrap = [\"peer\"]", &["bootstrap", "peer", "HOST:PORT"]),
        ("bootstrap = \"a:1\"", &["bootstrap", "a:1", "sequence"]),
        ("log_format = \"xml\"", &["log_format", "xml", "human", "json"]),
        ("capasity = \"1GiB\"", &["capasity", "unknown field", "`capacity`"]),
        ("[registries.\"r.io\"]\nacces = \"node\"", &["acces", "unknown field", "`access`"]),
        ("[registries.\"r.io\"]\naccess = \"all\"", &["access", "all", "caller", "node"]),
        ("capacity = ", &["capacity", "TOML"]),
    ] {
        let file = files.settings(line);
        let error = refused(&["--config", text(&file)], &[]);
        assert_says(&error, parts);
        assert_says(&error, &[text(&file)]);
    }
    assert_says(&refused(&["--config", "/nowhere.toml"], &[]), &["--config", "/nowhere.toml"]);
}

#[test]
fn values_outside_their_bounds_are_refused() {
    for (flag, parts) in [
        ("--capacity=0", &["capacity", "expected"][..]),
        ("--in-flight=1MiB", &["in_flight", "1MiB", "32MiB"]),
        ("--origin-in-flight=64MiB", &["origin_in_flight", "64MiB", "32MiB"]),
        ("--origin-connections=33", &["origin_connections", "33", "32"]),
        ("--drain=1h", &["drain", "1h", "10m"]),
        ("--limit-up=0", &["--limit-up", "1mbit", "none"]),
        ("--limit-down=10kbit", &["--limit-down", "10kbit", "from 1mbit"]),
        ("--limit-origin=25MiB", &["--limit-origin", "25MiB", "25MiB/s"]),
        ("--admin-listen=127.0.0.1:5050", &["admin_listen", "127.0.0.1:5050", "port"]),
        ("--peer-listen=0.0.0.0:5050", &["peer_listen", "0.0.0.0:5050", "port"]),
    ] {
        assert_says(&refused(&[flag], &[]), parts);
    }
}

#[test]
fn registries_are_checked() {
    let files = Files::new();
    for (flags, parts) in [
        (&["--registry", "r.io=ftp://r.io"][..], &["registry", "ftp://r.io", "https://"][..]),
        (&["--registry", "https://r.io"], &["registry", "https://r.io", "NAME"]),
        (&["--registry", "r.io", "--registry", "R.io"], &["r.io", "twice"]),
        (&["--access", "r.io=node"], &["access", "r.io", "not configured"]),
        (&["--registry", "a.io", "--ca-file", "r.io=/ca.pem"], &["ca_file", "r.io", "not configured"]),
        (&["--registry", "r.io=http://127.0.0.1:5050"], &["registry", "http://127.0.0.1:5050", "this daemon's own"]),
        (&["--registry", "r.io=http://[::1]:5051"], &["registry", "http://[::1]:5051", "this daemon's own"]),
        (
            &["--registry", "r.io", "--access", "r.io=caller", "--allow-any-registry"],
            &["allow_any_registry", "true", "access"],
        ),
        (&["--proxy", "socks5://proxy"], &["--proxy", "socks5://proxy", "http://HOST:PORT"]),
    ] {
        assert_says(&refused(flags, &[]), parts);
    }
    let error = refused(&["--registry", "r.io=https://me:hunter2@r.io"], &[]);
    assert!(!error.contains("hunter2"), "{error}");

    let file = files.settings(
        "registry = [\"a.io\"]\n[registries.\"r.io:5000\"]\nurl = \"http://r.io:5000\"\naccess = \"node\"\n\
         credentials = \"/c.json\"\n",
    );
    let read = in_force(&["--config", text(&file)], &[]);
    assert_eq!(read.registries["r.io:5000"].credentials, Some("/c.json".into()));
    // Another machine's port is another's.
    in_force(&["--registry", "r.io=http://10.0.0.9:5050"], &[]);
    let read = in_force(&["--config", text(&file), "--registry", "b.io"], &[]);
    assert!(read.registries.is_empty(), "a list in the flags replaces both forms of the file");
}

#[test]
fn the_file_says_all_about_a_registry() {
    let files = Files::new();
    let table = "[registries.\"r.io\"]\nurl = [\"https://10.0.0.1\", \"http://10.0.0.2:5000\"]\naccess = \"caller\"\n\
                 user_file = \"/u\"\npassword_file = \"/p\"\nca_file = \"/ca\"\nclient_cert = \"/cert\"\n\
                 client_key = \"/key\"\nproxy = \"none\"\nallow_local = true\n";
    let file = files.settings(&format!("credentials = \"/one.json\"\n{table}"));
    let read = in_force(&["--config", text(&file)], &[]);
    assert_eq!(read.credentials, [PathBuf::from("/one.json")]);
    let registry = &read.registries["r.io"];
    assert_eq!(registry.url, ["https://10.0.0.1", "http://10.0.0.2:5000"]);
    assert!(registry.allow_local && registry.client_key == Some("/key".into()));
    // What is printed reads the same again.
    let again = files.settings(&toml::to_string(&read).unwrap());
    assert_eq!(in_force(&["--config", text(&again)], &[]), read);

    for (line, parts) in [
        ("url = [\"https://a\", \"https://a:443\"]", &["url", "https://a:443", "twice"][..]),
        ("url = [\"https://a\", \"ftp://b\"]", &["url", "ftp://b", "https://"]),
        ("url = 7", &["url", "7"]),
        ("proxy = \"http://me:hunter2@proxy\"", &["proxy", "environment"]),
    ] {
        let file = files.settings(&format!("[registries.\"r.io\"]\n{line}\n"));
        let error = refused(&["--config", text(&file)], &[]);
        assert_says(&error, parts);
    }
}

#[test]
fn a_proxy_of_the_environment_that_cannot_be_used_is_named() {
    let error = refused(&[], &[("HTTPS_PROXY", "socks5://me:hunter2@proxy")]);
    assert_says(&error, &["HTTPS_PROXY", "http or https"]);
    assert!(!error.contains("hunter2"), "{error}");
    // A setting makes it void.
    in_force(&["--proxy", "none"], &[("HTTPS_PROXY", "socks5://proxy")]);
}

#[test]
fn a_cluster_is_never_open() {
    let files = Files::new();
    let missing = files.0.path().join("missing");
    let open = files.write("open", &format!("{}\n", "ab".repeat(32)), 0o644);
    let wrong = files.write("wrong", "# key\nhunter2\n", 0o600);
    let right = files.write("right", &format!("{}\n", "ab".repeat(32)), 0o600);
    let key = |path: &Path| refused(&["--cluster-key-file", text(path)], &[]);

    assert_says(&refused(&["--bootstrap", "a:1"], &[]), &["bootstrap", "a:1", "cluster_key_file", "shoal key new"]);
    assert_says(&key(&missing), &["cluster_key_file", text(&missing), "shoal key new"]);
    assert_says(&key(&open), &["cluster_key_file", text(&open), "0644", "chmod"]);
    let error = key(&wrong);
    assert_says(&error, &["cluster_key_file", "line 2", "64 hexadecimal digits"]);
    assert!(!error.contains("hunter2"), "{error}");

    let output = shoal(&["daemon", "--check", "--cluster-key-file", text(&right), "--bootstrap", "a:1"], &[]);
    assert!(output.status.success());
    assert!(!String::from_utf8_lossy(&output.stderr).contains("ALONE"));
    let output = shoal(&["daemon", "--check", "--mirror-listen", "0.0.0.0:5050"], &[]);
    let warnings = String::from_utf8(output.stderr).unwrap();
    assert_says(&warnings, &["ALONE", "cluster_key_file", "mirror_listen", "not a loopback address"]);
}

#[test]
fn key_new_prints_a_key_and_nothing_else() {
    let keys: Vec<String> = (0..2).map(|_| String::from_utf8(shoal(&["key", "new"], &[]).stdout).unwrap()).collect();
    assert_ne!(keys[0], keys[1]);
    for key in keys {
        let digits = key.strip_suffix('\n').unwrap();
        assert!(digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()), "{key:?}");
    }
}

#[test]
fn the_page_of_settings_is_what_the_program_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/settings.md");
    if std::env::var_os("SHOAL_BLESS").is_some() {
        fs::write(&path, table::page()).unwrap();
    }
    let page = fs::read_to_string(&path).unwrap();
    assert!(
        page == table::page(),
        "docs/settings.md is not up to date: SHOAL_BLESS=1 cargo test -p shoal --test settings"
    );
    for row in table::rows() {
        for part in [row.flag.as_str(), &row.env, &row.key, &row.meaning] {
            assert!(!part.is_empty() && page.contains(&part.replace('|', "\\|")), "{row:?}");
        }
    }
}

#[test]
fn the_samples_of_deploy_are_understood() {
    let files = Files::new();
    let key = files.write("key", &format!("{}\n", "ab".repeat(32)), 0o600);
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let unit = fs::read_to_string(deploy.join("shoal.toml")).unwrap();
    let map = fs::read_to_string(deploy.join("kubernetes/configmap.yaml")).unwrap();
    let (_, map) = map.split_once("shoal.toml: |\n").unwrap();
    for sample in [&unit, map] {
        let file = files.settings(&sample.lines().map(|line| format!("{}\n", line.trim())).collect::<String>());
        let read = in_force(&["--config", text(&file), "--cluster-key-file", text(&key)], &[]);
        assert!(!read.registry.is_empty() && !read.bootstrap.is_empty(), "{sample}");
    }
}
