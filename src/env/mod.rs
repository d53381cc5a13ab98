//! What asks the operating system: clock, randomness, the allocator, processes and signals. Everything above takes
//! time and chance from here, so that it can be simulated.

pub mod alloc;
