//! Libraries with a hakmem of their own, in a program that loads and unloads them.
#![cfg(all(target_env = "gnu", not(target_feature = "crt-static")))]

use hakmem_alloc::Hakmem;
use hakmem_test_support::{threads_of_this_name, turn};
use std::ffi::{CString, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: Hakmem = Hakmem::new();

/// The example `plugin`, brought up to date first.
fn library() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .parent()
            .expect("the target folder");
        let status = Command::new(env!("CARGO"))
            .args(["rustc", "--quiet", "--example", "plugin"])
            .args(["--crate-type", "cdylib", "--target-dir"])
            .arg(target)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env_remove("CARGO_BUILD_TARGET")
            .status()
            .expect("cargo must start");
        assert!(status.success(), "the example did not build: {status}");
        target.join("debug/examples/libplugin.so")
    })
}

/// A copy of it, which the loader takes for another library.
fn copy(name: &str) -> PathBuf {
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::copy(library(), &copy).expect("room for a copy");
    copy
}

type Work = extern "C" fn(usize, usize) -> usize;
type HeapsAttached = extern "C" fn() -> u64;

/// The library, loaded.
#[derive(Clone, Copy)]
struct Plugin {
    handle: *mut c_void,
    work: Work,
    heaps_attached: HeapsAttached,
}

// SAFETY: a handle and functions, which any thread may use.
unsafe impl Send for Plugin {}

impl Plugin {
    fn load(path: &Path) -> Self {
        let path = CString::new(path.as_os_str().as_bytes()).unwrap();
        // SAFETY: the names are C strings, and the functions have these types.
        unsafe {
            let handle = libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
            assert!(!handle.is_null(), "{path:?} does not load");
            let work = libc::dlsym(handle, c"plugin_work".as_ptr());
            let heaps = libc::dlsym(handle, c"plugin_heaps_attached".as_ptr());
            assert!(!work.is_null() && !heaps.is_null());
            Self {
                handle,
                work: std::mem::transmute::<*mut c_void, Work>(work),
                heaps_attached: std::mem::transmute::<*mut c_void, HeapsAttached>(heaps),
            }
        }
    }

    fn works(&self) {
        assert_eq!((self.work)(1000, 100), 1000);
    }

    fn unload(self) {
        // SAFETY: the handle was opened once, and nothing of the library is called from here on.
        assert_eq!(unsafe { libc::dlclose(self.handle) }, 0);
    }
}

#[test]
fn a_thread_ends_after_the_library_that_it_allocated_in_was_unloaded() {
    let _turn = turn();
    let plugin = Plugin::load(&copy("thread.so"));
    thread::spawn(move || {
        plugin.works();
        plugin.unload();
    })
    .join()
    .expect("the thread ends");
}

#[test]
fn a_library_that_comes_back_finds_its_memory_and_no_heap_of_threads_that_ended() {
    let _turn = turn();
    let path = copy("again.so");
    for _ in 0..20 {
        let plugin = Plugin::load(&path);
        thread::spawn(move || {
            plugin.works();
            assert_eq!((plugin.heaps_attached)(), 1, "heaps of earlier threads");
            plugin.unload();
        })
        .join()
        .expect("the thread ends");
    }
}

#[test]
fn the_purge_thread_of_a_library_outlives_its_unloading() {
    let _turn = turn();
    let plugin = Plugin::load(&copy("purge.so"));
    assert_eq!(threads_of_this_name(), 1);
    // 64 MiB, freed: the thread is started by the next call.
    assert_eq!((plugin.work)(1000, 64 << 10), 1000);
    plugin.works();
    let deadline = Instant::now() + Duration::from_secs(2);
    while threads_of_this_name() == 1 {
        assert!(Instant::now() < deadline, "no purge thread was started");
        thread::yield_now();
    }
    plugin.unload();
    // Two of its steps.
    thread::sleep(Duration::from_millis(600));
}

#[test]
fn a_program_and_many_libraries_each_have_an_allocator() {
    let _turn = turn();
    // More than there are places to claim.
    let plugins: Vec<Plugin> = (0..10)
        .map(|number| Plugin::load(&copy(&format!("many{number}.so"))))
        .collect();
    let users: Vec<_> = (0..4)
        .map(|_| {
            let plugins = plugins.clone();
            thread::spawn(move || {
                for _ in 0..20 {
                    for plugin in &plugins {
                        plugin.works();
                    }
                    drop(vec![0_u8; 100]);
                }
            })
        })
        .collect();
    for user in users {
        user.join().expect("the thread ends");
    }
    for plugin in plugins {
        assert_eq!((plugin.heaps_attached)(), 0, "heaps of threads that ended");
        plugin.unload();
    }
}
