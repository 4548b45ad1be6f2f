//! Conformance cases of instances.md section 10, as far as they are pure, and properties over random payloads.

mod defaults;
mod hostile;
mod nics;
mod primary;
mod properties;
mod tables;
mod updates;
mod validation;
