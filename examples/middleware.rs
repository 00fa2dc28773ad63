//! Layers around calls: a server checks a token and measures its calls, and a client calls again at a limit.
//!
//! ```text
//! cargo run --example middleware              # the whole example in one process
//! cargo run --example middleware -- server    # or each component in its own terminal
//! cargo run --example middleware -- client
//! ```
#![expect(clippy::print_stdout, reason = "the client prints its answers")]

mod support;

use std::time::{Duration, Instant};

use clap::ValueEnum;
use palm::middleware::{CallRequest, CallResponse, ClientService, Next, from_fn};
use palm::prelude::*;
use palm::{CallError, CallFailure, FailureKind};
use support::Ports;
use tower::ServiceBuilder;
use tower::limit::RateLimitLayer;

struct Math;

#[palm::server(name = "math")]
impl Math {
    /// Returns the text backwards.
    #[palm::method]
    fn reverse(&self, text: String) -> String {
        text.chars().rev().collect()
    }
}

/// Rejects calls without the token.
async fn only_with_token(call: CallRequest, next: Next) -> Result<CallResponse, CallFailure> {
    if call.headers().get("token") != Some("secret") {
        let error = "the call has no valid token";
        return Err(CallFailure::new(
            FailureKind::PermissionDenied,
            error.into(),
        ));
    }
    next.run(call).await
}

/// Logs how long each call takes.
async fn timed(call: CallRequest, next: Next) -> Result<CallResponse, CallFailure> {
    let (begun, function) = (Instant::now(), call.function().to_owned());
    let answer = next.run(call).await;
    let failed = answer.is_err();
    tracing::info!(failed, "`{function}` took {:?}", begun.elapsed());
    answer
}

/// Makes a call again until the server has capacity for it.
async fn patient(call: CallRequest, next: Next<ClientService>) -> Result<CallResponse, CallError> {
    loop {
        let answer = next.clone().run(call.clone()).await;
        match answer {
            Err(error) if error.is_transient() => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            answer => return answer,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Role {
    /// Answers calls with a token, ten in 100 ms
    Server,
    /// Calls with and without the token
    Client,
}

#[tokio::main]
async fn main() -> palm::Result<()> {
    support::run("Layers around calls.", component).await
}

async fn component(role: Role, ports: Ports) -> palm::Result<()> {
    match role {
        Role::Server => {
            // The first layer of a `ServiceBuilder` receives a call first.
            let limits = ServiceBuilder::new()
                .load_shed()
                .layer(RateLimitLayer::new(10, Duration::from_millis(100)));
            Math.bind(ports.at(5555))
                .layer(limits)
                // Later layers wrap earlier ones: a call without a token does not count towards the limit.
                .layer(from_fn(only_with_token))
                .layer(from_fn(timed))
                .start()
                .await
        }
        Role::Client => {
            let client = Client::builder("math", ports.at(5555))
                .header("token", "secret")
                .layer(from_fn(patient))
                .connect()
                .await?;
            for _ in 0..25 {
                let answer = client.eval(Math::REVERSE, "a message").await?;
                assert_eq!(answer, "egassem a");
            }
            println!("25 answers with the token");

            let stranger = Client::connect("math", ports.at(5555)).await?;
            match stranger.eval(Math::REVERSE, "a message").await {
                Err(CallError::Remote(error)) => println!("{error}"),
                answer => println!("unexpected: {answer:?}"),
            }
            Ok(())
        }
    }
}
