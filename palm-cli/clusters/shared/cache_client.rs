//! The client, as the job of the cluster calls it: `client DB_ADDRESS STEPS [COUNT]`. It fills the cache first.

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
    let client = Client::connect("server", address).await?;
    client.set("cached", " cached data ").await?;
    if let Some(data) = client.get("cached").await? {
        println!("{}", String::from_utf8_lossy(&data));
    }
    let mut answers = client.job(&*steps, vec!["a message"; count]);
    while let Some(answer) = answers.next().await {
        println!("{}", String::from_utf8_lossy(&answer?));
    }
    Ok(())
}
