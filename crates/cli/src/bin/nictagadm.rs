//! `nictagadm`: the NIC tags of this compute node.

fn main() -> std::process::ExitCode {
    triton_cli::nictagadm::main()
}
