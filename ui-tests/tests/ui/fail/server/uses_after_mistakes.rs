//! Uses of components with mistakes cause no errors of their own.

use palm::prelude::*;

struct Titles;

#[palm::server(nmae = "titles")]
impl Titles {
    #[palm::method]
    fn upper(&self, title: String) -> String {
        title
    }
}

struct Images;

#[palm::worker(server = "images")]
impl Images {
    #[palm::method]
    fn thumbnail(image: Vec<u8>) -> Vec<u8> {
        image
    }
    #[palm::method]
    fn generic<T: FromPayload>(&self, _image: T) {}
}

struct Numbers;

#[palm::pipeline(name = "numbers")]
impl Numbers {
    const SUM: u32 = 0;

    #[palm::method]
    fn sum(&self) {}

    #[palm::method]
    fn first(&self, _number: impl FromPayload) -> String {
        String::new()
    }

    #[palm::method(name = "first")]
    fn second(self) {}
}

struct Tripler;

#[palm::master(name = "tripler")]
impl Tripler {
    #[palm::method]
    fn triple(&self, text: String) -> String {
        text
    }
}

async fn call(client: Client) -> palm::Result<()> {
    client.eval(Titles::UPPER, "title").await?;
    client.eval(Images::THUMBNAIL, vec![1]).await?;
    client.eval(Images::GENERIC, vec![1]).await?;
    client.eval(Tripler::TRIPLE, "a").await?;
    client.send(Numbers::SECOND, ()).await?;
    let _: Bytes = client.eval(Numbers::FIRST, vec![1]).await?;
    Numbers.bind("tcp://127.0.0.1:5555").follow("tcp://127.0.0.1:5556").start().await?;
    Tripler.bind("tcp://127.0.0.1:5555").start().await?;
    Images.connect("tcp://127.0.0.1:5555").start().await?;
    Titles.bind("tcp://127.0.0.1:5555").start().await
}

fn main() {}
