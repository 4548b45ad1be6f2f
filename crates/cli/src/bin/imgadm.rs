//! `imgadm`: images on this compute node.

fn main() -> std::process::ExitCode {
    triton_cli::imgadm::main()
}
