//! Expansions of interfaces.

use expect_test::{Expect, expect};
use proc_macro2::TokenStream;
use quote::quote;

use super::expand;

/// Checks the whole expansion, formatted.
fn check(args: TokenStream, item: TokenStream, expected: Expect) {
    let file = syn::parse2(expand(args, item)).expect("an expansion is a list of items");
    expected.assert_eq(&prettyplease::unparse(&file));
}

#[test]
fn interface_expands_to_a_trait_and_a_client() {
    check(
        quote!(name = "images", crate = bus),
        quote! {
            /// Makes images smaller.
            pub(crate) trait Images: Send {
                /// A small image.
                async fn thumbnail(&self, image: &str) -> Result<Png, Error>;
                #[cfg(unix)]
                #[deprecated]
                fn forget(&mut self, Json(name): Json<Name>, context: Context);
                fn tiles(&self) -> impl Iterator<Item = Option<Png>> + Send;
            }
        },
        expect![[r#"
            /// Makes images smaller.
            pub(crate) trait Images: Send {
                /// A small image.
                fn thumbnail(
                    &self,
                    image: &str,
                ) -> impl ::core::future::Future<Output = Result<Png, Error>> + ::core::marker::Send;
                #[cfg(unix)]
                #[deprecated]
                fn forget(&mut self, Json(name): Json<Name>, context: Context);
                fn tiles(&self) -> impl Iterator<Item = Option<Png>> + Send;
                #[doc(hidden)]
                const __PALM_NAME: &'static ::core::primitive::str = "images";
            }
            /// A client of [`Images`], whose functions it calls at the component `images`.
            #[derive(::core::clone::Clone, ::core::fmt::Debug)]
            pub(crate) struct ImagesClient {
                client: bus::__private::Client,
                server: bus::__private::ByteString,
            }
            impl ImagesClient {
                /// A small image.
                #[allow(deprecated, private_interfaces)]
                pub const THUMBNAIL: bus::__private::Function<&'static str, Png> = bus::__private::Function::new(
                    "images",
                    "thumbnail",
                );
                #[cfg(unix)]
                /// The function `images.forget`.
                #[deprecated]
                #[allow(deprecated, private_interfaces)]
                pub const FORGET: bus::__private::Function<Json<Name>, bus::__private::NoAnswer> = bus::__private::Function::new(
                    "images",
                    "forget",
                );
                /// The function `images.tiles`.
                #[allow(deprecated, private_interfaces)]
                pub const TILES: bus::__private::Function<(), Png> = bus::__private::Function::new(
                    "images",
                    "tiles",
                );
                /// Returns a client that calls over `client`.
                pub fn new(client: bus::__private::Client) -> Self {
                    Self {
                        client,
                        server: bus::__private::ByteString::from_static("images"),
                    }
                }
                /// Connects to the component at `db_address`.
                ///
                /// # Errors
                ///
                /// If no component answers within 30 s, or one of another name answers.
                ///
                /// # Cancel safety
                ///
                /// Dropping the future closes the connection.
                pub async fn connect(
                    db_address: impl bus::__private::IntoAddress,
                ) -> ::core::result::Result<Self, bus::__private::ConnectError> {
                    let client = bus::__private::Client::connect("images", db_address).await?;
                    ::core::result::Result::Ok(Self::new(client))
                }
                /// Returns a client that calls the component `server` instead.
                ///
                /// For components of the same functions, such as two masters with the same workers.
                #[must_use]
                pub fn on(
                    mut self,
                    server: impl ::core::convert::Into<bus::__private::ByteString>,
                ) -> Self {
                    self.server = server.into();
                    self
                }
                /// Returns the underlying client.
                pub fn client(&self) -> &bus::__private::Client {
                    &self.client
                }
                /// A small image.
                #[allow(deprecated, private_interfaces)]
                pub fn thumbnail(
                    &self,
                    image: impl bus::__private::Argument<&'static str>,
                ) -> bus::__private::Eval<'_, <Png as bus::__private::Answer>::Value> {
                    self.client
                        .eval_with(
                            Self::THUMBNAIL.on(&self.server),
                            image,
                            <Png as bus::__private::Answer>::read,
                        )
                }
                #[cfg(unix)]
                /// The function `images.forget`.
                #[deprecated]
                #[allow(deprecated, private_interfaces)]
                pub async fn forget(
                    &self,
                    argument: impl bus::__private::Argument<Json<Name>>,
                ) -> ::core::result::Result<(), bus::__private::CallError> {
                    self.client.send(Self::FORGET.on(&self.server), argument).await
                }
                /// The function `images.tiles`.
                #[allow(deprecated, private_interfaces)]
                pub fn tiles<'palm>(
                    &self,
                ) -> bus::__private::Job<'palm, <Png as bus::__private::Answer>::Value> {
                    self.client
                        .job_with(
                            Self::TILES.on(&self.server),
                            [()],
                            <Png as bus::__private::Answer>::read,
                        )
                }
            }
        "#]],
    );
}

