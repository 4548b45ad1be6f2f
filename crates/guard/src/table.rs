//! The table: sets, chains and rules, the same on every node. Pure.
//!
//! A rule whose bytes are not in the frame does not apply; so every chain lets pass what it knows to be right and drops the rest.

use triton_nft::{Batch, ChainHook, Compare, DataType, Family, Hook, Lookup, Payload, Rule, SetSpec};

/// Name of the table.
pub const TABLE: &str = "triton_guard";
/// What the names of guests' links begin with (ruling 24).
const GUEST: &str = "vt";
/// Before connection tracking (-200) and its zones (-300): rulings 12 and 21.
const PRIORITY: i32 = -350;
/// An empty chain whose name says which rules the table has. To be counted up with every change of sets or rules.
pub(crate) const VERSION: &str = "version_2";
/// The netlink group that copies of addresses' being given go to, and how much of each.
pub const COPIES: (u16, u32) = (1546, 1500);
/// The chain that copies what guests are told; there only where copies can be made.
pub(crate) const TOLD: &str = "told";
/// Copies of one NIC's questions, and of answers to it, in a second; a client sends some ten in a minute.
const COPIES_A_SECOND: u32 = 20;

const ETHERTYPE: Payload = Payload::Link(12, 2);
const SOURCE_MAC: Payload = Payload::Link(6, 6);
const IPV4: [u8; 2] = [0x08, 0x00];
const ARP: [u8; 2] = [0x08, 0x06];
const IPV6: [u8; 2] = [0x86, 0xdd];
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// Why a frame was dropped: each has a set of all guarded links, whose elements count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Mac,
    Restricted,
    Address,
    Dhcp,
    Port,
    Host,
}

impl Reason {
    pub(crate) const ALL: [Self; 6] = [Self::Mac, Self::Restricted, Self::Address, Self::Dhcp, Self::Port, Self::Host];

    /// The set, and the chain that counts in it and drops.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Mac => "drop_mac",
            Self::Restricted => "drop_restricted",
            Self::Address => "drop_address",
            Self::Dhcp => "drop_dhcp",
            Self::Port => "drop_port",
            Self::Host => "drop_host",
        }
    }
}

/// Sets of links, by name.
pub(crate) mod links {
    /// All that are guarded.
    pub(crate) const KNOWN: &str = "known";
    pub(crate) const ANY_MAC: &str = "any_mac";
    pub(crate) const ANY_TYPE: &str = "any_type";
    pub(crate) const ANY_ADDRESS: &str = "any_address";
    pub(crate) const DHCP_SERVER: &str = "dhcp_server";
    /// Whose DHCP questions are copied, and those to whom answers are; so with router advertisements and DHCP of IPv6.
    pub(crate) const ASKS4: &str = "asks4";
    pub(crate) const ASKS6: &str = "asks6";
    pub(crate) const TOLD4: &str = "told4";
    pub(crate) const TOLD6: &str = "told6";
    /// Those that copies are made of.
    pub(crate) const COPIED: [&str; 4] = [ASKS4, ASKS6, TOLD4, TOLD6];
}

/// Sets of a link and something else.
pub(crate) mod pairs {
    pub(crate) const MAC: &str = "mac";
    pub(crate) const ADDRESS4: &str = "address4";
    pub(crate) const NETWORK4: &str = "network4";
    pub(crate) const LEARNED4: &str = "learned4";
    pub(crate) const ADDRESS6: &str = "address6";
    pub(crate) const NETWORK6: &str = "network6";
    pub(crate) const LEARNED6: &str = "learned6";
    pub(crate) const PORT: &str = "blocked_port";

    /// Those that follow from a NIC's properties.
    pub(crate) const DERIVED: [&str; 6] = [MAC, ADDRESS4, NETWORK4, ADDRESS6, NETWORK6, PORT];
    /// Those that are learned while the guest runs.
    pub(crate) const LEARNED: [&str; 2] = [LEARNED4, LEARNED6];
    pub(crate) const IPV4: [&str; 3] = [ADDRESS4, NETWORK4, LEARNED4];
    pub(crate) const IPV6: [&str; 3] = [ADDRESS6, NETWORK6, LEARNED6];
}

