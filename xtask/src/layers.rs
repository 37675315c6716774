//! The boxes' order: who may depend on whom.
//!
//! Dependencies point down only. A box may use any box of a lower layer, none of its own
//! layer or above, and from outside only what [`OUTSIDE`] names. What a box's tests depend
//! on is its own affair.

use anyhow::Result;
use cargo_metadata::{DependencyKind, Metadata, Package};

use crate::tally::Outcome;
use crate::workspace;

/// The boxes, bottom to top. Boxes of one layer do not know each other.
const LAYERS: &[&[&str]] = &[
    &["hakmem-sys"],
    &["hakmem-region-id"],
    &["hakmem-page-arena"],
    &["hakmem-remote-free"],
    &["hakmem-superslab"],
    &["hakmem-thread-cache", "hakmem-mid-pool", "hakmem-large"],
    &["hakmem-alloc"],
    &["hakmem-preload"],
];

/// Packages under `crates/` that are no boxes: what boxes use in their tests alone has no
/// place in an order that leaves tests out. A box that is built with one is reported.
const NO_BOXES: &[&str] = &["hakmem-test-support"];

/// Packages from outside that a box may be built with.
const OUTSIDE: &[&str] = &["libc", "static_assertions"];

/// Packages a box may be built with for its loom models only.
const OUTSIDE_UNDER_LOOM: &[&str] = &["loom"];

/// Checks every box of the workspace.
pub fn check() -> Result<Outcome> {
    let boxes = boxes(workspace::metadata()?);
    let broken: Vec<String> = boxes.iter().flat_map(Box::broken_rules).collect();
    Ok(if broken.is_empty() {
        Outcome::Passed(format!("{} boxes", boxes.len()))
    } else {
        Outcome::Failed(broken.join("; "))
    })
}

/// A package under `crates/`, and what it is built with.
struct Box {
    name: String,
    uses: Vec<Use>,
}

/// One dependency of a box that is not for its tests.
struct Use {
    name: String,
    under_loom: bool,
}

impl Box {
    fn of(package: &Package) -> Self {
        Self {
            name: package.name.to_string(),
            uses: package
                .dependencies
                .iter()
                .filter(|dependency| dependency.kind != DependencyKind::Development)
                .map(|dependency| Use {
                    name: dependency.name.clone(),
                    under_loom: dependency
                        .target
                        .as_ref()
                        .is_some_and(|target| target.to_string() == "cfg(loom)"),
                })
                .collect(),
        }
    }

    /// A sentence for each rule this box breaks.
    fn broken_rules(&self) -> Vec<String> {
        let Some(own) = layer(&self.name) else {
            return vec![format!(
                "{} has no place in the order of boxes: give it one in LAYERS of \
                 xtask/src/layers.rs",
                self.name
            )];
        };
        self.uses
            .iter()
            .filter_map(|used| match layer(&used.name) {
                Some(theirs) if theirs < own => None,
                Some(theirs) if theirs == own => Some(format!(
                    "{} depends on {}, which is of the same layer",
                    self.name, used.name
                )),
                Some(_) => Some(format!(
                    "{} depends on {}, which is above it",
                    self.name, used.name
                )),
                None if used.allowed_from_outside() => None,
                None => Some(format!(
                    "{} is built with {}, which is not among {}",
                    self.name,
                    used.name,
                    OUTSIDE.join(", ")
                )),
            })
            .collect()
    }
}

impl Use {
    fn allowed_from_outside(&self) -> bool {
        OUTSIDE.contains(&self.name.as_str())
            || (self.under_loom && OUTSIDE_UNDER_LOOM.contains(&self.name.as_str()))
    }
}

fn boxes(metadata: &Metadata) -> Vec<Box> {
    let crates = metadata.workspace_root.join("crates");
    metadata
        .workspace_packages()
        .into_iter()
        .filter(|package| package.manifest_path.starts_with(&crates))
        .filter(|package| is_box(&package.name))
        .map(Box::of)
        .collect()
}

fn is_box(name: &str) -> bool {
    !NO_BOXES.contains(&name)
}

fn layer(name: &str) -> Option<usize> {
    LAYERS.iter().position(|names| names.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::{Box, Use, is_box};

    fn broken(name: &str, uses: &[(&str, bool)]) -> Vec<String> {
        Box {
            name: name.to_owned(),
            uses: uses
                .iter()
                .map(|&(name, under_loom)| Use {
                    name: name.to_owned(),
                    under_loom,
                })
                .collect(),
        }
        .broken_rules()
    }

    #[test]
    fn a_box_may_use_those_below_it_and_the_named_packages() {
        let uses = [("hakmem-sys", false), ("libc", false), ("loom", true)];
        assert!(broken("hakmem-superslab", &uses).is_empty());
    }

    #[test]
    fn a_box_may_not_use_one_above_it_or_beside_it() {
        let above = broken("hakmem-sys", &[("hakmem-superslab", false)]);
        assert!(above[0].contains("above it"), "{above:?}");
        let beside = broken("hakmem-large", &[("hakmem-mid-pool", false)]);
        assert!(beside[0].contains("same layer"), "{beside:?}");
    }

    #[test]
    fn a_package_from_outside_has_to_be_named_and_loom_only_under_loom() {
        assert_eq!(broken("hakmem-alloc", &[("mimalloc", false)]).len(), 1);
        assert_eq!(broken("hakmem-alloc", &[("loom", false)]).len(), 1);
    }

    #[test]
    fn what_tests_share_is_no_box_and_no_box_is_built_with_it() {
        assert!(!is_box("hakmem-test-support"));
        assert!(is_box("hakmem-sys") && is_box("hakmem-surprise"));
        let built = broken("hakmem-large", &[("hakmem-test-support", false)]);
        assert!(built[0].contains("is built with"), "{built:?}");
    }

    #[test]
    fn a_box_without_a_place_in_the_order_is_reported() {
        assert!(broken("hakmem-surprise", &[])[0].contains("LAYERS"));
    }
}
