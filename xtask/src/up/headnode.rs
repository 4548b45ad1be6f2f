//! The stand-in headnode as the node's operator sees it: its start, its addresses, and what it knows of the node.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use triton_files::Layout;
use triton_types::ServerUuid;

use super::{
    http, namespaces, programs, site,
    state::State,
    wait::{Look, until},
};
use crate::{image::Built, say::Progress};

/// Name of the program.
pub const NAME: &str = "headnode";

/// Addresses of its services on the machine's loopback.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Urls {
    /// Servers and tasks.
    pub cnapi: String,
    /// Images.
    pub imgapi: String,
    /// Instances.
    pub vmapi: String,
    /// The record of requests, faults, violations.
    pub control: String,
    /// NICs and networks; empty for a node of an older `up`.
    #[serde(default)]
    pub napi: String,
    /// Rules of the Cloud Firewall; the same.
    #[serde(default)]
    pub fwapi: String,
}

/// Which port of loopback each service gets, if it is free.
const PORTS: [(&str, u16); 7] =
    [("cnapi", 8080), ("imgapi", 8081), ("vmapi", 8082), ("control", 8083), ("napi", 8084), ("fwapi", 8085), ("fast", FAST)];
/// The port of FWAPI's events.
const FAST: u16 = 2020;

/// Puts the image where IMGAPI serves it from.
pub fn publish(layout: &Layout, image: &Built) -> Result<()> {
    let folder = images(layout);
    fs::create_dir_all(&folder)?;
    let file = folder.join(format!("{}.file", image.uuid));
    if fs::metadata(&file).map(|found| found.len()).ok() != Some(fs::metadata(&image.file)?.len()) {
        let bytes = fs::read(&image.file).with_context(|| format!("could not read {}", image.file.display()))?;
        triton_files::write_atomic(&file, &bytes, 0o644)?;
    }
    // The manifest makes the image visible, so it comes last.
    triton_files::write_json(&folder.join(format!("{}.imgmanifest", image.uuid)), &image.manifest, 0o644)?;
    Ok(())
}

fn images(layout: &Layout) -> PathBuf {
    layout.at("/headnode/images")
}

/// Starts it, or finds it running; returns where it listens and whether it was started.
pub fn start(layout: &Layout, state: &mut State, renewed: bool, progress: &mut Progress) -> Result<(Urls, bool)> {
    let running = state.running(NAME).map(|program| program.arguments.clone());
    let arguments = running.unwrap_or_else(|| arguments(layout));
    let log = programs::log(layout, NAME);
    let before = fs::metadata(&log).map_or(0, |found| found.len());
    let started = programs::start(layout, state, NAME, arguments, renewed)?;
    if let (false, Some(urls)) = (started, &state.headnode) {
        return Ok((urls.clone(), false));
    }
    let urls: Urls = until(Duration::from_secs(30), progress, |_| {
        let text = fs::read(&log).unwrap_or_default();
        let new = String::from_utf8_lossy(text.get(usize::try_from(before)?..).unwrap_or_default()).into_owned();
        // Its first word on standard output; its log shares the file.
        if let Some(urls) = new.lines().find_map(|line| serde_json::from_str(line).ok()) {
            return Ok(Look::There(urls));
        }
        if state.running(NAME).is_none() {
            bail!("it ended: {}", programs::last_words(&log));
        }
        Ok(Look::Missing("it has not said where it listens".to_owned()))
    })
    .context("the stand-in headnode did not start")?;
    state.headnode = Some(urls.clone());
    state.save(layout)?;
    Ok((urls, started))
}

