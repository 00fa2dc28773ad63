use palm::prelude::*;

struct Titles;

#[palm::server(name = "titles")]
impl Titles {
    fn upper(&self, title: String) -> String {
        title
    }

    fn length(&self, title: &str) -> usize {
        title.len()
    }
}

async fn call(client: Client) -> palm::Result<()> {
    client.eval(Titles::UPPER, "title").await?;
    Titles.bind("tcp://127.0.0.1:5555").start().await
}

fn main() {}
