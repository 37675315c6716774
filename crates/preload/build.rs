//! Link options of `libhakmem.so`.

use std::path::Path;

fn main() {
    let here = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let replaceable = Path::new(&here).join("replaceable.list");
    println!("cargo::rerun-if-changed={}", replaceable.display());

    // The `libc` crate names the library only while it is itself `no_std`, which
    // another package of the build can change.
    println!("cargo::rustc-cdylib-link-arg=-lc");

    let options = [
        // The symbols on the list are looked up in the whole program, as C++
        // asks; every other reference is bound inside the library, so neither
        // fast path reads the global offset table or goes through a stub.
        // Not `-Bsymbolic`: the loader reads that mark too, and then looks up
        // the symbols on the list in this library first.
        &format!("--dynamic-list={}", replaceable.display()),
        // Nothing is left to be resolved at the first call, which could
        // come while the loader's lock is held.
        "-znow",
        "-zrelro",
        // An undefined symbol is an error here instead of in the first program.
        "-zdefs",
        // Fork handlers, exit hooks and live blocks outlast a `dlclose`.
        "-znodelete",
        "-soname=libhakmem.so",
    ];
    for option in options {
        println!("cargo::rustc-cdylib-link-arg=-Xlinker");
        println!("cargo::rustc-cdylib-link-arg={option}");
    }
}
