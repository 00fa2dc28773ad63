use expect_test::{Expect, expect};
use proc_macro2::{TokenStream, TokenTree};
use quote::quote;

use super::expand;
use crate::kind::Kind;

/// The whole expansion, formatted.
fn check_expansion(kind: Kind, args: TokenStream, item: TokenStream, expected: Expect) {
    let tokens = expand(kind, args, item);
    let file = syn::parse2(tokens).expect("an expansion is a list of items");
    expected.assert_eq(&prettyplease::unparse(&file));
}

/// The messages, one a line.
fn check_errors(kind: Kind, args: TokenStream, item: TokenStream, expected: Expect) {
    let mut messages = String::new();
    collect_messages(expand(kind, args, item), &mut messages);
    expected.assert_eq(&messages);
}

/// [`check_errors`] for the members of a worker's block.
fn check_worker(members: TokenStream, expected: Expect) {
    check_errors(
        Kind::Worker,
        quote!(),
        quote! { impl Foo { #members } },
        expected,
    );
}

fn collect_messages(tokens: TokenStream, messages: &mut String) {
    let mut in_error = false;
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => in_error = ident == "compile_error",
            TokenTree::Group(group) if in_error => {
                let message: syn::LitStr = syn::parse2(group.stream()).unwrap();
                messages.push_str(&message.value());
                messages.push('\n');
                in_error = false;
            }
            TokenTree::Group(group) => collect_messages(group.stream(), messages),
            _ => {}
        }
    }
}

