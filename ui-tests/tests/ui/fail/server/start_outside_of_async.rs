use palm::prelude::*;

struct Titles;

#[palm::server(name = "titles")]
impl Titles {
    #[palm::method]
    fn upper(&self, title: String) -> String {
        title
    }
}

fn returned() -> palm::Result<()> {
    Titles.bind("tcp://127.0.0.1:5555").start()
}

fn question_mark() -> palm::Result<()> {
    Titles.bind("tcp://127.0.0.1:5555").start()?;
    Ok(())
}

fn unwrapped() {
    let _server = Titles.bind("tcp://127.0.0.1:5555").spawn().unwrap();
    ServerTemplate::new("titles").start().expect("a start");
}

fn main() -> palm::Result<()> {
    Titles.bind("tcp://127.0.0.1:5555").start().await
}
