struct Size(u64);

#[palm::interface(name = "images")]
trait Images {
    fn size(&self, image: Vec<u8>) -> Size;
}

struct Resizer;

#[palm::worker]
impl Images for Resizer {
    fn size(&self, image: Vec<u8>) -> Size {
        Size(image.len() as u64)
    }
}

fn main() {}
