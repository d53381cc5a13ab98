//! Being watched by systemd or upstart.
