//! Type and const parameters, where clauses, associated types in signatures, and types from `macro_rules`.

#![deny(warnings)]
#![allow(dead_code)]

use bytes::Bytes;
use palm::prelude::*;

trait Model: Send + Sync + 'static {
    type Input: FromPayload + Send;
    type Output: IntoPayload;

    fn run(&self, input: Self::Input) -> Self::Output;
}

struct Inference<M, const N: usize>([M; N]);

#[palm::worker(server = "models")]
impl<M, const N: usize> Inference<M, N>
where
    M: Model,
{
    #[palm::method]
    fn run(&mut self, input: M::Input) -> Option<M::Output> {
        self.0.first().map(|model| model.run(input))
    }

    #[palm::method]
    async fn run_all(&self, _: <M as Model>::Input) -> impl Iterator<Item = String> {
        self.0.iter().map(|_| String::new())
    }
}

struct Static(&'static str);

#[palm::pipeline(name = "static")]
impl Static {
    #[palm::method]
    fn text(&self) -> &'static str {
        self.0
    }
}

macro_rules! component {
    ($text:literal, $name:ident, $input:ty, $output:ty, $function:ident) => {
        struct $name;

        #[palm::sink(name = $text)]
        impl $name {
            #[palm::method]
            fn $function(&self, input: $input) -> $output {
                input.into()
            }

            #[palm::method]
            async fn always(&mut self, input: $input, context: Context) -> $output {
                let _ = context;
                input.into()
            }
        }
    };
}

component!("generated", Generated, String, Vec<u8>, convert);

impl Generated {
    fn new() -> Self {
        fn inner() -> &'static str {
            struct Local;

            #[palm::server(name = "local")]
            impl Local {
                #[palm::method]
                fn foo(&self) {}
            }
            Local::FOO.name()
        }
        assert_eq!(inner(), "foo");
        Self
    }
}

fn main() {
    Generated::new();
    assert_eq!(Generated::CONVERT.to_string(), "generated.convert");
    assert_eq!(Inference::<Never, 1>::RUN_ALL.to_string(), "models.run_all");
}

struct Never;

impl Model for Never {
    type Input = ();
    type Output = Bytes;

    fn run(&self, (): ()) -> Bytes {
        Bytes::new()
    }
}
