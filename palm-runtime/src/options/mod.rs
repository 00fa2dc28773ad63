//! Options: structs whose fields are private, and are set by methods of the same names.
//!
//! [`options!`] declares such a struct. An option that is added later breaks no program, because nobody can name the
//! fields outside of palm. The declaration is the only place that names an option: its field, its default, its method
//! and the method's documentation come from there.

/// Declares a struct of options, each as `name: Type = default`.
///
/// The documentation of an option becomes that of the method that sets it. `name: Type as Parameter = default` declares
/// the method's parameter, which is converted with [`Into`], and `name: Option<Type> => Parameter = None` that of an option
/// that can be set, but not unset. `name: Vec<Type> | Items = Vec::new()` declares a method that adds items. Fields in the block `internal` have no methods. With
/// `methods of[generics] Type, field`, that type has the methods, for the options in its `field`.
macro_rules! options {
    (
        $(#[$meta:meta])*
        pub struct $name:ident $options:tt
        $(internal { $($internal:tt)* })?
    ) => {
        $crate::options::options! {
            @struct [$(#[$meta])* #[must_use = "options do nothing until a builder receives them"] pub] $name
            [$($($internal)*)?] $options
        }

        impl $name {
            /// Returns the defaults.
            pub fn new() -> Self {
                Self::default()
            }
        }

        $crate::options::options! { @methods [] $name, [] $options }
    };
    (
        $(#[$meta:meta])*
        pub(super) struct $name:ident $options:tt
        internal { $($internal:tt)* }
        $(methods of[$($generics:tt)*] $owner:ty, $owner_field:ident)+
    ) => {
        $crate::options::options! { @struct [$(#[$meta])* pub(super)] $name [$($internal)*] $options }
        $($crate::options::options! { @methods [$($generics)*] $owner, [$owner_field] $options })+
    };
    (
        @struct [$($head:tt)*] $name:ident
        [$($(#[$internal_meta:meta])* $internal:ident: $internal_type:ty = $internal_default:expr,)*]
        {
            $($(#[doc = $doc:expr])* $option:ident: $type:ty $(as $parameter:ty)? $(=> $inner:ty)? $(| $items:ty)? = $default:expr,)*
        }
    ) => {
        $($head)* struct $name {
            $($(#[doc = $doc])* pub(crate) $option: $type,)*
            $($(#[$internal_meta])* pub(crate) $internal: $internal_type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $($option: $default,)*
                    $($internal: $internal_default,)*
                }
            }
        }
    };
    (
        @methods [$($generics:tt)*] $owner:ty, $path:tt {
            $($(#[doc = $doc:expr])* $option:ident: $type:ty $(as $parameter:ty)? $(=> $inner:ty)? $(| $items:ty)? = $default:expr,)*
        }
    ) => {
        impl $($generics)* $owner {
            $($crate::options::options! {
                @method $path [$(#[doc = $doc])*] $option: $type $(as $parameter)? $(=> $inner)? $(| $items)?
            })*
        }
    };
    (@method [$($path:ident)?] [$(#[$doc:meta])*] $option:ident: $type:ty) => {
        $(#[$doc])*
        pub fn $option(mut self, $option: $type) -> Self {
            self.$($path.)?$option = $option;
            self
        }
    };
    (@method [$($path:ident)?] [$(#[$doc:meta])*] $option:ident: $type:ty => $inner:ty) => {
        $(#[$doc])*
        pub fn $option(mut self, $option: $inner) -> Self {
            self.$($path.)?$option = Some($option.into());
            self
        }
    };
    (@method [$($path:ident)?] [$(#[$doc:meta])*] $option:ident: $type:ty | $items:ty) => {
        $(#[$doc])*
        pub fn $option(mut self, $option: $items) -> Self {
            self.$($path.)?$option.extend($option.into_iter().map(Into::into));
            self
        }
    };
    (@method [$($path:ident)?] [$(#[$doc:meta])*] $option:ident: $type:ty as $parameter:ty) => {
        $(#[$doc])*
        pub fn $option(mut self, $option: $parameter) -> Self {
            self.$($path.)?$option = $option.into();
            self
        }
    };
}
pub(crate) use options;
