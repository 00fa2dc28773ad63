use palm::prelude::*;

fn number() -> palm::Result<u32> {
    let number: u32 = "5".parse()?;
    Ok(number)
}

async fn file() -> palm::Result<()> {
    let text = std::fs::read_to_string("address")?;
    Client::connect("titles", &text).await?;
    Ok(())
}

fn main() {}
