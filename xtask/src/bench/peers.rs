//! The allocators that are compared, and how each comes into a program.

use anyhow::{Result, bail};

/// An allocator among those that are compared.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// The name on the command line and in the tables; also the cargo feature of
    /// `hakmem-benches` that chooses it, except for `system`, which is the default.
    pub name: &'static str,
    /// The crate that brings it, and the crate that carries its C or C++ source.
    pub packages: &'static [&'static str],
    /// The compiler that its build needs.
    pub needs: Compiler,
    /// The shared library to preload under whole programs, if Debian has one.
    pub library: Option<Library>,
}

/// What a peer's build needs besides Rust.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compiler {
    /// Nothing.
    None,
    /// A C compiler.
    C,
    /// A C++ compiler.
    Cxx,
}

/// A shared library from a Debian package.
#[derive(Clone, Copy, Debug)]
pub struct Library {
    /// The package.
    pub package: &'static str,
    /// The file, in the folder of the machine's libraries.
    pub file: &'static str,
}

/// Every peer, in the order of the tables' columns.
pub const PEERS: [Peer; 9] = [
    Peer {
        name: "system",
        packages: &[],
        needs: Compiler::None,
        library: None,
    },
    Peer {
        name: "mimalloc3",
        packages: &["mimalloc", "libmimalloc-sys"],
        needs: Compiler::C,
        library: None,
    },
    Peer {
        name: "mimalloc2",
        packages: &["mimalloc", "libmimalloc-sys"],
        needs: Compiler::C,
        library: Some(Library {
            package: "libmimalloc2.0",
            file: "libmimalloc.so.2",
        }),
    },
    Peer {
        name: "jemalloc",
        packages: &["tikv-jemallocator", "tikv-jemalloc-sys"],
        needs: Compiler::C,
        library: Some(Library {
            package: "libjemalloc2",
            file: "libjemalloc.so.2",
        }),
    },
    Peer {
        name: "snmalloc",
        packages: &["snmalloc-rs", "snmalloc-sys"],
        needs: Compiler::Cxx,
        library: None,
    },
    Peer {
        name: "rpmalloc",
        packages: &["rpmalloc", "rpmalloc-sys"],
        needs: Compiler::C,
        library: None,
    },
    Peer {
        name: "tcmalloc",
        packages: &["tcmalloc-better", "libtcmalloc-sys"],
        needs: Compiler::Cxx,
        library: Some(Library {
            package: "libtcmalloc-minimal4",
            file: "libtcmalloc_minimal.so.4",
        }),
    },
    Peer {
        name: "stoolap",
        packages: &["stoolap-jemalloc"],
        needs: Compiler::None,
        library: None,
    },
    Peer {
        name: "hakmem",
        packages: &["hakmem-alloc"],
        needs: Compiler::None,
        library: None,
    },
];

/// Appended to a peer's name: the same allocator with 20 ns of spinning in every
/// free, to see that the tables show it.
pub const SLOWED: &str = "-slow";

/// A peer as it was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Chosen {
    /// The allocator.
    pub peer: &'static Peer,
    /// With a spin in every free.
    pub slowed: bool,
}

impl Chosen {
    /// The name in the tables.
    pub fn name(&self) -> String {
        format!(
            "{}{}",
            self.peer.name,
            if self.slowed { SLOWED } else { "" }
        )
    }

    /// The cargo features that build it.
    pub fn features(&self) -> String {
        let mut features = Vec::new();
        if self.peer.name != "system" {
            features.push(self.peer.name);
        }
        if self.slowed {
            features.push("slow-free");
        }
        features.join(",")
    }
}

/// The peers that `names` asks for, or all.
///
/// # Errors
/// A sentence that names the valid peers when one is unknown.
pub fn choose(names: &[String]) -> Result<Vec<Chosen>> {
    if names.is_empty() {
        return Ok(PEERS
            .iter()
            .map(|peer| Chosen {
                peer,
                slowed: false,
            })
            .collect());
    }
    let mut chosen: Vec<Chosen> = Vec::new();
    for name in names {
        let one = find(name)?;
        if !chosen.iter().any(|other| other.name() == one.name()) {
            chosen.push(one);
        }
    }
    Ok(chosen)
}

/// The peer called `name`.
///
/// # Errors
/// A sentence that names the valid peers when there is none.
pub fn find(name: &str) -> Result<Chosen> {
    let (plain, slowed) = match name.strip_suffix(SLOWED) {
        Some(plain) => (plain, true),
        None => (name, false),
    };
    if let Some(peer) = PEERS.iter().find(|peer| peer.name == plain) {
        return Ok(Chosen { peer, slowed });
    }
    let names: Vec<&str> = PEERS.iter().map(|peer| peer.name).collect();
    bail!(
        "there is no peer called {name}: the peers are {} (each also with {SLOWED} appended, \
         which spins 20 ns in every free)",
        names.join(", ")
    )
}
