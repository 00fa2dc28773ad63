//! The components that are linked into a program, and how they start. The only file that names `inventory`.

mod starter;

#[cfg(feature = "main")]
pub use self::starter::main::{Launch, StartComponent, StartRequest};
#[cfg(feature = "main")]
pub(crate) use self::starter::main::{PlainHub, PlainMaster, Starting};
pub use self::starter::{Linked, NotDefault, Starter, StarterOf};
use crate::component_kind::ComponentKind;
use crate::method::FunctionInfo;

/// A component that is declared by a macro and linked into the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Registration {
    /// The kind of component.
    pub kind: ComponentKind,
    /// The component's name; for a worker the name of its master, or `_`.
    pub name: &'static str,
    /// The type, as written in the source.
    pub type_name: &'static str,
    /// The module that declares it.
    pub declared_at: &'static str,
    /// The first line of its documentation, or empty.
    pub doc: &'static str,
    /// Its functions, in the order of declaration.
    pub functions: &'static [FunctionInfo],
    /// The hooks that it implements: `scatter`, `gather`, `handle_stream`.
    pub hooks: &'static [&'static str],
    /// Starts the component for `palm::main!`, if its type implements `Default`.
    #[cfg_attr(
        not(feature = "main"),
        allow(dead_code, reason = "only programs read it")
    )]
    pub(crate) starter: Starter,
}

impl Registration {
    #[doc(hidden)]
    pub const fn new(
        kind: ComponentKind,
        name: &'static str,
        type_name: &'static str,
        declared_at: &'static str,
        doc: &'static str,
        functions: &'static [FunctionInfo],
        hooks: &'static [&'static str],
    ) -> Self {
        Self {
            kind,
            name,
            type_name,
            declared_at,
            doc,
            functions,
            hooks,
            starter: Starter::NONE,
        }
    }

    #[doc(hidden)]
    #[must_use]
    pub const fn starter(mut self, starter: Starter) -> Self {
        self.starter = starter;
        self
    }
}

inventory::collect!(Registration);

/// Returns the components that are linked into this program, sorted by name and type.
///
/// A library is linked only if the program names it. To list the components of a library that is not used otherwise,
/// write `use my_workers as _;`.
pub fn components() -> Vec<&'static Registration> {
    let mut components: Vec<_> = inventory::iter::<Registration>().collect();
    components
        .sort_by_key(|component| (component.name, component.declared_at, component.type_name));
    components
}

#[doc(hidden)]
pub use inventory;
