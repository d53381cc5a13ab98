//! What a key can hold: the entry in one allocation, the values and their encodings.
