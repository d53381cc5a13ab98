//! Clients as the server sees them: session, buffers, identity.
