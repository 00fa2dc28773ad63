//! The client, as the job of the cluster calls it: `client DB_ADDRESS STEPS [COUNT]`.

use palm::prelude::*;

#[tokio::main]
async fn main() -> palm::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || {
        arguments
            .next()
            .expect("the arguments are an address and steps")
    };
    let (address, steps) = (next(), next());
    let count = arguments
        .next()
        .map_or(1, |count| count.parse().expect("the count is a number"));
    // The first step names the component that is called.
    let name = steps.split('.').next().unwrap_or_default();
    let client = Client::connect(name, address).await?;
    let mut answers = client.job(&*steps, vec!["a message"; count]);
    while let Some(answer) = answers.next().await {
        println!("{}", String::from_utf8_lossy(&answer?));
    }
    Ok(())
}
