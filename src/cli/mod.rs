//! The command line: arguments, progress bars, reports, exit codes.
