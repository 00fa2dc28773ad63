//! `palm top`.

use std::io::{self, IsTerminal as _};
use std::pin::pin;
use std::time::{Duration, Instant};

use crossterm::event::{Event, EventStream};
use futures_util::StreamExt as _;
use palm::inspect::{Cluster, Inspector};
use tokio::time::MissedTickBehavior;

use super::{Failure, inspector};
use crate::arguments::Start;
use crate::top::{App, Next, draw};

/// Time between two walks, from begin to begin.
const INTERVAL: Duration = Duration::from_secs(1);

pub(super) async fn top(start: Start) -> Result<(), Failure> {
    if !io::stdout().is_terminal() {
        return Err(Failure::NoTerminal);
    }
    // As the other commands: any value but an empty one.
    let has_colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let app = App::new(start.address.to_string(), has_colours, Instant::now());
    let mut terminal = ratatui::try_init()?;
    let ended = run(app, inspector(&start.address), &mut terminal).await;
    ratatui::try_restore()?;
    Ok(ended?)
}

async fn run(
    mut app: App,
    inspector: Inspector,
    terminal: &mut ratatui::DefaultTerminal,
) -> io::Result<()> {
    let mut events = EventStream::new();
    let mut ended = pin!(terminated());
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut idle = Some(inspector);
    let mut walking = pin!(futures_util::future::OptionFuture::from(None));
    loop {
        terminal.draw(|frame| draw(&mut app, frame))?;
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(Event::Key(key))) => {
                    if app.key(key) == Next::Quit {
                        return Ok(());
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            },
            Some((inspector, cluster)) = &mut walking, if idle.is_none() => {
                idle = Some(inspector);
                app.update(cluster, Instant::now());
            }
            _ = ticks.tick() => {
                app.tick(Instant::now());
                if let Some(mut inspector) = idle.take() {
                    let known = app.monitor().components();
                    let answered = known.filter(|it| it.answered_at.is_some());
                    inspector.begin_also_at(answered.map(|it| &*it.address));
                    walking.set(Some(walk(inspector)).into());
                }
            }
            () = &mut ended => return Ok(()),
        }
    }
}

async fn walk(mut inspector: Inspector) -> (Inspector, Cluster) {
    let cluster = inspector.inspect().await;
    (inspector, cluster)
}

/// Waits for SIGTERM, so that the terminal is restored.
async fn terminated() {
    #[cfg(unix)]
    if let Ok(mut signals) =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
    {
        signals.recv().await;
        return;
    }
    std::future::pending().await
}
