//! The codec against bytes written by hand, against itself, and against garbage.

mod round;
mod vectors;
