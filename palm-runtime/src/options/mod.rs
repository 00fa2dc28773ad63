//! Options: structs whose fields are private, and are set by methods of the same names.
//!
//! [`options!`] declares such a struct. An option that is added later breaks no program, because programs cannot name the
//! fields outside of palm. The declaration is the only place that names an option: its field, its default, its method
//! with its documentation, its key in a file (feature `serde`), its argument and its environment variable (feature
//! `clap`) come from there.

#[cfg(feature = "clap")]
pub(crate) mod command_line;
#[cfg(feature = "serde")]
pub(crate) mod file;
#[cfg(feature = "http")]
mod secret;
#[cfg(any(feature = "serde", feature = "clap"))]
pub(crate) mod value;

#[cfg(feature = "http")]
pub(crate) use secret::Secret;

/// Declares a struct of options, each as `name: Type = default`.
///
/// The documentation of an option becomes that of the method that sets it. `name: Type as Parameter = default` declares
/// the method's parameter, which is converted with [`Into`], and `name: Option<Type> => Parameter = None` that of an option
/// that can be set, but not unset. `name: Vec<Type> | Items = Vec::new()` declares a method that adds items, which are
/// texts. Fields in the block `internal` have no methods. With `methods of[generics] Type, field`, that type has the
/// methods, for the options in its `field`.
macro_rules! options {
    (
        $(#[$meta:meta])*
        pub struct $name:ident $options:tt
        $(internal { $($internal:tt)* })?
        $(methods of[$($generics:tt)*] $owner:ty, $owner_field:ident)*
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
        $($crate::options::options! { @methods [$($generics)*] $owner, [$owner_field] $options })*
        $crate::options::options! { @forms $name }
    };
    (@forms $name:ident) => {
        #[cfg(feature = "serde")]
        impl<'de> ::serde::Deserialize<'de> for $name {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let mut options = Self::default();
                $crate::options::file::read(deserializer, &$crate::options::describe::<Self>(), |name, value| {
                    $crate::options::assign(&mut options, name, &value)
                })?;
                Ok(options)
            }
        }

        #[cfg(feature = "clap")]
        impl ::clap::FromArgMatches for $name {
            fn from_arg_matches(matches: &::clap::ArgMatches) -> Result<Self, ::clap::Error> {
                let mut options = Self::default();
                options.update_from_arg_matches(matches)?;
                Ok(options)
            }

            fn update_from_arg_matches(&mut self, matches: &::clap::ArgMatches) -> Result<(), ::clap::Error> {
                $crate::options::command_line::read(matches, &$crate::options::describe::<Self>(), |name, value| {
                    $crate::options::assign(self, name, &value)
                })
            }
        }

        #[cfg(feature = "clap")]
        impl ::clap::Args for $name {
            fn augment_args(command: ::clap::Command) -> ::clap::Command {
                $crate::options::command_line::augment(command, $crate::options::describe::<Self>(), |name, value| {
                    $crate::options::assign(&mut Self::default(), name, value)
                })
            }

            fn augment_args_for_update(command: ::clap::Command) -> ::clap::Command {
                Self::augment_args(command)
            }
        }
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

        #[cfg(any(feature = "serde", feature = "clap"))]
        impl $crate::options::value::OptionValue for $name {
            fn describe(
                name: &str,
                _: &'static str,
                list: &mut Vec<$crate::options::value::Described>,
            ) {
                $(<$type as $crate::options::value::OptionValue>::describe(
                    &$crate::options::join(name, stringify!($option)),
                    concat!($($doc, "\n",)*),
                    list,
                );)*
            }

            fn assign(
                &mut self,
                _: &str,
                path: &str,
                value: &$crate::options::value::Value,
            ) -> Result<(), String> {
                let (option, inner) = $crate::options::value::split(path);
                match option {
                    $(stringify!($option) => {
                        $crate::options::value::OptionValue::assign(&mut self.$option, option, inner, value)
                    })*
                    _ => unreachable!("options are checked against their names"),
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
    (@method [$($path:ident).*] [$(#[$doc:meta])*] $option:ident: $type:ty) => {
        $(#[$doc])*
        pub fn $option(mut self, $option: $type) -> Self {
            self.$($path.)*$option = $option;
            self
        }
    };
    (@method [$($path:ident).*] [$(#[$doc:meta])*] $option:ident: $type:ty => $inner:ty) => {
        $(#[$doc])*
        pub fn $option(mut self, $option: $inner) -> Self {
            self.$($path.)*$option = Some($option.into());
            self
        }
    };
    (@method [$($path:ident).*] [$(#[$doc:meta])*] $option:ident: $type:ty | $items:ty) => {
        $(#[$doc])*
        pub fn $option(mut self, $option: $items) -> Self {
            let items = $option.into_iter().map(Into::<String>::into);
            self.$($path.)*$option.extend(items.map(Into::into));
            self
        }
    };
    (@method [$($path:ident).*] [$(#[$doc:meta])*] $option:ident: $type:ty as $parameter:ty) => {
        $(#[$doc])*
        pub fn $option(mut self, $option: $parameter) -> Self {
            self.$($path.)*$option = $option.into();
            self
        }
    };
}
pub(crate) use options;

/// Declares options of a builder, each as `name: Type = |options, value: Parameter| set;`. They are in its field `options`.
///
/// A block has the methods of a type, and a tag that says which kinds of components have its options. `Type` is that
/// of values in a file. `[group] name: Type;` declares an option that is a struct of options, in a field of that name.
///
/// With the features `serde` and `clap`, `describe_options` lists the options of some tags, `check_option` checks a value,
/// and `assign_option` sets one.
macro_rules! builder_options {
    ($($tag:literal: impl[$($generics:tt)*] $owner:ty {
        $($(#[doc = $doc:expr])* $option:ident: $type:ty = |$options:ident, $value:ident: $parameter:ty| $set:expr;)*
        $([group] $(#[doc = $group_doc:expr])* $group:ident: $group_type:ty;)*
    })*) => {
        $(impl $($generics)* $owner {
            $(
                $(#[doc = $doc])*
                pub fn $option(mut self, $value: $parameter) -> Self {
                    let $options = &mut self.options;
                    $set;
                    self
                }
            )*
            $(
                $(#[doc = $group_doc])*
                pub fn $group(mut self, $group: $group_type) -> Self {
                    self.options.$group = $group;
                    self
                }
            )*
        })*

        #[cfg(any(feature = "serde", feature = "clap"))]
        pub(super) fn describe_options(tags: &[&str], list: &mut Vec<$crate::options::value::Described>) {
            use $crate::options::value::OptionValue;
            $(if tags.contains(&$tag) {
                $(<$type as OptionValue>::describe(stringify!($option), concat!($($doc, "\n",)*), list);)*
                $(<$group_type as OptionValue>::describe(stringify!($group), "", list);)*
            })*
        }

        #[cfg(any(feature = "serde", feature = "clap"))]
        #[allow(unreachable_patterns, reason = "kinds have options of the same name")]
        pub(super) fn check_option(name: &str, value: &$crate::options::value::Value) -> Result<(), String> {
            use $crate::options::value::{OptionValue, split};
            let (option, inner) = split(name);
            match option {
                $($(stringify!($option) => <$type>::default().assign(option, inner, value),)*
                $(stringify!($group) => <$group_type>::default().assign(option, inner, value),)*)*
                _ => unreachable!("options are checked against their names"),
            }
        }

        #[cfg(any(feature = "serde", feature = "clap"))]
        #[allow(unreachable_patterns, reason = "kinds have options of the same name")]
        #[allow(clippy::useless_conversion, reason = "methods accept any text")]
        pub(super) fn assign_option(
            options: &mut AnyOptions,
            name: &str,
            value: &$crate::options::value::Value,
        ) -> Result<(), String> {
            use $crate::options::value::{OptionValue, read, split};
            let (option, inner) = split(name);
            match option {
                $($(stringify!($option) => {
                    let ($options, $value) = (&mut *options, read::<$type>(option, value)?);
                    $set;
                })*
                $(stringify!($group) => options.$group.assign(option, inner, value)?,)*)*
                _ => unreachable!("options are checked against their names"),
            }
            Ok(())
        }
    };
}
pub(crate) use builder_options;

#[cfg(any(feature = "serde", feature = "clap"))]
mod names {
    use super::value::{Described, OptionValue, Value};

    /// Returns the name of an option within a group.
    pub(crate) fn join(group: &str, name: &str) -> String {
        match group {
            "" => name.to_owned(),
            _ => format!("{group}.{name}"),
        }
    }

    /// Returns all options of a struct.
    pub(crate) fn describe<T: OptionValue>() -> Vec<Described> {
        let mut list = Vec::new();
        T::describe("", "", &mut list);
        list
    }

    /// Sets an option of a struct by its name.
    pub(crate) fn assign(
        options: &mut impl OptionValue,
        name: &str,
        value: &Value,
    ) -> Result<(), String> {
        options.assign("", name, value)
    }
}
#[cfg(any(feature = "serde", feature = "clap"))]
pub(crate) use names::{assign, describe, join};
