//! QUIC alone: one process sends a file on one stream, another throws the bytes away. The sockets, the encryption and the
//! windows are those of the data plane.

use std::{
    fs::File,
    io::{BufRead, Write},
    net::SocketAddr,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, ensure};
use bytes::Bytes;
use shoal_proto::NodeKey;
use shoal_transfer::{TransferConfig, bare};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    task::block_in_place,
};

use super::cost::{Cost, Meter};

/// How many datagrams' worth of bytes are taken off the stream at once, as the data plane takes them.
const BATCH: usize = 64;

/// One end, as a process of its own.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum End {
    /// Says where it listens, and sends the file to whoever asks
    Send {
        /// What to send
        file: PathBuf,
    },
    /// Asks once for each line that it is given, and says when all has come
    Receive {
        /// Where the sender listens
        from: SocketAddr,
    },
}

/// Runs one end until it is ended.
pub(crate) fn run(end: &End) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        match end {
            End::Send { file } => send(file).await,
            End::Receive { from } => receive(*from).await,
        }
    })
}

fn bind(config: &TransferConfig) -> anyhow::Result<quinn::Endpoint> {
    let key = NodeKey::from_seed(&std::array::from_fn(|at| at as u8));
    Ok(bare::bind(([127, 0, 0, 1], 0).into(), &key, config)?)
}

fn say(word: impl std::fmt::Display) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    Ok(writeln!(out, "{word}").and_then(|()| out.flush())?)
}

async fn send(path: &Path) -> anyhow::Result<()> {
    let config = TransferConfig::default();
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let length = file.metadata()?.len();
    let endpoint = bind(&config)?;
    say(endpoint.local_addr()?)?;
    let connection = endpoint.accept().await.context("the endpoint was closed")?.await?;
    loop {
        let (_asked, mut asking) = connection.accept_bi().await?;
        asking.read_to_end(1).await?;
        let mut stream = connection.open_uni().await?;
        for at in (0..length).step_by(config.upload_chunk as usize) {
            let mut chunk = vec![0; (length - at).min(config.upload_chunk.into()) as usize];
            file.read_exact_at(&mut chunk, at)?;
            stream.write_chunk(chunk.into()).await?;
        }
        stream.finish()?;
    }
}

async fn receive(from: SocketAddr) -> anyhow::Result<()> {
    let config = TransferConfig::default();
    let endpoint = bind(&config)?;
    let connection = endpoint.connect(from, "shoal")?.await?;
    bare::widen(&connection, &config);
    say("ready")?;
    let mut line = String::new();
    while block_in_place(|| std::io::stdin().lock().read_line(&mut line))? > 0 {
        let (mut asking, _) = connection.open_bi().await?;
        asking.write_all(b"?").await?;
        asking.finish()?;
        let mut stream = connection.accept_uni().await?;
        let mut batch: [Bytes; BATCH] = std::array::from_fn(|_| Bytes::new());
        let mut came = 0;
        while let Some(filled) = stream.read_chunks(&mut batch).await? {
            came += batch[..filled].iter().map(|bytes| bytes.len() as u64).sum::<u64>();
        }
        say(came)?;
        line.clear();
    }
    Ok(())
}

/// Both ends, started and connected. They end when it is dropped.
pub(super) struct Pair {
    pids: [u32; 2],
    ask: ChildStdin,
    told: Lines<BufReader<ChildStdout>>,
    _ends: [Child; 2],
}

impl Pair {
    pub(super) async fn start(file: &Path) -> anyhow::Result<Self> {
        let (sender, _, mut told) = start(&["send".as_ref(), file.as_os_str()])?;
        let address = told.next_line().await?.context("the sender ended before it listened")?;
        let (receiver, ask, mut told) = start(&["receive".as_ref(), address.as_ref()])?;
        told.next_line().await?.context("the receiver ended before it was connected")?;
        let pid = |child: &Child| child.id().context("one end of the raw QUIC connection has ended");
        Ok(Self { pids: [pid(&sender)?, pid(&receiver)?], ask, told, _ends: [sender, receiver] })
    }

    /// Moves the file once.
    pub(super) async fn run(&mut self, bytes: u64) -> anyhow::Result<Cost> {
        let meter = Meter::start(&self.pids)?;
        self.ask.write_all(b"\n").await?;
        let came = self.told.next_line().await?.context("the receiver ended")?;
        ensure!(came == bytes.to_string(), "{came} of {bytes} bytes came over raw QUIC");
        meter.stop(bytes)
    }
}

fn start(args: &[&std::ffi::OsStr]) -> anyhow::Result<(Child, ChildStdin, Lines<BufReader<ChildStdout>>)> {
    let mut command = Command::new(std::env::current_exe().context("find this program")?);
    command.arg("raw-quic").args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().context("start one end of a raw QUIC connection")?;
    let ask = child.stdin.take().context("its standard input is piped")?;
    let told = child.stdout.take().context("its standard output is piped")?;
    Ok((child, ask, BufReader::new(told).lines()))
}
