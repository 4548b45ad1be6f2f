//! The table on a real bridge, each test in a network namespace of its own; the oracle of the language is the judge.

mod atomic;
mod change;
mod hands;
mod incremental;
mod rig;
mod scale;
mod state;
mod verdicts;
mod world;

use triton_wire::frames;
