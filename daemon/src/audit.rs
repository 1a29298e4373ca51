//! The audit log: a line of JSON for each manifest and each blob that clients were answered.
//!
//! Lines go through a queue to a thread of their own, so that a disk that is slow, or full, holds up nobody's pull. What the
//! queue or the disk does not take is lost, and counted.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use parking_lot::Mutex;
use serde::Serialize;
use shoal_mirror::{Answered, Audit, Item, Source, Verdict};

use crate::metrics::Metrics;

/// How many lines may wait for the disk: some megabytes.
const MOST_WAITING: usize = 8192;
/// How much is written at a time at most, and a line.
const BATCH_BYTES: usize = 64 << 10;
/// How often a failing disk is spoken of.
const SAY_EVERY: Duration = Duration::from_secs(60);
/// Its owner reads and writes it, its group reads it.
const MODE: u32 = 0o640;

/// Takes what is to be logged, at any time and from any thread; never blocks.
#[derive(Debug)]
pub struct AuditLog {
    queue: SyncSender<Word>,
    /// The file to go over to; the writer takes it before it writes anything more.
    next: Arc<Mutex<Option<Option<AuditFile>>>>,
    on: AtomicBool,
    metrics: Arc<Metrics>,
}

/// A file that has been opened for lines.
#[derive(Debug)]
pub struct AuditFile {
    file: File,
    path: PathBuf,
}

#[derive(Debug)]
enum Word {
    Line(Box<Answered>),
    /// There may be another file.
    Look,
    /// Everything before this has been written when it is dropped.
    Close(SyncSender<()>),
}

impl AuditFile {
    /// Opens a file to add lines to; makes it where it is not there.
    ///
    /// # Errors
    /// When the system does not let it be opened; the message names the setting.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(MODE).open(path);
        let file = file.with_context(|| format!("`audit_log` = {}: open it to add lines", path.display()))?;
        Ok(Self { file, path: path.to_owned() })
    }
}

impl AuditLog {
    /// Starts the thread that writes; without a file nothing is.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(file: Option<AuditFile>, metrics: Arc<Metrics>) -> anyhow::Result<Self> {
        let (queue, words) = sync_channel(MOST_WAITING);
        let next = Arc::new(Mutex::new(None));
        let on = AtomicBool::new(file.is_some());
        let writer = Writer { file, next: Arc::clone(&next), metrics: Arc::clone(&metrics), torn: false, said: None };
        let thread = std::thread::Builder::new().name("audit".to_owned());
        thread.spawn(move || writer.run(&words)).context("start the thread that writes the audit log")?;
        Ok(Self { queue, next, on, metrics })
    }

    /// Goes over to this file, opened anew, or to none: for SIGHUP, after the old one was moved away.
    pub fn go_over_to(&self, file: Option<AuditFile>) {
        self.on.store(file.is_some(), Relaxed);
        *self.next.lock() = Some(file);
        // Where the queue is full the writer has work, and looks before the next of it.
        let _ = self.queue.try_send(Word::Look);
    }

    /// Returns once everything that was told before has been written, or when that takes too long. Blocks.
    pub fn close(&self, within: Duration) {
        let (written, wait) = sync_channel(0);
        let deadline = Instant::now() + within;
        let mut word = Word::Close(written);
        while let Err(TrySendError::Full(again)) = self.queue.try_send(word) {
            if Instant::now() >= deadline {
                return;
            }
            word = again;
            std::thread::yield_now();
        }
        // It is never sent anything: it is dropped.
        let _ = wait.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

impl Audit for AuditLog {
    fn answered(&self, answered: Answered) {
        if self.on.load(Relaxed) && self.queue.try_send(Word::Line(Box::new(answered))).is_err() {
            self.metrics.audit_lost.inc();
        }
    }
}

/// The thread's own.
struct Writer {
    file: Option<AuditFile>,
    next: Arc<Mutex<Option<Option<AuditFile>>>>,
    metrics: Arc<Metrics>,
    /// Whether the file ends with a part of a line.
    torn: bool,
    /// When a failure was last spoken of.
    said: Option<Instant>,
}

impl Writer {
    /// Writes until nobody can tell anything any more.
    fn run(mut self, words: &Receiver<Word>) {
        while let Ok(word) = words.recv() {
            let (mut batch, mut lines, mut closing) = (Vec::new(), 0, None);
            let mut next = Some(word);
            while let Some(word) = next {
                match word {
                    Word::Line(answered) => {
                        write_line(&mut batch, &answered);
                        lines += 1;
                    }
                    Word::Look => {}
                    Word::Close(written) => closing = Some(written),
                }
                next = if batch.len() < BATCH_BYTES && closing.is_none() { words.try_recv().ok() } else { None };
            }
            if let Some(file) = self.next.lock().take() {
                (self.file, self.torn) = (file, false);
            }
            self.write(&batch, lines);
            drop(closing);
        }
    }

    fn write(&mut self, batch: &[u8], lines: u64) {
        if lines == 0 {
            return;
        }
        let Some(AuditFile { file, path }) = &mut self.file else {
            // It was switched off while they waited.
            return;
        };
        let outcome = if self.torn { file.write_all(b"\n") } else { Ok(()) };
        match outcome.and_then(|()| file.write_all(batch)) {
            Ok(()) => {
                self.torn = false;
                self.metrics.audit_lines.inc_by(lines);
            }
            Err(error) => {
                self.torn = true;
                self.metrics.audit_lost.inc_by(lines);
                if self.said.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
                    self.said = Some(Instant::now());
                    tracing::error!(path = %path.display(), %error, "the audit log cannot be written; lines are lost");
                }
            }
        }
    }
}

