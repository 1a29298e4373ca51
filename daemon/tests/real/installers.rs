//! `shoal containerd` and `shoal crio`, judged by the programs that they write for.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context;
use shoal::cluster::Cluster;
use shoal_registry::AccessLine;

use crate::{
    REGISTRY,
    containerd::Containerd,
    docker_registry::DockerRegistry,
    layout::{Image, Layout},
    needs::{self, Need},
    server::run,
    skopeo, told, whole_and_proven,
};

const FILE_BYTES: u64 = 24 << 20;

/// Runs the program `shoal` to its end.
pub(crate) async fn shoal(args: &[&str]) -> anyhow::Result<String> {
    Ok(String::from_utf8(run(env!("CARGO_BIN_EXE_shoal"), args).await?)?)
}

/// An origin with two images, and one daemon.
struct Site {
    origin: DockerRegistry,
    cluster: Cluster,
    first: Image,
    second: Image,
}

impl Site {
    async fn start(dir: &Path) -> anyhow::Result<Self> {
        let origin = DockerRegistry::start(&dir.join("origin")).await?;
        let image = async |name: &str| {
            let layout = Layout::create(dir.join(name))?;
            let image = layout.image(&format!("{name}.bin"), FILE_BYTES, "v1")?;
            skopeo::push(&layout, "v1", &origin.address(&format!("library/{name}:v1"))).await?;
            anyhow::Ok(image)
        };
        let (first, second) = (image("first").await?, image("second").await?);
        let builder = Cluster::builder(Path::new(env!("CARGO_BIN_EXE_shoal")));
        let cluster = builder.nodes(1).registry(&format!("{REGISTRY}={}", origin.url())).start().await?;
        cluster.wait_all_ready().await?;
        Ok(Self { origin, cluster, first, second })
    }

    /// The first image came through Shoal and the second past it, as the origin's own log has it.
    async fn end(self) -> anyhow::Result<()> {
        whole_and_proven(&self.cluster, 0, &self.first.layer.digest).await?;
        assert!(self.cluster.blob(0, &self.second.layer.digest).await?.is_none(), "Shoal has what nobody asked it for");
        self.cluster.shutdown().await?;
        let entries = self.origin.stop().await?;
        let got = |image: &Image, is_asker: &dyn Fn(&str) -> bool| {
            let path = format!("/blobs/{}", image.layer.digest);
            let is_one = |entry: &&AccessLine| {
                entry.method == "GET" && entry.path().ends_with(&path) && is_asker(&entry.user_agent)
            };
            entries.iter().filter(is_one).map(|entry| entry.bytes).sum::<u64>()
        };
        let is_shoal = |agent: &str| agent.starts_with("shoal/");
        assert_eq!(got(&self.first, &is_shoal), self.first.layer.size, "{entries:#?}");
        assert_eq!(got(&self.first, &|agent| !is_shoal(agent)), 0, "{entries:#?}");
        assert_eq!(got(&self.second, &is_shoal), 0, "{entries:#?}");
        assert_eq!(got(&self.second, &|agent| !is_shoal(agent)), self.second.layer.size, "{entries:#?}");
        Ok(())
    }
}

/// A file that somebody else wrote, and that has to be the same in the end.
struct Theirs {
    path: PathBuf,
    text: String,
    mode: u32,
}

impl Theirs {
    fn write(path: PathBuf, text: String, mode: u32) -> anyhow::Result<Self> {
        fs::create_dir_all(path.parent().context("a file has a folder")?)?;
        fs::write(&path, &text)?;
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
        Ok(Self { path, text, mode })
    }

