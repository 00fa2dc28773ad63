use palm::prelude::*;

struct Resizer;

#[palm::http_worker(server = "images")]
impl Resizer {
    #[palm::method]
    fn thumbnail(&self, image: Vec<u8>) -> Vec<u8> {
        image
    }
}

fn main() {
    let master = Master::new("images").bind("tcp://127.0.0.1:5559");
    let _ = master.http("127.0.0.1:8080");
    let _ = palm::http::Gateway::new();
}
