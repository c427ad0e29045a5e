//! Connects, then turns the lap until somebody leaves: draw, wait for an event, update, act.

use crate::backend::Backend;
use crate::clock;
use crate::config::Args;
use crate::event::{Action, Event};
use crate::model::Model;
use crate::terminal::Terminal;
use crate::update::update;
use anyhow::{Context, bail};
use crossterm::event::EventStream;
use futures_util::StreamExt;
use std::io::IsTerminal;
use std::time::Duration;
use tenure_client::{Client, Whoami};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Pause between two ticks: ages on the screen are at most this much behind.
const TICK: Duration = Duration::from_millis(500);

/// Connects and runs the console until it is left. While connecting, the terminal is not touched, so
/// that a refusal is an ordinary message.
pub async fn run(args: &Args) -> anyhow::Result<()> {
    let (client, who) = connect(args).await?;
    // Only forms are the poorer without them.
    let workflows = client.list_workflows().await.unwrap_or_default();
    let workflows = workflows.into_iter().map(|known| known.workflow).collect();
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        bail!("the console needs a terminal; for scripts there is the command `tenure`");
    }
    let mut sources = Sources::open(Backend::new(client))?;
    let mut terminal = Terminal::enter()?;
    let mut model = Model::new(who, args.theme(), clock::now()).with_workflows(workflows);
    let (columns, rows) = terminal.size()?;
    let mut event = Event::Terminal(crossterm::event::Event::Resize(columns, rows));
    loop {
        for action in update(&mut model, event) {
            match action {
                Action::Ask {
                    generation,
                    request,
                } => sources.backend.ask(generation, request),
                Action::Act { intent, act } => sources.backend.act(intent, act),
                Action::Copy(text) => terminal.copy(&text)?,
                Action::Quit => return Ok(()),
            }
        }
        terminal.draw(&model)?;
        event = sources.next().await;
    }
}

async fn connect(args: &Args) -> anyhow::Result<(Client, Whoami)> {
    let token = args.read_token()?;
    let client = Client::new(&args.url, &token)?;
    if !args.insecure_http && !client.is_confidential() {
        bail!(
            "{} is another machine and not https: the token would be readable on the way. \
             Use https, or say --insecure-http",
            args.url
        );
    }
    let who = client
        .whoami()
        .await
        .with_context(|| format!("cannot connect to {}", args.url))?;
    Ok((client, who))
}

/// Everything that events come from.
struct Sources {
    backend: Backend,
    keys: EventStream,
    ticks: Interval,
    endings: [Signal; 3],
}

impl Sources {
    fn open(backend: Backend) -> anyhow::Result<Self> {
        let ending = |kind| signal(kind).context("cannot listen for the system's signals");
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let endings = [
            ending(SignalKind::terminate())?,
            ending(SignalKind::hangup())?,
            ending(SignalKind::interrupt())?,
        ];
        Ok(Self {
            backend,
            keys: EventStream::new(),
            ticks,
            endings,
        })
    }

    /// Waits for whatever happens first. A terminal that is gone is a reason to end.
    async fn next(&mut self) -> Event {
        let [terminate, hang_up, interrupt] = &mut self.endings;
        tokio::select! {
            _ = terminate.recv() => Event::Terminate,
            _ = hang_up.recv() => Event::Terminate,
            _ = interrupt.recv() => Event::Terminate,
            key = self.keys.next() => match key {
                Some(Ok(event)) => Event::Terminal(event),
                Some(Err(_)) | None => Event::Terminate,
            },
            event = self.backend.next() => event,
            _ = self.ticks.tick() => Event::Tick(clock::now()),
        }
    }
}
