//! `libhakmem.so`: the `malloc` of any Linux program.
//!
//! Run a program on it with `LD_PRELOAD=/path/to/libhakmem.so program`, or link
//! it with `-lhakmem`. It is a thin shell around `hakmem_alloc::c`, one module
//! for each thing C programs expect of an allocator beyond memory:
//!
//! - `family`: `malloc` and its relatives, with glibc's `errno`, alignment and
//!   zero-size behaviour;
//! - `replaceable`: what is defined by a function that a program may replace;
//! - `operators`: C++ `operator new` and `operator delete` in every form;
//! - `chain`: pointers that are not hakmem's: passed to the next allocator of
//!   the process, or refused with a message;
//! - `deepbind`: `dlopen`, so that libraries cannot be bound past this one;
//! - `numbers`: `mallinfo`, `malloc_info` and the other informational calls.
//!
//! The journey of a call: the exported function is the fast path of
//! `hakmem_alloc::c`, inlined. Only when that fails does anything in this crate
//! run: `errno` is set, the C++ runtime is asked to throw, or the next
//! allocator is looked up.
//!
//! **Invariant: the library needs nothing but libc.** No `std`, no unwinder: it
//! is loaded into programs that have neither, and before either is ready.

// A test build has `std` and unwinds, which this library cannot; it has no unit
// tests, and is empty there.
#![cfg(not(test))]
#![no_std]

mod chain;
mod deepbind;
mod family;
mod numbers;
mod operators;
mod replaceable;

use core::panic::PanicInfo;

/// Registers hakmem's fork handlers before the program can fork, and so before
/// the handlers of most libraries that allocate in theirs; and finds the next allocator.
#[used]
#[unsafe(link_section = ".init_array")]
static INITIALISE: extern "C" fn() = {
    extern "C" fn initialise() {
        hakmem_alloc::init();
        chain::look_up();
    }
    initialise
};

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    hakmem_sys::report::fatal(format_args!("internal error, please report it: {info}"))
}

// The compiled `core` names these two in its unwind tables, which nothing reads
// where panics abort. Optimised builds drop the references, others need a target.
core::arch::global_asm!(
    ".globl rust_eh_personality",
    ".hidden rust_eh_personality",
    ".globl _Unwind_Resume",
    ".hidden _Unwind_Resume",
    "rust_eh_personality:",
    "_Unwind_Resume:",
    #[cfg(target_arch = "x86_64")]
    "ud2",
    #[cfg(target_arch = "aarch64")]
    "brk #1",
);

#[cfg(not(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
compile_error!("libhakmem.so is for Linux with glibc on x86-64 and aarch64");
