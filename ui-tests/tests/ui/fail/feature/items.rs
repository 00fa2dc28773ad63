use palm::{FileStore, RedisStore, WithProgress};

fn main() {
    let _ = palm::progress::Options::default();
}
