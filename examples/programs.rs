//! A program that starts itself: its components are its subcommands.
//!
//! ```text
//! cargo run --example programs                        # lists the components
//! cargo run --example programs -- worker --help       # lists the options of one
//! cargo run --example programs -- master images --bind tcp://127.0.0.1:5559 --workers 2
//! ```

use std::num::ParseIntError;

use palm::prelude::*;

/// How images are made small.
#[derive(clap::Args)]
struct Settings {
    /// Keep every n-th byte of an image
    #[arg(long, env = "QUALITY", default_value_t = 2)]
    quality: usize,
    /// Write the name of the worker in front of each image
    #[arg(long)]
    sign: bool,
}

struct Resizer {
    settings: Settings,
}

impl Resizer {
    async fn open(settings: Settings) -> Result<Self, String> {
        match settings.quality {
            0 => Err("the quality is 0, so nothing would be left of an image".to_owned()),
            _ => Ok(Self { settings }),
        }
    }
}

/// Makes images smaller.
#[palm::worker(server = "images")]
impl Resizer {
    /// Makes a thumbnail.
    #[palm::method]
    async fn thumbnail(&self, image: Vec<u8>, context: Context) -> Vec<u8> {
        let thumbnail = image.into_iter().step_by(self.settings.quality);
        match self.settings.sign {
            true => format!("{}: ", context.name())
                .into_bytes()
                .into_iter()
                .chain(thumbnail)
                .collect(),
            false => thumbnail.collect(),
        }
    }
}

/// Waits as long as it is told.
#[derive(Default)]
struct Sleeper;

/// Sleeps, as a long computation would.
#[palm::worker(server = "sleep")]
impl Sleeper {
    /// Sleeps for some milliseconds.
    #[palm::method]
    async fn sleep(&self, milliseconds: String) -> Result<String, ParseIntError> {
        let duration = std::time::Duration::from_millis(milliseconds.parse()?);
        tokio::time::sleep(duration).await;
        Ok(format!("slept {milliseconds} ms"))
    }
}

#[derive(Default)]
struct Splitter;

/// Splits texts.
#[palm::server(name = "words")]
impl Splitter {
    /// Returns the first word.
    #[palm::method]
    fn first(&self, text: String) -> String {
        text.split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned()
    }
}

struct Shouter;

/// Makes texts loud.
#[palm::pipeline(name = "loud")]
impl Shouter {
    /// Returns the text in capital letters.
    #[palm::method]
    fn shout(&self, text: String) -> String {
        text.to_uppercase()
    }
}

struct Collector {
    mark: char,
}

impl Collector {
    fn open() -> Result<Self, std::convert::Infallible> {
        Ok(Self { mark: '!' })
    }
}

/// Merges streams.
#[palm::sink(name = "collected")]
impl Collector {
    /// Adds an exclamation mark.
    #[palm::method]
    fn mark(&self, text: String) -> String {
        format!("{text}{}", self.mark)
    }
}

#[derive(Default)]
struct Pricer;

/// Knows prices, and is reached by HTTP.
#[palm::http_worker(server = "prices")]
impl Pricer {
    /// Returns the price of an article.
    #[palm::method]
    fn price(&self, article: String) -> String {
        format!("{article}: {} cents", 10 * article.len())
    }
}

palm::main! {
    Resizer => Resizer::open,
    Shouter => || Shouter,
    Collector => Collector::open,
}
