//! Nodes, guests and the network between the nodes.

use std::{
    cell::{Cell, RefCell},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    os::fd::AsFd,
    process::Command,
    time::{Duration, Instant},
};

use headnode_standin::portolan::{Asked, Portolan};
use net_agent::{FabricPace, Fabrics, Numbers};
use tokio::runtime::Runtime;
use triton_files::Layout;
use triton_link::{BridgeSpec, Links, NetNs, VethSpec};
use triton_nictag::{Fabric, NicTags, Port, ensure_fabric, release_fabric, set_port};

/// How long what must come may take, beside builds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
const PACE: Duration = Duration::from_millis(200);
const HEADNODE: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 254);

fn try_run(netns: &NetNs, line: &str) -> std::process::Output {
    let run = || {
        let mut words = line.split(' ');
        Command::new(words.next().unwrap()).args(words).output().unwrap()
    };
    netns.run(run).unwrap()
}

pub(crate) struct Guest {
    netns: NetNs,
    host: String,
    number: u8,
    mac: [u8; 6],
}

impl Guest {
    pub(crate) fn v4(&self) -> String {
        format!("192.168.128.{}", self.number)
    }

    pub(crate) fn v6(&self) -> String {
        format!("fd00::{:x}", self.number)
    }

    pub(crate) fn link_local(&self) -> String {
        format!("fe80::92b8:d0ff:fe00:{:x}", self.number)
    }

    /// Whether the command succeeds in the guest.
    pub(crate) fn run(&self, line: &str) -> bool {
        try_run(&self.netns, line).status.success()
    }

    pub(crate) fn reached(&self, address: &str) -> bool {
        self.run(&format!("ping -c 1 -W 1 {address}"))
    }

    pub(crate) fn reaches(&self, address: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.reached(address) {
            assert!(Instant::now() < end, "{} does not reach {address}", self.v4());
        }
    }
}

pub(crate) struct Node {
    netns: NetNs,
    links: Links,
    layout: Layout,
    _root: tempfile::TempDir,
    underlay: Ipv4Addr,
    pub(crate) fabrics: Option<Fabrics>,
}

impl Node {
    pub(crate) fn ip(&self, arguments: &str) -> String {
        let output = try_run(&self.netns, &format!("ip {arguments}"));
        assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn fabric(&self, vnet: u32) -> Fabric {
        let tag = format!("sdc_overlay/{vnet}").parse().unwrap();
        NicTags::load(&self.layout).unwrap().fabric(&tag).unwrap().unwrap()
    }
}

/// A NIC that portolan knows.
struct Placed {
    vnet: u32,
    vlan: u16,
    mac: [u8; 6],
    ips: [IpAddr; 2],
    underlay: Ipv4Addr,
}

pub(crate) struct Lab {
    runtime: Runtime,
    wire: NetNs,
    portolan: Option<Portolan>,
    pub(crate) nodes: Vec<Node>,
    /// What portolan is told when it begins anew.
    placed: RefCell<Vec<Placed>>,
    names: Cell<u32>,
}

impl Lab {
    pub(crate) fn new(nodes: u8) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let wire = NetNs::create().unwrap();
        runtime.block_on(async {
            let links = Links::of(wire.clone());
            // An address of its own: otherwise it changes with its ports, and nodes keep the old one.
            let wire = BridgeSpec { mac: Some([2, 0, 0, 0, 0, 0xfe]), ..BridgeSpec::new("wire") };
            links.ensure_bridge(&wire).await.unwrap();
            links.add_address("wire", format!("{HEADNODE}/24").parse().unwrap()).await.unwrap();
        });
        let mut lab = Self { runtime, wire, portolan: None, nodes: Vec::new(), placed: RefCell::default(), names: Cell::new(0) };
        lab.start_portolan();
        for number in 1..=nodes {
            let node = lab.node(number);
            lab.portolan().node(node.underlay);
            lab.nodes.push(node);
            lab.start_agent(usize::from(number) - 1);
        }
        lab
    }

    fn node(&self, number: u8) -> Node {
        let netns = NetNs::create().unwrap();
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        layout.prepare().unwrap();
        let underlay = Ipv4Addr::new(10, 9, 0, number);
        let rule =
            format!("-e vxlan -s svp -p svp/host={HEADNODE} -p svp/underlay_ip={underlay} -p vxlan/listen_ip={underlay} -p mtu=1400");
        let document = serde_json::json!({"nictags": [], "nictag_rules": {"sdc_overlay": rule}});
        triton_files::write_json(&layout.config().join("triton-networking.json"), &document, 0o644).unwrap();
        let links = Links::of(netns.clone());
        self.runtime.block_on(async {
            let port = format!("node{number}");
            let pair = VethSpec {
                host: &port,
                guest: "under0",
                guest_mac: None,
                mtu: Some(1500),
                guest_netns: netns.as_fd(),
                bridge: Some("wire"),
                alias: None,
            };
            let wire = Links::of(self.wire.clone());
            wire.create_veth(&pair).await.unwrap();
            wire.set_port(&port, triton_link::PortFlags::UPLINK).await.unwrap();
            links.add_address("under0", format!("{underlay}/24").parse().unwrap()).await.unwrap();
            links.set_up("under0").await.unwrap();
        });
        Node { netns, links, layout, _root: root, underlay, fabrics: None }
    }

