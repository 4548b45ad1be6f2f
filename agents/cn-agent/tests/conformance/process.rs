//! The program itself, on an empty root.
