//! The model files of the workspace, and what their headers say.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::is_model;
use crate::workspace;

/// Preemptions a model explores where its file does not say.
const PREEMPTIONS: u32 = 3;

/// One model file.
pub struct Model {
    /// The package it belongs to.
    pub package: String,
    /// Its name as a test target.
    pub file: String,
    /// The most preemptions loom explores.
    pub preemptions: u32,
    /// The mutations its models must catch.
    pub mutations: Vec<String>,
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.package, self.file)
    }
}

impl Model {
    fn read(package: &str, path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("{} could not be read", path.display()))?;
        let file = path.file_stem().unwrap_or_default().to_string_lossy();
        Self::parse(package, &file, &text)
            .with_context(|| format!("in the header of {}", path.display()))
    }

    fn parse(package: &str, file: &str, text: &str) -> Result<Self> {
        let mut model = Self {
            package: package.to_owned(),
            file: file.to_owned(),
            preemptions: PREEMPTIONS,
            mutations: Vec::new(),
        };
        for line in text.lines().map_while(|line| line.strip_prefix("//!")) {
            let line = line.trim();
            if let Some(name) = line.strip_prefix("mutation:") {
                let name = name.split_whitespace().next();
                let name = name.context("`mutation:` without a name")?;
                model.mutations.push(name.to_owned());
            } else if let Some(count) = line.strip_prefix("preemptions:") {
                model.preemptions = count
                    .trim()
                    .parse()
                    .with_context(|| format!("`preemptions:` needs a number, not{count}"))?;
            }
        }
        Ok(model)
    }
}

/// Every model file, by package and name.
pub fn all() -> Result<Vec<Model>> {
    let mut models = Vec::new();
    for package in workspace::metadata()?.workspace_packages() {
        let folder = package
            .manifest_path
            .parent()
            .context("a manifest is in a folder")?;
        for path in files(folder.join("tests").as_std_path())? {
            if is_model(&path) {
                models.push(Model::read(package.name.as_str(), &path)?);
            }
        }
    }
    models.sort_by(|a, b| (&a.package, &a.file).cmp(&(&b.package, &b.file)));
    Ok(models)
}

/// Every source file of the boxes.
pub fn sources() -> Result<Vec<PathBuf>> {
    let mut folders = vec![workspace::root().join("crates")];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for path in files(&folder)? {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push(path);
            }
        }
    }
    Ok(sources)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)
        .with_context(|| format!("{} could not be listed", folder.display()))?
    {
        files.push(entry?.path());
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::Model;

    #[test]
    fn a_header_names_mutations_and_may_change_the_preemptions() {
        let text = "//! Nothing pushed is lost.\n//!\n//! mutation: push_relaxed (the push's release)\n\
                    //! mutation: take_relaxed\n//! preemptions: 2\nuse x;\n//! mutation: not_the_header\n";
        let model = Model::parse("box", "loom_push", text).unwrap();
        assert_eq!(model.mutations, ["push_relaxed", "take_relaxed"]);
        assert_eq!(model.preemptions, 2);
    }

    #[test]
    fn a_file_that_says_nothing_gets_three_preemptions() {
        let model = Model::parse("box", "loom_push", "//! Just a model.\n").unwrap();
        assert_eq!(model.preemptions, 3);
        assert!(model.mutations.is_empty());
    }

    #[test]
    fn a_number_that_is_none_is_reported() {
        assert!(Model::parse("box", "loom_push", "//! preemptions: few\n").is_err());
    }
}
