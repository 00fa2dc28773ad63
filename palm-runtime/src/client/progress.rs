//! [`progress`] shows the progress of a job as a bar on a terminal.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use super::{Job, Progress};

/// Shows the progress of a job as a bar on standard error, if that is a terminal, while its answers are received.
///
/// The bar shows the rate, the remaining time and the number of failures. If the number of arguments is unknown
/// ([`Progress::total`]), its length is the number of arguments that were sent.
///
/// # Examples
///
/// ```no_run
/// # async fn example(client: palm::Client) -> palm::Result<()> {
/// let job = client.job("images.thumbnail", (0..10_000).map(|n| n.to_string()));
/// let mut answers = palm::progress(job);
/// while let Some(answer) = answers.next().await {
///     println!("{} bytes", answer?.len());
/// }
/// # Ok(())
/// # }
/// ```
pub fn progress<Value>(job: Job<'_, Value>) -> WithProgress<'_, Value> {
    const LOOK: &str = "{wide_bar} {human_pos}/{human_len} {rate} {eta}{msg}";
    let style = ProgressStyle::with_template(LOOK).expect("valid template");
    let style = style.with_key("rate", |state: &ProgressState, out: &mut dyn fmt::Write| {
        let _ = write!(out, "{:.0}/s", state.per_sec());
    });
    let bar = ProgressBar::new(0).with_style(style);
    WithProgress { job, bar }
}

/// A job with a progress bar. Created by [`progress`].
#[must_use = "a job does nothing unless it is polled"]
#[derive(Debug)]
pub struct WithProgress<'a, Value = bytes::Bytes> {
    job: Job<'a, Value>,
    bar: ProgressBar,
}

impl<'a, Value> WithProgress<'a, Value> {
    /// Returns the job.
    pub fn job(&self) -> &Job<'a, Value> {
        &self.job
    }
}

fn show(bar: &ProgressBar, progress: Progress) {
    bar.set_length(progress.total.unwrap_or(progress.sent));
    bar.set_position(progress.done);
    if progress.failed > 0 {
        bar.set_message(format!(", {} failed", progress.failed));
    }
}

impl<Value> WithProgress<'_, Value> {
    /// Receives the next answer and draws the bar; see [`Job::next`].
    ///
    /// # Errors
    ///
    /// Those of [`Job::next`].
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe, like [`Job::next`].
    pub async fn next(&mut self) -> Option<<Self as Stream>::Item> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl<Value> Stream for WithProgress<'_, Value> {
    type Item = <Job<'static, Value> as Stream>::Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let answer = Pin::new(&mut self.job).poll_next(context);
        show(&self.bar, self.job.progress());
        let answer = ready!(answer);
        if answer.is_none() {
            self.bar.abandon();
        }
        Poll::Ready(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bar_shows_done_arguments_of_the_total() {
        let bar = ProgressBar::hidden();
        let shown = |progress| {
            show(&bar, progress);
            (bar.position(), bar.length(), bar.message())
        };
        let mut progress = Progress {
            sent: 5,
            done: 3,
            ..Progress::default()
        };
        assert_eq!(shown(progress), (3, Some(5), String::new()));
        (progress.total, progress.failed) = (Some(10), 2);
        assert_eq!(shown(progress), (3, Some(10), ", 2 failed".to_owned()));
    }
}
