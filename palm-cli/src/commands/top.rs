//! `palm top`.

use std::io::{self, IsTerminal as _};
use std::pin::pin;
use std::time::{Duration, Instant};

use crossterm::event::{Event, EventStream};
use futures_util::StreamExt as _;
use palm::inspect::Cluster;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::Failure;
use super::shown::{Shown, Walk};
use crate::arguments::Target;
use crate::model::processes::Processes;
use crate::top::{App, Next, draw};

/// Time between two walks, from begin to begin.
const INTERVAL: Duration = Duration::from_secs(1);

/// A walk in a cluster with so many components, and with each multiple of it, is followed by one more interval without a
/// walk: requests to components are most of what the screen costs, and it must not need more than 5 % of a processor.
const COMPONENTS_PER_INTERVAL: usize = 300;

pub(super) async fn top(target: Target) -> Result<(), Failure> {
    if !io::stdout().is_terminal() {
        return Err(Failure::NoTerminal);
    }
    // As the other commands: any value but an empty one.
    let has_colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let shown = Shown::new(&target)?;
    let mut app = App::new(shown.title(), has_colours, Instant::now());
    let (begin, processes) = match shown {
        Shown::Component(address) => (vec![address.to_string()], None),
        #[cfg(target_os = "linux")]
        Shown::File(mut runner) => {
            // The first answer says whether the cluster runs, before the screen is used.
            app.set_processes(Ok(runner.ask().map_err(Failure::from)?));
            (Vec::new(), Some(runner.watch()?))
        }
    };
    let mut terminal = ratatui::try_init()?;
    let ended = run(app, begin, processes, &mut terminal).await;
    ratatui::try_restore()?;
    Ok(ended?)
}

/// The newest answer of the runner.
type ProcessReceiver = watch::Receiver<Option<Result<Processes, String>>>;

async fn run(
    mut app: App,
    begin: Vec<String>,
    mut processes: Option<ProcessReceiver>,
    terminal: &mut ratatui::DefaultTerminal,
) -> io::Result<()> {
    let mut events = EventStream::new();
    let mut ended = pin!(terminated());
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut idle = Some(Walk::default());
    let mut omitted_walks = 0;
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
            Some((finished, cluster)) = &mut walking, if idle.is_none() => {
                idle = Some(finished);
                app.update(cluster, Instant::now());
            }
            answer = changed(&mut processes) => app.set_processes(answer),
            _ = ticks.tick() => {
                app.tick(Instant::now());
                if omitted_walks > 0 {
                    omitted_walks -= 1;
                } else if let Some(walk) = idle.take() {
                    let monitor = app.monitor();
                    omitted_walks = monitor.components().count() / COMPONENTS_PER_INTERVAL;
                    let answered = monitor.components().filter(|it| it.answered_at.is_some());
                    let known = monitor.process_addresses();
                    let further = known.chain(answered.map(|it| &*it.address));
                    let begin = begin.iter().cloned().chain(further.map(str::to_owned));
                    walking.set(Some(run_walk(walk, begin.collect())).into());
                }
            }
            () = &mut ended => return Ok(()),
        }
    }
}

async fn run_walk(mut walk: Walk, begin: Vec<String>) -> (Walk, Cluster) {
    let cluster = walk.run(&begin).await;
    (walk, cluster)
}

/// Waits for the next answer of the runner, if there is one.
async fn changed(processes: &mut Option<ProcessReceiver>) -> Result<Processes, String> {
    if let Some(receiver) = processes
        && receiver.changed().await.is_ok()
        && let Some(answer) = &*receiver.borrow_and_update()
    {
        return answer.clone();
    }
    std::future::pending().await
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
