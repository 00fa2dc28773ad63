#[palm::interface(name = "images")]
trait Images {
    async fn thumbnail(&self, image: Vec<u8>) -> Result<Vec<u8>, String>;
    fn size(&self, image: Vec<u8>) -> String;
}

struct Resizer;

#[palm::worker]
impl Images for Resizer {
    async fn thumbnail(&self, image: Vec<u8>) -> Result<Vec<u8>, String> {
        Ok(image)
    }
}

fn main() {}
