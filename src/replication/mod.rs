//! Master and replica: history, handshake, transfer, stream.