    fn is_as_it_was(&self) -> anyhow::Result<()> {
        assert_eq!(fs::read_to_string(&self.path)?, self.text);
        assert_eq!(fs::metadata(&self.path)?.permissions().mode() & 0o7777, self.mode);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn containerd_asks_shoal_after_install_and_the_registry_after_uninstall() -> anyhow::Result<()> {
    let needs = ["docker-registry", "skopeo", "containerd", "ctr"].map(Need::Program).into_iter().chain([Need::Root]);
    if !needs::met(needs) {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let site = Site::start(dir.path()).await?;
    let hosts = dir.path().join("hosts");
    let text = format!(
        "# Written by hand.\nserver = \"{0}\"\n\n# The registry.\n[host.\"{0}\"]\n  capabilities = [\"pull\", \"resolve\"]\n",
        site.origin.url()
    );
    let theirs = Theirs::write(hosts.join(REGISTRY).join("hosts.toml"), text, 0o640)?;
    let config = dir.path().join("cri.toml");
    fs::write(
        &config,
        format!(
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"{}\"\n",
            hosts.display()
        ),
    )?;
    let (hosts_dir, config) = (hosts.to_string_lossy().into_owned(), config.to_string_lossy().into_owned());
    let mirror = site.cluster.mirror_url(0);
    let command = async |verb: &str| {
        let args =
            ["containerd", verb, "--config-path", &hosts_dir, "--containerd-config", &config, "--mirror", &mirror];
        shoal(&[&args[..], &["--registries", REGISTRY]].concat()).await
    };

    command("install").await?;
    let status = command("status").await?;
    assert!(status.contains("would ask Shoal first"), "{status}");
    let containerd = Containerd::with_hosts(&dir.path().join("containerd"), hosts).await?;
    told(&site.cluster, containerd.pull(&format!("{REGISTRY}/library/first:v1")).await)?;
    assert_eq!(containerd.digest_of_content(&site.first.layer.digest).await?, site.first.layer.digest);

    command("uninstall").await?;
    theirs.is_as_it_was()?;
    assert!(command("status").await.is_err(), "a status that is not well fails");
    containerd.pull(&format!("{REGISTRY}/library/second:v1")).await?;
    assert_eq!(containerd.digest_of_content(&site.second.layer.digest).await?, site.second.layer.digest);
    site.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn podman_asks_shoal_after_install_and_the_registry_after_uninstall() -> anyhow::Result<()> {
    let needs = ["docker-registry", "skopeo", "podman"].map(Need::Program).into_iter().chain([Need::Root]);
    if !needs::met(needs) {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let site = Site::start(dir.path()).await?;
    let home = dir.path().to_string_lossy().into_owned();
    let conf = dir.path().join(".config/containers/registries.conf");
    let drop_ins = conf.with_extension("conf.d");
    let text = format!(
        "# Written by hand.\n[[registry]]\nprefix = \"{REGISTRY}\"\nlocation = \"{}\"\ninsecure = true\n",
        site.origin.address("").trim_end_matches('/')
    );
    let theirs = Theirs::write(conf.clone(), text, 0o600)?;
    let mirror = site.cluster.mirror_url(0);
    let (conf, folder) = (conf.to_string_lossy().into_owned(), drop_ins.to_string_lossy().into_owned());
    let command = async |verb: &str| {
        let args = ["crio", verb, "--config-path", &folder, "--registries-conf", &conf, "--mirror", &mirror];
        shoal(&[&args[..], &["--registries", REGISTRY]].concat()).await
    };
    let pull = async |name: &str| {
        let (home, root, run_root) = (format!("HOME={home}"), format!("{home}/storage"), format!("{home}/run"));
        let podman =
            ["podman", "--root", &root, "--runroot", &run_root, "--storage-driver", "vfs", "--events-backend", "none"];
        let env = ["-u", "XDG_CONFIG_HOME", "-u", "CONTAINERS_REGISTRIES_CONF", &home];
        let image = format!("{REGISTRY}/library/{name}:v1");
        run("env", &[&env[..], &podman[..], &["pull", "--quiet", &image]].concat()).await
    };

    command("install").await?;
    let status = command("status").await?;
    assert!(status.contains("would ask Shoal first"), "{status}");
    told(&site.cluster, pull("first").await)?;

    command("uninstall").await?;
    theirs.is_as_it_was()?;
    assert!(!drop_ins.exists(), "Shoal leaves no folder behind");
    pull("second").await?;
    site.end().await
}

#[tokio::test]
async fn containerd_reads_the_config_path_that_was_set() -> anyhow::Result<()> {
    if !needs::met([Need::Program("containerd")]) {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let (hosts, path) = (dir.path().join("certs.d"), dir.path().join("config.toml"));
    let defaults = String::from_utf8(run("containerd", &["config", "default"]).await?)?;
    let theirs = Theirs::write(path.clone(), defaults, 0o600)?;
    let (hosts, path) = (hosts.to_string_lossy().into_owned(), path.to_string_lossy().into_owned());
    let command = async |verb: &str, more: &[&str]| {
        let args = ["containerd", verb, "--config-path", &hosts, "--containerd-config", &path];
        shoal(&[&args[..], more].concat()).await
    };
    let dumped =
        async || anyhow::Ok(String::from_utf8(run("containerd", &["--config", &path, "config", "dump"]).await?)?);

    assert!(!dumped().await?.contains(&hosts));
    command("install", &["--dry-run", "--set-config-path"]).await?;
    theirs.is_as_it_was()?;
    command("install", &[]).await?;
    let refused = command("status", &[]).await.err().context("the status is not well")?.to_string();
    assert!(refused.contains("config_path"), "{refused}");
    command("install", &["--set-config-path"]).await?;
    let status = command("status", &[]).await?;
    assert!(status.contains("would ask Shoal first"), "{status}");
    let now = dumped().await?;
    let is_set = |line: &str| line.trim_start().starts_with("config_path = ") && line.contains(&hosts);
    assert!(now.lines().any(is_set), "{now}");
    command("uninstall", &[]).await?;
    theirs.is_as_it_was()?;
    assert!(!Path::new(&hosts).exists());
    Ok(())
}
