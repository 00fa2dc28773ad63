#[derive(Default)]
struct Resizer;

#[palm::worker(server = "images")]
impl Resizer {
    #[palm::method]
    fn thumbnail(&self, image: Vec<u8>) -> Vec<u8> {
        image
    }
}

struct Cropper;

#[palm::worker(server = "images")]
impl Cropper {
    #[palm::method]
    fn crop(&self, image: Vec<u8>) -> Vec<u8> {
        image
    }
}

struct Blurrer;

#[palm::worker(server = "images")]
impl Blurrer {
    #[palm::method]
    fn blur(&self, image: Vec<u8>) -> Vec<u8> {
        image
    }
}

struct Plain;

fn from_text(_: String) -> Resizer {
    Resizer
}

fn nothing() {}

palm::main! {
    Resizer => from_text,
    Cropper => || Resizer,
    Blurrer => nothing,
    Plain => || Plain,
}