    pub(crate) fn start_agent(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        let start = || Fabrics::start(&node.layout, &Numbers::default(), FabricPace::every(PACE)).unwrap();
        node.fabrics = Some(node.netns.run(start).unwrap());
    }

    pub(crate) fn portolan(&self) -> &Portolan {
        self.portolan.as_ref().unwrap()
    }

    pub(crate) fn kill_portolan(&mut self) {
        self.is_right();
        self.portolan = None;
    }

    pub(crate) fn start_portolan(&mut self) {
        let bind = || TcpListener::bind(SocketAddr::from((HEADNODE, 1296))).unwrap();
        let portolan = Portolan::start(self.wire.run(bind).unwrap()).unwrap();
        self.nodes.iter().for_each(|node| portolan.node(node.underlay));
        for nic in self.placed.borrow().iter() {
            portolan.place(nic.vnet, nic.vlan, nic.mac, &nic.ips, nic.underlay);
        }
        self.portolan = Some(portolan);
    }

    /// Makes the network, without a guest.
    pub(crate) fn try_fabric(&self, node: usize, vnet: u32) -> Result<(), String> {
        let node = &self.nodes[node];
        let made = self.runtime.block_on(ensure_fabric(&node.links, &node.layout, &node.fabric(vnet)));
        made.map(drop).map_err(|error| error.to_string())
    }

    /// A running guest, as an instance's start makes it, whose NIC portolan knows at that node.
    pub(crate) fn guest(&self, node: usize, vnet: u32, vlan: u16, number: u8) -> Guest {
        let node = &self.nodes[node];
        let netns = NetNs::create().unwrap();
        self.names.set(self.names.get() + 1);
        let guest = Guest { netns, host: format!("vt{}", self.names.get()), number, mac: [0x90, 0xb8, 0xd0, 0, 0, number] };
        let fabric = node.fabric(vnet);
        let bridge = fabric.bridge();
        let ips: [IpAddr; 2] = [guest.v4().parse().unwrap(), guest.v6().parse().unwrap()];
        self.runtime.block_on(async {
            let _hold = ensure_fabric(&node.links, &node.layout, &fabric).await.unwrap();
            let pair = VethSpec {
                host: &guest.host,
                guest: "eth0",
                guest_mac: Some(guest.mac),
                mtu: Some(fabric.mtu),
                guest_netns: guest.netns.as_fd(),
                bridge: Some(&bridge),
                alias: None,
            };
            node.links.create_veth(&pair).await.unwrap();
            let port = Port { layout: &node.layout, bridge: &bridge, host: &guest.host, mac: guest.mac, vlan_id: vlan, learning: false };
            set_port(&node.links, &port).await.unwrap();
            let inside = Links::of(guest.netns.clone());
            for (ip, length) in ips.iter().zip([24, 64]) {
                inside.add_address("eth0", format!("{ip}/{length}").parse().unwrap()).await.unwrap();
            }
            inside.set_up("eth0").await.unwrap();
        });
        self.portolan().place(vnet, vlan, guest.mac, &ips, node.underlay);
        self.placed.borrow_mut().push(Placed { vnet, vlan, mac: guest.mac, ips, underlay: node.underlay });
        guest
    }

    /// Ends the guest as an instance's stop does. True if it was the network's last at the node.
    pub(crate) fn stop(&self, node: usize, vnet: u32, guest: Guest) -> bool {
        let node = &self.nodes[node];
        let gone = self.runtime.block_on(async {
            node.links.delete(&guest.host).await.unwrap();
            release_fabric(&node.links, &node.layout, &node.fabric(vnet)).await.unwrap()
        });
        drop(guest);
        gone
    }

    /// The network's VXLAN device and tap at the node.
    pub(crate) fn ports(&self, node: usize, vnet: u32) -> [String; 2] {
        triton_netconf::fabric_ports(&self.nodes[node].fabric(vnet).bridge())
    }

    /// Frames that the node sent to others in this network, or tried to.
    pub(crate) fn sent(&self, node: usize, vnet: u32) -> u64 {
        let [device, _] = self.ports(node, vnet);
        let stats = self.runtime.block_on(self.nodes[node].links.stats(&device)).unwrap();
        stats.tx_packets + stats.tx_dropped + stats.tx_errors
    }

    pub(crate) fn asked(&self, what: impl Fn(&Asked) -> bool) -> usize {
        self.portolan().asked().iter().filter(|asked| what(asked)).count()
    }

    pub(crate) fn log(&self, node: usize) -> usize {
        self.portolan().log(self.nodes[node].underlay)
    }

    pub(crate) fn until(&self, what: &str, is: impl Fn() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !is() {
            assert!(Instant::now() < end, "never: {what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Portolan has nothing against its clients.
    pub(crate) fn is_right(&self) {
        assert_eq!(self.portolan().violations(), Vec::<String>::new());
    }
}
