//! Frames on a real bridge, each test in a network namespace of its own: what a guest sends is what another guest gets, or not.

mod change;
mod frames;
mod snoop;
mod spoof;
mod wire;
