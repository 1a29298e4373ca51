//! The fan-outs that `docs/benchmarks.md` shows: fleets of several sizes, with an origin as fast as a node and one that is
//! faster.
//!
//! * `measured`: one of them, run by this program as a user would;
//! * `machine`: where and of what; `page`: the text; `chart`: the picture.

mod chart;
mod machine;
mod measured;
mod page;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use shoal::config::Size;

use self::{
    machine::Machine,
    measured::{Fanout, Measured},
    page::Page,
};
use crate::workshop::{self, Tools};

/// The fleets: so many nodes, and what each one's link carries. More than eight links of 200 Mbit/s are more than two
/// processors can drive.
const FLEETS: [(u16, u32); 5] = [(1, 200), (2, 200), (4, 200), (8, 200), (16, 100)];
/// How many times as fast as a node's link the origin's is.
const ORIGINS: [u32; 2] = [1, 4];
/// Of this many nodes the curves are drawn.
const DRAWN: u16 = 8;

/// The arguments of `shoal-bench report`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// How much every node pulls
    #[arg(long, default_value = "1GiB", value_name = "SIZE")]
    size: Size,

    /// No fleets larger than this
    #[arg(long, default_value_t = 16, value_name = "COUNT")]
    most_nodes: u16,

    /// How often; medians count
    #[arg(long, default_value_t = 1, value_name = "TIMES", value_parser = clap::value_parser!(u16).range(1..=100))]
    repeat: u16,

    /// Run libtorrent beside, on the same links
    #[arg(long)]
    bittorrent: bool,

    /// The page whose tables are to be made new; pictures go into the folder beside it that has its name. What stands outside
    /// of the marks in it stays
    #[arg(long, default_value = "docs/benchmarks.md", value_name = "FILE")]
    page: PathBuf,

    #[command(flatten)]
    tools: Tools,
}

/// Runs them all, and writes the page.
///
/// # Errors
/// Those of a fan-out, and when the page cannot be written, or is one that was not made for this.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    // Whatever is wrong with the page is told before an hour of measurements.
    Page::open(&args.page)?;
    let pictures = args.page.with_extension("");
    fs::create_dir_all(&pictures).with_context(|| format!("make the folder {}", pictures.display()))?;
    let machine = Machine::look()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let measured = runtime.block_on(workshop::unless_ended(all(args, &pictures)))?;
    let draw = |name: &str, picture: String| {
        let path = pictures.join(name);
        fs::write(&path, picture).with_context(|| format!("write {}", path.display()))
    };
    draw("fanout.svg", chart::draw(&measured))?;
    // Somebody may have written around the tables meanwhile.
    Page::open(&args.page)?.write(&page::tables(args, &machine, &measured))
}

async fn all(args: &Args, pictures: &Path) -> anyhow::Result<Vec<Measured>> {
    let mut measured = Vec::new();
    for origin in ORIGINS {
        for (nodes, rate) in FLEETS.into_iter().filter(|(nodes, _)| *nodes <= args.most_nodes) {
            let plot = (nodes == DRAWN && origin == 1).then(|| pictures.join("nodes.svg"));
            let fanout = Fanout { nodes, rate, origin_rate: rate * origin, plot };
            eprintln!("{nodes} nodes of {rate} Mbit/s, the origin of {} Mbit/s", fanout.origin_rate);
            measured.push(fanout.run(args).await?);
        }
    }
    Ok(measured)
}
