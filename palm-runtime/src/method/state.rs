//! Access to the user's value, by `&self` and by `&mut self`.

use std::sync::Arc;

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::Shape;

/// The user's value, shared between the parts of its component.
#[derive(Debug)]
pub struct State<C>(Access<C>);

#[derive(Debug)]
enum Access<C> {
    Shared(C),
    Locked(RwLock<C>),
}

impl<C: Shape> State<C> {
    /// A value whose methods and hooks parts can call.
    pub fn new(value: C) -> Arc<Self> {
        Arc::new(Self(if C::EXCLUSIVE {
            Access::Locked(RwLock::new(value))
        } else {
            Access::Shared(value)
        }))
    }
}

impl<C> State<C> {
    /// The value for a `&self` method: at once, unless a `&mut self` method runs or waits.
    #[doc(hidden)]
    pub async fn shared(&self) -> Shared<'_, C> {
        match &self.0 {
            Access::Shared(value) => Shared(SharedAccess::Plain(value)),
            Access::Locked(lock) => Shared(SharedAccess::Locked(lock.read().await)),
        }
    }

    /// [`shared`](Self::shared) for a thread that may block.
    #[doc(hidden)]
    pub fn blocking_shared(&self) -> Shared<'_, C> {
        match &self.0 {
            Access::Shared(value) => Shared(SharedAccess::Plain(value)),
            Access::Locked(lock) => Shared(SharedAccess::Locked(lock.blocking_read())),
        }
    }

    /// The value for a `&mut self` method, in the order of the calls.
    ///
    /// # Panics
    ///
    /// When the macro declared that there is no such method.
    #[doc(hidden)]
    pub async fn exclusive(&self) -> RwLockWriteGuard<'_, C> {
        self.lock().write().await
    }

    /// [`exclusive`](Self::exclusive) for a thread that may block.
    #[doc(hidden)]
    pub fn blocking_exclusive(&self) -> RwLockWriteGuard<'_, C> {
        self.lock().blocking_write()
    }

    fn lock(&self) -> &RwLock<C> {
        match &self.0 {
            Access::Locked(lock) => lock,
            Access::Shared(_) => {
                panic!("`Shape::EXCLUSIVE` is false, yet a method takes `&mut self`")
            }
        }
    }
}

/// Access to the user's value by `&self`.
#[derive(Debug)]
pub struct Shared<'a, C>(SharedAccess<'a, C>);

#[derive(Debug)]
enum SharedAccess<'a, C> {
    Plain(&'a C),
    Locked(RwLockReadGuard<'a, C>),
}

impl<C> std::ops::Deref for Shared<'_, C> {
    type Target = C;

    fn deref(&self) -> &C {
        match &self.0 {
            SharedAccess::Plain(value) => value,
            SharedAccess::Locked(guard) => guard,
        }
    }
}