fn sets() -> Vec<SetSpec> {
    use DataType::{Interface, Ipv4, Ipv6, Mac, Port};
    let mut sets: Vec<SetSpec> = [links::KNOWN, links::ANY_MAC, links::ANY_TYPE, links::ANY_ADDRESS, links::DHCP_SERVER]
        .map(|name| SetSpec::new(name, &[Interface]))
        .into();
    sets.extend(links::COPIED.map(|name| SetSpec::new(name, &[Interface]).at_most(COPIES_A_SECOND)));
    sets.extend(Reason::ALL.map(|reason| SetSpec::new(reason.name(), &[Interface]).counters()));
    sets.push(SetSpec::new(pairs::MAC, &[Interface, Mac]));
    sets.push(SetSpec::new(pairs::PORT, &[Interface, Port]));
    for (names, kind) in [(pairs::IPV4, Ipv4), (pairs::IPV6, Ipv6)] {
        let [address, network, learned] = names;
        sets.push(SetSpec::new(address, &[Interface, kind]));
        sets.push(SetSpec::new(network, &[Interface, kind]).intervals());
        sets.push(SetSpec::new(learned, &[Interface, kind]).timeouts());
    }
    sets
}

fn rule() -> Rule {
    Rule::new()
}

/// Rules by chain, in the order in which chains are made: those that are called come first.
fn chains(copies: bool) -> Vec<(&'static str, Vec<Rule>)> {
    let mut chains = Vec::new();
    for reason in Reason::ALL {
        // The set has every guarded link, and counts; a link that is in no set is dropped all the same.
        chains.push((reason.name(), vec![rule().input(Lookup::In, reason.name()).drop(), rule().count().drop()]));
    }
    let [mac, restricted, address, ..] = Reason::ALL.map(Reason::name);

    chains.push(("other_mac", vec![rule().input(Lookup::In, links::ANY_MAC).back(), rule().goto(mac)]));
    chains.push(("other_type", vec![rule().input(Lookup::In, links::ANY_TYPE).accept(), rule().goto(restricted)]));
    // Who may send from any address may ask for any; under a MAC address of another only if it may use that.
    chains.push((
        "other_arp",
        vec![
            rule().input(Lookup::NotIn, links::ANY_ADDRESS).goto(address),
            rule().input(Lookup::In, links::ANY_MAC).accept(),
            rule().goto(mac),
        ],
    ));

    let mut arp = vec![
        // Ethernet and IPv4, lengths 6 and 4.
        rule().bytes(Payload::Network(0, 6), Compare::NotEqual, &[0, 1, 8, 0, 6, 4]).goto("other_arp"),
        rule().input_with(Payload::Network(8, 6), Lookup::NotIn, pairs::MAC).goto("other_arp"),
        rule().input(Lookup::In, links::ANY_ADDRESS).accept(),
        rule().bytes(Payload::Network(14, 4), Compare::Equal, &[0; 4]).accept(),
    ];
    arp.extend(allowed(Payload::Network(14, 4), pairs::IPV4));
    arp.push(rule().goto(address));
    chains.push(("arp", arp));

    chains.extend(ipv4(copies));
    chains.extend(neighbour_discovery(address));
    chains.extend(ipv6(copies));

    let mut guard = vec![
        rule().input(Lookup::NotIn, links::KNOWN).count().drop(),
        // Frames that bridges keep to themselves: spanning tree, link aggregation, LLDP and their like (ruling 13).
        rule().masked(Payload::Link(0, 6), &[255, 255, 255, 255, 255, 0xf0], Compare::Equal, &[1, 0x80, 0xc2, 0, 0, 0]).goto(restricted),
        // The same of another maker: spanning tree per VLAN, CDP. A switch that gets one from a guest may close the node's port.
        rule()
            .masked(Payload::Link(0, 6), &[255, 255, 255, 255, 255, 0xf0], Compare::Equal, &[1, 0, 0xc, 0xcc, 0xcc, 0xc0])
            .goto(restricted),
    ];
    // A guest never sees its VLAN, so it has no tags to send (ruling 17).
    guard.extend(
        [[0x81, 0x00], [0x88, 0xa8], [0x91, 0x00], [0x92, 0x00], [0x93, 0x00]]
            .map(|tag| rule().bytes(ETHERTYPE, Compare::Equal, &tag).goto(restricted)),
    );
    guard.push(rule().input_with(SOURCE_MAC, Lookup::NotIn, pairs::MAC).jump("other_mac"));
    guard.extend(
        [(IPV4, "ipv4"), (IPV6, "ipv6"), (ARP, "arp")].map(|(kind, chain)| rule().bytes(ETHERTYPE, Compare::Equal, &kind).goto(chain)),
    );
    guard.push(rule().goto("other_type"));
    chains.push(("guard", guard));
    chains
}

