//! The write stream: every effect on the data set, once, as protocol bytes with one offset.
