#![deny(unused_must_use)]

use palm::prelude::*;

fn main() {
    Master::new("images").bind("tcp://127.0.0.1:5555");
    Master::new("images").bind("tcp://127.0.0.1:5555").start();
}
