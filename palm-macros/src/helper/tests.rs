//! Expansions of misplaced helper attributes.

use expect_test::{Expect, expect};
use quote::quote;

use super::{Helper, expand};

fn check(helper: Helper, expected: Expect) {
    let tokens = expand(helper, quote! { fn foo(&self) {} });
    expected.assert_eq(&tokens.to_string());
}

#[test]
fn misplaced_helper_keeps_its_item_and_says_where_it_belongs() {
    check(
        Helper::Method,
        expect![[
            r#"fn foo (& self) { } :: core :: compile_error ! { "`#[palm::method]` belongs on a method in an `impl` block under `#[palm::server]`, `#[palm::pipeline]`, `#[palm::sink]`, `#[palm::worker]`, `#[palm::mux_worker]` or `#[palm::http_worker]`" }"#
        ]],
    );
    check(
        Helper::Scatter,
        expect![[
            r#"fn foo (& self) { } :: core :: compile_error ! { "`#[palm::scatter]` belongs on a method in an `impl` block under `#[palm::master]` or `#[palm::hub]`" }"#
        ]],
    );
    check(
        Helper::HandleStream,
        expect![[
            r#"fn foo (& self) { } :: core :: compile_error ! { "`#[palm::handle_stream]` belongs on a method in an `impl` block under `#[palm::server]`, `#[palm::pipeline]`, `#[palm::sink]`, `#[palm::master]` or `#[palm::hub]`" }"#
        ]],
    );
}
