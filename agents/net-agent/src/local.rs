//! What this node knows of its own NICs: of instances and of the machine, as NAPI is told (net-agent.md section 3.3). Pure.

use std::time::Duration;

use serde_json::{Value, json};
use triton_instance::{Loaded, is_hidden};
use triton_types::{InstanceUuid, JsonMap, Mac, Packed, ServerUuid};

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Me {
    /// This compute node.
    pub server: ServerUuid,
    /// The owner of its own NICs; without it they are not told to NAPI.
    pub admin: Option<String>,
    /// How sure it wants to be.
    pub pace: Pace,
}

/// How long NAPI has to insist before something is taken or deleted (ruling 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Between two answers that a NIC is not ours any more.
    pub certain_after: Duration,
    /// Between two lists that have a NIC that nobody here has.
    pub sweep_after: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { certain_after: Duration::from_secs(10), sweep_after: Duration::from_secs(180) }
    }
}

/// Whom a NIC belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// An instance.
    Instance(InstanceUuid),
    /// The machine.
    Server(ServerUuid),
}

impl Owner {
    /// As NAPI writes it in `belongs_to_uuid`.
    pub fn uuid(&self) -> String {
        match self {
            Self::Instance(uuid) => uuid.to_string(),
            Self::Server(uuid) => uuid.to_string(),
        }
    }
}

/// A NIC of this node.
#[derive(Clone, Debug, PartialEq)]
pub struct Local {
    /// Whom it belongs to.
    pub owner: Owner,
    /// What NAPI is told when it does not have the NIC, without `mac` and `check_owner`.
    pub body: Packed,
    /// All its addresses.
    pub ips: Vec<String>,
}

/// What a NIC of an instance may tell, beside whom it belongs to.
const OF_GUEST: [&str; 13] = [
    "allow_dhcp_spoofing",
    "allow_ip_spoofing",
    "allow_mac_spoofing",
    "allow_restricted_traffic",
    "allow_unfiltered_promisc",
    "gateway",
    "model",
    "mtu",
    "netmask",
    "network_uuid",
    "nic_tag",
    "primary",
    "vlan_id",
];

/// What a NIC of the machine says of the networks behind it.
pub const TAGS_PROVIDED: &str = "nic_tags_provided";

/// `state` of a NIC.
pub fn nic_state(runs: bool) -> &'static str {
    if runs { "running" } else { "stopped" }
}

impl Local {
    /// The NIC `nic` of an instance.
    pub fn of_instance(me: &Me, uuid: InstanceUuid, owner: Option<&Value>, runs: bool, nic: &JsonMap) -> Self {
        let mut body = JsonMap::new();
        body.insert("cn_uuid".to_owned(), json!(me.server));
        body.insert("belongs_to_uuid".to_owned(), json!(uuid));
        body.insert("belongs_to_type".to_owned(), json!("zone"));
        if let Some(owner) = owner {
            body.insert("owner_uuid".to_owned(), owner.clone());
        }
        body.insert("state".to_owned(), json!(nic_state(runs)));
        for key in OF_GUEST {
            if let Some(value) = nic.get(key) {
                body.insert(key.to_owned(), value.clone());
            }
        }
        // Untagged, where it was never said: without a VLAN NAPI does not find the network of an address.
        body.entry("vlan_id").or_insert(json!(0));
        // NAPI takes addresses only: `dhcp` would be refused for ever.
        if let Some(ip) = nic.get("ip").filter(|ip| ip.as_str().is_some_and(|ip| ip.parse::<std::net::IpAddr>().is_ok())) {
            body.insert("ip".to_owned(), ip.clone());
        }
        let ips = nic.get("ips").and_then(Value::as_array).into_iter().flatten().filter_map(|ip| ip.as_str().map(str::to_owned)).collect();
        Self { owner: Owner::Instance(uuid), body: Packed::from(&body), ips }
    }

