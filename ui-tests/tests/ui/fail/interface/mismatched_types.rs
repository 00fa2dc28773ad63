#[palm::interface(name = "images")]
trait Images {
    async fn thumbnail(&self, image: Vec<u8>) -> Result<Vec<u8>, String>;
    fn size(&self, image: Vec<u8>) -> String;
}

struct Resizer;

#[palm::worker]
impl Images for Resizer {
    async fn thumbnail(&self, image: String) -> Result<Vec<u8>, String> {
        Ok(image.into())
    }

    #[palm::method(name = "length", blocking)]
    fn size(&self, image: Vec<u8>) -> String {
        image.len().to_string()
    }
}

async fn call(client: ImagesClient) {
    let _ = client.thumbnail("an image").await;
    let _ = client.thumbnial(vec![1]).await;
    let _ = client.size(1).await;
}

fn main() {}
