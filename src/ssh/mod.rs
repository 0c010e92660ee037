//! The carrier: SSH client and server, keys, credits. Knows no sync message.
