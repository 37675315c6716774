//! The sync shim: `core`'s atomics, or loom's under `cfg(loom)`.
//!
//! Every protocol that has a model takes its atomics from here, so it is checked as the
//! very code that ships.

#[cfg(not(loom))]
pub use core::sync::atomic::{
    AtomicBool, AtomicIsize, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};

#[cfg(loom)]
pub use loom::sync::atomic::{
    AtomicBool, AtomicIsize, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};

/// Declares a `const fn` that is an ordinary `fn` under loom, whose atomics
/// cannot be made in constants.
#[cfg(not(loom))]
#[macro_export]
macro_rules! const_new {
    ($(#[$meta:meta])* $vis:vis unsafe fn $name:ident($($arg:ident : $ty:ty),* $(,)?) -> $ret:ty $body:block) => {
        $(#[$meta])*
        $vis const unsafe fn $name($($arg: $ty),*) -> $ret $body
    };
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident : $ty:ty),* $(,)?) -> $ret:ty $body:block) => {
        $(#[$meta])*
        $vis const fn $name($($arg: $ty),*) -> $ret $body
    };
}

/// Declares a `const fn` that is an ordinary `fn` under loom, whose atomics
/// cannot be made in constants.
#[cfg(loom)]
#[macro_export]
macro_rules! const_new {
    ($(#[$meta:meta])* $vis:vis unsafe fn $name:ident($($arg:ident : $ty:ty),* $(,)?) -> $ret:ty $body:block) => {
        $(#[$meta])*
        $vis unsafe fn $name($($arg: $ty),*) -> $ret $body
    };
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident : $ty:ty),* $(,)?) -> $ret:ty $body:block) => {
        $(#[$meta])*
        $vis fn $name($($arg: $ty),*) -> $ret $body
    };
}

/// An array of so many values, each made by the expression: in a constant, or, under loom, by
/// calls.
#[cfg(not(loom))]
#[macro_export]
macro_rules! array_of {
    ($count:expr, $value:expr) => {
        [const { $value }; $count]
    };
}

/// An array of so many values, each made by the expression: in a constant, or, under loom, by
/// calls.
#[cfg(loom)]
#[macro_export]
macro_rules! array_of {
    ($count:expr, $value:expr) => {
        ::core::array::from_fn::<_, { $count }, _>(|_| $value)
    };
}
