//! The agent that CNAPI steers a compute node through.
