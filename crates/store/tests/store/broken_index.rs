//! An index that was copied while it was written, and then damaged.

use std::{
    fs, io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use shoal_faulty_disk::Chance;
use shoal_store::Store;

use crate::sample::{Sample, config};

/// Copies a folder file by file while it changes: each file is of another moment.
fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            // One that is gone by now is not in the copy.
            match fs::copy(entry.path(), target) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => drop(other?),
            }
        }
    }
    Ok(())
}

fn files_of(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_of(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

/// Does to one file of an index what a failing disk, or a person, does. Says what.
fn damage(index: &Path, chance: &mut Chance) -> String {
    let files = files_of(index);
    let path = &files[chance.below(files.len() as u64) as usize];
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    let length = file.metadata().unwrap().len();
    let at = chance.below(length.max(1));
    // What an index holds is at the beginning of a file that is mostly empty.
    let at = if chance.percent(50) { at % 4096 } else { at };
    let what = match chance.below(6) {
        0 => "left as it was",
        1 => {
            file.set_len(at.min(length)).unwrap();
            "cut short"
        }
        2 => {
            let zeros = vec![0; (length - at.min(length)).min(1 + chance.below(65_536)) as usize];
            file.write_all_at(&zeros, at.min(length)).unwrap();
            "zeroed in part"
        }
        3 => {
            fs::remove_file(path).unwrap();
            "removed"
        }
        4 => {
            file.write_all_at(&vec![0; length as usize], 0).unwrap();
            "zeroed"
        }
        _ => {
            for _ in 0..1 + chance.below(64) {
                let at = chance.below(length.max(1));
                let at = if chance.percent(80) { at % 8192 } else { at };
                file.write_all_at(&[chance.any() as u8], at).unwrap();
            }
            "spoilt here and there"
        }
    };
    format!("{} {what}", path.strip_prefix(index).unwrap().display())
}

#[test]
fn an_index_of_any_moment_with_any_damage_loses_no_blob_and_makes_none_up() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), 1 << 20);
    let samples: Vec<_> = (1..6).map(|n| Sample::new(n, 20_000 * usize::from(n), 4096)).collect();
    let gone = Sample::new(77, 50_000, 4096);
    let index = dir.path().join("store/index");
    let copy = |number: usize| dir.path().join(format!("copy-{number}"));

    // A store that is written to, and copies of its index from in between.
    let store = Store::open(&config).unwrap();
    let mut copies = 0;
    let mut take_copy = || {
        copy_folder(&index, &copy(copies)).unwrap();
        copies += 1;
    };
    std::thread::scope(|threads| {
        let writer = threads.spawn(|| {
            gone.put_all(&store.admit(&gone.digest, gone.layout).unwrap());
            store.flush().unwrap();
            for round in 0..12u32 {
                for sample in &samples {
                    let blob = store.admit(&sample.digest, sample.layout).unwrap();
                    let pieces = sample.layout.count();
                    sample.put(&blob, (0..pieces).filter(|piece| piece % 12 <= round));
                    store.put_manifest(&sample.digest, "none", b"").unwrap_err();
                }
                store.flush().unwrap();
            }
        });
        while !writer.is_finished() {
            take_copy();
        }
    });
    // Whole, in part, and gone with other bytes in its place since: what older copies say of it is wrong by now.
    for sample in &samples[..3] {
        sample.put_all(&store.admit(&sample.digest, sample.layout).unwrap());
    }
    store.flush().unwrap();
    take_copy();
    store.discard(&gone.digest).unwrap();
    gone.put(&store.admit(&gone.digest, gone.layout).unwrap(), [1]);
    take_copy();
    store.close().unwrap();
    drop(store);
    take_copy();
    assert!(copies > 10, "only {copies} copies were made");

    let mut chance = Chance::new(5);
    let (mut rebuilt, mut cases) = (0, 0);
    for case in 0..120 {
        let number = chance.below(copies as u64) as usize;
        let _ = fs::remove_dir_all(&index);
        copy_folder(&copy(number), &index).unwrap();
        let what = format!("case {case}: copy {number} of {copies}, {}", damage(&index, &mut chance));
        let clean = chance.percent(50);
        let mark = dir.path().join("store/clean");
        if !clean {
            let _ = fs::remove_file(&mark);
        }
        let set_aside = || fs::read_dir(dir.path().join("store")).unwrap().count();
        let before = set_aside();
        let store = Store::open(&config).unwrap_or_else(|error| panic!("{what}: {error}"));
        rebuilt += u32::from(set_aside() > before);
        cases += 1;
        for (sample, position) in samples.iter().zip(0..) {
            let blob = store.blob(&sample.digest).unwrap_or_else(|| panic!("{what}: blob {position} is gone"));
            assert_eq!(blob.is_complete(), position < 3, "{what}: blob {position}");
            sample.check(&blob);
            let outcome = blob.recheck(&mut sample.chain(), 1).unwrap();
            assert!(outcome.dropped.iter().all(|piece| !blob.pieces().contains(piece)), "{what}");
            assert_eq!(blob.pieces().held(), sample.layout.count(), "{what}: blob {position}");
        }
        let blob = store.blob(&gone.digest).unwrap_or_else(|| panic!("{what}: the blob that came back is gone"));
        gone.check(&blob);
        blob.recheck(&mut gone.chain(), 1).unwrap();
        assert_eq!(blob.pieces(), gone.set([1]), "{what}");
        // The index that was made works.
        store.flush().unwrap();
        drop(blob);
        store.close().unwrap();
        drop(store);
    }
    println!("{cases} damaged indexes of {copies} moments: {rebuilt} were set aside and made anew");
}
