//! What NAPI's feed and the machine's own links tell.

use super::*;

impl Core {
    /// NAPI's feed says this.
    pub fn feed(&mut self, event: FeedEvent, now: Instant) {
        match event {
            FeedEvent::Began(resources) => {
                if resources.contains("nic") {
                    self.touched.insert(Work::Napi(Key::List));
                }
                if resources.contains("network") {
                    self.touched.extend(self.networks.keys().map(|uuid| Work::Napi(Key::Network(*uuid))));
                }
                if resources.contains("aggregation") {
                    for (name, aggregation) in &mut self.aggregations {
                        aggregation.refresh();
                        self.touched.insert(Work::Napi(Key::Aggregation(name.clone())));
                    }
                }
            }
            FeedEvent::Changed(change) => self.changed(change, now),
        }
    }

    fn changed(&mut self, change: FeedChange, now: Instant) {
        let server = self.me.server.to_string();
        match change.resource.as_str() {
            "nic" => {
                let Ok(mac) = change.id.parse::<Mac>() else { return };
                let comes = !change.deleted && change.cn_uuid.as_deref() == Some(&server) && self.nics.len() < self.known_here() + AWAITED;
                if self.nics.contains_key(&mac) || comes {
                    self.nic(mac, Event::Refresh, now);
                }
            }
            "network" => {
                if let Ok(uuid) = change.id.parse::<NetworkUuid>()
                    && self.networks.contains_key(&uuid)
                {
                    self.touched.insert(Work::Napi(Key::Network(uuid)));
                }
            }
            "aggregation" => {
                let name = change.name.unwrap_or_else(|| change.id.strip_prefix(&format!("{server}-")).unwrap_or_default().to_owned());
                let ours = !change.deleted && change.belongs_to_uuid.as_deref() == Some(&server) && self.aggregations.len() < AWAITED;
                if ours && !name.is_empty() {
                    self.aggregations.entry(name.clone()).or_insert_with(Aggregation::awaited);
                }
                if let Some(aggregation) = self.aggregations.get_mut(&name) {
                    aggregation.refresh();
                    self.touched.insert(Work::Napi(Key::Aggregation(name)));
                }
            }
            _ => {}
        }
    }

    /// The machine has this now.
    pub fn see_server(&mut self, view: &ServerView, now: Instant) {
        if view.nics.is_empty() {
            return;
        }
        for (mac, local) in &view.nics {
            if !matches!(self.nics.get(mac).and_then(Nic::owner), Some(Owner::Instance(_))) {
                self.nic(*mac, Event::Local(local.clone()), now);
            }
        }
        let owner = Owner::Server(self.me.server);
        let known: Vec<Mac> = self.nics.iter().filter(|(_, nic)| nic.owner() == Some(&owner)).map(|(mac, _)| *mac).collect();
        let (gone, again) = self.away_nics.look(known.into_iter(), |mac| view.nics.contains_key(mac), now);
        for mac in gone {
            tracing::info!(%mac, "a NIC of the machine went: it is released");
            self.nic(mac, Event::Gone { owner: owner.clone(), release: true }, now);
        }
        for (name, body) in &view.aggregations {
            let aggregation = self.aggregations.entry(name.clone()).or_insert_with(|| Aggregation::new(body.clone()));
            aggregation.local(Some(body.clone()));
            self.touched.insert(Work::Napi(Key::Aggregation(name.clone())));
        }
        let known: Vec<String> = self.aggregations.iter().filter(|(_, one)| one.is_here()).map(|(name, _)| name.clone()).collect();
        let (gone, later) = self.away_aggregations.look(known.into_iter(), |name| view.aggregations.contains_key(name), now);
        for name in gone {
            if let Some(aggregation) = self.aggregations.get_mut(&name) {
                aggregation.local(None);
                aggregation.refresh();
                self.touched.insert(Work::Napi(Key::Aggregation(name)));
            }
        }
        if let Some(at) = again.into_iter().chain(later).min() {
            self.at(at, Work::Server);
        }
    }

    /// NAPI wants something of the machine's NICs: said once, never done (section 4).
    pub(super) fn log_server(&mut self, mac: Mac) {
        let Some(nic) = self.nics.get(&mac).filter(|nic| matches!(nic.owner(), Some(Owner::Server(_)))) else { return };
        let wanted = nic.wanted_here();
        if wanted.is_empty() {
            self.logged.remove(&mac);
        } else if self.logged.get(&mac) != Some(&wanted) {
            tracing::warn!(%mac, ?wanted, "NAPI has a NIC of the machine otherwise than it is: the machine's own network is not changed");
            self.logged.insert(mac, wanted);
        }
    }

    fn known_here(&self) -> usize {
        self.vms.values().filter_map(|vm| Some(vm.view.as_ref()?.nics.len())).sum()
    }
}
