#![allow(unused)]

struct NoError;

struct Foo;

#[palm::server(name = "foo")]
impl Foo {
    #[palm::method]
    fn number(&self) -> u64 {
        1
    }

    #[palm::method]
    async fn numbers(&self) -> impl Iterator<Item = u64> {
        0..1
    }

    #[palm::method]
    fn no_error(&self) -> Result<String, NoError> {
        Err(NoError)
    }
}

fn main() {}
