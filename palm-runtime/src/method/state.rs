//! [`State`] grants access to the user's value, by `&self` and by `&mut self`.

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The user's value, which the parts of its component share.
#[derive(Debug)]
pub struct State<C>(StateAccess<C>);

#[derive(Debug)]
enum StateAccess<C> {
    Shared(C),
    Locked(RwLock<C>),
}

impl<C> State<C> {
    /// Creates a state that grants access by `&self` only.
    pub(super) fn without_lock(value: C) -> Self {
        Self(StateAccess::Shared(value))
    }

    /// Creates a state that grants access by `&mut self`, too.
    pub(super) fn locked(value: C) -> Self {
        Self(StateAccess::Locked(RwLock::new(value)))
    }

    /// Returns the value of a component that needs no lock.
    ///
    /// # Panics
    ///
    /// If [`Shape::EXCLUSIVE`](super::Shape::EXCLUSIVE) is true.
    pub(crate) fn unlocked(&self) -> &C {
        match &self.0 {
            StateAccess::Shared(value) => value,
            StateAccess::Locked(_) => panic!("`Shape::EXCLUSIVE` is true"),
        }
    }

    /// Grants access for a `&self` method. Waits only while a `&mut self` method runs or waits.
    #[doc(hidden)]
    pub async fn shared(&self) -> StateRef<'_, C> {
        match &self.0 {
            StateAccess::Shared(value) => StateRef(StateRefKind::Plain(value)),
            StateAccess::Locked(lock) => StateRef(StateRefKind::Locked(lock.read().await)),
        }
    }

    /// Like [`shared`](Self::shared), for a thread that may block.
    #[doc(hidden)]
    pub fn blocking_shared(&self) -> StateRef<'_, C> {
        match &self.0 {
            StateAccess::Shared(value) => StateRef(StateRefKind::Plain(value)),
            StateAccess::Locked(lock) => StateRef(StateRefKind::Locked(lock.blocking_read())),
        }
    }

    /// Grants access for a `&mut self` method, in the order of the calls.
    ///
    /// # Panics
    ///
    /// If the macro declared that no method takes `&mut self`.
    #[doc(hidden)]
    pub async fn exclusive(&self) -> RwLockWriteGuard<'_, C> {
        self.lock().write().await
    }

    /// Like [`exclusive`](Self::exclusive), for a thread that may block.
    #[doc(hidden)]
    pub fn blocking_exclusive(&self) -> RwLockWriteGuard<'_, C> {
        self.lock().blocking_write()
    }

    fn lock(&self) -> &RwLock<C> {
        match &self.0 {
            StateAccess::Locked(lock) => lock,
            StateAccess::Shared(_) => {
                panic!("`Shape::EXCLUSIVE` is false, yet a method takes `&mut self`")
            }
        }
    }
}

/// Access to the user's value by `&self`.
#[derive(Debug)]
pub struct StateRef<'a, C>(StateRefKind<'a, C>);

#[derive(Debug)]
enum StateRefKind<'a, C> {
    Plain(&'a C),
    Locked(RwLockReadGuard<'a, C>),
}

impl<C> std::ops::Deref for StateRef<'_, C> {
    type Target = C;

    fn deref(&self) -> &C {
        match &self.0 {
            StateRefKind::Plain(value) => value,
            StateRefKind::Locked(guard) => guard,
        }
    }
}
