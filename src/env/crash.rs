//! Last words of a crash.
