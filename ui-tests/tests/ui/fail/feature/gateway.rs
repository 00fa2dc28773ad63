use palm::prelude::*;

fn main() {
    let _ = Master::new("images").bind("tcp://127.0.0.1:5559").http("127.0.0.1:8080");
    let _ = Hub::new("images").bind("tcp://127.0.0.1:5559").gateway("127.0.0.1:8080", &());
    let _ = Hub::new("images").bind("tcp://127.0.0.1:5559").mounted_gateway(&());
}
