//! Uses of interfaces with mistakes cause no errors of their own.

use palm::prelude::*;

#[palm::interface(nmae = "images")]
trait Images: Send + Sync + 'static {
    #[palm::method]
    async fn thumbnail(&self, image: Vec<u8>) -> Vec<u8>;

    async fn size(&self, image: Vec<u8>) -> String {
        image.len().to_string()
    }

    fn generic<T>(&self, image: T);
}

struct Resizer;

#[palm::worker]
impl Images for Resizer {
    async fn thumbnail(&self, image: Vec<u8>) -> Vec<u8> {
        image
    }

    fn generic<T>(&self, _image: T) {}
}

async fn call(client: Client) -> palm::Result<()> {
    let images = ImagesClient::new(client);
    let _: Vec<u8> = images.thumbnail(vec![1]).await?;
    let _: String = images.size(vec![1]).await?;
    Resizer.connect("tcp://127.0.0.1:5555").start().await
}

fn main() {}
