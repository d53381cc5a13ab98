//! `client-output-buffer-limit`: how much output may wait for a client of each class, at all and for how long.

use super::{Client, Role};
use crate::config::{OutputBufferLimit, OutputBufferLimits};

/// What counts for a replica beside its output.
#[derive(Clone, Copy, Debug, Default)]
pub struct StreamBacklog {
    /// Bytes of the write stream that it has not been sent.
    pub unsent: u64,
    /// Its hard limit is never below this: what is kept for it anyway.
    pub least_limit: u64,
}

impl Client {
    /// Whether its output has grown beyond the limits of its class: beyond the hard one, or beyond the soft one for too
    /// long. Since when that has been so is noted.
    pub fn exceeds_output_limits(
        &mut self,
        limits: &OutputBufferLimits,
        stream: StreamBacklog,
        now_ms: i64,
    ) -> bool {
        let limit = match self.role {
            // What we have to say to our master is never too much.
            Role::Master => return false,
            Role::Replica => limits.replica,
            Role::Normal | Role::Monitor if self.is_subscribed() => limits.pubsub,
            Role::Normal | Role::Monitor => limits.normal,
        };
        let OutputBufferLimit { hard_bytes, soft_bytes, soft_seconds } = limit;
        let used = self.output.overflow() as u64 + stream.unsent;
        let over_hard = hard_bytes != 0 && used >= hard_bytes.max(stream.least_limit);
        let over_soft = soft_bytes != 0 && used >= soft_bytes;
        let since = self.session.rare().over_soft_limit_ms.unwrap_or(now_ms);
        self.session.set_over_soft_limit(over_soft.then_some(since));
        over_hard || over_soft && now_ms - since > soft_seconds as i64 * 1000
    }
}
