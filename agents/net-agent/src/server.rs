//! The machine's own NICs and aggregations, from sysinfo (net-agent.md sections 3.3 and 5.3). Pure.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use triton_types::{JsonMap, Mac, Packed};

use crate::local::{Local, Me, Owner, nic_state};

/// How long a link must be away before NAPI hears of it: drivers are reloaded, cables of test beds re-plugged.
const AWAY: Duration = Duration::from_secs(30);

/// What the machine has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServerView {
    /// NICs by address.
    pub nics: BTreeMap<Mac, Local>,
    /// Bodies of aggregations by name.
    pub aggregations: BTreeMap<String, JsonMap>,
}

fn text<'a>(entry: &'a Value, key: &str) -> Option<&'a str> {
    entry.get(key)?.as_str().filter(|text| !text.is_empty())
}

fn mac_of(entry: &Value) -> Option<Mac> {
    text(entry, "MAC Address")?.parse().ok()
}

fn tags_of(entry: &Value) -> Vec<&str> {
    entry.get("NIC Names").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

fn section<'a>(sysinfo: &'a JsonMap, name: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    sysinfo.get(name).and_then(Value::as_object).into_iter().flatten()
}

/// The tag that a host NIC is on by its name: the longest tag of its uplink that the name is, with a number behind it.
fn tag_by_name<'a>(name: &str, provided: &[&'a str]) -> Option<&'a str> {
    let number =
        |tag: &&&str| name.strip_prefix(**tag).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()));
    provided.iter().filter(number).max_by_key(|tag| tag.len()).copied()
}

impl ServerView {
    /// That of a sysinfo document. `host_nics` are the tags of host NICs by address, where the node's configuration says them.
    pub fn of(me: &Me, sysinfo: &JsonMap, host_nics: &BTreeMap<Mac, String>) -> Self {
        let mut view = Self::default();
        let Some(admin) = &me.admin else { return view };
        let admin_tag = sysinfo.get("Admin NIC Tag").and_then(Value::as_str).unwrap_or("admin");
        let bonds: Vec<&String> = section(sysinfo, "Link Aggregations").map(|(name, _)| name).collect();
        let local = |entry: &Value| {
            let mut body = JsonMap::new();
            body.insert("belongs_to_uuid".to_owned(), json!(me.server));
            body.insert("belongs_to_type".to_owned(), json!("server"));
            body.insert("owner_uuid".to_owned(), json!(admin));
            body.insert("state".to_owned(), json!(nic_state(text(entry, "Link Status") == Some("up"))));
            body
        };
        let place = |body: &mut JsonMap, entry: &Value, tag: &str, vlan: u64| {
            body.insert("nic_tag".to_owned(), json!(tag));
            body.insert("vlan_id".to_owned(), json!(vlan));
            // NAPI finds the network of an address by its tag; without one it would refuse the address.
            if let Some(ip) = text(entry, "ip4addr") {
                body.insert("ip".to_owned(), json!(ip));
            }
        };
        let mut add = |mac: Mac, body: JsonMap| {
            let local = Local { owner: Owner::Server(me.server), body: Packed::from(&body), ips: Vec::new() };
            // A VLAN of a link has its address: the link is the NIC, and came first.
            view.nics.entry(mac).or_insert(local);
        };
        for (_, entry) in section(sysinfo, "Network Interfaces").filter(|(name, _)| !bonds.contains(name)) {
            let (Some(mac), tags) = (mac_of(entry), tags_of(entry)) else { continue };
            let mut body = local(entry);
            body.insert("nic_tags_provided".to_owned(), json!(tags));
            if tags.contains(&admin_tag) {
                place(&mut body, entry, admin_tag, 0);
            }
            add(mac, body);
        }
        for (name, entry) in section(sysinfo, "Virtual Network Interfaces") {
            let Some(mac) = mac_of(entry) else { continue };
            let mut body = local(entry);
            let vlan = text(entry, "VLAN").and_then(|vlan| vlan.parse().ok()).unwrap_or(0);
            let host = text(entry, "Host Interface").and_then(|host| sysinfo.get("Network Interfaces")?.get(host));
            let provided = host.map(tags_of).unwrap_or_default();
            let configured = host_nics.get(&mac).map(String::as_str).filter(|tag| provided.contains(tag));
            match configured.or_else(|| tag_by_name(name, &provided)) {
                Some(tag) => place(&mut body, entry, tag, vlan),
                None => drop(body.insert("vlan_id".to_owned(), json!(vlan))),
            }
            add(mac, body);
        }
        for (name, entry) in section(sysinfo, "Link Aggregations") {
            let interface = |name: &str| sysinfo.get("Network Interfaces")?.get(name);
            let members = entry.get("Interfaces").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
            let macs: Vec<String> = members.filter_map(|member| Some(mac_of(interface(member)?)?.to_string())).collect();
            let body = json!({
                "id": format!("{}-{name}", me.server),
                "name": name,
                "belongs_to_uuid": me.server,
                "lacp_mode": text(entry, "LACP mode").unwrap_or("off"),
                "nic_tags_provided": interface(name).map(tags_of).unwrap_or_default(),
                "macs": macs,
            });
            if let Value::Object(body) = body {
                view.aggregations.insert(name.clone(), body);
            }
        }
        view
    }
}

