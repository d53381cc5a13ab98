//! What asks the operating system: clock, randomness, the allocator, processes and signals. Everything above takes
//! time and chance from here, so that it can be simulated.

pub mod alloc;
pub mod clock;
pub mod crash;
pub mod examine;
pub mod overwrite;
pub mod process;
pub mod random;
pub mod signals;
pub mod supervise;
pub mod ticks;
pub mod watchdog;
