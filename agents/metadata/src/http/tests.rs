//! What is answered to which request: pure, with the instance of metadata.md section 12.
#![allow(clippy::unwrap_used)] // a panic is a failed test

use hyper::Request;
use serde_json::{Value, json};
use triton_types::JsonMap;

use super::{
    page::Page,
    request::{Asked, judge, page},
    tokens::Tokens,
};

fn vm() -> JsonMap {
    let mut vm: JsonMap = serde_json::from_str(include_str!("../../../../crates/mdata/src/fixture.json")).unwrap();
    vm["customer_metadata"]["root_authorized_keys"] = json!("ssh-ed25519 AAAA one\n\nssh-rsa BBBB two\n");
    vm["customer_metadata"]["cloud-init:user-data"] = json!("#cloud-config\n{}\n");
    vm["internal_metadata"]["cloud-init:vendor-data"] = json!("internal");
    vm.insert("datacenter_name".to_owned(), json!("dc1"));
    vm
}

fn get(path: &str) -> Page {
    let parts: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
    page(&vm(), &parts)
}

fn text(path: &str) -> String {
    let page = get(path);
    assert_eq!(page.status, 200, "{path}: {page:?}");
    page.body
}

/// metadata section 5.4: the shape of EC2
#[test]
fn ec2_has_names_keys_and_data_and_nothing_internal() {
    assert_eq!(text("/"), "2009-04-04\nlatest\nopenstack");
    assert_eq!(text("/latest/"), "meta-data/\nuser-data");
    let listed = text("/2009-04-04/meta-data/");
    let uuid = "0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0f1";
    for (leaf, value) in [
        ("instance-id", uuid),
        ("local-hostname", "web0"),
        ("local-ipv4", "10.0.0.5"),
        ("mac", "90:b8:d0:01:02:03"),
        ("placement/availability-zone", "dc1"),
        ("public-keys/0/openssh-key", "ssh-ed25519 AAAA one"),
        ("public-keys/1/openssh-key", "ssh-rsa BBBB two"),
        ("public-keys", "0=key-0\n1=key-1"),
    ] {
        assert_eq!(text(&format!("/2009-04-04/meta-data/{leaf}")), value);
        let first = leaf.split('/').next().unwrap();
        assert!(listed.lines().any(|line| line.trim_end_matches('/') == first), "{first} in {listed}");
    }
    assert_eq!(text("/latest/user-data"), "#cloud-config\n{}\n");
    for absent in
        ["/2016-09-02/meta-data/instance-id", "/latest/meta-data/public-keys/2", "/latest/meta-data/public-keys/00", "/latest/dynamic"]
    {
        assert_eq!(get(absent).status, 404, "{absent}");
    }
    assert_eq!((get("/latest/../openstack").status, get("/%6c").status), (404, 404));
}

/// metadata section 5.4: the shape of OpenStack
#[test]
fn openstack_has_metadata_network_and_vendor_data_and_nothing_internal() {
    assert!(text("/openstack").lines().any(|line| line == "2015-10-15"));
    let json = |file: &str| serde_json::from_str::<Value>(&text(&format!("/openstack/latest/{file}"))).unwrap();
    let meta = json("meta_data.json");
    assert_eq!((&meta["hostname"], &meta["availability_zone"]), (&json!("web0"), &json!("dc1")));
    assert_eq!(meta["public_keys"], json!({"key-0": "ssh-ed25519 AAAA one", "key-1": "ssh-rsa BBBB two"}));
    let own = meta["meta"].as_object().unwrap();
    assert!(own.contains_key("dots") && own.keys().all(|key| !key.ends_with("_pw") && !key.contains(':')), "{own:?}");
    assert!(json("vendor_data.json")["cloud-init"].as_str().unwrap().contains("per-boot"), "ours, not what is internal");
    assert_eq!(json("vendor_data2.json"), json!({}));
    let network = json("network_data.json");
    assert_eq!(network["links"][0]["ethernet_mac_address"], "90:b8:d0:01:02:03");
    let first = &network["networks"][0];
    assert_eq!((&first["type"], &first["ip_address"], &first["netmask"]), (&json!("ipv4"), &json!("10.0.0.5"), &json!("255.255.255.0")));
    assert_eq!(network["services"][0], json!({"type": "dns", "address": "8.8.8.8"}));
    let all: String = ["meta_data.json", "network_data.json", "vendor_data.json", "user_data"]
        .map(|file| text(&format!("/openstack/latest/{file}")))
        .concat();
    for hidden in ["int-pw", "cust-pw", "\"internal\"", "#!/bin/sh\ntrue"] {
        assert!(!all.contains(hidden), "{hidden} in {all}");
    }
    let mut damaged = vm();
    damaged["customer_metadata"] = Value::Null;
    assert_eq!(page(&damaged, &["openstack".to_owned(), "latest".to_owned(), "user_data".to_owned()]).status, 503);
}

