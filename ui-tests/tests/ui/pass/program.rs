//! `palm::main!` accepts each form of a constructor, also where names are hostile.

#![deny(warnings)]
#![allow(dead_code)]
#![allow(
    clippy::redundant_closure,
    reason = "a closure is a form of a constructor"
)]

/// The arguments of a component.
#[derive(clap::Args)]
struct Settings {
    /// A number
    #[arg(long)]
    number: u8,
}

macro_rules! components {
    ($($name:ident),*) => {
        $(
            #[derive(Default)]
            struct $name<T>(std::marker::PhantomData<T>);

            #[palm::worker]
            impl<T: Send + Sync + 'static> $name<T> {
                #[palm::method]
                fn foo(&self) -> String {
                    String::new()
                }
            }
        )*
    };
}

components!(A, B, C, D, E, F, G, H);

fn value(_: Settings) -> A<u8> {
    A::default()
}

fn fallible(_: Settings) -> Result<B<u8>, std::io::Error> {
    Ok(B::default())
}

async fn async_value(_: Settings) -> C<u8> {
    C::default()
}

async fn async_fallible(settings: Settings) -> Result<D<u8>, String> {
    // A future that is not `Send` is fine: it runs in the main task.
    let number = std::rc::Rc::new(settings.number);
    std::future::ready(()).await;
    Err(number.to_string())
}

fn boxed() -> Result<F<u8>, Box<dyn std::error::Error + Send + Sync>> {
    Ok(F::default())
}

mod program {
    use super::*;

    struct Result;
    struct String;
    struct Option;
    mod core {}
    mod std {}
    mod palm {}

    ::palm::main! {
        A<u8> => value,
        B<u8> => fallible,
        C<u8> => async_value,
        D<u8> => async_fallible,
        E<u8> => || E::default(),
        F<u8> => boxed,
        G<u8> => async || G::default(),
        H<u8> => |settings: Settings| match settings.number {
            0 => Err("zero"),
            _ => Ok(H::default()),
        },
    }
}

mod without_constructors {
    ::palm::main!();
}

fn main() {}
