use palm::prelude::*;

struct Titles;

#[palm::server(name = "titles")]
impl Titles {
    #[palm::method]
    fn upper(&self, title: String) -> String {
        let upper = title.;
        upper
    }

    #[palm::method]
    fn lower(&self, title: String) -> String {
        title
    }
}

async fn call(client: Client) -> palm::Result<()> {
    client.eval(Titles::LOWER, "title").await?;
    Titles.bind("tcp://127.0.0.1:5555").start().await
}

fn main() {}
