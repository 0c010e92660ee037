//! Parse, run, map to an exit code.

/// glibc gives memory back to the system so eagerly that it halves the carrier's throughput in some layouts.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    syncfiles::cli::commands::run(std::env::args_os()).into()
}