#[test]
fn interface_with_mistakes_keeps_its_functions_and_reports_every_mistake() {
    check(
        quote!(),
        quote! {
            trait Images<T> {
                type Image;
                fn thumbnail(&self, image: T) {}
                #[palm::method]
                fn connect(self);
            }
        },
        expect![[r#"
            trait Images<T> {
                type Image;
                fn thumbnail(&self, image: T) {}
                fn connect(self);
                #[doc(hidden)]
                const __PALM_NAME: &'static ::core::primitive::str = "_";
            }
            /// A client of [`Images`], whose functions it calls at the component `_`.
            #[derive(::core::clone::Clone, ::core::fmt::Debug)]
            struct ImagesClient {
                client: ::palm::__private::Client,
                server: ::palm::__private::ByteString,
            }
            impl ImagesClient {
                /// The function `_.thumbnail`.
                #[allow(deprecated, private_interfaces)]
                pub const THUMBNAIL: ::palm::__private::Function<
                    ::palm::__private::Untyped,
                    ::palm::__private::Bytes,
                > = ::palm::__private::Function::new("_", "thumbnail");
                /// The function `_.connect`.
                #[allow(deprecated, private_interfaces)]
                pub const CONNECT: ::palm::__private::Function<(), ::palm::__private::NoAnswer> = ::palm::__private::Function::new(
                    "_",
                    "connect",
                );
                /// Returns a client that calls over `client`.
                pub fn new(client: ::palm::__private::Client) -> Self {
                    Self {
                        client,
                        server: ::palm::__private::ByteString::from_static("_"),
                    }
                }
                /// Connects to the component at `db_address`.
                ///
                /// # Errors
                ///
                /// If no component answers within 30 s, or one of another name answers.
                ///
                /// # Cancel safety
                ///
                /// Dropping the future closes the connection.
                pub async fn connect(
                    db_address: impl ::palm::__private::IntoAddress,
                ) -> ::core::result::Result<Self, ::palm::__private::ConnectError> {
                    let client = ::palm::__private::Client::connect("_", db_address).await?;
                    ::core::result::Result::Ok(Self::new(client))
                }
                /// Returns a client that calls the component `server` instead.
                ///
                /// For components of the same functions, such as two masters with the same workers.
                #[must_use]
                pub fn on(
                    mut self,
                    server: impl ::core::convert::Into<::palm::__private::ByteString>,
                ) -> Self {
                    self.server = server.into();
                    self
                }
                /// Returns the underlying client.
                pub fn client(&self) -> &::palm::__private::Client {
                    &self.client
                }
                /// The function `_.thumbnail`.
                #[allow(deprecated, private_interfaces)]
                pub async fn thumbnail(
                    &self,
                    image: impl ::palm::__private::Argument<::palm::__private::Untyped>,
                ) -> ::core::result::Result<(), ::palm::__private::CallError> {
                    self.client.send(Self::THUMBNAIL.on(&self.server), image).await
                }
            }
            ::core::compile_error! {
                "give the interface a name, by which clients call it: `#[palm::interface(name = \"...\")]`"
            }
            ::core::compile_error! {
                "an interface cannot be generic: a message carries no type arguments"
            }
            ::core::compile_error! {
                "an interface contains only functions"
            }
            ::core::compile_error! {
                "a function of an interface has no body: the component implements it"
            }
            ::core::compile_error! {
                "every function of an interface is callable: remove this attribute"
            }
            ::core::compile_error! {
                "a `#[palm::method]` takes `&self`, or `&mut self` for exclusive access: the component outlives the call"
            }
            ::core::compile_error! {
                "the generated client has a method `connect` already: rename the function"
            }
        "#]],
    );
    check(
        quote!(name = "images"),
        quote! { struct Images; },
        expect![[r#"
            struct Images;
            ::core::compile_error! {
                "`#[palm::interface]` belongs on a trait: `#[palm::interface(name = \"...\")] trait Images { .. }`"
            }
        "#]],
    );
    check(
        quote!(name = "images"),
        quote! { trait Images {} },
        expect![[r#"
            trait Images {
                #[doc(hidden)]
                const __PALM_NAME: &'static ::core::primitive::str = "images";
            }
            /// A client of [`Images`], whose functions it calls at the component `images`.
            #[derive(::core::clone::Clone, ::core::fmt::Debug)]
            struct ImagesClient {
                client: ::palm::__private::Client,
                server: ::palm::__private::ByteString,
            }
            impl ImagesClient {
                /// Returns a client that calls over `client`.
                pub fn new(client: ::palm::__private::Client) -> Self {
                    Self {
                        client,
                        server: ::palm::__private::ByteString::from_static("images"),
                    }
                }
                /// Connects to the component at `db_address`.
                ///
                /// # Errors
                ///
                /// If no component answers within 30 s, or one of another name answers.
                ///
                /// # Cancel safety
                ///
                /// Dropping the future closes the connection.
                pub async fn connect(
                    db_address: impl ::palm::__private::IntoAddress,
                ) -> ::core::result::Result<Self, ::palm::__private::ConnectError> {
                    let client = ::palm::__private::Client::connect("images", db_address).await?;
                    ::core::result::Result::Ok(Self::new(client))
                }
                /// Returns a client that calls the component `server` instead.
                ///
                /// For components of the same functions, such as two masters with the same workers.
                #[must_use]
                pub fn on(
                    mut self,
                    server: impl ::core::convert::Into<::palm::__private::ByteString>,
                ) -> Self {
                    self.server = server.into();
                    self
                }
                /// Returns the underlying client.
                pub fn client(&self) -> &::palm::__private::Client {
                    &self.client
                }
            }
            ::core::compile_error! {
                "this interface has no functions"
            }
        "#]],
    );
}
