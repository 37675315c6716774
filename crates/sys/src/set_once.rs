//! A pointer that is set once.

use crate::sync::{AtomicPtr, Ordering};
use core::ptr;

/// Makes what the pointer leads to visible to who finds it set. Pairs with `SET`.
const GET: Ordering = if cfg!(hakmem_mutation = "set_once_get_relaxed") {
    Ordering::Relaxed
} else {
    Ordering::Acquire
};
/// Publishes it.
const SET: Ordering = if cfg!(hakmem_mutation = "set_once_set_relaxed") {
    Ordering::Relaxed
} else {
    Ordering::Release
};

/// A pointer that is null until one of several threads sets it. All-zero bytes are one that is not
/// set.
#[derive(Debug)]
pub struct SetOnce<T>(AtomicPtr<T>);

impl<T> Default for SetOnce<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> SetOnce<T> {
    crate::const_new! {
        /// A pointer that is not set.
        pub fn new() -> Self {
            Self(AtomicPtr::new(ptr::null_mut()))
        }
    }

    /// The pointer; null if it is not set.
    ///
    /// Ordering: acquire; pairs with [`set`](Self::set).
    #[inline]
    pub fn get(&self) -> *mut T {
        self.0.load(GET)
    }

    /// Sets the pointer.
    ///
    /// Ordering: release; acquire of what another has set.
    ///
    /// # Errors
    ///
    /// What another has set.
    #[inline]
    pub fn set(&self, pointer: *mut T) -> Result<(), *mut T> {
        if cfg!(hakmem_mutation = "set_once_blindly") {
            self.0.store(pointer, SET);
            return Ok(());
        }
        self.0
            .compare_exchange(ptr::null_mut(), pointer, SET, GET)
            .map(|_| ())
    }
}
