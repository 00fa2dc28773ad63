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

fn main() {
    let _ = Resizer::THUMBNAIL.then(Titles::UPPER);
    let _ = Titles::UPPER.then(Resizer::FORGET).then(Titles::UPPER);
}
