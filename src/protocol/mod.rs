//! What crosses the wire: messages and their codec. No I/O: bytes in, messages out.
