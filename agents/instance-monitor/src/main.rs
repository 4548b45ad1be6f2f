//! The parent of one running instance.
fn main() {}
