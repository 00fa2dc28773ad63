//! Names of methods and of their constants.

use expect_test::expect;
use quote::quote;

use super::check_worker;

#[test]
fn names_of_methods_and_constants_are_unique() {
    check_worker(
        quote! {
            #[palm::method] fn foo(&self) {}
            #[palm::method(name = "foo")] fn bar(&self) {}
        },
        expect![[r#"
            `bar` and `foo` both have the name `foo`: rename one with `#[palm::method(name = "...")]`
        "#]],
    );
    check_worker(
        quote! {
            #[palm::method] fn foo_bar(&self) {}
            #[palm::method] fn fooBar(&self) {}
        },
        expect![[r#"
            `fooBar` and `foo_bar` both have the constant `FOO_BAR`: rename one of the methods
        "#]],
    );
    check_worker(
        quote! {
            const FOO: u8 = 1;
            #[palm::method] fn foo(&self) {}
        },
        expect![[r#"
            the constant of `foo` is `FOO`, and this block has an item of that name: rename one of them
        "#]],
    );
    check_worker(quote! { #[palm::method] fn echo(&self) {} }, expect![""]);
    check_worker(quote! { #[palm::method] fn r#match(&self) {} }, expect![""]);
}
