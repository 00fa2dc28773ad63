use expect_test::{Expect, expect};
use quote::quote;

use super::*;

fn check(input: TokenStream, expected: Expect) {
    let file = syn::parse2(expand(quote!(palm; #input))).expect("the expansion is a file");
    expected.assert_eq(&prettyplease::unparse(&file));
}

#[test]
fn program_without_constructors_has_a_main_function() {
    check(
        TokenStream::new(),
        expect![[r#"
        fn main() -> ::std::process::ExitCode {
            palm::__private::program::Program::new(
                    ::core::option_env!("CARGO_PKG_DESCRIPTION"),
                    ::core::option_env!("CARGO_PKG_VERSION"),
                )
                .run()
        }
    "#]],
    );
}

#[test]
fn constructors_are_passed_with_their_components() {
    check(
        quote!(Resizer => Resizer::open, Sorter<u8> => |_: NoArguments| Sorter::new(),),
        expect![[r#"
            fn main() -> ::std::process::ExitCode {
                palm::__private::program::Program::new(
                        ::core::option_env!("CARGO_PKG_DESCRIPTION"),
                        ::core::option_env!("CARGO_PKG_VERSION"),
                    )
                    .component(palm::__private::program::constructed::<Resizer, _, _>(Resizer::open))
                    .component(
                        palm::__private::program::constructed::<
                            Sorter<u8>,
                            _,
                            _,
                        >(|_: NoArguments| Sorter::new()),
                    )
                    .run()
            }
        "#]],
    );
}

#[test]
fn entry_without_a_constructor_is_a_mistake() {
    check(
        quote!(Resizer),
        expect![[r#"
        fn main() {
            ::core::compile_error! {
                "expected `Resizer => <constructor>`, such as `Resizer => Resizer::open`; a component that implements `Default` is not listed"
            }
        }
    "#]],
    );
    check(
        quote!(Resizer = Resizer::open),
        expect![[r#"
        fn main() {
            ::core::compile_error! {
                "expected `Resizer => <constructor>`, such as `Resizer => Resizer::open`; a component that implements `Default` is not listed"
            }
        }
    "#]],
    );
}

#[test]
fn component_with_two_constructors_is_a_mistake() {
    check(
        quote!(Resizer => Resizer::open, Resizer => Resizer::new),
        expect![[r#"
            fn main() {
                ::core::compile_error! {
                    "`Resizer` already has a constructor: remove one of the two"
                }
            }
        "#]],
    );
}
