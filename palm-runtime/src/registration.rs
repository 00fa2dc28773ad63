//! What is linked into this program. The only file that names `inventory`.

use crate::component_kind::ComponentKind;
use crate::method::FunctionInfo;

/// A component that a macro has declared somewhere in this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Registration {
    /// The kind of component.
    pub kind: ComponentKind,
    /// Its name; a worker's is its master's, or `_`.
    pub name: &'static str,
    /// The type, as written.
    pub type_name: &'static str,
    /// The module that declares it.
    pub declared_at: &'static str,
    /// The first line of its documentation; empty where there is none.
    pub doc: &'static str,
    /// The functions that can be called, in the order of declaration.
    pub functions: &'static [FunctionInfo],
    /// The hooks that it overrides: `scatter`, `gather`, `handle_stream`.
    pub hooks: &'static [&'static str],
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
        }
    }
}

inventory::collect!(Registration);

/// The components that are linked into this program, sorted by name and type.
///
/// A library of which the program names nothing is not linked, and its components are not listed: say
/// `use my_workers as _;`.
pub fn components() -> Vec<&'static Registration> {
    let mut components: Vec<_> = inventory::iter::<Registration>().collect();
    components
        .sort_by_key(|component| (component.name, component.declared_at, component.type_name));
    components
}

#[doc(hidden)]
pub use inventory;
