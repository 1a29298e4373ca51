//! `shoal containerd` and `shoal crio` as they are called: what they say, where, and with which exit code they end.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

fn shoal(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shoal"));
    command.args(args).current_dir(dir).env_remove("CONTAINERS_REGISTRIES_CONF");
    match args[0] {
        "containerd" => command.args(["--config-path", "certs.d", "--containerd-config", "config.toml"]),
        _ => command.args(["--config-path", "registries.conf.d", "--registries-conf", "registries.conf"]),
    };
    command.output().unwrap()
}

/// The folder of the test is left out.
fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let start = |word: &str| word.find("/certs.d").or(word.find("/config.toml")).or(word.find("/registries"));
    let words = text.split_inclusive([' ', '\n', '"']).map(|word| start(word).map_or(word, |start| &word[start + 1..]));
    words.collect()
}

fn said(output: &Output) -> String {
    text(&output.stdout)
}

fn warned(output: &Output) -> String {
    text(&output.stderr)
}

#[test]
fn containerd_is_installed_looked_at_and_uninstalled() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let config = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"\"\n";
    fs::write(dir.join("config.toml"), config).unwrap();
    let run =
        |verb: &str, more: &[&str]| shoal(dir, &[&["containerd", verb, "--containerd-version", "1.7"], more].concat());

    let dry = run("install", &["--registries", "docker.io,ghcr.io", "--set-config-path", "--dry-run"]);
    assert!(dry.status.success(), "{}", warned(&dry));
    assert!(said(&dry).contains("+[host.\"http://127.0.0.1:5050\"]"), "{}", said(&dry));
    assert!(!dir.join("certs.d").exists());
    assert_eq!(fs::read_to_string(dir.join("config.toml")).unwrap(), config);

    let install = run("install", &["--registries", "docker.io,ghcr.io"]);
    assert!(install.status.success());
    assert_eq!(said(&install), "changed certs.d/docker.io/hosts.toml\nchanged certs.d/ghcr.io/hosts.toml\n");
    assert!(warned(&install).contains("config.toml:3: config_path is empty"), "{}", warned(&install));

    let status = run("status", &[]);
    assert_eq!(status.status.code(), Some(1));
    assert!(
        said(&status).contains("\n    config_path = \"certs.d\"\ncontainerd 1.7 would go past Shoal\n"),
        "{}",
        said(&status)
    );

    let set = run("install", &["--registries", "docker.io,ghcr.io", "--set-config-path"]);
    assert_eq!(said(&set), "changed config.toml\n", "{}", warned(&set));
    assert!(warned(&set).contains("restart containerd"), "{}", warned(&set));
    let status = run("status", &[]);
    assert_eq!(status.status.code(), Some(0), "{}", said(&status));
    assert!(said(&status).ends_with("containerd 1.7 would ask Shoal first\n"), "{}", said(&status));
    assert_eq!(said(&run("install", &["--registries", "docker.io"])), "nothing to change\n");

    assert!(run("uninstall", &[]).status.success());
    assert!(!dir.join("certs.d").exists());
    assert_eq!(fs::read_to_string(dir.join("config.toml")).unwrap(), config);
}

#[test]
fn crio_is_installed_looked_at_and_uninstalled() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let install = shoal(dir, &["crio", "install", "--registries", "docker.io"]);
    assert_eq!(said(&install), "changed registries.conf.d/shoal.conf\n", "{}", warned(&install));
    let status = shoal(dir, &["crio", "status"]);
    assert!(status.status.success() && said(&status).ends_with("would ask Shoal first\n"), "{}", said(&status));
    fs::write(dir.join("registries.conf.d/zz.conf"), "[[registry]]\nlocation = \"docker.io\"\n").unwrap();
    let status = shoal(dir, &["crio", "status"]);
    assert_eq!(status.status.code(), Some(1));
    assert!(said(&status).contains("registries.conf.d/zz.conf:1: "), "{}", said(&status));
    fs::remove_file(dir.join("registries.conf.d/zz.conf")).unwrap();
    assert!(shoal(dir, &["crio", "uninstall"]).status.success());
    assert!(!dir.join("registries.conf.d").exists());
}

#[test]
fn what_cannot_be_done_is_said_and_nothing_is_changed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::create_dir_all(dir.join("certs.d/ghcr.io")).unwrap();
    fs::write(dir.join("certs.d/ghcr.io/hosts.toml"), "not toml").unwrap();
    let refused = shoal(dir, &["containerd", "install", "--registries", "docker.io,ghcr.io"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        warned(&refused).starts_with("error: certs.d/ghcr.io/hosts.toml:1: this is not TOML"),
        "{}",
        warned(&refused)
    );
    assert!(!dir.join("certs.d/docker.io").exists());
    for args in [
        &["containerd", "install", "--registries", "../etc"][..],
        &["containerd", "install", "--registries", "docker.io", "--all"],
        &["containerd", "status", "--mirror", "127.0.0.1:5050"],
        &["containerd", "status", "--containerd-version", "two"],
        &["crio", "install"],
    ] {
        assert_eq!(shoal(dir, args).status.code(), Some(2), "{args:?}");
    }
}