/// Those that may send from the address in `payload`.
fn allowed(payload: Payload, sets: [&str; 3]) -> [Rule; 3] {
    sets.map(|set| rule().input_with(payload, Lookup::In, set).accept())
}

/// A rule that copies the packets of `which` to [`COPIES`]; none where copies cannot be made.
fn copy(which: Rule, copies: bool) -> Option<Rule> {
    copies.then(|| which.log(COPIES.0, COPIES.1))
}

const SOURCE_PORT: Payload = Payload::Transport(0, 2);
const PORT: Payload = Payload::Transport(2, 2);
/// Of a UDP header, and enough of a TCP one for its ports and of an ICMP one for its kind.
const HEADER: Payload = Payload::Transport(0, 8);

fn port(place: Payload, number: u16) -> Rule {
    rule().bytes(place, Compare::Equal, &number.to_be_bytes())
}

fn ipv4(copies: bool) -> Vec<(&'static str, Vec<Rule>)> {
    let [_, restricted, address, dhcp, blocked, _] = Reason::ALL.map(Reason::name);
    const SOURCE: Payload = Payload::Network(12, 4);
    let mut from = vec![rule().input(Lookup::In, links::ANY_ADDRESS).accept(), rule().bytes(SOURCE, Compare::Equal, &[0; 4]).accept()];
    from.extend(allowed(SOURCE, pairs::IPV4));
    from.push(rule().goto(address));
    let more_fragments = rule().masked(Payload::Network(6, 2), &[0x20, 0], Compare::NotEqual, &[0, 0]);
    let later_fragment = rule().masked(Payload::Network(6, 2), &[0x1f, 0xff], Compare::NotEqual, &[0, 0]);
    vec![
        ("dhcp_asks", copy(rule().input(Lookup::In, links::ASKS4), copies).into_iter().collect()),
        (
            "dhcp_client4",
            vec![
                more_fragments.goto(dhcp),
                // A question (and no answer), of a client with a MAC address, its own. What is cut before that is dropped, too.
                rule().bytes(Payload::Transport(8, 1), Compare::NotEqual, &[1]).goto(dhcp),
                rule().bytes(Payload::Transport(10, 1), Compare::NotEqual, &[6]).goto(dhcp),
                rule().input_with(Payload::Transport(36, 6), Lookup::In, pairs::MAC).goto("dhcp_asks"),
                rule().goto(dhcp),
            ],
        ),
        (
            "udp4",
            vec![
                rule().input(Lookup::In, links::DHCP_SERVER).back(),
                port(SOURCE_PORT, 67).goto(dhcp),
                port(SOURCE_PORT, 68).goto("dhcp_client4"),
                port(PORT, 67).goto("dhcp_client4"),
                port(PORT, 68).goto("dhcp_client4"),
                rule().has(HEADER).back(),
                rule().goto(restricted),
            ],
        ),
        ("tcp", vec![rule().input_with(PORT, Lookup::In, pairs::PORT).goto(blocked), rule().has(HEADER).back(), rule().goto(restricted)]),
        ("ipv4_from", from),
        (
            "ipv4_whole",
            vec![
                later_fragment.goto("ipv4_from"),
                rule().protocol(UDP).jump("udp4"),
                rule().protocol(TCP).jump("tcp"),
                rule().goto("ipv4_from"),
            ],
        ),
        // A header that is none, or longer than the frame.
        ("ipv4", vec![rule().knows_protocol().goto("ipv4_whole"), rule().goto(restricted)]),
    ]
}

