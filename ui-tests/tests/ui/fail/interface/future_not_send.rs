#[palm::interface(name = "images")]
trait Images {
    async fn thumbnail(&self, image: Vec<u8>) -> Result<Vec<u8>, String>;
    fn size(&self, image: Vec<u8>) -> String;
}

struct Resizer;

#[palm::worker]
impl Images for Resizer {
    async fn thumbnail(&self, image: Vec<u8>) -> Result<Vec<u8>, String> {
        let local = std::rc::Rc::new(image);
        std::future::ready(()).await;
        Ok(local.to_vec())
    }

    fn size(&self, image: Vec<u8>) -> String {
        image.len().to_string()
    }
}

fn main() {}
