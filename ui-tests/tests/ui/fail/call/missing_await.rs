use palm::prelude::*;

struct Titles;

#[palm::server(name = "titles")]
impl Titles {
    #[palm::method]
    fn upper(&self, title: String) -> String {
        title
    }
}

async fn question_mark(client: Client) -> palm::Result<()> {
    let _upper: String = client.eval(Titles::UPPER, "title")?;
    Ok(())
}

async fn value(client: Client) {
    let _upper: String = client.eval(Titles::UPPER, "title");
}

async fn unwrapped(client: Client) {
    let _upper: String = client.eval(Titles::UPPER, "title").unwrap();
    let _upper: String = client.eval(Titles::UPPER, "title").expect("an answer");
}

async fn matched(client: Client) {
    if let Ok(_upper) = client.eval(Titles::UPPER, "title") {}
}

async fn send(client: Client) -> palm::Result<()> {
    client.send(Titles::UPPER, "title")?;
    Ok(())
}

async fn next(client: Client) -> palm::Result<()> {
    let mut job = client.job(Titles::UPPER, ["title"]);
    while let Some(_upper) = job.next() {}
    Ok(())
}

fn main() {}
