//! The stand-in for portolan against the agents' code for SVP: two programs that share none.
#![allow(clippy::unwrap_used)] // a panic is a failed test

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, TcpListener, TcpStream},
    time::Duration,
};

use headnode_standin::portolan::{Asked, Mood, Portolan};
use triton_svp::{Body, Decoder, LogEntry, Message, Status, Underlay, Vnet, encode};
use triton_types::Mac;

const MAC: Mac = Mac([0x90, 0xb8, 0xd0, 0, 0, 1]);
const HERE: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);

struct Client(TcpStream, Decoder);

impl Client {
    fn of(portolan: &Portolan) -> Self {
        let stream = TcpStream::connect(portolan.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self(stream, Decoder::default())
    }

    /// None when the connection ends instead.
    fn ask(&mut self, id: u32, body: Body) -> Option<Message> {
        self.0.write_all(&encode(&Message { id, body }).unwrap()).unwrap();
        self.read()
    }

    fn read(&mut self) -> Option<Message> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(message) = self.1.next_message().unwrap() {
                return Some(message);
            }
            match self.0.read(&mut buffer) {
                Ok(0) => return None,
                Ok(length) => self.1.push(&buffer[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn body(&mut self, body: Body) -> Body {
        let message = self.ask(9, body).unwrap();
        assert_eq!(message.id, 9);
        message.body
    }
}

fn portolan() -> Portolan {
    Portolan::start(TcpListener::bind("127.0.0.1:0").unwrap()).unwrap()
}

fn vnet(number: u32) -> Vnet {
    Vnet::new(number).unwrap()
}

#[test]
fn it_says_where_an_address_is_in_its_own_network_only() {
    let portolan = portolan();
    let ip: IpAddr = "192.168.128.5".parse().unwrap();
    let six: IpAddr = "fd00::5".parse().unwrap();
    portolan.place(7, 0, MAC.0, &[ip, six], THERE);
    let mut client = Client::of(&portolan);
    let at = Underlay { ip: THERE.into(), port: 4789 };
    assert_eq!(client.body(Body::Ping), Body::Pong);
    assert_eq!(client.body(Body::Vl2Request { vnet: vnet(7), mac: MAC }), Body::Vl2Ack { status: Status::Ok, at });
    for ip in [ip, six] {
        assert_eq!(client.body(Body::Vl3Request { vnet: vnet(7), ip }), Body::Vl3Ack { status: Status::Ok, mac: MAC, at });
    }
    assert!(matches!(client.body(Body::Vl2Request { vnet: vnet(8), mac: MAC }), Body::Vl2Ack { status: Status::NotFound, .. }));
    assert!(matches!(client.body(Body::Vl3Request { vnet: vnet(8), ip }), Body::Vl3Ack { status: Status::NotFound, .. }));
    assert!(portolan.violations().is_empty());
    assert!(portolan.wait_for(Duration::ZERO, |asked| asked[1] == Asked::Mac(7, MAC.0) && asked[2] == Asked::Ip(7, ip)));
}

#[test]
fn every_node_has_a_log_until_it_says_that_it_followed() {
    let portolan = portolan();
    let ip: IpAddr = "192.168.128.5".parse().unwrap();
    portolan.node(HERE);
    portolan.place(7, 20, MAC.0, &[ip], THERE);
    assert_eq!((portolan.log(HERE), portolan.log(THERE)), (0, 0), "what is new is no change");
    portolan.place(7, 20, MAC.0, &[ip], HERE);
    portolan.remove(7, 20, MAC.0);
    let mut client = Client::of(&portolan);
    let mut entries = |most| match client.body(Body::LogRequest { most, ip: HERE.into() }) {
        Body::LogAck { status: Status::Ok, entries } => entries,
        other => panic!("{other:?}"),
    };
    let all = entries(1000);
    assert!(matches!(all[..], [LogEntry::Vl2 { .. }, LogEntry::Vl2 { .. }, LogEntry::Vl3 { vlan: 20, .. }]), "{all:?}");
    assert_eq!(entries(32 + 32 + 43).len(), 2, "no more bytes than asked for");
    let ids = all.iter().map(LogEntry::id).take(2).collect();
    assert_eq!(client.body(Body::LogRemove { ids }), Body::LogRemoveAck { status: Status::Ok });
    assert_eq!((portolan.log(HERE), portolan.log(THERE)), (1, 3));
    let unknown: Ipv4Addr = "10.9.0.3".parse().unwrap();
    assert!(client.ask(1, Body::LogRequest { most: 1000, ip: unknown.into() }).is_none());
    assert_eq!(portolan.violations().len(), 1);
}

#[test]
fn what_is_no_request_is_a_violation_and_ends_the_connection() {
    let portolan = portolan();
    let good = encode(&Message { id: 1, body: Body::Vl2Request { vnet: vnet(7), mac: MAC } }).unwrap();
    let mut broken = good.clone();
    broken[20] ^= 1;
    let mut version = good;
    version[1] = 2;
    let messages = [Body::Pong, Body::BulkRequest { kind: 1 }, Body::Shootdown { vnet: vnet(7), mac: MAC }];
    let messages = messages.map(|body| encode(&Message { id: 1, body }).unwrap());
    for (count, bytes) in [broken, version].into_iter().chain(messages).enumerate() {
        let mut client = Client::of(&portolan);
        client.0.write_all(&bytes).unwrap();
        assert!(client.read().is_none());
        assert_eq!(portolan.violations().len(), count + 1, "{:?}", portolan.violations());
    }
}

#[test]
fn it_can_be_told_to_lie_to_stall_and_to_hang_up() {
    let portolan = portolan();
    let request = Body::Vl2Request { vnet: vnet(7), mac: MAC };
    portolan.behave(Mood::Identity);
    assert_ne!(Client::of(&portolan).ask(5, request.clone()).unwrap().id, 5);
    portolan.behave(Mood::Operation);
    assert_eq!(Client::of(&portolan).ask(5, request.clone()).unwrap().body, Body::Pong);
    portolan.behave(Mood::Fatal);
    assert!(matches!(Client::of(&portolan).ask(5, request.clone()).unwrap().body, Body::Vl2Ack { status: Status::Fatal, .. }));
    portolan.behave(Mood::Drop);
    assert!(Client::of(&portolan).ask(5, request.clone()).is_none());
    portolan.behave(Mood::Stall);
    let mut client = Client::of(&portolan);
    client.0.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    client.0.write_all(&encode(&Message { id: 1, body: request.clone() }).unwrap()).unwrap();
    assert!(client.0.read(&mut [0; 16]).is_err(), "no answer");
    portolan.behave(Mood::Checksum);
    let mut client = Client::of(&portolan);
    client.0.write_all(&encode(&Message { id: 1, body: request }).unwrap()).unwrap();
    let mut reply = [0; 36];
    client.0.read_exact(&mut reply).unwrap();
    assert!(triton_svp::decode(&reply).is_err());
    portolan.hang_up();
    assert_eq!(client.0.read(&mut reply).unwrap(), 0);
}
