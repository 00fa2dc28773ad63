struct Resizer;

palm::main!(Resizer);

mod other {
    palm::main!(Resizer = Resizer::open);
}

mod twice {
    palm::main!(Resizer => Resizer::open, Resizer => Resizer::new);
}
