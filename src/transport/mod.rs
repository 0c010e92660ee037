//! Byte streams: TCP, a child process, memory. Knows no SSH.
