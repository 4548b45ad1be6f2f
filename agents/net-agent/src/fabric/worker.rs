//! One overlay: what happens is told to the core, what the core wants is done.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use triton_agent::chain;
use triton_files::Layout;
use triton_link::{LinkError, LinkEvent, LinkEvents, Links, NetNs};
use triton_netconf::{BRIDGE_PREFIX, TRUNK_PREFIXES};
use triton_nictag::Overlay;

use super::{
    AFTER_FAILURE, FabricPace,
    core::{Core, Do},
    networks::{Heard, Look, Networks},
    portolan::{Event, Portolan},
};
use crate::metrics::Numbers;

/// Questions that wait for the core.
const HEARD: usize = 1024;
/// The core is told the time at least this often.
const BEAT: Duration = Duration::from_millis(250);
/// Networks are looked for at least this often.
const LOOK: Duration = Duration::from_secs(30);
/// How long changes of links are gathered.
const GATHER: Duration = Duration::from_millis(20);

/// For ever, through all failures.
pub(super) async fn run(overlay: Overlay, layout: Layout, netns: NetNs, numbers: Numbers, pace: FabricPace) {
    loop {
        let error = match LinkEvents::open(&netns) {
            Ok(events) => Worker::new(&overlay, &layout, &netns, &numbers, pace).run(events).await,
            Err(error) => error,
        };
        tracing::warn!(overlay = %overlay.name, error = %chain(&error), "overlay networks are not looked after");
        numbers.portolan(false);
        tokio::time::sleep(AFTER_FAILURE).await;
    }
}

struct Worker<'a> {
    overlay: &'a Overlay,
    numbers: &'a Numbers,
    core: Core,
    networks: Networks,
    portolan: Portolan,
    heard: mpsc::Receiver<Heard>,
    /// Whether the loss of the connection was said.
    said: bool,
}

impl<'a> Worker<'a> {
    fn new(overlay: &'a Overlay, layout: &Layout, netns: &NetNs, numbers: &'a Numbers, pace: FabricPace) -> Self {
        let (to, heard) = mpsc::channel(HEARD);
        Self {
            overlay,
            numbers,
            core: Core::new(overlay.underlay, pace.times),
            networks: Networks::new(Links::of(netns.clone()), layout.clone(), overlay.clone(), to),
            portolan: Portolan::new(overlay.portolan.clone(), overlay.portolan_port, pace.pause),
            heard,
            said: false,
        }
    }

    /// Until changes of links cannot be heard any more.
    async fn run(mut self, mut events: LinkEvents) -> LinkError {
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut look_at = Instant::now();
        loop {
            if look_at <= Instant::now() {
                look_at = Instant::now() + if self.look().await { LOOK } else { AFTER_FAILURE };
            }
            self.carry_out().await;
            tokio::select! {
                event = events.next() => match event {
                    Ok(LinkEvent::Changed(link) | LinkEvent::Removed(link)) if !is_ours(&link.name) => {}
                    Ok(_) => look_at = look_at.min(Instant::now() + GATHER),
                    Err(error) => return error,
                },
                Some((vnet, question)) = self.heard.recv() => if self.core.hear(vnet, question, Instant::now()) {
                    self.portolan.wanted();
                },
                event = self.portolan.next() => self.portolan_says(event),
                () = tokio::time::sleep_until(look_at.into()) => {}
                _ = beat.tick() => if !self.core.tick(Instant::now()) {
                    let lost = self.portolan.lose("it does not answer".to_owned());
                    self.portolan_says(lost);
                },
            }
        }
    }

    /// False if it has to be tried again soon.
    async fn look(&mut self) -> bool {
        match self.networks.look().await {
            Ok(Look { gone, new, whole }) => {
                gone.into_iter().for_each(|vnet| self.core.remove(vnet));
                new.into_iter().for_each(|(vnet, known)| self.core.add(vnet, known, Instant::now()));
                whole
            }
            Err(error) => {
                tracing::warn!(overlay = %self.overlay.name, error = %chain(&error), "the overlay networks of this node are not known");
                false
            }
        }
    }

    fn portolan_says(&mut self, event: Event) {
        match event {
            Event::Connected => {
                self.core.connected(Instant::now());
                self.numbers.portolan(true);
                if std::mem::take(&mut self.said) {
                    tracing::info!(host = %self.overlay.portolan, "portolan is there again");
                }
            }
            Event::Lost(reason) => {
                self.core.lost();
                self.numbers.portolan(false);
                if !std::mem::replace(&mut self.said, true) {
                    tracing::warn!(host = %self.overlay.portolan, reason, "portolan cannot be asked: what is known of overlay networks counts on");
                }
            }
            Event::Says(messages) => {
                for message in messages {
                    match self.core.answered(message, Instant::now()) {
                        Ok(()) => self.portolan.is_well(),
                        Err(reason) => {
                            let lost = self.portolan.lose(reason);
                            return self.portolan_says(lost);
                        }
                    }
                }
            }
        }
    }

    async fn carry_out(&mut self) {
        for what in self.core.take() {
            if let Do::Ask(message) = &what {
                if let Err(reason) = self.portolan.send(message).await {
                    let lost = self.portolan.lose(reason);
                    self.portolan_says(lost);
                }
            } else {
                self.networks.carry_out(&what).await;
            }
        }
        self.numbers.fabrics(self.networks.len(), self.core.known());
    }
}

/// A link of an overlay network's, or of a tag's.
fn is_ours(name: &str) -> bool {
    name.starts_with(BRIDGE_PREFIX) || name.starts_with(TRUNK_PREFIXES[1])
}
