//! Control groups: pure v2 and hybrid, limits, events, kill, removal.