fn ipv6(copies: bool) -> Vec<(&'static str, Vec<Rule>)> {
    let [_, restricted, address, dhcp, _, _] = Reason::ALL.map(Reason::name);
    const SOURCE: Payload = Payload::Network(8, 16);
    const FRAGMENT: u8 = 44;
    let mut from = vec![rule().input(Lookup::In, links::ANY_ADDRESS).accept(), rule().bytes(SOURCE, Compare::Equal, &[0; 16]).accept()];
    from.extend(allowed(SOURCE, pairs::IPV6));
    from.push(rule().goto(address));
    let later_fragment = rule().bytes(Payload::Network(6, 1), Compare::Equal, &[FRAGMENT]).masked(
        Payload::Network(42, 2),
        &[0xff, 0xf8],
        Compare::NotEqual,
        &[0, 0],
    );
    // Clients hear answers from any port, so it is the client's port that nobody else may send to.
    let mut udp = vec![rule().input(Lookup::In, links::DHCP_SERVER).back(), port(SOURCE_PORT, 547).goto(dhcp), port(PORT, 546).goto(dhcp)];
    udp.extend(copy(port(PORT, 547).input(Lookup::In, links::ASKS6), copies));
    // Copied or not.
    udp.extend([rule().has(HEADER).back(), rule().goto(restricted)]);
    vec![
        ("udp6", udp),
        ("ipv6_from", from),
        (
            "ipv6_whole",
            vec![
                later_fragment.goto("ipv6_from"),
                rule().protocol(ICMPV6).jump("icmp6"),
                rule().protocol(UDP).jump("udp6"),
                rule().protocol(TCP).jump("tcp"),
                rule().goto("ipv6_from"),
            ],
        ),
        // Headers that hide what follows (a fragment that begins with one, a chain that is cut) are nobody's need.
        ("ipv6", vec![rule().knows_protocol().goto("ipv6_whole"), rule().goto(restricted)]),
    ]
}

/// What guests are told of their addresses, copied.
fn told() -> Vec<Rule> {
    let kind = |kind: [u8; 2]| rule().bytes(ETHERTYPE, Compare::Equal, &kind);
    let from = |kind: Rule, number: u16| kind.protocol(UDP).bytes(SOURCE_PORT, Compare::Equal, &number.to_be_bytes());
    let advertises = kind(IPV6).protocol(ICMPV6).bytes(Payload::Transport(0, 1), Compare::Equal, &[134]);
    [
        from(kind(IPV4), 67).output(Lookup::In, links::TOLD4),
        from(kind(IPV6), 547).output(Lookup::In, links::TOLD6),
        advertises.output(Lookup::In, links::TOLD6),
    ]
    .into_iter()
    .filter_map(|rule| copy(rule, true))
    .collect()
}

