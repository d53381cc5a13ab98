//! The databases: lookup, edit, expiry, and the record of what a command changed.
