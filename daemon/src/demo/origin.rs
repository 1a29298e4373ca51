//! Where the blobs come from: the embedded registry, or one that runs already.

use anyhow::{Context, bail};
use http::Uri;
use shoal_blob::{Digest, Repository};
use shoal_registry::{Artifact, Registry};

use super::{
    bars::Bars,
    image::Image,
    report::{NodeReport, OriginReport},
};
use crate::{cli::DemoArgs, cluster::Cluster};

const REPOSITORY: &str = "models/shoal-demo";
const TAG: &str = "v1";
/// The seed of the synthetic weights: the same size has the same digest everywhere.
const SEED: u64 = 20_250_101;

pub(super) struct Origin {
    image: Image,
    url: String,
    /// The registry that this process runs; `None` for one that ran before.
    embedded: Option<Registry>,
}

impl Origin {
    pub(super) async fn of(args: &DemoArgs, bars: &Bars) -> anyhow::Result<Self> {
        match (&args.registry, &args.image) {
            (Some(url), Some(image)) => Self::foreign(url, image),
            _ => Self::embedded(args, bars).await,
        }
    }

    fn foreign(url: &str, image: &str) -> anyhow::Result<Self> {
        let expected = || format!("`--registry` = {url}: expected http://HOST[:PORT] or https://HOST[:PORT]");
        let parsed: Uri = url.parse().with_context(expected)?;
        let name = parsed.authority().with_context(expected)?.as_str();
        let is_bare = matches!(parsed.path(), "" | "/") && parsed.query().is_none();
        if !matches!(parsed.scheme_str(), Some("http" | "https")) || !is_bare || Repository::new(name, "a").is_err() {
            bail!("{}", expected());
        }
        let image = Image::read(name, image)?;
        Ok(Self { image, url: url.trim_end_matches('/').to_owned(), embedded: None })
    }

    async fn embedded(args: &DemoArgs, bars: &Bars) -> anyhow::Result<Self> {
        let size = args.size.0;
        if size == 0 {
            bail!("`--size` = 0: expected a size above 0, such as 1GiB");
        }
        let bar = bars.work("making the weights", size);
        let told = bar.clone();
        let make = move || Artifact::synthetic_reporting(REPOSITORY, TAG, size, SEED, |done| told.set_position(done));
        let artifact = tokio::task::spawn_blocking(make).await.context("make the weights")?;
        bar.finish_and_clear();
        let registry = Registry::builder().artifact(artifact).listen(args.origin_listen).await?;
        let image = Image::read(&registry.addr().to_string(), &format!("{REPOSITORY}:{TAG}"))?;
        Ok(Self { image, url: registry.url(), embedded: Some(registry) })
    }

    pub(super) const fn image(&self) -> &Image {
        &self.image
    }

    /// Whether it ran before, so that nothing is known about it.
    pub(super) const fn is_foreign(&self) -> bool {
        self.embedded.is_none()
    }

    /// What the daemons are told about it.
    pub(super) fn registry_flag(&self) -> String {
        format!("{}={}", self.image.repository.registry(), self.url)
    }

    pub(super) fn describe(&self) -> String {
        let Image { repository, reference } = &self.image;
        let whose = if self.is_foreign() { "the registry at" } else { "an embedded registry at" };
        format!("origin: {whose} {}, {}:{reference}", self.url, repository.path())
    }

    /// What it sent: by its own count where it can be asked, else by those of the daemons.
    pub(super) async fn report(
        &self,
        cluster: &Cluster,
        weight: &Digest,
        nodes: &[NodeReport],
    ) -> anyhow::Result<OriginReport> {
        if let Some(registry) = &self.embedded {
            let counts = registry.counts();
            let blob = counts.blob(weight);
            return Ok(OriginReport {
                blob_bytes_sent: blob.bytes_sent,
                blob_gets: blob.gets,
                blob_heads: blob.heads,
                manifest_gets: counts.manifest_gets,
            });
        }
        let requests = async |kind: &str| {
            let mut sum = 0.0;
            for node in 0..cluster.len() {
                sum += cluster.metric(node, &format!("shoal_origin_requests_total{{kind=\"{kind}\"}}")).await?;
            }
            anyhow::Ok(sum as u64)
        };
        Ok(OriginReport {
            blob_bytes_sent: nodes.iter().map(|node| node.bytes_from_origin).sum(),
            blob_gets: requests("blob_get").await?,
            blob_heads: requests("blob_head").await?,
            manifest_gets: requests("manifest_get").await?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_that_runs_is_named_by_its_url() {
        let origin = Origin::foreign("http://127.0.0.1:5000/", "models/a:v1").unwrap();
        assert_eq!(origin.registry_flag(), "127.0.0.1:5000=http://127.0.0.1:5000");
        for url in ["127.0.0.1:5000", "ftp://r.io", "https://r.io/v2", "https://me:pw@r.io", "https://"] {
            assert!(Origin::foreign(url, "models/a:v1").is_err(), "{url}");
        }
    }
}