/// What a line has, by the names that it has there.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    caller: String,
    method: &'a str,
    kind: &'a str,
    registry: &'a str,
    repository: &'a str,
    reference: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<&'a str>,
    status: u16,
    bytes: u64,
    from: From,
    verdict: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    took_ms: u64,
}

#[derive(Serialize)]
struct From {
    store: u64,
    peers: u64,
    origin: u64,
}

fn write_line(batch: &mut Vec<u8>, answered: &Answered) {
    let (verdict, code) = match answered.verdict {
        Verdict::Served => ("served", None),
        Verdict::NotModified => ("not_modified", None),
        Verdict::Short => ("short", None),
        Verdict::Left => ("left", None),
        Verdict::Refused(code) => ("refused", Some(code)),
    };
    let line = Line {
        time: humantime::format_rfc3339_millis(answered.at).to_string(),
        caller: answered.caller.to_string(),
        method: answered.method.as_str(),
        kind: match answered.what {
            Item::Manifest => "manifest",
            Item::Blob => "blob",
        },
        registry: answered.repository.registry(),
        repository: answered.repository.path(),
        reference: &answered.reference,
        digest: answered.digest.map(|digest| digest.to_string()),
        range: answered.range.as_deref(),
        status: answered.status.as_u16(),
        bytes: answered.bytes,
        from: From {
            store: answered.from.of_source(Source::Store),
            peers: answered.from.of_source(Source::Peers),
            origin: answered.from.of_source(Source::Origin),
        },
        verdict,
        code,
        took_ms: u64::try_from(answered.took.as_millis()).unwrap_or(u64::MAX),
    };
    serde_json::to_writer(&mut *batch, &line).expect("text and numbers can always be written into memory");
    batch.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::{fs, time::SystemTime};

    use http::{Method, StatusCode};
    use shoal_blob::{Digest, Repository};
    use shoal_mirror::BySource;

    use super::*;

    const SOON: Duration = Duration::from_secs(30);

    fn answered(reference: &str) -> Answered {
        Answered {
            at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_764_344_203_123),
            took: Duration::from_micros(12_999),
            caller: ([127, 0, 0, 1], 4242).into(),
            method: Method::GET,
            what: Item::Blob,
            repository: Repository::new("r.io", "models/a").unwrap(),
            reference: reference.to_owned(),
            digest: Some(Digest::Sha256([0xab; 32])),
            range: Some("bytes=5-".to_owned()),
            status: StatusCode::PARTIAL_CONTENT,
            bytes: 30,
            from: BySource::all_from(Source::Peers, 30),
            verdict: Verdict::Served,
        }
    }

    fn references(path: &Path) -> Vec<String> {
        let text = fs::read_to_string(path).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.map(|line| line["reference"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_line_has_everything_and_is_one_line() {
        let mut batch = Vec::new();
        write_line(&mut batch, &answered("v1\n\"x\""));
        let digest = Digest::Sha256([0xab; 32]);
        assert_eq!(
            String::from_utf8(batch).unwrap(),
            format!(
                "{{\"time\":\"2025-11-28T15:36:43.123Z\",\"caller\":\"127.0.0.1:4242\",\"method\":\"GET\",\"kind\":\"blob\",\
                 \"registry\":\"r.io\",\"repository\":\"models/a\",\"reference\":\"v1\\n\\\"x\\\"\",\"digest\":\"{digest}\",\
                 \"range\":\"bytes=5-\",\"status\":206,\"bytes\":30,\"from\":{{\"store\":0,\"peers\":30,\"origin\":0}},\
                 \"verdict\":\"served\",\"took_ms\":12}}\n"
            )
        );
        let mut batch = Vec::new();
        let verdict = Verdict::Refused("DENIED");
        write_line(&mut batch, &Answered { digest: None, range: None, verdict, ..answered("v1") });
        let line: serde_json::Value = serde_json::from_slice(&batch).unwrap();
        assert_eq!((&line["verdict"], &line["code"]), (&"refused".into(), &"DENIED".into()));
        assert!(line.get("digest").is_none() && line.get("range").is_none());
    }

    #[test]
    fn a_file_that_was_moved_away_keeps_its_lines_and_a_new_one_gets_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("audit"), folder.path().join("audit.1"));
        let metrics = Arc::new(Metrics::new());
        let log = AuditLog::start(Some(AuditFile::open(&path).unwrap()), metrics.clone()).unwrap();
        log.answered(answered("one"));
        log.close(SOON);
        fs::rename(&path, &moved).unwrap();
        log.answered(answered("two"));
        log.close(SOON);
        log.go_over_to(Some(AuditFile::open(&path).unwrap()));
        log.answered(answered("three"));
        log.close(SOON);
        log.go_over_to(None);
        log.answered(answered("four"));
        log.close(SOON);
        assert_eq!((references(&moved), references(&path)), (vec!["one".into(), "two".into()], vec!["three".into()]));
        assert_eq!((metrics.audit_lines.get(), metrics.audit_lost.get()), (3, 0));
    }

    #[test]
    fn lines_that_the_disk_does_not_take_are_counted() {
        let metrics = Arc::new(Metrics::new());
        let log = AuditLog::start(Some(AuditFile::open(Path::new("/dev/full")).unwrap()), metrics.clone()).unwrap();
        (0..10).for_each(|_| log.answered(answered("lost")));
        log.close(SOON);
        assert_eq!((metrics.audit_lines.get(), metrics.audit_lost.get()), (0, 10));
    }

    /// A pipe that nobody reads takes 64 KiB and then nothing: the worst of disks.
    #[test]
    fn a_disk_that_hangs_holds_nobody_up_and_what_is_lost_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
        let reader = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let metrics = Arc::new(Metrics::new());
        let log = AuditLog::start(Some(AuditFile::open(&path).unwrap()), metrics.clone()).unwrap();
        let told = 3 * MOST_WAITING as u64;
        let begun = Instant::now();
        (0..told).for_each(|_| log.answered(answered("v1")));
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        let lost = metrics.audit_lost.get();
        assert!(lost >= told - MOST_WAITING as u64 - 2048, "{lost}");
        // Its end waits no longer than it may.
        log.close(Duration::from_millis(100));
        drop(reader);
    }
}