/// What is away, and since when: it is released when it stays so.
#[derive(Debug)]
pub struct Away<K>(BTreeMap<K, Instant>);

impl<K> Default for Away<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord + Clone> Away<K> {
    /// Of `known` things those that are not `present` and were not for [`AWAY`] already; and when to look again for the others.
    pub fn look(&mut self, known: impl Iterator<Item = K>, present: impl Fn(&K) -> bool, now: Instant) -> (Vec<K>, Option<Instant>) {
        let missing: Vec<K> = known.filter(|key| !present(key)).collect();
        self.0.retain(|key, _| missing.contains(key));
        let mut gone = Vec::new();
        for key in missing {
            if now >= *self.0.entry(key.clone()).or_insert(now) + AWAY {
                self.0.remove(&key);
                gone.push(key);
            }
        }
        (gone, self.0.values().min().map(|since| *since + AWAY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::Pace;

    fn map(value: Value) -> JsonMap {
        let Value::Object(map) = value else { panic!("no object: {value}") };
        map
    }

    const CN: &str = "44454c4c-0000-1000-8000-000000000001";
    const ADMIN: &str = "930896af-bf8c-48d4-885c-6573a94b1853";

    fn view(sysinfo: Value) -> ServerView {
        let sysinfo = map(sysinfo);
        ServerView::of(
            &Me { server: CN.parse().unwrap(), admin: Some(ADMIN.to_owned()), pace: Pace::default() },
            &sysinfo,
            &BTreeMap::new(),
        )
    }

    fn nic(view: &ServerView, last: u8) -> JsonMap {
        view.nics[&Mac([0, 0, 0, 0, 0, last])].body.unpack()
    }

    #[allow(clippy::needless_pass_by_value, reason = "written where it is passed")]
    fn interface(last: u8, ip: &str, tags: Value) -> Value {
        json!({"MAC Address": format!("00:00:00:00:00:0{last}"), "ip4addr": ip, "Link Status": "up", "NIC Names": tags})
    }

    /// net-agent case 34, 35
    #[test]
    fn a_nic_with_the_admin_tag_says_where_its_address_is_and_others_say_their_tags() {
        let down = json!({"MAC Address": "0:0:0:0:0:3", "ip4addr": "", "Link Status": "down", "NIC Names": []});
        let view = view(json!({"Network Interfaces": {
            "eth0": interface(1, "10.99.99.7", json!(["admin", "external"])), "eth1": interface(2, "", json!(["internal"])), "eth2": down}}));
        let common = json!({"belongs_to_uuid": CN, "belongs_to_type": "server", "owner_uuid": ADMIN});
        let with = |extra: Value| {
            let mut all = map(common.clone());
            all.extend(map(extra));
            all
        };
        assert_eq!(
            nic(&view, 1),
            with(
                json!({"state": "running", "nic_tags_provided": ["admin", "external"], "nic_tag": "admin", "vlan_id": 0, "ip": "10.99.99.7"})
            )
        );
        assert_eq!(nic(&view, 2), with(json!({"state": "running", "nic_tags_provided": ["internal"]})));
        assert_eq!(nic(&view, 3), with(json!({"state": "stopped", "nic_tags_provided": []})));
        assert!(view.nics.values().all(|local| !local.body.unpack().contains_key("cn_uuid")));
    }

    /// net-agent case 36, 37
    #[test]
    fn a_host_nic_is_on_the_longest_tag_of_its_uplink_that_its_name_begins_with() {
        let virt = |last: u8, host: &str, vlan: &str| json!({"MAC Address": format!("00:00:00:00:00:1{last}"), "ip4addr": "10.1.0.9", "Link Status": "up", "Host Interface": host, "VLAN": vlan});
        let view = view(json!({
            "Network Interfaces": {"eth0": interface(1, "", json!(["external"])), "eth1": interface(2, "", json!(["rack1", "rack"]))},
            "Virtual Network Interfaces": {"external0": virt(0, "eth0", "12"), "external1": virt(1, "eth1", "12"), "rack10": virt(2, "eth1", "0"),
                "external10": virt(3, "eth0", ""), "eth0.5": virt(4, "eth0", "5")},
        }));
        let place = |last: u8| {
            let body = nic(&view, 0x10 + last);
            assert!(!body.contains_key("nic_tags_provided"));
            ["nic_tag", "vlan_id", "ip"].map(|key| body.get(key).cloned().unwrap_or_default())
        };
        assert_eq!(place(0), [json!("external"), json!(12), json!("10.1.0.9")]);
        assert_eq!(place(1), [json!(null), json!(12), json!(null)], "another link's tag");
        assert_eq!(place(2), [json!("rack1"), json!(0), json!("10.1.0.9")]);
        assert_eq!(place(3)[0], json!("external"));
        assert_eq!(place(4), [json!(null), json!(5), json!(null)]);
        // What the node's configuration says comes first: long tags are not in names of links.
        let sysinfo = map(json!({"Network Interfaces": {"eth0": interface(1, "", json!(["a_tag_of_twenty_bytes"]))},
            "Virtual Network Interfaces": {"atagof-12345678": virt(0, "eth0", "0")}}));
        let tags = BTreeMap::from([(Mac([0, 0, 0, 0, 0, 0x10]), "a_tag_of_twenty_bytes".to_owned())]);
        let me = Me { server: CN.parse().unwrap(), admin: Some(ADMIN.to_owned()), pace: Pace::default() };
        assert_eq!(nic(&ServerView::of(&me, &sysinfo, &tags), 0x10)["nic_tag"], "a_tag_of_twenty_bytes");
    }

    /// net-agent case 38
    #[test]
    fn an_aggregation_is_no_nic_and_its_members_are() {
        let view = view(json!({
            "Network Interfaces": {"aggr0": interface(1, "10.99.99.7", json!(["admin"])), "eth0": interface(1, "", json!([])), "eth1": interface(2, "", json!([]))},
            "Link Aggregations": {"aggr0": {"LACP mode": "active", "Interfaces": ["eth0", "eth1", "gone"]}},
        }));
        assert_eq!(view.nics.len(), 2);
        let expected = json!({"id": format!("{CN}-aggr0"), "name": "aggr0", "belongs_to_uuid": CN, "lacp_mode": "active",
            "nic_tags_provided": ["admin"], "macs": ["00:00:00:00:00:01", "00:00:00:00:00:02"]});
        assert_eq!(view.aggregations["aggr0"], map(expected));
        let nobody = ServerView::of(
            &Me { server: CN.parse().unwrap(), admin: None, pace: Pace::default() },
            &map(json!({"Network Interfaces": {"eth0": interface(1, "", json!([]))}})),
            &BTreeMap::new(),
        );
        assert_eq!(nobody, ServerView::default());
    }

    /// net-agent case 40
    #[test]
    fn what_is_away_for_a_moment_is_not_gone() {
        let (mut away, begin) = (Away::default(), Instant::now());
        assert_eq!(away.look([1, 2].into_iter(), |key| *key == 1, begin), (vec![], Some(begin + AWAY)));
        assert_eq!(away.look([1, 2].into_iter(), |_| true, begin + AWAY), (vec![], None), "it came back");
        away.look([1, 2].into_iter(), |key| *key == 1, begin + AWAY);
        assert_eq!(away.look([1, 2].into_iter(), |key| *key == 1, begin + 2 * AWAY), (vec![2], None));
    }
}
