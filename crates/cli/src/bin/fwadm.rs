//! `fwadm`: the Cloud Firewall of this compute node.

fn main() -> std::process::ExitCode {
    triton_cli::fwadm::main()
}
