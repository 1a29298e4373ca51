//! What a store finds when it is opened.
//!
//! After a clean stop the index is believed. After any other, or where the index does not know a blob, its sidecar says how it
//! is cut and whether it was complete; every piece of a partial blob that may lie in the file is unchecked.

use std::{io, sync::Arc, time::SystemTime};

use shoal_blob::{Digest, Layout, PieceSet};

use crate::{
    Blob, DiskFile, StoreError,
    blob::Papers,
    folder::Found,
    index::Table,
    ledger::Ledger,
    place::{On, Place},
    record::{Record, digest_of},
    sidecar::Sidecar,
};

/// Fills the ledger with all blobs of which there are files, and makes index and files agree.
pub(crate) fn resume(place: &Arc<Place>, clean: bool) -> Result<Ledger, StoreError> {
    let mut found = place.folder.find().on("list", place.folder.dir().join("blobs"))?;
    let mut lost = Vec::new();
    let mut records = Vec::new();
    place.index.scan(Table::Blobs, |key, value| match digest_of(key).filter(|digest| found.contains_key(digest)) {
        Some(digest) => records.push((digest, Record::from_bytes(value))),
        None => lost.push(key.to_vec()),
    })?;
    for key in lost {
        place.index.remove(Table::Blobs, &key)?;
    }
    let mut ledger = Ledger::default();
    for (digest, record) in records {
        let files = found.remove(&digest).unwrap_or_default();
        resume_one(place, &mut ledger, digest, files, record.as_ref(), clean)?;
    }
    for (digest, files) in found {
        resume_one(place, &mut ledger, digest, files, None, clean)?;
    }
    Ok(ledger)
}

fn resume_one(
    place: &Arc<Place>,
    ledger: &mut Ledger,
    digest: Digest,
    files: Found,
    record: Option<&Record>,
    clean: bool,
) -> Result<(), StoreError> {
    match if files.data { resumed(place, digest, files, record, clean) } else { Ok(None) } {
        Ok(Some(blob)) => {
            place.clock.passed(blob.last_use());
            ledger.enter(Arc::new(blob));
            Ok(())
        }
        Ok(None) => {
            tracing::warn!(%digest, "files of a blob that cannot be checked without those that are missing are removed");
            remove(place, &digest, files)
        }
        // A bad sector costs one blob, not the daemon: its files stay for whoever wants to look, until it is fetched again.
        Err(error) => {
            tracing::error!(%digest, %error, "a blob is left out");
            Ok(())
        }
    }
}

fn resumed(
    place: &Arc<Place>,
    digest: Digest,
    files: Found,
    record: Option<&Record>,
    clean: bool,
) -> Result<Option<Blob>, StoreError> {
    let data_path = place.folder.data(&digest);
    let data = place.disk.open(&data_path).on("open", &data_path)?;
    let length = data.length().on("measure", &data_path)?;
    let believed = record.filter(|record| clean && record.layout().is_some_and(|it| it.length() == length));
    if let Some(record) = believed.filter(|record| record.complete)
        && let Some(layout) = record.layout()
    {
        return Ok(Some(Blob::new(place.clone(), digest, layout, record, Papers::default())));
    }
    let sidecar_path = place.folder.sidecar(&digest);
    let sidecar = if files.sidecar {
        Sidecar::load(place.disk.clone(), sidecar_path.clone(), digest).on("read", &sidecar_path)?
    } else {
        None
    };
    let known = sidecar.as_ref().map(Sidecar::layout).or_else(|| record.and_then(Record::layout));
    let Some(layout) = known else { return Ok(None) };
    let mut sidecar = match sidecar {
        Some(sidecar) => sidecar,
        // The index knows how the blob is cut; its claims are lost, and others may have them.
        None => {
            Sidecar::create_again(place.disk.clone(), sidecar_path.clone(), digest, layout).on("make", &sidecar_path)?
        }
    };
    let mut fresh = match believed {
        Some(record) if record.layout() == Some(layout) => {
            if sidecar.complete() {
                sidecar.append_doubt().on("append a doubt to", &sidecar_path)?;
            }
            record.clone()
        }
        _ => {
            let complete = sidecar.complete() && length == layout.length();
            let none = PieceSet::none_of(&layout);
            let full = PieceSet::full(layout.count());
            if complete {
                Record::new(&layout, true, full, none)
            } else {
                let held = record.filter(|record| record.layout() == Some(layout));
                let mut unchecked = on_disk(&*data, &layout).on("look for holes in", &data_path)?;
                for set in held.iter().flat_map(|record| [&record.readable, &record.unchecked]) {
                    unchecked.union_with(set);
                }
                Record::new(&layout, false, none, unchecked)
            }
        }
    };
    if length != layout.length() {
        data.set_length(layout.length()).on("set the length of", &data_path)?;
    }
    match record {
        Some(record) => (fresh.last_use, fresh.pinned) = (record.last_use, record.pinned),
        None => fresh.last_use = written_at(&data_path),
    }
    let indexed = place.index_blob(&digest, &fresh);
    let blob = Blob::new(place.clone(), digest, layout, &fresh, Papers { sidecar: Some(sidecar) });
    if !indexed {
        blob.holdings.lock().set_changed();
    }
    Ok(Some(blob))
}

/// The pieces that lie wholly in parts of the file which are no holes; an empty piece always does.
fn on_disk(file: &dyn DiskFile, layout: &Layout) -> io::Result<PieceSet> {
    let mut set = PieceSet::none_of(layout);
    if layout.length() == 0 {
        set.insert(0);
    }
    let mut at = 0;
    while let Some(run) = file.data_from(at)? {
        let first = run.start.div_ceil(u64::from(layout.piece_bytes()));
        for piece in (first..).map_while(|number| layout.piece(u32::try_from(number).ok()?)) {
            if layout.byte_range(piece).end > run.end {
                break;
            }
            set.insert(piece.get());
        }
        at = run.end.max(at + 1);
    }
    Ok(set)
}

/// Where the index does not say when a blob was used, its file's time of change does, roughly.
fn written_at(path: &std::path::Path) -> u64 {
    let modified = std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let age = modified.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok()).unwrap_or_default();
    u64::try_from(age.as_micros()).unwrap_or(0)
}

fn remove(place: &Place, digest: &Digest, files: Found) -> Result<(), StoreError> {
    let (data, sidecar) = (place.folder.data(digest), place.folder.sidecar(digest));
    for (path, there) in [(sidecar, files.sidecar), (data, files.data)] {
        if there {
            place.disk.remove(&path).on("remove", &path)?;
        }
    }
    Ok(place.index.remove(Table::Blobs, digest.as_bytes())?)
}
