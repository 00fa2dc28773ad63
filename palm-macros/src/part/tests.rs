//! Expansions of user-defined parts.

use expect_test::{Expect, expect};
use proc_macro2::TokenStream;
use quote::quote;

use super::{Part, expand};

/// Checks the whole expansion, formatted.
fn check(part: Part, item: TokenStream, expected: Expect) {
    let file = syn::parse2(expand(part, TokenStream::new(), item));
    let file = file.expect("an expansion is a list of items");
    expected.assert_eq(&prettyplease::unparse(&file));
}

/// Checks the messages, one a line.
fn check_errors(part: Part, item: TokenStream, expected: Expect) {
    let tokens = expand(part, TokenStream::new(), item).to_string();
    let messages = tokens.split("compile_error ! {").skip(1);
    let messages: Vec<_> = messages
        .map(|message| message.split('}').next().unwrap_or_default().trim())
        .collect();
    expected.assert_eq(&messages.join("\n"));
}

#[test]
fn inbound_part_has_the_hooks_of_its_block() {
    check(
        Part::Inbound,
        quote! {
            impl Doubler {
                fn scatter(&mut self, message: Message) -> Vec<Message> { vec![message.clone(), message] }
                #[cfg(unix)]
                fn reply_feedback(&mut self, feedback: Bytes) -> &'static str { "ok" }
                fn other(&self) {}
            }
        },
        expect![[r#"
            impl Doubler {
                fn scatter(&mut self, message: Message) -> Vec<Message> {
                    vec![message.clone(), message]
                }
                #[cfg(unix)]
                fn reply_feedback(&mut self, feedback: Bytes) -> &'static str {
                    "ok"
                }
                fn other(&self) {}
            }
            #[automatically_derived]
            impl ::palm::__private::InboundHooks for Doubler {
                const SCATTERS: ::core::primitive::bool = true;
                const TAKES_FEEDBACK: ::core::primitive::bool = false;
                fn scatter(
                    &mut self,
                    __palm_argument: ::palm::__private::Message,
                    __palm_context: ::palm::__private::Context,
                    __palm_emit: &mut ::palm::__private::Emit<'_>,
                ) -> impl ::core::future::Future<
                    Output = ::core::result::Result<(), ::palm::__private::CallFailure>,
                > + ::core::marker::Send {
                    async move {
                        let __palm_results = <Vec<
                            Message,
                        > as ::palm::__private::IntoMessages>::into_messages(
                            Self::scatter(self, __palm_argument),
                        );
                        ::palm::__private::check::send_messages(__palm_emit, __palm_results).await
                    }
                }
                #[cfg(unix)]
                fn reply_feedback(
                    &mut self,
                    __palm_argument: ::palm::__private::Bytes,
                ) -> ::palm::__private::Bytes {
                    ::core::convert::Into::into(Self::reply_feedback(self, __palm_argument))
                }
            }
        "#]],
    );
}

#[test]
fn outbound_part_emits_what_handle_returns() {
    check(
        Part::Outbound,
        quote! {
            impl<T: Send + 'static> Archive<T> {
                async fn handle(&mut self, message: Message, context: Context) -> Result<impl Iterator<Item = Message>, Error> { todo!() }
            }
        },
        expect![[r#"
            impl<T: Send + 'static> Archive<T> {
                async fn handle(
                    &mut self,
                    message: Message,
                    context: Context,
                ) -> Result<impl Iterator<Item = Message>, Error> {
                    todo!()
                }
            }
            #[automatically_derived]
            impl<T: Send + 'static> ::palm::__private::OutboundHooks for Archive<T> {
                fn handle(
                    &mut self,
                    __palm_argument: ::palm::__private::Message,
                    __palm_context: ::palm::__private::Context,
                    __palm_emit: &mut ::palm::__private::Emit<'_>,
                ) -> impl ::core::future::Future<
                    Output = ::core::result::Result<(), ::palm::__private::CallFailure>,
                > + ::core::marker::Send {
                    async move {
                        let __palm_results = match Self::handle(
                                self,
                                __palm_argument,
                                __palm_context,
                            )
                            .await
                        {
                            ::core::result::Result::Ok(__palm_results) => __palm_results,
                            ::core::result::Result::Err(__palm_error) => {
                                return ::core::result::Result::Err(
                                    ::palm::__private::check::failure(__palm_error),
                                );
                            }
                        };
                        {
                            ::palm::__private::check::send_iterator(__palm_emit, __palm_results)
                                .await;
                            ::core::result::Result::Ok(())
                        }
                    }
                }
            }
        "#]],
    );
}

#[test]
fn bypass_part_implements_both_directions() {
    check(
        Part::Bypass,
        quote! {
            impl Clock {
                fn recv(&mut self, body: String) -> String { body }
                async fn run(self, sender: BypassSender) {}
            }
        },
        expect![[r#"
            impl Clock {
                fn recv(&mut self, body: String) -> String {
                    body
                }
                async fn run(self, sender: BypassSender) {}
            }
            #[automatically_derived]
            impl ::palm::__private::BypassInbound for Clock {
                fn recv(
                    &mut self,
                    __palm_argument: ::palm::__private::Bytes,
                ) -> impl ::core::future::Future<
                    Output = ::palm::__private::Outcome,
                > + ::core::marker::Send {
                    async move {
                        let __palm_argument = match ::palm::__private::check::body::<
                            String,
                        >(__palm_argument) {
                            ::core::result::Result::Ok(__palm_argument) => __palm_argument,
                            ::core::result::Result::Err(__palm_outcome) => return __palm_outcome,
                        };
                        ::palm::__private::IntoOutcome::into_outcome(
                            Self::recv(self, __palm_argument),
                        )
                    }
                }
            }
            #[automatically_derived]
            impl ::palm::__private::BypassOutbound for Clock {
                fn run(
                    self,
                    __palm_argument: ::palm::__private::BypassSender,
                ) -> impl ::core::future::Future<
                    Output = ::core::result::Result<(), ::palm::__private::BoxError>,
                > + ::core::marker::Send {
                    async move {
                        ::palm::__private::check::ended(
                            ::palm::__private::IntoOutcome::into_outcome(
                                Self::run(self, __palm_argument).await,
                            ),
                        )
                    }
                }
            }
        "#]],
    );
}

#[test]
fn mistakes_in_hooks_suggest_the_signature() {
    check_errors(
        Part::Inbound,
        quote! {
            impl Doubler {
                fn scater(&mut self, message: Message) -> Vec<Message> { vec![] }
                async fn handle_feedback(&mut self, feedback: &Bytes) {}
            }
        },
        expect![[r#"
            "unknown hook `scater`; did you mean `scatter`?"
            "`handle_feedback` cannot be async: the part does not await it""#]],
    );
    check_errors(
        Part::Outbound,
        quote! { impl Nothing {} },
        expect![[
            r#""this block has no hook: add `fn handle(&mut self, message: Message) -> Message`""#
        ]],
    );
    check_errors(
        Part::Bypass,
        quote! { struct Nothing; },
        expect![[
            r#""`#[palm::bypass]` belongs on an `impl` block with `fn recv(&mut self, body: Bytes) -> Bytes` or `async fn run(self, sender: BypassSender)`""#
        ]],
    );
    check_errors(
        Part::Bypass,
        quote! { impl Clock { fn recv(body: Bytes) {} } },
        expect![[r#""expected the signature `fn recv(&mut self, body: Bytes) -> Bytes`""#]],
    );
}