#[test]
fn a_server_with_one_method() {
    check_expansion(
        Kind::Server,
        quote!(name = "images"),
        quote! {
            /// Makes images smaller.
            ///
            /// Much smaller.
            impl Resizer {
                /// A small image.
                #[palm::method]
                pub fn thumbnail(&self, image: Bytes) -> Result<Bytes, ResizeError> {
                    self.helper(image)
                }
                fn helper(&self, image: Bytes) -> Result<Bytes, ResizeError> { Ok(image) }
            }
        },
        expect![[r#"
            /// Makes images smaller.
            ///
            /// Much smaller.
            impl Resizer {
                /// A small image.
                pub fn thumbnail(&self, image: Bytes) -> Result<Bytes, ResizeError> {
                    self.helper(image)
                }
                fn helper(&self, image: Bytes) -> Result<Bytes, ResizeError> {
                    Ok(image)
                }
            }
            impl Resizer {
                /// A small image.
                #[allow(deprecated, private_interfaces)]
                pub const THUMBNAIL: ::palm::__private::Function<Bytes, Bytes> = ::palm::__private::Function::new(
                    "images",
                    "thumbnail",
                );
            }
            const _: () = {
                const __PALM_FUNCTIONS: &[::palm::__private::FunctionInfo] = &[
                    ::palm::__private::FunctionInfo::new(
                        "thumbnail",
                        "A small image.",
                        ("Bytes", "Result<Bytes, ResizeError>"),
                        ::palm::__private::Receiver::Shared,
                        ::palm::__private::Results::One,
                        false,
                    ),
                ];
                #[automatically_derived]
                impl ::palm::__private::Shape for Resizer
                where
                    Resizer: ::core::marker::Send + ::core::marker::Sync + 'static,
                {
                    const NAME: &'static ::core::primitive::str = "images";
                    const EXCLUSIVE: ::core::primitive::bool = false;
                }
                #[allow(non_camel_case_types)]
                enum __PalmFunction {
                    thumbnail,
                }
                #[automatically_derived]
                impl ::palm::__private::Callable for Resizer
                where
                    Resizer: ::core::marker::Send + ::core::marker::Sync + 'static,
                {
                    const FUNCTIONS: &'static [::palm::__private::FunctionInfo] = __PALM_FUNCTIONS;
                    fn find(
                        __palm_name: &::core::primitive::str,
                    ) -> ::core::option::Option<::core::primitive::usize> {
                        match __palm_name {
                            "thumbnail" => {
                                ::core::option::Option::Some(
                                    __PalmFunction::thumbnail as ::core::primitive::usize,
                                )
                            }
                            _ => ::core::option::Option::None,
                        }
                    }
                    fn call(
                        __palm_state: ::palm::__private::Arc<::palm::__private::State<Self>>,
                        __palm_index: ::core::primitive::usize,
                        mut __palm_call: ::palm::__private::Call,
                    ) -> impl ::core::future::Future<
                        Output = ::palm::__private::Outcome,
                    > + ::core::marker::Send + 'static {
                        async move {
                            match __palm_index {
                                _ if __palm_index
                                    == __PalmFunction::thumbnail as ::core::primitive::usize => {
                                    let __palm_argument = match ::palm::__private::check::argument::<
                                        Bytes,
                                    >(&mut __palm_call) {
                                        ::core::result::Result::Ok(__palm_argument) => {
                                            __palm_argument
                                        }
                                        ::core::result::Result::Err(__palm_outcome) => {
                                            return __palm_outcome;
                                        }
                                    };
                                    let __palm_this = ::palm::__private::State::shared(
                                            &*__palm_state,
                                        )
                                        .await;
                                    let __palm_result = Self::thumbnail(
                                        &*__palm_this,
                                        __palm_argument,
                                    );
                                    let __palm_outcome = match __palm_result {
                                        ::core::result::Result::Ok(__palm_value) => {
                                            ::palm::__private::IntoOutcome::into_outcome(__palm_value)
                                        }
                                        ::core::result::Result::Err(__palm_error) => {
                                            ::palm::__private::Outcome::Failed({
                                                #[allow(unused_imports)]
                                                use ::palm::__private::check::{
                                                    DisplayedKind as _, PalmKind as _,
                                                };
                                                let __palm_kind = (&::palm::__private::check::ErrorKind::of(
                                                    &__palm_error,
                                                ))
                                                    .kind();
                                                __palm_kind.failure(__palm_error)
                                            })
                                        }
                                    };
                                    __palm_outcome
                                }
                                _ => {
                                    ::core::unreachable!(
                                        "a function that `find` does not know is called"
                                    )
                                }
                            }
                        }
                    }
                }
                #[automatically_derived]
                impl ::palm::__private::Bind for Resizer
                where
                    Resizer: ::core::marker::Send + ::core::marker::Sync + 'static,
                {
                    type Builder = ::palm::__private::ServerBuilder<Self>;
                }
                const __PALM_HOOKS: &[&::core::primitive::str] = &[];
                ::palm::__private::inventory::submit! {
                    ::palm::__private::Registration::new(::palm::__private::ComponentKind::Server,
                    "images", "Resizer", ::core::module_path!(), "Makes images smaller.",
                    __PALM_FUNCTIONS, __PALM_HOOKS,)
                }
            };
        "#]],
    );
}

#[test]
fn every_way_to_run_a_method() {
    check_expansion(
        Kind::Worker,
        quote!(server = "images", crate = bus),
        quote! {
            impl<T: Send + Sync + 'static> Resizer<T> where T: Image {
                #[bus::method]
                async fn one(&self, Json(request): Json<Request>, context: Context) -> T {}
                #[bus::method(name = "other", blocking)]
                fn two(&mut self) {}
                #[bus::method]
                fn many(&mut self) -> impl Iterator<Item = T> {}
                #[bus::method(blocking)]
                fn blocking(&self) -> Result<impl Iterator<Item = T>, Error> {}
                #[bus::method]
                async fn stream(&self) -> Result<BoxStream<'static, T>, Error> {}
                #[bus::method]
                fn opaque(&self) -> Option<impl IntoPayload> {}
            }
        },
        expect![[r#"
            impl<T: Send + Sync + 'static> Resizer<T>
            where
                T: Image,
            {
                async fn one(&self, Json(request): Json<Request>, context: Context) -> T {}
                fn two(&mut self) {}
                fn many(&mut self) -> impl Iterator<Item = T> {}
                fn blocking(&self) -> Result<impl Iterator<Item = T>, Error> {}
                async fn stream(&self) -> Result<BoxStream<'static, T>, Error> {}
                fn opaque(&self) -> Option<impl IntoPayload> {}
            }
            impl<T: Send + Sync + 'static> Resizer<T>
            where
                T: Image,
            {
                /// The function `images.one`.
                #[allow(deprecated, private_interfaces)]
                pub const ONE: bus::__private::Function<Json<Request>, T> = bus::__private::Function::new(
                    "images",
                    "one",
                );
                /// The function `images.other`.
                #[allow(deprecated, private_interfaces)]
                pub const TWO: bus::__private::Function<(), bus::__private::NoAnswer> = bus::__private::Function::new(
                    "images",
                    "other",
                );
                /// The function `images.many`.
                #[allow(deprecated, private_interfaces)]
                pub const MANY: bus::__private::Function<(), T> = bus::__private::Function::new(
                    "images",
                    "many",
                );
                /// The function `images.blocking`.
                #[allow(deprecated, private_interfaces)]
                pub const BLOCKING: bus::__private::Function<(), T> = bus::__private::Function::new(
                    "images",
                    "blocking",
                );
                /// The function `images.stream`.
                #[allow(deprecated, private_interfaces)]
                pub const STREAM: bus::__private::Function<(), T> = bus::__private::Function::new(
                    "images",
                    "stream",
                );
                /// The function `images.opaque`.
                #[allow(deprecated, private_interfaces)]
                pub const OPAQUE: bus::__private::Function<(), bus::__private::Bytes> = bus::__private::Function::new(
                    "images",
                    "opaque",
                );
            }
            const _: () = {
                const __PALM_FUNCTIONS: &[bus::__private::FunctionInfo] = &[
                    bus::__private::FunctionInfo::new(
                        "one",
                        "",
                        ("Json<Request>", "T"),
                        bus::__private::Receiver::Shared,
                        bus::__private::Results::One,
                        true,
                    ),
                    bus::__private::FunctionInfo::new(
                        "other",
                        "",
                        ("", "()"),
                        bus::__private::Receiver::Exclusive,
                        bus::__private::Results::One,
                        false,
                    ),
                    bus::__private::FunctionInfo::new(
                        "many",
                        "",
                        ("", "impl Iterator<Item = T>"),
                        bus::__private::Receiver::Exclusive,
                        bus::__private::Results::Many,
                        false,
                    ),
                    bus::__private::FunctionInfo::new(
                        "blocking",
                        "",
                        ("", "Result<impl Iterator<Item = T>, Error>"),
                        bus::__private::Receiver::Shared,
                        bus::__private::Results::Many,
                        false,
                    ),
                    bus::__private::FunctionInfo::new(
                        "stream",
                        "",
                        ("", "Result<BoxStream<'static, T>, Error>"),
                        bus::__private::Receiver::Shared,
                        bus::__private::Results::Many,
                        false,
                    ),
                    bus::__private::FunctionInfo::new(
                        "opaque",
                        "",
                        ("", "Option<impl IntoPayload>"),
                        bus::__private::Receiver::Shared,
                        bus::__private::Results::One,
                        false,
                    ),
                ];
                #[automatically_derived]
                impl<T: Send + Sync + 'static> bus::__private::Shape for Resizer<T>
                where
                    T: Image,
                    Resizer<T>: ::core::marker::Send + ::core::marker::Sync + 'static,
                {
                    const NAME: &'static ::core::primitive::str = "images";
                    const EXCLUSIVE: ::core::primitive::bool = true;
                }
                #[allow(non_camel_case_types)]
                enum __PalmFunction {
                    one,
                    two,
                    many,
                    blocking,
                    stream,
                    opaque,
                }
                #[automatically_derived]
                impl<T: Send + Sync + 'static> bus::__private::Callable for Resizer<T>
                where
                    T: Image,
                    Resizer<T>: ::core::marker::Send + ::core::marker::Sync + 'static,
                {
                    const FUNCTIONS: &'static [bus::__private::FunctionInfo] = __PALM_FUNCTIONS;
                    fn find(
                        __palm_name: &::core::primitive::str,
                    ) -> ::core::option::Option<::core::primitive::usize> {
                        match __palm_name {
                            "one" => {
                                ::core::option::Option::Some(
                                    __PalmFunction::one as ::core::primitive::usize,
                                )
                            }
                            "other" => {
                                ::core::option::Option::Some(
                                    __PalmFunction::two as ::core::primitive::usize,
                                )
                            }
                            "many" => {
                                ::core::option::Option::Some(
                                    __PalmFunction::many as ::core::primitive::usize,
                                )
                            }
                            "blocking" => {
                                ::core::option::Option::Some(
                                    __PalmFunction::blocking as ::core::primitive::usize,
                                )
                            }
                            "stream" => {
                                ::core::option::Option::Some(
                                    __PalmFunction::stream as ::core::primitive::usize,
                                )
                            }
                            "opaque" => {
                                ::core::option::Option::Some(
                                    __PalmFunction::opaque as ::core::primitive::usize,
                                )
                            }
                            _ => ::core::option::Option::None,
                        }
                    }
                    fn call(
                        __palm_state: bus::__private::Arc<bus::__private::State<Self>>,
                        __palm_index: ::core::primitive::usize,
                        mut __palm_call: bus::__private::Call,
                    ) -> impl ::core::future::Future<
                        Output = bus::__private::Outcome,
                    > + ::core::marker::Send + 'static {
                        async move {
                            match __palm_index {
                                _ if __palm_index
                                    == __PalmFunction::one as ::core::primitive::usize => {
                                    let __palm_argument = match bus::__private::check::argument::<
                                        Json<Request>,
                                    >(&mut __palm_call) {
                                        ::core::result::Result::Ok(__palm_argument) => {
                                            __palm_argument
                                        }
                                        ::core::result::Result::Err(__palm_outcome) => {
                                            return __palm_outcome;
                                        }
                                    };
                                    let __palm_context = bus::__private::Call::context(
                                        &mut __palm_call,
                                    );
                                    let __palm_this = bus::__private::State::shared(&*__palm_state)
                                        .await;
                                    let __palm_result = bus::__private::check::future(
                                            Self::one(&*__palm_this, __palm_argument, __palm_context),
                                        )
                                        .await;
                                    let __palm_outcome = <T as bus::__private::IntoOutcome>::into_outcome(
                                        __palm_result,
                                    );
                                    __palm_outcome
                                }
                                _ if __palm_index
                                    == __PalmFunction::two as ::core::primitive::usize => {
                                    bus::__private::blocking(move || {
                                            let mut __palm_this = bus::__private::State::blocking_exclusive(
                                                &*__palm_state,
                                            );
                                            let __palm_result = Self::two(&mut *__palm_this);
                                            let __palm_outcome = bus::__private::IntoOutcome::into_outcome(
                                                __palm_result,
                                            );
                                            __palm_outcome
                                        })
                                        .await
                                }
                                _ if __palm_index
                                    == __PalmFunction::many as ::core::primitive::usize => {
                                    let mut __palm_this = bus::__private::State::exclusive(
                                            &*__palm_state,
                                        )
                                        .await;
                                    let __palm_result = Self::many(&mut *__palm_this);
                                    let __palm_outcome = bus::__private::check::emit_iterator(
                                            &mut __palm_call,
                                            __palm_result,
                                        )
                                        .await;
                                    __palm_outcome
                                }
                                _ if __palm_index
                                    == __PalmFunction::blocking as ::core::primitive::usize => {
                                    bus::__private::blocking(move || {
                                            let __palm_this = bus::__private::State::blocking_shared(
                                                &*__palm_state,
                                            );
                                            let __palm_result = {
                                                let __palm_result = Self::blocking(&*__palm_this);
                                                match __palm_result {
                                                    ::core::result::Result::Ok(__palm_result) => __palm_result,
                                                    ::core::result::Result::Err(__palm_error) => {
                                                        let __palm_failure = {
                                                            #[allow(unused_imports)]
                                                            use bus::__private::check::{
                                                                DisplayedKind as _, PalmKind as _,
                                                            };
                                                            let __palm_kind = (&bus::__private::check::ErrorKind::of(
                                                                &__palm_error,
                                                            ))
                                                                .kind();
                                                            __palm_kind.failure(__palm_error)
                                                        };
                                                        return bus::__private::Outcome::Failed(__palm_failure);
                                                    }
                                                }
                                            };
                                            let __palm_outcome = bus::__private::check::blocking_emit(
                                                &mut __palm_call,
                                                __palm_result,
                                            );
                                            __palm_outcome
                                        })
                                        .await
                                }
                                _ if __palm_index
                                    == __PalmFunction::stream as ::core::primitive::usize => {
                                    let __palm_this = bus::__private::State::shared(&*__palm_state)
                                        .await;
                                    let __palm_result = {
                                        let __palm_result = bus::__private::check::future(
                                                Self::stream(&*__palm_this),
                                            )
                                            .await;
                                        match __palm_result {
                                            ::core::result::Result::Ok(__palm_result) => __palm_result,
                                            ::core::result::Result::Err(__palm_error) => {
                                                let __palm_failure = {
                                                    #[allow(unused_imports)]
                                                    use bus::__private::check::{
                                                        DisplayedKind as _, PalmKind as _,
                                                    };
                                                    let __palm_kind = (&bus::__private::check::ErrorKind::of(
                                                        &__palm_error,
                                                    ))
                                                        .kind();
                                                    __palm_kind.failure(__palm_error)
                                                };
                                                return bus::__private::Outcome::Failed(__palm_failure);
                                            }
                                        }
                                    };
                                    let __palm_outcome = bus::__private::check::emit_stream(
                                            &mut __palm_call,
                                            __palm_result,
                                        )
                                        .await;
                                    __palm_outcome
                                }
                                _ if __palm_index
                                    == __PalmFunction::opaque as ::core::primitive::usize => {
                                    let __palm_this = bus::__private::State::shared(&*__palm_state)
                                        .await;
                                    let __palm_result = Self::opaque(&*__palm_this);
                                    let __palm_outcome = bus::__private::IntoOutcome::into_outcome(
                                        __palm_result,
                                    );
                                    __palm_outcome
                                }
                                _ => {
                                    ::core::unreachable!(
                                        "a function that `find` does not know is called"
                                    )
                                }
                            }
                        }
                    }
                }
                #[automatically_derived]
                impl<T: Send + Sync + 'static> bus::__private::Connect for Resizer<T>
                where
                    T: Image,
                    Resizer<T>: ::core::marker::Send + ::core::marker::Sync + 'static,
                {
                    type Builder = bus::__private::WorkerBuilder<Self>;
                }
                #[allow(dead_code)]
                fn __palm_check<T: Send + Sync + 'static>()
                where
                    T: Image,
                {
                    bus::__private::check::component::<Resizer<T>>()
                }
                const __PALM_HOOKS: &[&::core::primitive::str] = &[];
                bus::__private::inventory::submit! {
                    bus::__private::Registration::new(bus::__private::ComponentKind::Worker,
                    "images", "Resizer<T>", ::core::module_path!(), "", __PALM_FUNCTIONS,
                    __PALM_HOOKS,)
                }
            };
        "#]],
    );
}

#[test]
fn a_mux_worker_always_has_many_results() {
    check_expansion(
        Kind::MuxWorker,
        quote!(),
        quote! {
            impl Foo {
                #[palm::method]
                fn many(&self, payload: String) -> Vec<Bytes> {}
            }
        },
        expect![[r#"
            impl Foo {
                fn many(&self, payload: String) -> Vec<Bytes> {}
            }
            impl Foo {
                /// The function `_.many`.
                #[allow(deprecated, private_interfaces)]
                pub const MANY: ::palm::__private::Function<String, Bytes> = ::palm::__private::Function::new(
                    "_",
                    "many",
                );
            }
            const _: () = {
                const __PALM_FUNCTIONS: &[::palm::__private::FunctionInfo] = &[
                    ::palm::__private::FunctionInfo::new(
                        "many",
                        "",
                        ("String", "Vec<Bytes>"),
                        ::palm::__private::Receiver::Shared,
                        ::palm::__private::Results::Many,
                        false,
                    ),
                ];
                #[automatically_derived]
                impl ::palm::__private::Shape for Foo
                where
                    Foo: ::core::marker::Send + ::core::marker::Sync + 'static,
                {
                    const NAME: &'static ::core::primitive::str = "_";
                    const EXCLUSIVE: ::core::primitive::bool = false;
                }
                #[allow(non_camel_case_types)]
                enum __PalmFunction {
                    many,
                }
                #[automatically_derived]
                impl ::palm::__private::Callable for Foo
                where
                    Foo: ::core::marker::Send + ::core::marker::Sync + 'static,
                {
                    const FUNCTIONS: &'static [::palm::__private::FunctionInfo] = __PALM_FUNCTIONS;
                    fn find(
                        __palm_name: &::core::primitive::str,
                    ) -> ::core::option::Option<::core::primitive::usize> {
                        match __palm_name {
                            "many" => {
                                ::core::option::Option::Some(
                                    __PalmFunction::many as ::core::primitive::usize,
                                )
                            }
                            _ => ::core::option::Option::None,
                        }
                    }
                    fn call(
                        __palm_state: ::palm::__private::Arc<::palm::__private::State<Self>>,
                        __palm_index: ::core::primitive::usize,
                        mut __palm_call: ::palm::__private::Call,
                    ) -> impl ::core::future::Future<
                        Output = ::palm::__private::Outcome,
                    > + ::core::marker::Send + 'static {
                        async move {
                            match __palm_index {
                                _ if __palm_index
                                    == __PalmFunction::many as ::core::primitive::usize => {
                                    let __palm_argument = match ::palm::__private::check::argument::<
                                        String,
                                    >(&mut __palm_call) {
                                        ::core::result::Result::Ok(__palm_argument) => {
                                            __palm_argument
                                        }
                                        ::core::result::Result::Err(__palm_outcome) => {
                                            return __palm_outcome;
                                        }
                                    };
                                    let __palm_this = ::palm::__private::State::shared(
                                            &*__palm_state,
                                        )
                                        .await;
                                    let __palm_result = Self::many(&*__palm_this, __palm_argument);
                                    let __palm_outcome = ::palm::__private::check::emit_iterator(
                                            &mut __palm_call,
                                            __palm_result,
                                        )
                                        .await;
                                    __palm_outcome
                                }
                                _ => {
                                    ::core::unreachable!(
                                        "a function that `find` does not know is called"
                                    )
                                }
                            }
                        }
                    }
                }
                #[automatically_derived]
                impl ::palm::__private::Connect for Foo
                where
                    Foo: ::core::marker::Send + ::core::marker::Sync + 'static,
                {
                    type Builder = ::palm::__private::WorkerBuilder<Self>;
                }
                const __PALM_HOOKS: &[&::core::primitive::str] = &[];
                ::palm::__private::inventory::submit! {
                    ::palm::__private::Registration::new(::palm::__private::ComponentKind::MuxWorker,
                    "_", "Foo", ::core::module_path!(), "", __PALM_FUNCTIONS, __PALM_HOOKS,)
                }
            };
        "#]],
    );
}

#[test]
fn a_hub_with_all_hooks() {
    check_expansion(
        Kind::Hub,
        quote!(name = "hub",),
        quote! {
            impl Tee {
                #[palm::scatter]
                fn copy(&self, message: Message) -> impl Iterator<Item = Message> {}
                #[palm::gather]
                async fn gather(&mut self, message: Message, context: palm::Context) -> Result<Vec<Message>, Error> {}
                #[palm::handle_stream]
                fn handle_stream(&self, message: Message) -> (&'static str, Message) {}
            }
        },
        expect![[r#"
            impl Tee {
                fn copy(&self, message: Message) -> impl Iterator<Item = Message> {}
                async fn gather(
                    &mut self,
                    message: Message,
                    context: palm::Context,
                ) -> Result<Vec<Message>, Error> {}
                fn handle_stream(&self, message: Message) -> (&'static str, Message) {}
            }
            const _: () = {
                const __PALM_FUNCTIONS: &[::palm::__private::FunctionInfo] = &[];
                #[automatically_derived]
                impl ::palm::__private::Shape for Tee
                where
                    Tee: ::core::marker::Send + ::core::marker::Sync + 'static,
                {
                    const NAME: &'static ::core::primitive::str = "hub";
                    const EXCLUSIVE: ::core::primitive::bool = true;
                    const SCATTERS: ::core::primitive::bool = true;
                    fn scatter(
                        __palm_state: &::palm::__private::State<Self>,
                        __palm_message: ::palm::__private::Message,
                        __palm_context: ::palm::__private::Context,
                        __palm_emit: &mut ::palm::__private::Emit<'_>,
                    ) -> impl ::core::future::Future<
                        Output = ::core::result::Result<(), ::palm::__private::CallFailure>,
                    > + ::core::marker::Send {
                        async move {
                            let __palm_this = ::palm::__private::State::shared(&*__palm_state).await;
                            let __palm_result = Self::copy(&*__palm_this, __palm_message);
                            ::palm::__private::check::send_iterator(__palm_emit, __palm_result)
                                .await;
                            ::core::result::Result::Ok(())
                        }
                    }
                    const GATHERS: ::core::primitive::bool = true;
                    fn gather(
                        __palm_state: &::palm::__private::State<Self>,
                        __palm_message: ::palm::__private::Message,
                        __palm_context: ::palm::__private::Context,
                        __palm_emit: &mut ::palm::__private::Emit<'_>,
                    ) -> impl ::core::future::Future<
                        Output = ::core::result::Result<(), ::palm::__private::CallFailure>,
                    > + ::core::marker::Send {
                        async move {
                            let mut __palm_this = ::palm::__private::State::exclusive(&*__palm_state)
                                .await;
                            let __palm_result = {
                                let __palm_result = ::palm::__private::check::future(
                                        Self::gather(
                                            &mut *__palm_this,
                                            __palm_message,
                                            __palm_context,
                                        ),
                                    )
                                    .await;
                                match __palm_result {
                                    ::core::result::Result::Ok(__palm_result) => __palm_result,
                                    ::core::result::Result::Err(__palm_error) => {
                                        let __palm_failure = {
                                            #[allow(unused_imports)]
                                            use ::palm::__private::check::{
                                                DisplayedKind as _, PalmKind as _,
                                            };
                                            let __palm_kind = (&::palm::__private::check::ErrorKind::of(
                                                &__palm_error,
                                            ))
                                                .kind();
                                            __palm_kind.failure(__palm_error)
                                        };
                                        return ::core::result::Result::Err(__palm_failure);
                                    }
                                }
                            };
                            ::palm::__private::check::send_iterator(__palm_emit, __palm_result)
                                .await;
                            ::core::result::Result::Ok(())
                        }
                    }
                    const HANDLES_STREAM: ::core::primitive::bool = true;
                    fn handle_stream(
                        __palm_state: &::palm::__private::State<Self>,
                        __palm_message: ::palm::__private::Message,
                        __palm_context: ::palm::__private::Context,
                    ) -> impl ::core::future::Future<
                        Output = ::core::result::Result<
                            (::palm::__private::ByteString, ::palm::__private::Message),
                            ::palm::__private::CallFailure,
                        >,
                    > + ::core::marker::Send {
                        async move {
                            let __palm_this = ::palm::__private::State::shared(&*__palm_state).await;
                            let __palm_result = Self::handle_stream(&*__palm_this, __palm_message);
                            <(
                                &'static str,
                                Message,
                            ) as ::palm::__private::IntoPublication>::into_publication(__palm_result)
                        }
                    }
                }
                #[automatically_derived]
                impl ::palm::__private::Bind for Tee
                where
                    Tee: ::core::marker::Send + ::core::marker::Sync + 'static,
                {
                    type Builder = ::palm::__private::HubBuilder<Self>;
                }
                const __PALM_HOOKS: &[&::core::primitive::str] = &[
                    "scatter",
                    "gather",
                    "handle_stream",
                ];
                ::palm::__private::inventory::submit! {
                    ::palm::__private::Registration::new(::palm::__private::ComponentKind::Hub,
                    "hub", "Tee", ::core::module_path!(), "", __PALM_FUNCTIONS, __PALM_HOOKS,)
                }
            };
        "#]],
    );
}

#[test]
fn conditions_are_carried_along() {
    check_expansion(
        Kind::Sink,
        quote!(name = "sink"),
        quote! {
            #[cfg(feature = "sink")]
            impl Foo {
                #[cfg(unix)]
                #[deprecated]
                #[palm::method]
                fn foo(&mut self) {}
                #[cfg(not(unix))]
                #[palm::method]
                fn foo(&self) {}
                #[cfg(unix)]
                #[palm::handle_stream]
                fn topic(&self, message: Message) -> (String, Message) {}
            }
        },
        expect![[r##"
            #[cfg(feature = "sink")]
            impl Foo {
                #[cfg(unix)]
                #[deprecated]
                fn foo(&mut self) {}
                #[cfg(not(unix))]
                fn foo(&self) {}
                #[cfg(unix)]
                fn topic(&self, message: Message) -> (String, Message) {}
            }
            #[cfg(feature = "sink")]
            impl Foo {
                #[cfg(unix)]
                /// The function `sink.foo`.
                #[deprecated]
                #[allow(deprecated, private_interfaces)]
                pub const FOO: ::palm::__private::Function<(), ::palm::__private::NoAnswer> = ::palm::__private::Function::new(
                    "sink",
                    "foo",
                );
                #[cfg(not(unix))]
                /// The function `sink.foo`.
                #[allow(deprecated, private_interfaces)]
                pub const FOO: ::palm::__private::Function<(), ::palm::__private::NoAnswer> = ::palm::__private::Function::new(
                    "sink",
                    "foo",
                );
            }
            #[cfg(feature = "sink")]
            const _: () = {
                const __PALM_FUNCTIONS: &[::palm::__private::FunctionInfo] = &[
                    #[cfg(unix)]
                    ::palm::__private::FunctionInfo::new(
                        "foo",
                        "",
                        ("", "()"),
                        ::palm::__private::Receiver::Exclusive,
                        ::palm::__private::Results::One,
                        false,
                    ),
                    #[cfg(not(unix))]
                    ::palm::__private::FunctionInfo::new(
                        "foo",
                        "",
                        ("", "()"),
                        ::palm::__private::Receiver::Shared,
                        ::palm::__private::Results::One,
                        false,
                    ),
                ];
                #[automatically_derived]
                impl ::palm::__private::Shape for Foo
                where
                    Foo: ::core::marker::Send + ::core::marker::Sync + 'static,
                {
                    const NAME: &'static ::core::primitive::str = "sink";
                    const EXCLUSIVE: ::core::primitive::bool = {
                        const __PALM_EXCLUSIVE: &[::core::primitive::bool] = &[#[cfg(unix)] true];
                        !__PALM_EXCLUSIVE.is_empty()
                    };
                    #[cfg(unix)]
                    const HANDLES_STREAM: ::core::primitive::bool = true;
                    #[cfg(unix)]
                    fn handle_stream(
                        __palm_state: &::palm::__private::State<Self>,
                        __palm_message: ::palm::__private::Message,
                        __palm_context: ::palm::__private::Context,
                    ) -> impl ::core::future::Future<
                        Output = ::core::result::Result<
                            (::palm::__private::ByteString, ::palm::__private::Message),
                            ::palm::__private::CallFailure,
                        >,
                    > + ::core::marker::Send {
                        async move {
                            let __palm_this = ::palm::__private::State::shared(&*__palm_state).await;
                            let __palm_result = Self::topic(&*__palm_this, __palm_message);
                            <(
                                String,
                                Message,
                            ) as ::palm::__private::IntoPublication>::into_publication(__palm_result)
                        }
                    }
                }
                #[allow(non_camel_case_types)]
                enum __PalmFunction {
                    #[cfg(unix)]
                    foo,
                    #[cfg(not(unix))]
                    foo,
                }
                #[automatically_derived]
                impl ::palm::__private::Callable for Foo
                where
                    Foo: ::core::marker::Send + ::core::marker::Sync + 'static,
                {
                    const FUNCTIONS: &'static [::palm::__private::FunctionInfo] = __PALM_FUNCTIONS;
                    fn find(
                        __palm_name: &::core::primitive::str,
                    ) -> ::core::option::Option<::core::primitive::usize> {
                        match __palm_name {
                            #[cfg(unix)]
                            "foo" => {
                                ::core::option::Option::Some(
                                    __PalmFunction::foo as ::core::primitive::usize,
                                )
                            }
                            #[cfg(not(unix))]
                            "foo" => {
                                ::core::option::Option::Some(
                                    __PalmFunction::foo as ::core::primitive::usize,
                                )
                            }
                            _ => ::core::option::Option::None,
                        }
                    }
                    fn call(
                        __palm_state: ::palm::__private::Arc<::palm::__private::State<Self>>,
                        __palm_index: ::core::primitive::usize,
                        mut __palm_call: ::palm::__private::Call,
                    ) -> impl ::core::future::Future<
                        Output = ::palm::__private::Outcome,
                    > + ::core::marker::Send + 'static {
                        async move {
                            match __palm_index {
                                #[cfg(unix)]
                                #[allow(deprecated)]
                                _ if __palm_index
                                    == __PalmFunction::foo as ::core::primitive::usize => {
                                    let mut __palm_this = ::palm::__private::State::exclusive(
                                            &*__palm_state,
                                        )
                                        .await;
                                    let __palm_result = Self::foo(&mut *__palm_this);
                                    let __palm_outcome = ::palm::__private::IntoOutcome::into_outcome(
                                        __palm_result,
                                    );
                                    __palm_outcome
                                }
                                #[cfg(not(unix))]
                                _ if __palm_index
                                    == __PalmFunction::foo as ::core::primitive::usize => {
                                    let __palm_this = ::palm::__private::State::shared(
                                            &*__palm_state,
                                        )
                                        .await;
                                    let __palm_result = Self::foo(&*__palm_this);
                                    let __palm_outcome = ::palm::__private::IntoOutcome::into_outcome(
                                        __palm_result,
                                    );
                                    __palm_outcome
                                }
                                _ => {
                                    ::core::unreachable!(
                                        "a function that `find` does not know is called"
                                    )
                                }
                            }
                        }
                    }
                }
                #[automatically_derived]
                impl ::palm::__private::Bind for Foo
                where
                    Foo: ::core::marker::Send + ::core::marker::Sync + 'static,
                {
                    type Builder = ::palm::__private::SinkBuilder<Self>;
                }
                const __PALM_HOOKS: &[&::core::primitive::str] = &[#[cfg(unix)] "handle_stream"];
                ::palm::__private::inventory::submit! {
                    ::palm::__private::Registration::new(::palm::__private::ComponentKind::Sink,
                    "sink", "Foo", ::core::module_path!(), "", __PALM_FUNCTIONS, __PALM_HOOKS,)
                }
            };
        "##]],
    );
}

#[test]
fn the_place_of_a_component_attribute() {
    let check = |item, expected| check_errors(Kind::Server, quote!(name = "foo"), item, expected);
    check(
        quote! { struct Foo; },
        expect![[r#"
            `#[palm::server]` belongs on an `impl` block, not on a struct: `#[palm::server(name = "...")] impl Foo { .. }`
        "#]],
    );
    check(
        quote! { enum Foo {} },
        expect![[r#"
            `#[palm::server]` belongs on an `impl` block, not on an enum: `#[palm::server(name = "...")] impl Foo { .. }`
        "#]],
    );
    check(
        quote! { fn foo() {} },
        expect![[r#"
            `#[palm::server]` belongs on an `impl` block, not on a function: `#[palm::server(name = "...")] impl MyComponent { .. }`
        "#]],
    );
    check(
        quote! { mod foo {} },
        expect![[r#"
            `#[palm::server]` belongs on an `impl` block, not on a module: `#[palm::server(name = "...")] impl MyComponent { .. }`
        "#]],
    );
    check(
        quote! { use foo; },
        expect![[r#"
            `#[palm::server]` belongs on an `impl` block, not on this item: `#[palm::server(name = "...")] impl MyComponent { .. }`
        "#]],
    );
    check(
        quote! { impl Trait for Foo { #[palm::method] fn foo(&self) {} } },
        expect![""],
    );
    check(
        quote! { impl<'a> Foo<'a> { #[palm::method] fn foo(&self) {} } },
        expect![[r#"
            a component outlives the call that starts it, so it cannot borrow: own the data, share it by `Arc`, or borrow for `'static`
        "#]],
    );
    check(
        quote! { impl Foo<'_> { #[palm::method] fn foo(&self) {} } },
        expect![[r#"
            a component outlives the call that starts it, so it cannot borrow: own the data, share it by `Arc`, or borrow for `'static`
        "#]],
    );
}

#[test]
fn the_options_of_a_component() {
    let check = |kind, args, expected| {
        let item = match kind {
            Kind::Master => {
                quote! { impl Foo { #[palm::gather] fn foo(&self, message: Message) -> Vec<Message> {} } }
            }
            _ => quote! { impl Foo { #[palm::method] fn foo(&self) {} } },
        };
        check_errors(kind, args, item, expected);
    };
    check(
        Kind::Server,
        quote!(),
        expect![[r#"
            give the server a name: `#[palm::server(name = "...")]`
        "#]],
    );
    check(
        Kind::Server,
        quote!("foo"),
        expect![[r#"
            expected an option: `palm::server` takes `name = "..."` and `crate = path::of::palm`
        "#]],
    );
    check(
        Kind::Server,
        quote!(nmae = "foo"),
        expect![[r#"
            unknown option `nmae`; did you mean `name = "..."`?
        "#]],
    );
    check(
        Kind::Server,
        quote!(nam = "foo"),
        expect![[r#"
            unknown option `nam`; did you mean `name = "..."`?
        "#]],
    );
    check(
        Kind::Server,
        quote!(server = "foo"),
        expect![[r#"
            unknown option `server`; `palm::server` takes `name = "..."` and `crate = path::of::palm`
        "#]],
    );
    check(
        Kind::Server,
        quote!(name),
        expect![[r#"
            `name` needs a value: `name = "..."`
        "#]],
    );
    check(
        Kind::Server,
        quote!(name = ),
        expect![[r#"
            `name` needs a value after the `=`
        "#]],
    );
    check(
        Kind::Server,
        quote!(name "foo"),
        expect![[r#"
            expected `name = "..."`
        "#]],
    );
    check(
        Kind::Server,
        quote!(name("foo")),
        expect![[r#"
            expected `name = "..."`
        "#]],
    );
    check(
        Kind::Server,
        quote!(name = "foo" crate = bus),
        expect![[r#"
            expected `,`
        "#]],
    );
    check(
        Kind::Server,
        quote!(name = 1),
        expect![[r#"
            expected a string: `name = "..."`
        "#]],
    );
    check(
        Kind::Server,
        quote!(name = foo),
        expect![[r#"
            expected a string: `name = "..."`
        "#]],
    );
    check(
        Kind::Server,
        quote!(name = ""),
        expect![[r#"
            a name cannot be empty
        "#]],
    );
    check(
        Kind::Server,
        quote!(name = "foo.bar"),
        expect![[r#"
            a name cannot contain a dot, which stands between component and function
        "#]],
    );
    check(
        Kind::Server,
        quote!(name = "foo bar"),
        expect![[r#"
            a name cannot contain white space, which stands between the steps of a job
        "#]],
    );
    check(
        Kind::Server,
        quote!(name = "foo", name = "bar"),
        expect![[r#"
            `name` is given twice
        "#]],
    );
    check(
        Kind::Server,
        quote!(name = "foo", crate = "::bus"),
        expect![""],
    );
    check(
        Kind::Server,
        quote!(name = "foo", crate = "a b"),
        expect![[r#"
            this is no path; write `crate = path::of::palm`
        "#]],
    );
    check(
        Kind::Server,
        quote!(name = "foo", crate = 1 + 1),
        expect![[r#"
            expected a path: `crate = path::of::palm`
        "#]],
    );
    check(
        Kind::Server,
        quote!(name = "foo", crate),
        expect![[r#"
            `crate` needs a value: `crate = path::of::palm`
        "#]],
    );
    check(
        Kind::Master,
        quote!(),
        expect![[r#"
            give the master a name: `#[palm::master(name = "...")]`
        "#]],
    );
    check(
        Kind::Worker,
        quote!(name = "foo"),
        expect![[r#"
            unknown option `name`; `palm::worker` takes `server = "..."` and `crate = path::of::palm`
        "#]],
    );
    check(
        Kind::Worker,
        quote!(sever = "foo"),
        expect![[r#"
            unknown option `sever`; did you mean `server = "..."`?
        "#]],
    );
    check(Kind::Worker, quote!(server = "foo"), expect![""]);
}

#[test]
fn the_options_of_a_method() {
    check_worker(quote! { #[palm::method()] fn foo(&self) {} }, expect![""]);
    check_worker(
        quote! { #[palm::method = "foo"] fn foo(&self) {} },
        expect![[r#"
            write `#[palm::method(name = "...")]`
        "#]],
    );
    check_worker(
        quote! { #[palm::method("foo")] fn foo(&self) {} },
        expect![[r#"
            expected an option: `palm::method` takes `name = "..."`, `blocking`, `at_most_once` and `max_runtime_ms = 1000`
        "#]],
    );
    check_worker(
        quote! { #[palm::method(name = "a.b")] fn foo(&self) {} },
        expect![[r#"
            a name cannot contain a dot, which stands between component and function
        "#]],
    );
    check_worker(
        quote! { #[palm::method(blokcing)] fn foo(&self) {} },
        expect![[r#"
            unknown option `blokcing`; did you mean `blocking`?
        "#]],
    );
    check_worker(
        quote! { #[palm::method(blocking = true)] fn foo(&self) {} },
        expect![[r#"
            `blocking` takes no value: write `blocking`, or nothing
        "#]],
    );
    check_worker(
        quote! { #[palm::method(timeout = 3)] fn foo(&self) {} },
        expect![[r#"
            unknown option `timeout`; `palm::method` takes `name = "..."`, `blocking`, `at_most_once` and `max_runtime_ms = 1000`
        "#]],
    );
    check_worker(
        quote! { #[palm::method(blocking)] async fn foo(&self) {} },
        expect![[r#"
            an `async` method is not `blocking`: take away one of the two
        "#]],
    );
    check_worker(
        quote! { #[palm::method(blocking)] fn foo(&self) -> impl Stream<Item = u8> {} },
        expect![[r#"
            a `blocking` method cannot return a stream: return an iterator, or take away `blocking`
        "#]],
    );
}

#[test]
fn the_place_of_a_helper_attribute() {
    let method = quote! { impl Foo { #[palm::method] fn foo(&self) {} } };
    let scatter =
        quote! { impl Foo { #[palm::scatter] fn foo(&self, message: Message) -> Vec<Message> {} } };
    let stream = quote! { impl Foo { #[palm::handle_stream] fn foo(&self, message: Message) -> (String, Message) {} } };
    let name = || quote!(name = "foo");
    check_errors(
        Kind::Master,
        name(),
        method,
        expect![[r#"
            a master has no methods that can be called: `#[palm::method]` belongs under `#[palm::server]`, `#[palm::pipeline]`, `#[palm::sink]`, `#[palm::worker]`, `#[palm::mux_worker]` or `#[palm::http_worker]`; a master has `#[palm::scatter]`, `#[palm::gather]` and `#[palm::handle_stream]`
        "#]],
    );
    check_errors(
        Kind::Sink,
        name(),
        scatter,
        expect![[r#"
            a sink does not scatter: `#[palm::scatter]` belongs under `#[palm::master]` or `#[palm::hub]`; for many results of one message, let a `#[palm::method]` return an iterator or a stream
        "#]],
    );
    check_errors(
        Kind::MuxWorker,
        quote!(),
        stream.clone(),
        expect![[r#"
            a mux worker answers its master, which does the publishing: put `#[palm::handle_stream]` under the `#[palm::master]` or `#[palm::hub]`
        "#]],
    );
    // It shapes its stream, but has nothing to call.
    check_errors(
        Kind::Server,
        name(),
        stream,
        expect![[r#"
            this server has nothing to call: mark the methods that others may call with `#[palm::method]`
        "#]],
    );
    check_errors(
        Kind::Server,
        name(),
        quote! { impl Foo {} },
        expect![[r#"
            this server has nothing to call: mark the methods that others may call with `#[palm::method]`
        "#]],
    );
    check_errors(
        Kind::MuxWorker,
        quote!(),
        quote! { impl Foo { fn foo(&self) {} } },
        expect![[r#"
            this mux worker has nothing to call: mark the methods that others may call with `#[palm::method]`
        "#]],
    );
    check_errors(
        Kind::Master,
        name(),
        quote! { impl Foo {} },
        expect![[r#"
            this master overrides nothing: mark a method with `#[palm::scatter]`, `#[palm::gather]` or `#[palm::handle_stream]`, or use `palm::Master::new("...")` without an `impl`
        "#]],
    );
    check_errors(
        Kind::Hub,
        name(),
        quote! { impl Foo {} },
        expect![[r#"
            this hub overrides nothing: mark a method with `#[palm::scatter]`, `#[palm::gather]` or `#[palm::handle_stream]`, or use `palm::Hub::new("...")` without an `impl`
        "#]],
    );
    check_worker(
        quote! { #[palm::method] const FOO: u8 = 1; },
        expect![[r#"
            `#[palm::method]` belongs on a method
        "#]],
    );
    check_worker(
        quote! { #[palm::method] #[palm::method] fn foo(&self) {} },
        expect![[r#"
            `foo` has `#[palm::method]` already: a method has one of these attributes
        "#]],
    );
    check_worker(
        quote! { #[palm::method] #[palm::scatter] fn foo(&self) {} },
        expect![[r#"
            `foo` has `#[palm::method]` already: a method has one of these attributes
        "#]],
    );
}

#[test]
fn the_receiver() {
    check_worker(
        quote! { #[palm::method] fn foo() {} },
        expect![[r#"
            a `#[palm::method]` takes `&self`, or `&mut self` to run alone, as its first parameter
        "#]],
    );
    check_worker(
        quote! { #[palm::method] fn foo(self) {} },
        expect![[r#"
            a `#[palm::method]` takes `&self`, or `&mut self` to run alone: the component goes on after the call
        "#]],
    );
    check_worker(
        quote! { #[palm::method] fn foo(mut self) {} },
        expect![[r#"
            a `#[palm::method]` takes `&self`, or `&mut self` to run alone: the component goes on after the call
        "#]],
    );
    check_worker(
        quote! { #[palm::method] fn foo(self: Arc<Self>) {} },
        expect![[r#"
            a `#[palm::method]` takes `&self`, or `&mut self` to run alone
        "#]],
    );
    check_worker(
        quote! { #[palm::method] fn foo(payload: Bytes) {} },
        expect![[r#"
            a `#[palm::method]` takes `&self`, or `&mut self` to run alone, as its first parameter
        "#]],
    );
}

#[test]
fn the_parameters() {
    check_worker(
        quote! { #[palm::method] fn foo(&self, a: Bytes, b: Bytes) {} },
        expect![[r#"
            a method takes one payload, and then at most a `Context`: put what is sent together into one type
        "#]],
    );
    check_worker(
        quote! { #[palm::method] fn foo(&self, a: Context, b: Bytes) {} },
        expect![[r#"
            the context comes last: swap the parameters
        "#]],
    );
    check_worker(
        quote! { #[palm::method] fn foo(&self, a: Context, b: Context) {} },
        expect![[r#"
            the context is taken already
        "#]],
    );
    check_worker(
        quote! { #[palm::method] fn foo(&self, a: Bytes, b: Context, c: Bytes) {} },
        expect![[r#"
            the context comes last: swap the parameters
        "#]],
    );
    check_worker(
        quote! { #[palm::method] fn foo(&self, a: &Context) {} },
        expect![[r#"
            take the context by value: `context: Context`
        "#]],
    );
    check_worker(
        quote! { #[palm::method] fn foo(&self, a: impl FromPayload) {} },
        expect![[r#"
            name the type: the bytes that arrive do not say which type behind `impl` is meant
        "#]],
    );
    check_worker(
        quote! { #[palm::method] fn foo(&self, a: Option<impl FromPayload>) {} },
        expect![[r#"
            name the type: the bytes that arrive do not say which type behind `impl` is meant
        "#]],
    );
    check_worker(
        quote! { #[palm::method] fn foo(&self, #[cfg(unix)] a: Bytes) {} },
        expect![[r#"
            a parameter cannot depend on a `cfg`: write the method twice, each under its `cfg`
        "#]],
    );
}

#[test]
fn the_qualifiers() {
    check_worker(
        quote! { #[palm::method] const unsafe extern "C" fn foo<T>(&self, a: T) {} },
        expect![[r#"
            a `#[palm::method]` cannot be `const`
            a `#[palm::method]` cannot be `unsafe`: whoever calls it from afar can promise nothing
            a `#[palm::method]` cannot be `extern`
            a method that is called from afar cannot be generic: the bytes that arrive do not say which types are meant; put the parameters on the `impl` block
        "#]],
    );
}

#[test]
fn the_hooks() {
    let check = |members, expected| {
        check_errors(
            Kind::Hub,
            quote!(name = "foo"),
            quote! { impl Foo { #members } },
            expected,
        )
    };
    check(
        quote! { #[palm::scatter] fn foo(&self) {} },
        expect![[r#"
            a `#[palm::scatter]` takes the message: `fn foo(&self, message: Message)`
            a `#[palm::scatter]` returns messages: `-> impl Iterator<Item = Message>`, or a `Vec` or stream of them
        "#]],
    );
    check(
        quote! { #[palm::scatter] fn foo(&self, a: Message) -> Message {} },
        expect![[r#"
            a `#[palm::scatter]` returns messages, and this is `Message`: return `Vec<Message>` or an iterator or stream of `Message`
        "#]],
    );
    check(
        quote! { #[palm::gather] fn foo(&self, a: Message, b: u8) -> Vec<Message> {} },
        expect![[r#"
            a `#[palm::gather]` takes the message, and then at most a `Context`
        "#]],
    );
    check(
        quote! { #[palm::gather(blocking)] fn foo<T>(&self, a: Message) -> Vec<Message> {} },
        expect![[r#"
            a `#[palm::gather]` cannot be generic; put the parameters on the `impl` block
            `palm::gather` takes no options
        "#]],
    );
    check(
        quote! { #[palm::gather = 1] fn foo(&self, a: Message) -> Vec<Message> {} },
        expect![[r#"
            write `#[palm::gather]`
        "#]],
    );
    check(
        quote! { #[palm::handle_stream] fn foo(&self, a: Message) {} },
        expect![[r#"
            a `#[palm::handle_stream]` returns a topic and the message: `-> (&'static str, Message)`
        "#]],
    );
    check(
        quote! {
            #[palm::scatter] fn foo(&self, a: Message) -> Vec<Message> {}
            #[palm::scatter] fn bar(&self, a: Message) -> Vec<Message> {}
        },
        expect![[r#"
            `foo` is `#[palm::scatter]` already: there is one of them in a component
        "#]],
    );
}

#[test]
fn the_results_of_a_mux_worker() {
    let check = |ty: TokenStream, expected| {
        let item = quote! { impl Foo { #[palm::method] fn foo(&self) #ty {} } };
        check_errors(Kind::MuxWorker, quote!(), item, expected);
    };
    check(
        quote!(),
        expect![[r#"
            a mux worker's method returns its results: an iterator, a `Vec`, or a stream of payloads
        "#]],
    );
    check(
        quote!(-> Bytes),
        expect![[r#"
            a mux worker's method returns many results, and `Bytes` is one: return `Vec<Bytes>` or an iterator or stream of them, or make this a `#[palm::worker]`
        "#]],
    );
    check(
        quote!(-> Result<Vec<u8>, Error>),
        expect![[r#"
            a mux worker's method returns many results, and `Vec<u8>` is one: return `Vec<Vec<u8>>` or an iterator or stream of them, or make this a `#[palm::worker]`
        "#]],
    );
    check(quote!(-> Option<Bytes>), expect![""]);
    check(quote!(-> Vec<String>), expect![""]);
}

#[test]
fn an_iterator_can_go_to_another_thread() {
    check_worker(
        quote! { #[palm::method] fn foo(&self) -> impl IntoIterator<Item = Bytes> {} },
        expect![[r#"
            the iterator behind `impl IntoIterator` may be bound to its thread: return `impl Iterator<..>`, or `impl IntoIterator<.., IntoIter: Send>`
        "#]],
    );
    check_worker(
        quote! { #[palm::method] fn foo(&self) -> Result<impl IntoIterator<Item = Bytes>, Error> {} },
        expect![[r#"
            the iterator behind `impl IntoIterator` may be bound to its thread: return `impl Iterator<..>`, or `impl IntoIterator<.., IntoIter: Send>`
        "#]],
    );
    check_worker(
        quote! { #[palm::method(blocking)] fn foo(&self) -> impl IntoIterator<Item = Bytes> {} },
        expect![""],
    );
    check_worker(
        quote! { #[palm::method] fn foo(&self) -> impl IntoIterator<Item = Bytes, IntoIter: Send> {} },
        expect![""],
    );
}

#[test]
fn names_differ() {
    check_worker(
        quote! {
            #[palm::method] fn foo(&self) {}
            #[palm::method(name = "foo")] fn bar(&self) {}
        },
        expect![[r#"
            `bar` and `foo` would both be called `foo`: give one another name with `#[palm::method(name = "...")]`
        "#]],
    );
    check_worker(
        quote! {
            #[palm::method] fn foo_bar(&self) {}
            #[palm::method] fn fooBar(&self) {}
        },
        expect![[r#"
            the constants of `fooBar` and `foo_bar` would both be called `FOO_BAR`: rename one of the methods
        "#]],
    );
    check_worker(
        quote! {
            const FOO: u8 = 1;
            #[palm::method] fn foo(&self) {}
        },
        expect![[r#"
            the constant that stands for `foo` would be called `FOO`, and there is such an item in this block: rename one
        "#]],
    );
    check_worker(quote! { #[palm::method] fn echo(&self) {} }, expect![""]);
    check_worker(quote! { #[palm::method] fn r#match(&self) {} }, expect![""]);
}

#[test]
fn all_mistakes_of_a_block_are_reported_at_once() {
    check_errors(
        Kind::Server,
        quote!(nmae = "foo"),
        quote! {
            impl Foo {
                #[palm::method(blcking)] fn foo() {}
                #[palm::scatter] fn bar(&self) {}
                #[palm::method] fn baz<T>(self, a: T, b: T) {}
            }
        },
        expect![[r#"
            unknown option `nmae`; did you mean `name = "..."`?
            a `#[palm::method]` takes `&self`, or `&mut self` to run alone, as its first parameter
            unknown option `blcking`; did you mean `blocking`?
            a server does not scatter: `#[palm::scatter]` belongs under `#[palm::master]` or `#[palm::hub]`; for many results of one message, let a `#[palm::method]` return an iterator or a stream
            a method that is called from afar cannot be generic: the bytes that arrive do not say which types are meant; put the parameters on the `impl` block
            a `#[palm::method]` takes `&self`, or `&mut self` to run alone: the component goes on after the call
            a method takes one payload, and then at most a `Context`: put what is sent together into one type
        "#]],
    );
}

#[test]
fn after_an_error_the_item_is_kept_without_helper_attributes() {
    check_expansion(
        Kind::Server,
        quote!(),
        quote! {
            impl Foo {
                /// Foo.
                #[palm::method]
                #[inline]
                fn foo(&self) {}
            }
        },
        expect![[r#"
            impl Foo {
                /// Foo.
                #[inline]
                fn foo(&self) {}
            }
            ::core::compile_error! {
                "give the server a name: `#[palm::server(name = \"...\")]`"
            }
        "#]],
    );
}

#[test]
fn an_http_worker_has_one_result_a_call() {
    check_errors(
        Kind::HttpWorker,
        quote!(name = "images"),
        quote! {
            impl Foo {
                #[palm::method]
                fn many(&self) -> impl Iterator<Item = Bytes> {}
                #[palm::method]
                async fn one(&self, payload: Bytes) -> Result<Vec<u8>, Error> {}
            }
        },
        expect![[r#"
            unknown option `name`; `palm::http_worker` takes `server = "..."` and `crate = path::of::palm`
            an HTTP worker answers each request once: return one value, or all of them in one, as `Json<Vec<T>>` does
        "#]],
    );
}
