//! Joins the fleet with the parts of a running sidecar.

use std::sync::Arc;

use super::App;
use super::fleet::{connector, keep_link, slots};
use super::fleet_files::FleetFiles;
use super::from_settings::links_lead_to;
use crate::config::Settings;
use crate::fleet::bodies::Bodies;
use crate::fleet::keys::Keys;
use crate::fleet::link::Parts;

impl App {
    /// Keeps the link to the fleet. With `keys` the sidecar also shares sessions. Without a fleet nothing happens.
    pub(super) fn join_fleet(&self, settings: &Settings, files: Option<FleetFiles>, keys: Option<Keys>) {
        let Some(pod) = &self.pod else { return };
        let Some(connector) = connector(settings, files, &self.blocking) else { return };
        let links = links_lead_to(settings, &self.addresses.proxy);
        if let Some(slots) = slots(settings, keys, pod, links, &self.blocking, &self.work, &self.clock) {
            self.sessions.share_with(Arc::new(Bodies::new(slots, &self.sessions)), self.tokens.sezzle());
        }
        let (pod, sessions, clock) = (Arc::clone(pod), Arc::clone(&self.sessions), self.clock.clone());
        let parts = Parts { pod, sessions, connector, clock };
        keep_link(&self.supervisor, &self.background_stop, settings, &self.tokens, parts);
    }
}
