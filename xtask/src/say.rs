//! What a person sees: lines, and steps that show that they are alive.
//!
//! No threads: a process that enters namespaces must have one only, so a spinner turns while its step polls.

use std::{
    fmt,
    io::{IsTerminal, Write},
    time::{Duration, Instant},
};

/// One line on standard output. A reader that has gone away (`| head`) is no error.
pub fn line(text: impl fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Steps of a long verb, on standard error, so that standard output stays for the result.
#[derive(Debug)]
pub struct Progress {
    terminal: bool,
    total: usize,
    number: usize,
    name: String,
    begun: Instant,
    drawn: Instant,
    frame: usize,
}

const FRAMES: [char; 4] = ['|', '/', '-', '\\'];

impl Progress {
    /// `total` steps are to come.
    pub fn new(total: usize) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let now = Instant::now();
        Self { terminal, total, number: 0, name: String::new(), begun: now, drawn: now, frame: 0 }
    }

    /// So many more steps are to come than was thought.
    pub fn more(&mut self, steps: usize) {
        self.total += steps;
    }

    /// The step that begins now.
    pub fn begin(&mut self, name: &str) {
        self.number += 1;
        name.clone_into(&mut self.name);
        self.begun = Instant::now();
        if self.terminal {
            self.draw("");
        } else {
            eprintln!("[{}/{}] {name}", self.number, self.total);
        }
    }

    /// Shows that the step is alive, and `detail` where it fits; cheap enough to be called in any loop.
    pub fn turn(&mut self, detail: &str) {
        if self.terminal && self.drawn.elapsed() > Duration::from_millis(120) {
            self.draw(detail);
        }
    }

    /// A bar for work whose size is known.
    pub fn bar(&mut self, done: usize, all: usize) {
        const WIDTH: usize = 24;
        let filled = done.min(all).saturating_mul(WIDTH).checked_div(all).unwrap_or(WIDTH);
        let bar: String = (0..WIDTH).map(|at| if at < filled { '#' } else { '.' }).collect();
        self.turn(&format!("[{bar}] {}/{}", done.min(all), all));
    }

    /// Something worth keeping about the step.
    pub fn note(&mut self, text: impl fmt::Display) {
        self.clear();
        eprintln!("      {text}");
    }

    /// The step is done.
    pub fn done(&mut self, result: impl fmt::Display) {
        self.clear();
        let seconds = self.begun.elapsed().as_secs_f64();
        if self.terminal {
            eprintln!("[{}/{}] {}: {result} ({seconds:.1} s)", self.number, self.total, self.name);
        } else {
            eprintln!("      {result} ({seconds:.1} s)");
        }
    }

    /// The step that was under way.
    pub fn current(&self) -> &str {
        &self.name
    }

    /// Removes the drawn line, before something else is written.
    pub fn clear(&mut self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }

    fn draw(&mut self, detail: &str) {
        self.drawn = Instant::now();
        self.frame = (self.frame + 1) % FRAMES.len();
        let seconds = self.begun.elapsed().as_secs();
        let detail: String = detail.chars().filter(|c| !c.is_control()).take(60).collect();
        eprint!("\r\x1b[K[{}/{}] {} {} {seconds} s {detail}", self.number, self.total, self.name, FRAMES[self.frame]);
        let _ = std::io::stderr().flush();
    }
}
