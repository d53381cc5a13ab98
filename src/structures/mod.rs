//! Data structures without a Redis word in them: hash table, timing wheel, and their kin.

pub mod dict;
<<<<<<< HEAD
pub mod glob;
=======
>>>>>>> dict
pub mod hash;
pub mod wheel;
