//! Those who listen: subscribers of channels, and monitors.

use super::Server;
use crate::client::ClientId;

impl Server {
    /// Whether a client has subscribed to anything.
    pub fn is_subscribed(&self, _id: ClientId) -> bool {
        false
    }

    pub(super) fn forget_subscriptions(&mut self, _id: ClientId) {}

    pub(super) fn monitor_is_gone(&mut self, _id: ClientId) {}

    /// Step 5 of settling: tells subscribers what happened to keys.
    pub(super) fn publish_events(&mut self) {}
}