/// What a guest may say about who has which address (net-agent.md section 15, ruling 23).
fn neighbour_discovery(address: &'static str) -> Vec<(&'static str, Vec<Rule>)> {
    const KIND: Payload = Payload::Transport(0, 1);
    const SOLICIT_ROUTER: u8 = 133;
    const ADVERTISE_ROUTER: u8 = 134;
    const SOLICIT: u8 = 135;
    const ADVERTISE: u8 = 136;
    const REDIRECT: u8 = 137;
    /// Options that are looked at: each begins at a multiple of eight bytes, and who sends more of them hides something.
    const SLOTS: u32 = 4;
    let options = |begin: u32| {
        let most = u16::try_from(begin + 8 * SLOTS).unwrap_or(u16::MAX);
        let mut rules = vec![rule().bytes(Payload::Network(4, 2), Compare::Greater, &most.to_be_bytes()).goto(address)];
        for slot in 0..SLOTS {
            let at = begin + 8 * slot;
            // 1 and 2: the link-layer address of the sender, of the target.
            for kind in [1, 2] {
                let names_mac = rule().bytes(Payload::Transport(at, 1), Compare::Equal, &[kind]);
                rules.push(names_mac.input_with(Payload::Transport(at + 2, 6), Lookup::NotIn, pairs::MAC).goto(address));
            }
        }
        rules
    };
    let target = Payload::Transport(8, 16);
    let mut advertise: Vec<Rule> = pairs::IPV6.map(|set| rule().input_with(target, Lookup::In, set).goto("options24")).into();
    advertise.push(rule().goto(address));
    let discovery = [SOLICIT_ROUTER, ADVERTISE_ROUTER, SOLICIT, ADVERTISE, REDIRECT];
    let mut icmp6: Vec<Rule> = [ADVERTISE_ROUTER, REDIRECT]
        .map(|kind| rule().bytes(KIND, Compare::Equal, &[kind]).input(Lookup::NotIn, links::DHCP_SERVER).goto(address))
        .into();
    icmp6.push(rule().input(Lookup::In, links::ANY_ADDRESS).back());
    // These have no further headers, and are never fragments (RFC 6980).
    let bare =
        |kind: u8| rule().bytes(KIND, Compare::Equal, &[kind]).bytes(Payload::Network(6, 1), Compare::NotEqual, &[ICMPV6]).goto(address);
    icmp6.extend(discovery.map(bare));
    let chain = [(ADVERTISE, "advertise"), (SOLICIT, "options24"), (SOLICIT_ROUTER, "options8")];
    icmp6.extend(chain.map(|(kind, chain)| rule().bytes(KIND, Compare::Equal, &[kind]).goto(chain)));
    // Its kind is in another fragment.
    icmp6.extend([rule().has(KIND).back(), rule().goto(Reason::Restricted.name())]);
    vec![("options8", options(8)), ("options24", options(24)), ("advertise", advertise), ("icmp6", icmp6)]
}

/// The whole table without elements, instead of whatever there is. Without `copies` no addresses can be learned.
pub(crate) fn build(copies: bool) -> Batch {
    let mut batch = Batch::new(Family::Bridge, TABLE).without_table().table_is_there().chain(VERSION);
    for set in sets() {
        batch = batch.set(&set);
    }
    for (chain, rules) in chains(copies) {
        batch = batch.chain(chain);
        for rule in &rules {
            batch = batch.rule(chain, rule);
        }
    }
    let at = |hook| ChainHook { hook, priority: PRIORITY, accept: true };
    batch = batch.base_chain("from_guests", at(Hook::Prerouting)).rule("from_guests", &rule().input_begins(GUEST).jump("guard"));
    // Guests do not reach the node, neither through a bridge itself nor through a port that is the node's own (ruling 8).
    batch = batch.base_chain("to_node", at(Hook::Input)).rule("to_node", &rule().input_begins(GUEST).goto(Reason::Host.name()));
    let own_port = rule().input_begins(GUEST).output_begins(triton_netconf::HOST_PORT_PREFIX).goto(Reason::Host.name());
    batch = batch.base_chain("to_own_ports", at(Hook::Forward)).rule("to_own_ports", &own_port);
    if copies {
        batch = batch.chain(TOLD);
        for rule in told() {
            batch = batch.rule(TOLD, &rule);
        }
        batch = batch.base_chain("to_guests", at(Hook::Postrouting)).rule("to_guests", &rule().output_begins(GUEST).jump(TOLD));
    }
    batch
}
