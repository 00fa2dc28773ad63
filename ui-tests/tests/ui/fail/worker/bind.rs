use palm::prelude::*;

struct Resizer;

#[palm::worker(server = "images")]
impl Resizer {
    #[palm::method]
    fn thumbnail(&self, image: Vec<u8>) -> Vec<u8> {
        image
    }
}

struct Greeter;

#[palm::server(name = "greeter")]
impl Greeter {
    #[palm::method]
    fn hello(&self, name: String) -> String {
        name
    }
}

async fn start() -> palm::Result<()> {
    Resizer.bind("tcp://127.0.0.1:5559").start().await?;
    Greeter.connect("tcp://127.0.0.1:5559").start().await
}

fn main() {}