/// NICs of every kind; the gateway belongs to the primary one, once a family.
#[test]
fn every_nic_is_in_the_network_of_openstack() {
    let mut vm = vm();
    vm["nics"] = json!([
        {"mac": "02:00:00:00:00:01", "ips": ["10.0.0.5/22", "10.0.4.5/22", "fd00::5/64"], "gateways": ["10.0.0.1", "fd00::1"], "primary": true, "mtu": 1400},
        {"mac": "02:00:00:00:00:02", "ips": ["dhcp", "addrconf"], "gateways": ["10.9.0.1"]},
        {"mac": "02:00:00:00:00:03", "ips": ["10.1.0.5/0", "10.1.0.6/33", "x"]},
    ]);
    let parts = ["openstack", "latest", "network_data.json"].map(str::to_owned);
    let network: Value = serde_json::from_str(&page(&vm, &parts).body).unwrap();
    assert_eq!((network["links"].as_array().unwrap().len(), &network["links"][0]["mtu"]), (3, &json!(1400)));
    let networks = network["networks"].as_array().unwrap();
    let brief: Vec<_> = networks
        .iter()
        .map(|one| {
            (one["type"].as_str().unwrap(), one["netmask"].as_str().unwrap_or_default(), one["routes"].as_array().map_or(0, Vec::len))
        })
        .collect();
    let wanted = [
        ("ipv4", "255.255.252.0", 1),
        ("ipv4", "255.255.252.0", 0),
        ("ipv6", "ffff:ffff:ffff:ffff::", 1),
        ("ipv4_dhcp", "", 0),
        ("ipv6_slaac", "", 0),
        ("ipv4", "0.0.0.0", 0),
    ];
    assert_eq!(brief, wanted);
}

/// metadata attack case 30
#[test]
fn only_requests_of_a_clients_own_making_to_this_address_are_answered() {
    let mut tokens = Tokens::default();
    let mut status = |method: &str, uri: &str, headers: &[(&str, &str)]| {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        match judge(&request.body(()).unwrap(), &mut tokens, true) {
            Asked::Path(_) => (200, String::new()),
            Asked::Answer(page) => (page.status, page.body),
        }
    };
    let host = ("host", "169.254.169.254");
    let agent = ("user-agent", "Cloud-Init/22.4.2");
    assert_eq!(status("GET", "/", &[host, agent]).0, 200);
    assert_eq!(status("GET", "/", &[("host", "169.254.169.254:80"), ("X-Triton-Metadata", "true")]).0, 200);
    for wrong in ["attacker.example", "169.254.169.254.example", "169.254.169.254:8080", "localhost", "", "[::1]"] {
        assert_eq!(status("GET", "/", &[("host", wrong), agent]).0, 400, "{wrong}");
    }
    assert_eq!((status("GET", "/", &[agent]).0, status("GET", "/", &[host, ("host", "other"), agent]).0), (400, 400));
    for way_station in ["X-Forwarded-For", "Via", "Forwarded", "X-Real-IP"] {
        assert_eq!(status("GET", "/", &[host, agent, (way_station, "10.0.0.1")]).0, 403, "{way_station}");
    }
    assert_eq!(status("GET", "http://169.254.169.254/latest", &[host, agent]).0, 400, "as to a proxy");
    for stranger in ["curl/8.0", "Mozilla/5.0", "x Cloud-Init/1"] {
        assert_eq!(status("GET", "/", &[host, ("user-agent", stranger)]).0, 401, "{stranger}");
    }
    for method in ["POST", "DELETE", "PUT", "OPTIONS", "PATCH"] {
        assert_eq!(status(method, "/latest/meta-data/", &[host, agent]).0, 405, "{method}");
    }
    let path = "/latest/api/token";
    let seconds = "X-aws-ec2-metadata-token-ttl-seconds";
    assert_eq!(status("GET", path, &[host, agent]).0, 405);
    for wrong in ["0", "21601", "-1", "x", ""] {
        assert_eq!(status("PUT", path, &[host, (seconds, wrong)]).0, 400, "{wrong}");
    }
    assert_eq!(status("PUT", path, &[host]).0, 400);
    assert_eq!(status("PUT", path, &[host, (seconds, "60"), ("x-forwarded-for", "1.2.3.4")]).0, 403);
    let (code, token) = status("PUT", path, &[host, (seconds, "60")]);
    assert_eq!(code, 200);
    assert_eq!(status("GET", "/latest/", &[host, ("X-aws-ec2-metadata-token", &token)]).0, 200);
    assert_eq!(status("GET", "/latest/", &[host, agent, ("X-aws-ec2-metadata-token", "wrong")]).0, 401, "a wrong one is worse than none");
    let request = Request::builder().uri("/").header("host", "169.254.169.254").body(()).unwrap();
    assert_eq!(judge(&request, &mut tokens, false), Asked::Path(Vec::new()), "with the switch for clients that know neither");
}
