//! `cn-setup`: makes this machine a compute node.

fn main() -> std::process::ExitCode {
    triton_cli::setup::main()
}
