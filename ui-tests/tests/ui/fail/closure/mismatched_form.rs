use palm::prelude::*;
use palm::{BoxMethod, Server};

fn argument_not_a_payload() {
    let _ = Server::builder("math").method("double", |_: i64| async { "double" });
}

fn result_not_a_payload() {
    let _ = Server::builder("math").method("double", |_: String| async { 2 });
}

fn not_async() {
    let _ = Server::builder("math").method("upper", |text: String| text.to_uppercase());
}

fn context_without_its_method() {
    let _ = Server::builder("math").method("name", |_: String, context: Context| async move {
        context.name().to_owned()
    });
}

fn not_send() {
    let text = std::rc::Rc::new("text");
    let _ = BoxMethod::new("text", move |()| std::future::ready(*text));
}

fn main() {}