    /// The tags that it provides, if it is one of the machine's.
    pub fn tags_provided(&self) -> Option<Value> {
        self.body.unpack().remove(TAGS_PROVIDED)
    }

    /// The whole body of the request that makes the NIC at NAPI.
    pub fn to_create(&self, mac: Mac) -> JsonMap {
        let mut body = self.body.unpack();
        body.insert("mac".to_owned(), json!(mac.to_string()));
        body.insert("check_owner".to_owned(), json!(false));
        body
    }
}

/// The properties of a VM object that [`VmView::of`] and [`triton_instance::is_hidden`] look at: no others need to be kept.
pub const PROPERTIES: [&str; 8] =
    ["boot_timestamp", "do_not_inventory", "internal_metadata", "nics", "owner_uuid", "resolvers", "routes", "state"];

/// What is known of an instance.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// It is this.
    Is(VmView),
    /// It is to be kept from the headnode (`do_not_inventory`).
    Hidden,
    /// It exists, and why it cannot be read.
    Unreadable(String),
    /// It does not exist.
    Absent,
}

impl Seen {
    /// What an instance that was just read is to `me`.
    pub fn of(me: &Me, uuid: InstanceUuid, loaded: Loaded) -> Self {
        match loaded {
            Loaded::Unreadable(reason) => Self::Unreadable(reason),
            Loaded::Absent => Self::Absent,
            Loaded::Object(vm) if is_hidden(&vm) => Self::Hidden,
            Loaded::Object(vm) => Self::Is(VmView::of(me, uuid, &vm)),
        }
    }
}

/// What there is of an instance for its network.
#[derive(Clone, Debug, PartialEq)]
pub struct VmView {
    /// Its NICs in their order.
    pub nics: Vec<(Mac, Local)>,
    /// The state says that it may be changed: `running` or `stopped`.
    pub settled: bool,
    /// It runs.
    pub runs: bool,
    /// When its guest booted.
    pub boot: Option<String>,
    /// Its resolvers.
    pub resolvers: Vec<Value>,
    /// Its routes.
    pub routes: JsonMap,
    /// Its resolvers are not those of its networks.
    pub own_resolvers: bool,
}

impl VmView {
    /// That of a VM object. NICs without a usable MAC address are left out: vmadm makes none.
    pub fn of(me: &Me, uuid: InstanceUuid, vm: &JsonMap) -> Self {
        let state = vm.get("state").and_then(Value::as_str).unwrap_or_default();
        let runs = state == "running";
        let nics = vm.get("nics").and_then(Value::as_array).into_iter().flatten().filter_map(|nic| {
            let nic = nic.as_object()?;
            let mac: Mac = nic.get("mac")?.as_str()?.parse().ok()?;
            Some((mac, Local::of_instance(me, uuid, vm.get("owner_uuid"), runs, nic)))
        });
        let truthy = |value: &Value| !matches!(value, Value::Null | Value::Bool(false)) && value != "" && *value != json!(0);
        Self {
            nics: nics.collect(),
            settled: runs || state == "stopped",
            runs,
            boot: vm.get("boot_timestamp").map(|at| at.as_str().map_or_else(|| at.to_string(), str::to_owned)),
            resolvers: vm.get("resolvers").and_then(Value::as_array).cloned().unwrap_or_default(),
            routes: vm.get("routes").and_then(Value::as_object).cloned().unwrap_or_default(),
            own_resolvers: vm.get("internal_metadata").and_then(|all| all.get("no_nic_resolvers")).is_some_and(truthy),
        }
    }

