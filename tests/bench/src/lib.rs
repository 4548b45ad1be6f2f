//! Budgets as ratios measured in one run.
