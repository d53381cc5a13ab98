//! RESP2 and RESP3: the request parser and the reply writer of the server, the reply parser of clients.

pub mod value;
