//! `vmadm`: instances of this compute node, by hand and by script.

fn main() -> std::process::ExitCode {
    triton_cli::vmadm::main()
}
