//! A component with mistakes causes no further errors where the program names it.

struct Resizer;

#[palm::worker(sever = "images")]
impl Resizer {
    #[palm::method]
    fn thumbnail(&self, image: Vec<u8>) -> Vec<u8> {
        image
    }
}

palm::main!(Resizer => || Resizer);
