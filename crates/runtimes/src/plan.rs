//! What would change, before anything does.

use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
};

use similar::TextDiff;

use crate::{Error, Finding, block::Made, files};

/// Changes to files, in order, and what there is to say about them.
///
/// Each file changes at once and whole. Where a later one fails the earlier ones have changed; what is left can be done
/// by the same command, and undone by the other.
#[derive(Debug, Default)]
pub struct Plan {
    steps: Vec<Step>,
    notes: Vec<Finding>,
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    MakeFolder(PathBuf),
    Write {
        path: PathBuf,
        before: Option<String>,
        after: String,
    },
    Remove {
        path: PathBuf,
        before: String,
    },
    /// Only where nothing is left in it.
    RemoveFolder(PathBuf),
}

impl Plan {
    /// Whether everything is already as it should be.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// What to know besides.
    #[must_use]
    pub fn notes(&self) -> &[Finding] {
        &self.notes
    }

    /// The files that change.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.steps.iter().filter_map(|step| match step {
            Step::Write { path, .. } | Step::Remove { path, .. } => Some(path.as_path()),
            Step::MakeFolder(_) | Step::RemoveFolder(_) => None,
        })
    }

    /// Does it.
    ///
    /// # Errors
    /// At the first step that the system refuses; those before it have been done.
    pub fn apply(&self) -> Result<(), Error> {
        for step in &self.steps {
            match step {
                Step::MakeFolder(folder) => files::make_folder(folder)?,
                Step::Write { path, after, .. } => files::write(path, after)?,
                Step::Remove { path, .. } => files::remove(path)?,
                Step::RemoveFolder(folder) => {
                    files::remove_folder(folder)?;
                }
            }
        }
        Ok(())
    }

    pub(crate) fn note(&mut self, finding: Finding) {
        self.notes.push(finding);
    }

    /// Has a file written, in a folder that is made first where it is missing.
    pub(crate) fn write(&mut self, path: &Path, before: Option<String>, after: String) {
        if before.as_deref() == Some(&after) {
            return;
        }
        let folder = files::folder_of(path);
        let missing: Vec<&Path> = folder.ancestors().take(files::missing_folders(folder)).collect();
        for folder in missing.into_iter().rev() {
            let step = Step::MakeFolder(folder.to_owned());
            if !self.steps.contains(&step) {
                self.steps.push(step);
            }
        }
        self.steps.push(Step::Write { path: path.to_owned(), before, after });
    }

    /// Has Shoal's lines taken out of a file, and the file taken away where Shoal made it and nothing else is in it.
    pub(crate) fn restore(&mut self, path: &Path, text: String, base: String, made: Made) {
        if made.file && base.trim().is_empty() {
            self.steps.push(Step::Remove { path: path.to_owned(), before: text });
        } else {
            self.steps.push(Step::Write { path: path.to_owned(), before: Some(text), after: base });
        }
    }

    /// Has folders taken away that Shoal made, inner ones first.
    pub(crate) fn remove_folders(&mut self, folders: BTreeSet<PathBuf>) {
        self.steps.extend(folders.into_iter().rev().map(Step::RemoveFolder));
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let diff = |f: &mut fmt::Formatter<'_>, path: &Path, before: Option<&str>, after: Option<&str>| {
            let name = |side: Option<&str>| side.map_or("/dev/null".to_owned(), |_| path.display().to_string());
            TextDiff::from_lines(before.unwrap_or_default(), after.unwrap_or_default())
                .unified_diff()
                .header(&name(before), &name(after))
                .to_string()
                .fmt(f)
        };
        for step in &self.steps {
            match step {
                Step::MakeFolder(folder) => writeln!(f, "make the folder {}", folder.display())?,
                Step::Write { path, before, after } => diff(f, path, before.as_deref(), Some(after))?,
                Step::Remove { path, before } => diff(f, path, Some(before), None)?,
                Step::RemoveFolder(folder) => writeln!(f, "remove the folder {} if it is empty", folder.display())?,
            }
        }
        Ok(())
    }
}
