//! Configuration: the directive table, the redis.conf grammar, and the typed values the server reads.
