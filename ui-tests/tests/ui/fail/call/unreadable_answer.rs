use palm::prelude::*;

struct Thumbnail;

impl palm::IntoPayload for Thumbnail {
    type Error = std::convert::Infallible;

    fn into_payload(self) -> Result<Bytes, Self::Error> {
        Ok(Bytes::new())
    }
}

struct Resizer;

#[palm::server(name = "images")]
impl Resizer {
    #[palm::method]
    fn thumbnail(&self, _image: Vec<u8>) -> Thumbnail {
        Thumbnail
    }

    #[palm::method]
    fn forget(&self, _image: Vec<u8>) {}

    fn helper(&self, _image: Vec<u8>) {}
}

struct Titles;

#[palm::pipeline(name = "titles")]
impl Titles {
    #[palm::method]
    fn upper(&self, title: String) -> String {
        title
    }
}

async fn call(client: Client) {
    let _ = client.eval(Resizer::FORGET, vec![1]).await;
    let _ = client.eval(Resizer::THUMBNAIL, vec![1]).await;
    let mut job = client.job(Resizer::THUMBNAIL, [vec![1]]);
    while let Some(_thumbnail) = job.next().await {}
}

fn main() {}
