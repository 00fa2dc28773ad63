//! Each misspelt attribute is one error, and the uses of the components are none.

use palm::prelude::*;

struct Titles;

#[palm::server(name = "titles")]
impl Titles {
    #[palm::metod]
    fn upper(&self, title: String) -> String {
        title
    }

    #[palm::methods(blocking)]
    fn lower(&self, title: String) -> String {
        title
    }

    #[palm::handel_stream]
    fn topic(&self, message: Message) -> (&'static str, Message) {
        ("topic", message)
    }
}

struct Images;

#[palm::master(name = "images")]
impl Images {
    #[palm::scater]
    fn scatter(&self, message: Message) -> Vec<Message> {
        vec![message]
    }
}

struct Numbers;

#[palm::worker(server = "numbers")]
impl Numbers {
    #[metod]
    fn double(&self, number: String) -> String {
        number
    }
}

async fn call(client: Client) -> palm::Result<()> {
    client.eval(Titles::UPPER, "title").await?;
    client.eval(Numbers::DOUBLE, "1").await?;
    Images.bind("tcp://127.0.0.1:5555").start().await?;
    Titles.bind("tcp://127.0.0.1:5555").start().await
}

fn main() {}
