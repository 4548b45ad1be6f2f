//! The progress bar of downloads and installations, on a terminal.

use std::{
    io::{self, IsTerminal, Write},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use triton_image::{Event, Progress};

/// Tells events on standard output and, on a terminal, draws a bar on standard error.
pub(super) struct Bar {
    draw: bool,
    state: Mutex<State>,
}

struct State {
    label: &'static str,
    begin: Instant,
    /// Bytes that were there at the beginning, so that the rate is that of this run.
    base: Option<u64>,
    drawn: Option<Instant>,
}

impl Bar {
    pub(super) fn new(quiet: bool) -> Self {
        let state = State { label: "", begin: Instant::now(), base: None, drawn: None };
        Self { draw: !quiet && io::stderr().is_terminal(), state: Mutex::new(state) }
    }

    fn restart(&self, label: &'static str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State { label, begin: Instant::now(), base: None, drawn: None };
    }

    /// Takes the bar away, so that a line can be printed in its place.
    fn clear(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.drawn.take().is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Progress for Bar {
    fn event(&self, event: &Event) {
        self.clear();
        match event {
            Event::Downloading { .. } => self.restart("Downloading"),
            Event::Installing { .. } => self.restart("Installing"),
            _ => {}
        }
        // That nobody reads it is no reason to stop an import.
        let _ = writeln!(io::stdout(), "{event}");
    }

    fn bytes(&self, done: u64, total: u64) {
        if !self.draw || total == 0 {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.drawn.is_some_and(|drawn| drawn.elapsed() < Duration::from_millis(100)) && done < total {
            return;
        }
        state.drawn = Some(Instant::now());
        let base = *state.base.get_or_insert(done);
        let line = line(state.label, done, total, done.saturating_sub(base), state.begin.elapsed());
        let _ = write!(io::stderr(), "\r{line}\x1b[K");
    }
}

/// `Downloading  [=====>     ]  45%  12.1 MiB/s  0:03 left`
fn line(label: &str, done: u64, total: u64, since: u64, elapsed: Duration) -> String {
    const WIDTH: u64 = 30;
    let part = |of: u64| u64::try_from(u128::from(done.min(total)) * u128::from(of) / u128::from(total.max(1))).unwrap_or(of);
    let filled = usize::try_from(part(WIDTH)).unwrap_or(0);
    let empty = usize::try_from(WIDTH).unwrap_or(0) - filled;
    let bar = format!("{}{}", "=".repeat(filled), " ".repeat(empty));
    let seconds = elapsed.as_secs_f64().max(0.001);
    let rate = since as f64 / seconds;
    let left = match rate > 0.0 {
        true => {
            let left = (total.saturating_sub(done) as f64 / rate).min(359_999.0) as u64;
            match left {
                0..3600 => format!("{}:{:02} left", left / 60, left % 60),
                _ => format!("{}:{:02}:{:02} left", left / 3600, left / 60 % 60, left % 60),
            }
        }
        false => "-:-- left".to_owned(),
    };
    format!("{label:<11} [{bar}] {:>3}%  {}/s  {left}", part(100), size(rate))
}

fn size(bytes: f64) -> String {
    let mut value = bytes;
    for unit in ["B", "KiB", "MiB"] {
        if value < 1024.0 {
            return format!("{value:.1} {unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.1} GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_the_part_the_rate_and_the_time_that_is_left() {
        let text = line("Downloading", 50 << 20, 100 << 20, 50 << 20, Duration::from_secs(5));
        assert_eq!(text, format!("Downloading [{}{}]  50%  10.0 MiB/s  0:05 left", "=".repeat(15), " ".repeat(15)));
        assert!(line("", 0, 1, 0, Duration::ZERO).contains("-:-- left"));
        assert!(line("", 5, 4, 0, Duration::ZERO).contains("100%"), "never more than all");
        assert!(line("", 1, 10_001, 1, Duration::from_secs(1)).contains("2:46:40 left"));
    }
}
