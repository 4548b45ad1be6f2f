//! The table on a real bridge, each test in a network namespace of its own; the oracle of the language is the judge.

mod change;
mod frames;
mod rig;
mod state;
mod verdicts;
mod world;