    /// What the instance lacks of resolvers and routes, given what NAPI says of each of its NICs, in their order: a payload of `vmadm
    /// update`, empty if nothing (section 5.1).
    pub fn lacks(&self, nics: &[JsonMap]) -> JsonMap {
        let mut payload = JsonMap::new();
        if !self.own_resolvers {
            let mut wanted: Vec<Value> = Vec::new();
            let all = nics.iter().filter_map(|nic| nic.get("resolvers")?.as_array()).flatten();
            for resolver in all.filter(|resolver| resolver.as_str().is_some_and(|text| text.parse::<std::net::IpAddr>().is_ok())) {
                if !wanted.contains(resolver) {
                    wanted.push(resolver.clone());
                }
            }
            if wanted != self.resolvers {
                payload.insert("resolvers".to_owned(), Value::Array(wanted));
            }
        }
        let mut wanted = JsonMap::new();
        for (to, via) in nics.iter().filter_map(|nic| nic.get("routes")?.as_object()).flatten().filter(|(_, via)| via.is_string()) {
            wanted.insert(to.clone(), via.clone());
        }
        let set: JsonMap =
            wanted.iter().filter(|(to, via)| self.routes.get(*to) != Some(*via)).map(|(to, via)| (to.clone(), via.clone())).collect();
        let gone: Vec<&String> = self.routes.keys().filter(|to| !wanted.contains_key(*to)).collect();
        if !gone.is_empty() {
            payload.insert("remove_routes".to_owned(), json!(gone));
        }
        if !set.is_empty() {
            payload.insert("set_routes".to_owned(), Value::Object(set));
        }
        payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(value: Value) -> JsonMap {
        let Value::Object(map) = value else { panic!("no object: {value}") };
        map
    }

    fn me() -> Me {
        Me { server: "44454c4c-0000-1000-8000-000000000001".parse().unwrap(), admin: None, pace: Pace::default() }
    }

    fn view(extra: Value) -> VmView {
        let uuid = InstanceUuid::random();
        let mut vm = map(json!({"uuid": uuid, "owner_uuid": "o", "state": "running", "resolvers": [], "routes": {}, "nics": []}));
        vm.extend(map(extra));
        VmView::of(&me(), uuid, &vm)
    }

    /// net-agent case 1
    #[test]
    fn a_nic_is_told_with_its_owner_and_its_fields_and_nothing_of_the_instance() {
        let uuid = InstanceUuid::random();
        let nic = map(
            json!({"interface": "net0", "mac": "90:b8:d0:00:00:01", "ip": "10.0.0.5", "ips": ["10.0.0.5/24"], "netmask": "255.255.255.0",
            "gateway": "10.0.0.1", "gateways": ["10.0.0.1"], "nic_tag": "external", "vlan_id": 0, "primary": true, "mtu": 1500}),
        );
        let local = Local::of_instance(&me(), uuid, Some(&json!("o")), true, &nic);
        let expected = json!({"cn_uuid": me().server, "belongs_to_uuid": uuid, "belongs_to_type": "zone", "owner_uuid": "o", "state": "running",
            "gateway": "10.0.0.1", "mtu": 1500, "netmask": "255.255.255.0", "nic_tag": "external", "primary": true, "vlan_id": 0,
            "ip": "10.0.0.5", "mac": "90:b8:d0:00:00:01", "check_owner": false});
        assert_eq!(local.to_create("90:b8:d0:00:00:01".parse().unwrap()), map(expected));
        let dhcp =
            Local::of_instance(&me(), uuid, None, false, &map(json!({"mac": "m", "ip": "dhcp", "ips": ["dhcp"], "nic_tag": "external"})));
        let dhcp = dhcp.body.unpack();
        assert_eq!((dhcp.get("ip"), &dhcp["state"], dhcp.get("owner_uuid")), (None, &json!("stopped"), None));
    }

    #[test]
    fn nothing_but_the_named_properties_makes_a_view() {
        let uuid = InstanceUuid::random();
        let vm = map(json!({"uuid": uuid, "owner_uuid": "o", "state": "running", "boot_timestamp": "t", "resolvers": ["10.0.0.2"],
            "routes": {"10.1.0.0/16": "10.0.0.1"}, "internal_metadata": {"no_nic_resolvers": true}, "do_not_inventory": true,
            "nics": [{"mac": "90:b8:d0:00:00:01", "nic_tag": "external", "ip": "10.0.0.5"}],
            "alias": "a", "brand": "lx", "tags": {"a": 1}, "zone_state": "running", "customer_metadata": {"a": "b"}, "autoboot": true}));
        let only = |wanted: &[&str]| -> JsonMap {
            vm.iter().filter(|(key, _)| wanted.contains(&key.as_str())).map(|(key, value)| (key.clone(), value.clone())).collect()
        };
        let whole = (VmView::of(&me(), uuid, &vm), triton_instance::is_hidden(&vm));
        let seen = |vm: &JsonMap| (VmView::of(&me(), uuid, vm), triton_instance::is_hidden(vm));
        assert_eq!(seen(&only(&PROPERTIES)), whole);
        for property in PROPERTIES {
            let rest: Vec<&str> = PROPERTIES.into_iter().filter(|other| *other != property).collect();
            assert_ne!(seen(&only(&rest)), whole, "{property} is not needed");
        }
    }

    /// net-agent case 17
    #[test]
    fn what_neither_runs_nor_is_stopped_counts_as_stopped_and_is_not_changed() {
        for (state, settled, runs) in
            [("running", true, true), ("stopped", true, false), ("provisioning", false, false), ("failed", false, false)]
        {
            let view = view(json!({"state": state, "nics": [{"mac": "90:b8:d0:00:00:01", "nic_tag": "a"}, {"mac": "nonsense"}]}));
            assert_eq!((view.settled, view.runs, view.nics.len()), (settled, runs, 1));
            assert_eq!(view.nics[0].1.body.unpack()["state"], nic_state(runs));
        }
    }

    /// net-agent case 13, 14, 15
    #[test]
    fn resolvers_and_routes_are_those_of_the_nics_in_their_order() {
        let nic = |resolvers: Value, routes: Value| map(json!({"resolvers": resolvers, "routes": routes}));
        let first = nic(json!(["10.0.0.2", "10.0.0.3"]), json!({"10.1.2.0/24": "10.77.4.9", "10.1.3.0/24": "10.77.4.8"}));
        let second = nic(json!(["10.0.0.3", "10.0.0.4", "nonsense", 5]), json!({"10.1.3.0/24": "10.77.4.7", "10.1.4.0/24": 5}));
        let vm = view(json!({"resolvers": ["10.0.0.3"], "routes": {"10.1.2.0/24": "10.77.4.9", "10.9.0.0/16": "10.77.4.1"}}));
        let expected = json!({"resolvers": ["10.0.0.2", "10.0.0.3", "10.0.0.4"], "remove_routes": ["10.9.0.0/16"],
            "set_routes": {"10.1.3.0/24": "10.77.4.7"}});
        assert_eq!(vm.lacks(&[first.clone(), second]), map(expected));
        assert_eq!(vm.lacks(&[]), map(json!({"resolvers": [], "remove_routes": ["10.1.2.0/24", "10.9.0.0/16"]})), "none left");
        let same = view(json!({"resolvers": ["10.0.0.2", "10.0.0.3"], "routes": {"10.1.3.0/24": "10.77.4.8", "10.1.2.0/24": "10.77.4.9"}}));
        assert!(same.lacks(&[first]).is_empty());
    }

    /// net-agent case 16
    #[test]
    fn own_resolvers_are_left_alone_also_when_routes_change() {
        let vm = view(json!({"resolvers": ["9.9.9.9"], "internal_metadata": {"no_nic_resolvers": true}}));
        let nic = map(json!({"resolvers": ["8.8.8.8"], "routes": {"10.1.2.0/24": "10.0.0.9"}}));
        assert_eq!(vm.lacks(&[nic]), map(json!({"set_routes": {"10.1.2.0/24": "10.0.0.9"}})));
    }
}
