//! `triton-netconf`: writes the host's network configuration at boot.

fn main() -> std::process::ExitCode {
    triton_cli::netconf::main()
}
