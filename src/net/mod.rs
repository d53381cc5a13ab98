//! Sockets: the reactor and its connections. The only place that reads from or writes to one.
