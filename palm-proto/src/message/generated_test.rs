//! `proto.rs` is what `proto/palm.proto` generates. `palm.proto` in this crate's folder is a link to that file, so that
//! the package contains it.
//!
//! `PALM_BLESS=1 cargo test -p palm-proto generated` rewrites it.

use std::path::Path;

#[test]
fn generated_code_is_up_to_date() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = tempfile::tempdir().unwrap();
    let files = protox::compile([package.join("palm.proto")], [package]).unwrap();
    prost_build::Config::new()
        .bytes(["."])
        .out_dir(out.path())
        .compile_fds(files)
        .unwrap();
    let generated = std::fs::read_to_string(out.path().join("palm.rs")).unwrap();
    let docs = "//! The message as prost generates it from `proto/palm.proto`, for programs that want plain strings.\n\n";
    let expected = format!("{docs}{generated}");
    let committed = package.join("src/message/proto.rs");
    if std::env::var_os("PALM_BLESS").is_some() {
        std::fs::write(&committed, &expected).unwrap();
    }
    assert!(
        std::fs::read_to_string(&committed).unwrap() == expected,
        "src/message/proto.rs is out of date: run this test with PALM_BLESS=1"
    );
}