fn arguments(layout: &Layout) -> Vec<String> {
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    let mut arguments = vec![
        "--images".to_owned(),
        text(images(layout)),
        "--db".to_owned(),
        text(layout.at("/headnode/headnode.sqlite")),
        "--datacenter".to_owned(),
        site::DATACENTER.to_owned(),
        "--netns".to_owned(),
        text(namespaces::outside(layout)),
    ];
    for (service, port) in PORTS {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        arguments.extend([format!("--{service}"), SocketAddr::from((Ipv4Addr::LOCALHOST, if free { port } else { 0 })).to_string()]);
    }
    for (service, address) in ["cnapi", "imgapi", "vmapi", "napi", "fwapi"].into_iter().zip(site::SERVICES) {
        arguments.extend([format!("--inside-{service}"), SocketAddr::from((address, 80)).to_string()]);
    }
    let [.., fwapi] = site::SERVICES;
    arguments.extend(["--inside-fast".to_owned(), SocketAddr::from((fwapi, FAST)).to_string()]);
    arguments
}

/// Makes the NIC tags and networks of this data centre known to NAPI, or finds them there.
pub fn networks(urls: &Urls) -> Result<()> {
    let napi = address(&urls.napi)?;
    for wire in site::WIRES {
        if http::request(napi, "GET", &format!("/nic_tags/{}", wire.tag), None)?.status == 404 {
            http::call(napi, "POST", "/nic_tags", Some(&json!({"name": wire.tag})))?;
        }
    }
    let [a, b, c, _] = site::GATEWAY.octets();
    let external = json!({
        "uuid": site::NETWORK, "name": "external", "nic_tag": site::EXTERNAL.tag, "vlan_id": 0, "gateway": site::GATEWAY,
        "subnet": format!("{}/{}", Ipv4Addr::new(a, b, c, 0), site::PREFIX), "resolvers": site::RESOLVERS,
        "provision_start_ip": site::instance_address(0), "provision_end_ip": Ipv4Addr::new(a, b, c, 254),
    });
    let [a, b, c, _] = site::SERVICES[0].octets();
    let admin = json!({
        "uuid": site::ADMIN_NETWORK, "name": "admin", "nic_tag": site::ADMIN.tag, "vlan_id": 0,
        "subnet": format!("{}/{}", Ipv4Addr::new(a, b, c, 0), site::PREFIX),
        "provision_start_ip": Ipv4Addr::new(a, b, c, 10), "provision_end_ip": Ipv4Addr::new(a, b, c, 254),
    });
    for network in [external, admin] {
        let path = format!("/networks/{}", network["uuid"].as_str().unwrap_or_default());
        if http::request(napi, "GET", &path, None)?.status == 404 {
            http::call(napi, "POST", "/networks", Some(&network))?;
        }
    }
    Ok(())
}

/// The address of a base URL.
pub fn address(url: &str) -> Result<SocketAddr> {
    url.trim_start_matches("http://").trim_end_matches('/').parse().with_context(|| format!("{url} is no address"))
}

/// Waits until the node is registered, heard of and placeable.
pub fn wait_for_node(urls: &Urls, server: ServerUuid, agent: impl Fn() -> Option<String>, progress: &mut Progress) -> Result<()> {
    let (cnapi, control) = (address(&urls.cnapi)?, address(&urls.control)?);
    until(Duration::from_secs(60), progress, |_| {
        if let Some(words) = agent() {
            bail!("cn-agent ended: {words}");
        }
        let answer = http::request(cnapi, "GET", &format!("/servers/{server}"), None)?;
        if answer.status == 404 {
            return Ok(Look::Missing("cn-agent has not registered".to_owned()));
        }
        let status = answer.body["status"].as_str().unwrap_or_default();
        if status != "running" {
            return Ok(Look::Missing(format!("the server's status is {status:?}, not \"running\"")));
        }
        let placement = http::call(control, "GET", "/placement", None)?;
        match &placement[server.to_string()] {
            Value::Null => Ok(Look::There(())),
            reason => Ok(Look::Missing(format!("the server is not placeable: {}", reason.as_str().unwrap_or_default()))),
        }
    })
    .context("the compute node is not in service")
}
