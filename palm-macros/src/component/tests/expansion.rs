//! Whole expansions, formatted.

use expect_test::expect;
use quote::quote;

use super::check_expansion;
use crate::kind::Kind;

#[test]
fn server_expands_to_constants_traits_and_registration() {
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
                    fn functions(
                        _: &::palm::__private::State<Self>,
                    ) -> &[::palm::__private::FunctionInfo] {
                        __PALM_FUNCTIONS
                    }
                    fn find(
                        _: &::palm::__private::State<Self>,
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
                const __PALM_REGISTRATION: ::palm::__private::Registration = ::palm::__private::Registration::new(
                        ::palm::__private::ComponentKind::Server,
                        "images",
                        "Resizer",
                        ::core::module_path!(),
                        "Makes images smaller.",
                        __PALM_FUNCTIONS,
                        __PALM_HOOKS,
                    )
                    .starter({
                        #[allow(unused_imports)]
                        use ::palm::__private::NotDefault as _;
                        ::palm::__private::StarterOf::<Resizer>::STARTER
                    });
                ::palm::__private::inventory::submit! {
                    __PALM_REGISTRATION
                }
                #[automatically_derived]
                impl ::palm::__private::Linked for Resizer
                where
                    Resizer: ::core::marker::Send + ::core::marker::Sync + 'static,
                {
                    type Builder = ::palm::__private::ServerBuilder<Self>;
                    const REGISTRATION: &'static ::palm::__private::Registration = &__PALM_REGISTRATION;
                }
            };
        "#]],
    );
}

#[test]
fn worker_expands_methods_of_every_form() {
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
                    fn functions(
                        _: &bus::__private::State<Self>,
                    ) -> &[bus::__private::FunctionInfo] {
                        __PALM_FUNCTIONS
                    }
                    fn find(
                        _: &bus::__private::State<Self>,
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
                const __PALM_REGISTRATION: bus::__private::Registration = bus::__private::Registration::new(
                    bus::__private::ComponentKind::Worker,
                    "images",
                    "Resizer<T>",
                    ::core::module_path!(),
                    "",
                    __PALM_FUNCTIONS,
                    __PALM_HOOKS,
                );
                bus::__private::inventory::submit! {
                    __PALM_REGISTRATION
                }
                #[automatically_derived]
                impl<T: Send + Sync + 'static> bus::__private::Linked for Resizer<T>
                where
                    T: Image,
                    Resizer<T>: ::core::marker::Send + ::core::marker::Sync + 'static,
                {
                    type Builder = bus::__private::WorkerBuilder<Self>;
                    const REGISTRATION: &'static bus::__private::Registration = &__PALM_REGISTRATION;
                }
            };
        "#]],
    );
}

#[test]
fn mux_worker_emits_every_result() {
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
                    fn functions(
                        _: &::palm::__private::State<Self>,
                    ) -> &[::palm::__private::FunctionInfo] {
                        __PALM_FUNCTIONS
                    }
                    fn find(
                        _: &::palm::__private::State<Self>,
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
                const __PALM_REGISTRATION: ::palm::__private::Registration = ::palm::__private::Registration::new(
                        ::palm::__private::ComponentKind::MuxWorker,
                        "_",
                        "Foo",
                        ::core::module_path!(),
                        "",
                        __PALM_FUNCTIONS,
                        __PALM_HOOKS,
                    )
                    .starter({
                        #[allow(unused_imports)]
                        use ::palm::__private::NotDefault as _;
                        ::palm::__private::StarterOf::<Foo>::STARTER
                    });
                ::palm::__private::inventory::submit! {
                    __PALM_REGISTRATION
                }
                #[automatically_derived]
                impl ::palm::__private::Linked for Foo
                where
                    Foo: ::core::marker::Send + ::core::marker::Sync + 'static,
                {
                    type Builder = ::palm::__private::WorkerBuilder<Self>;
                    const REGISTRATION: &'static ::palm::__private::Registration = &__PALM_REGISTRATION;
                }
            };
        "#]],
    );
}

#[test]
fn hub_expands_every_hook() {
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
                const __PALM_REGISTRATION: ::palm::__private::Registration = ::palm::__private::Registration::new(
                        ::palm::__private::ComponentKind::Hub,
                        "hub",
                        "Tee",
                        ::core::module_path!(),
                        "",
                        __PALM_FUNCTIONS,
                        __PALM_HOOKS,
                    )
                    .starter({
                        #[allow(unused_imports)]
                        use ::palm::__private::NotDefault as _;
                        ::palm::__private::StarterOf::<Tee>::STARTER
                    });
                ::palm::__private::inventory::submit! {
                    __PALM_REGISTRATION
                }
                #[automatically_derived]
                impl ::palm::__private::Linked for Tee
                where
                    Tee: ::core::marker::Send + ::core::marker::Sync + 'static,
                {
                    type Builder = ::palm::__private::HubBuilder<Self>;
                    const REGISTRATION: &'static ::palm::__private::Registration = &__PALM_REGISTRATION;
                }
            };
        "#]],
    );
}

#[test]
fn generated_items_keep_the_cfgs_of_their_methods() {
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
                    fn functions(
                        _: &::palm::__private::State<Self>,
                    ) -> &[::palm::__private::FunctionInfo] {
                        __PALM_FUNCTIONS
                    }
                    fn find(
                        _: &::palm::__private::State<Self>,
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
                const __PALM_REGISTRATION: ::palm::__private::Registration = ::palm::__private::Registration::new(
                        ::palm::__private::ComponentKind::Sink,
                        "sink",
                        "Foo",
                        ::core::module_path!(),
                        "",
                        __PALM_FUNCTIONS,
                        __PALM_HOOKS,
                    )
                    .starter({
                        #[allow(unused_imports)]
                        use ::palm::__private::NotDefault as _;
                        ::palm::__private::StarterOf::<Foo>::STARTER
                    });
                ::palm::__private::inventory::submit! {
                    __PALM_REGISTRATION
                }
                #[automatically_derived]
                impl ::palm::__private::Linked for Foo
                where
                    Foo: ::core::marker::Send + ::core::marker::Sync + 'static,
                {
                    type Builder = ::palm::__private::SinkBuilder<Self>;
                    const REGISTRATION: &'static ::palm::__private::Registration = &__PALM_REGISTRATION;
                }
            };
        "##]],
    );
}
