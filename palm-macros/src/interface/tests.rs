use expect_test::{Expect, expect};
use proc_macro2::TokenStream;
use quote::quote;

use super::expand;

/// The whole expansion, formatted.
fn check(args: TokenStream, item: TokenStream, expected: Expect) {
    let file = syn::parse2(expand(args, item)).expect("an expansion is a list of items");
    expected.assert_eq(&prettyplease::unparse(&file));
}

#[test]
fn functions_of_every_form() {
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
            /// Calls the functions of [`Images`] from afar, those of `images` unless it is told another name.
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
                /// Calls over a client that is connected.
                pub fn new(client: bus::__private::Client) -> Self {
                    Self {
                        client,
                        server: bus::__private::ByteString::from_static("images"),
                    }
                }
                /// Connects to the component of that name, whose `db_address` this is.
                ///
                /// # Errors
                ///
                /// When nobody is there within 30 s, or somebody else.
                ///
                /// # Cancel safety
                ///
                /// Dropping the future closes what it had opened.
                pub async fn connect(
                    db_address: impl bus::__private::IntoAddress,
                ) -> ::core::result::Result<Self, bus::__private::ConnectError> {
                    let client = bus::__private::Client::connect("images", db_address).await?;
                    ::core::result::Result::Ok(Self::new(client))
                }
                /// Calls the functions of the component called `server`, as when two masters have the
                /// same workers.
                #[must_use]
                pub fn on(
                    mut self,
                    server: impl ::core::convert::Into<bus::__private::ByteString>,
                ) -> Self {
                    self.server = server.into();
                    self
                }
                /// The client beneath.
                pub fn client(&self) -> &bus::__private::Client {
                    &self.client
                }
                /// A small image.
                #[allow(deprecated, private_interfaces)]
                pub fn thumbnail(
                    &self,
                    image: impl bus::__private::Argument<&'static str>,
                ) -> bus::__private::Eval<'_, Png> {
                    self.client.eval(Self::THUMBNAIL.on(&self.server), image)
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
                pub fn tiles<'palm>(&self) -> bus::__private::Job<'palm, Png> {
                    self.client.job(Self::TILES.on(&self.server), [()])
                }
            }
        "#]],
    );
}

#[test]
fn what_is_no_interface() {
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
                #[palm::method]
                fn connect(self);
            }
            ::core::compile_error! {
                "give the interface a name, by which clients call it: `#[palm::interface(name = \"...\")]`"
            }
            ::core::compile_error! {
                "an interface cannot be generic: the bytes that arrive do not say which types are meant"
            }
            ::core::compile_error! {
                "an interface has functions and nothing else"
            }
            ::core::compile_error! {
                "a function of an interface has no body: the component has it"
            }
            ::core::compile_error! {
                "all functions of an interface can be called: take the attribute away"
            }
            ::core::compile_error! {
                "the client has a method `connect` of its own: rename the function"
            }
            ::core::compile_error! {
                "a `#[palm::method]` takes `&self`, or `&mut self` to run alone: the component goes on after the call"
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
            trait Images {}
            ::core::compile_error! {
                "this interface has no function"
            }
        "#]],
    );
}
