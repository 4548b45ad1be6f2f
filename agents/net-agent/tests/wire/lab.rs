//! A made-up node with its agent, against the stand-in's NAPI.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use headnode_standin::{Entry, FaultAction, FaultRule, Standin, StandinConfig};
use net_agent::{Agent, Kept, Me, Node, Numbers, Pace, Settings, Sources, WAITING, follow, user_agent};
use serde_json::{Map, Value, json};
use tokio::sync::{Notify, mpsc};
use triton_headnode::{BaseUrl, Call, HttpClient, HttpOptions, Napi};
use triton_instance::{Changes, Inventory, Loaded};
use triton_types::{InstanceUuid, JsonMap, Mac, ServerUuid};

pub const CN: &str = "44454c4c-0000-1000-8000-000000000001";
pub const ADMIN: &str = "930896af-bf8c-48d4-885c-6573a94b1853";
pub const OWNER: &str = "7c1f6d0a-6c64-4f0b-9d38-0a2f5d0c77aa";
/// First pause after a failure, here.
pub const PAUSE: Duration = Duration::from_millis(300);
/// How far apart two answers are that a NIC is not ours, here.
pub const CERTAIN: Duration = Duration::from_millis(700);

/// What was done to instances.
#[derive(Clone, Debug, PartialEq)]
pub enum Did {
    Update(InstanceUuid, JsonMap),
    Reboot(InstanceUuid),
}

/// The node.
#[derive(Default)]
pub struct World {
    pub vms: Mutex<BTreeMap<InstanceUuid, Loaded>>,
    pub did: Mutex<Vec<(Instant, Did)>>,
    /// Lookups and loads fail with this.
    pub failure: Mutex<Option<String>>,
    /// So many updates fail.
    pub refuse_updates: Mutex<usize>,
    pub sysinfo: Mutex<JsonMap>,
    pub kept: Mutex<Kept>,
    pub gone: Mutex<BTreeSet<InstanceUuid>>,
    pub loads: Mutex<Vec<(Instant, Option<InstanceUuid>)>>,
}

impl Inventory for World {
    fn load(&self, uuid: InstanceUuid) -> Result<Loaded, String> {
        self.loads.lock().unwrap().push((Instant::now(), Some(uuid)));
        match &*self.failure.lock().unwrap() {
            Some(failure) => Err(failure.clone()),
            None => Ok(self.vms.lock().unwrap().get(&uuid).cloned().unwrap_or(Loaded::Absent)),
        }
    }

    fn each(&self, take: &mut dyn FnMut(InstanceUuid, Loaded)) -> Result<(), String> {
        self.loads.lock().unwrap().push((Instant::now(), None));
        if let Some(failure) = &*self.failure.lock().unwrap() {
            return Err(failure.clone());
        }
        self.vms.lock().unwrap().clone().into_iter().for_each(|(uuid, loaded)| take(uuid, loaded));
        Ok(())
    }
}

impl Node for World {
    fn update(&self, uuid: InstanceUuid, payload: JsonMap) -> Result<(), String> {
        self.did.lock().unwrap().push((Instant::now(), Did::Update(uuid, payload.clone())));
        let mut refuse = self.refuse_updates.lock().unwrap();
        if *refuse > 0 {
            *refuse -= 1;
            return Err("refused".to_owned());
        }
        let mut vms = self.vms.lock().unwrap();
        let Some(Loaded::Object(vm)) = vms.get_mut(&uuid) else { return Err("no such instance".to_owned()) };
        apply(vm, &payload);
        Ok(())
    }

    fn reboot(&self, uuid: InstanceUuid) -> Result<(), String> {
        self.did.lock().unwrap().push((Instant::now(), Did::Reboot(uuid)));
        Ok(())
    }

    fn machine(&self) -> Result<(JsonMap, BTreeMap<Mac, String>), String> {
        Ok((self.sysinfo.lock().unwrap().clone(), BTreeMap::new()))
    }

    fn gone(&self) -> BTreeSet<InstanceUuid> {
        self.gone.lock().unwrap().clone()
    }

    fn keep(&self, kept: &Kept) -> Result<(), String> {
        *self.kept.lock().unwrap() = kept.clone();
        Ok(())
    }
}

/// What `vmadm update` makes of these.
fn apply(vm: &mut JsonMap, payload: &JsonMap) {
    let list = |key: &str| payload.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let nics = vm["nics"].as_array_mut().unwrap();
    let removed = list("remove_nics");
    nics.retain(|nic| !removed.contains(&nic["mac"]));
    if let Some(first) = nics.first_mut().filter(|_| !removed.is_empty()) {
        first["primary"] = json!(true);
    }
    for update in list("update_nics") {
        let nic = nics.iter_mut().find(|nic| nic["mac"] == update["mac"]).unwrap();
        nic.as_object_mut().unwrap().extend(update.as_object().unwrap().clone());
    }
    if let Some(resolvers) = payload.get("resolvers") {
        vm["resolvers"] = resolvers.clone();
    }
    let routes = vm["routes"].as_object_mut().unwrap();
    for to in list("remove_routes") {
        routes.remove(to.as_str().unwrap());
    }
    routes.extend(payload.get("set_routes").and_then(Value::as_object).cloned().unwrap_or_default());
}

/// The node, its agent and NAPI; all end with it.
pub struct Lab {
    pub standin: Standin,
    pub world: Arc<World>,
    pub changes: Arc<Changes>,
    pub machine: Arc<Notify>,
    pub numbers: Numbers,
    pub network: String,
    base: BaseUrl,
    client: HttpClient,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    _images: tempfile::TempDir,
}

pub fn mac(n: u8) -> Mac {
    Mac([0x90, 0xb8, 0xd0, 0, 0, n])
}

pub fn digits(n: u8) -> String {
    triton_headnode::mac_digits(mac(n))
}

impl Lab {
    /// NAPI with a network, and no agent yet.
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut StandinConfig)) -> Self {
        let images = tempfile::tempdir().unwrap();
        let mut config = StandinConfig::loopback(images.path()).unwrap();
        change(&mut config);
        let standin = Standin::start(config).unwrap();
        let base: BaseUrl = standin.napi_url().parse().unwrap();
        let mut lab = Self {
            standin,
            world: Arc::default(),
            changes: Arc::default(),
            machine: Arc::default(),
            numbers: Numbers::default(),
            network: String::new(),
            base,
            client: HttpClient::new(HttpOptions::new("operator")),
            tasks: Vec::new(),
            _images: images,
        };
        for tag in ["external", "admin"] {
            lab.napi("POST", "/nic_tags", json!({"name": tag})).await;
        }
        let body = json!({"name": "ext", "nic_tag": "external", "vlan_id": 0, "subnet": "10.0.0.0/24", "provision_start_ip": "10.0.0.5",
            "provision_end_ip": "10.0.0.200", "gateway": "10.0.0.1"});
        lab.network = lab.napi("POST", "/networks", body).await["uuid"].as_str().unwrap().to_owned();
        lab
    }

    /// A request of an operator's; what comes back.
    pub async fn napi(&self, method: &str, path: &str, body: Value) -> Value {
        let mut call = Call::new(method.parse().unwrap(), path);
        call.body = Some(body.to_string().into());
        let reply = self.client.call(&self.base, call).await.unwrap();
        serde_json::from_slice(&reply.body).unwrap_or_default()
    }

    /// A NIC as NAPI has it.
    pub async fn there(&self, n: u8) -> Option<Value> {
        let reply = self.client.call(&self.base, Call::new("GET".parse().unwrap(), format!("/nics/{}", digits(n)))).await;
        reply.ok().map(|reply| serde_json::from_slice(&reply.body).unwrap())
    }

    /// Waits until NAPI's NIC is so.
    pub async fn napi_has(&self, n: u8, what: &str, is: impl Fn(Option<&Value>) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let there = self.there(n).await;
            if is(there.as_ref()) {
                return;
            }
            assert!(Instant::now() < deadline, "{what} did not come: {there:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn start(&mut self) {
        self.start_with(Kept::default());
    }

    pub fn start_with(&mut self, kept: Kept) {
        let server: ServerUuid = CN.parse().unwrap();
        let (to, feed) = mpsc::channel(WAITING);
        let follow = follow(user_agent(server), self.base.clone(), CN.to_owned(), PAUSE, to, self.numbers.clone());
        self.tasks.push(tokio::spawn(follow));
        let sources = Sources { changes: self.changes.clone(), feed, machine: self.machine.clone() };
        let settings = Settings { pause: PAUSE, ..Settings::default() };
        let pace = Pace { certain_after: CERTAIN, sweep_after: CERTAIN };
        let me = Me { server, admin: Some(ADMIN.to_owned()), pace };
        let napi = Napi::new(&user_agent(server), self.base.clone());
        let agent = Agent::new(me, kept, napi, self.world.clone(), sources, settings, self.numbers.clone());
        self.tasks.push(tokio::spawn(agent.run()));
    }

    /// Kills the agent.
    pub fn kill(&mut self) {
        self.tasks.drain(..).for_each(|task| task.abort());
    }

    /// With the agent started, its comparison done, and the feed begun.
    pub async fn started() -> Self {
        let mut lab = Self::new().await;
        lab.start();
        lab.fed().await;
        lab
    }

    /// Waits until NAPI's changes are told.
    pub async fn fed(&self) {
        eventually("the feed", || (self.numbers.status()["feed"] == true && self.numbers.status()["ready"] == true).then_some(())).await;
        self.settled().await;
    }

    /// Puts an instance there without telling anybody.
    pub fn put(&self, uuid: InstanceUuid, nics: &[Value], extra: Value) {
        let vm = json!({"uuid": uuid, "owner_uuid": OWNER, "state": "running", "boot_timestamp": "t0", "resolvers": [], "routes": {}, "nics": nics});
        let (Value::Object(mut vm), Value::Object(extra)) = (vm, extra) else { panic!("no objects") };
        vm.extend(extra);
        self.world.vms.lock().unwrap().insert(uuid, Loaded::Object(vm));
    }

    /// Changes fields of an instance, and tells.
    pub fn set(&self, uuid: InstanceUuid, fields: Value) {
        match self.world.vms.lock().unwrap().get_mut(&uuid) {
            Some(Loaded::Object(vm)) => vm.extend(fields.as_object().unwrap().clone()),
            other => panic!("{other:?}"),
        }
        self.changes.touch([uuid]);
    }

    pub fn delete(&self, uuid: InstanceUuid) {
        self.world.vms.lock().unwrap().remove(&uuid);
        self.changes.touch([uuid]);
    }

    /// The instance as it is.
    pub fn vm(&self, uuid: InstanceUuid) -> Map<String, Value> {
        match self.world.vms.lock().unwrap().get(&uuid) {
            Some(Loaded::Object(vm)) => vm.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// An instance with a NIC, of which both sides know the same.
    pub async fn instance(&self, n: u8) -> InstanceUuid {
        let uuid = InstanceUuid::random();
        self.put(uuid, &[self.nic(n)], json!({}));
        self.changes.touch([uuid]);
        self.napi_has(n, "the NIC", |nic| nic.is_some()).await;
        self.settled().await;
        uuid
    }

    /// A NIC that has all that NAPI knows of it.
    pub fn nic(&self, n: u8) -> Value {
        json!({"interface": "net0", "mac": mac(n).to_string(), "nic_tag": "external", "vlan_id": 0, "ip": format!("10.0.0.{n}"), "mtu": 1500,
            "netmask": "255.255.255.0", "ips": [format!("10.0.0.{n}/24")], "gateway": "10.0.0.1", "gateways": ["10.0.0.1"],
            "network_uuid": self.network, "primary": true})
    }

    /// Makes a NIC at NAPI.
    pub async fn put_nic(&self, n: u8, vm: InstanceUuid, extra: Value) {
        let body = json!({"mac": mac(n).to_string(), "belongs_to_type": "zone", "belongs_to_uuid": vm, "owner_uuid": OWNER, "cn_uuid": CN,
            "state": "running", "primary": true, "network_uuid": self.network, "ip": format!("10.0.0.{n}"), "check_owner": false});
        let (Value::Object(mut body), Value::Object(extra)) = (body, extra) else { panic!("no objects") };
        body.extend(extra);
        self.napi("POST", "/nics", Value::Object(body)).await;
    }

    /// Requests of the agent's for this NIC, in order: method and body.
    pub fn asked(&self, n: u8) -> Vec<(String, Value)> {
        let path = format!("/nics/{}", digits(n));
        let mine = |entry: &&Entry| entry.path == path || entry.method == "POST" && entry.body["mac"] == mac(n).to_string();
        self.agents().iter().filter(mine).map(|entry| (entry.method.clone(), entry.body.clone())).collect()
    }

    /// Requests of the agent's that are no questions.
    pub fn told(&self, n: u8) -> Vec<(String, Value)> {
        self.asked(n).into_iter().filter(|(method, _)| method != "GET").collect()
    }

    /// All requests of the agent's.
    pub fn agents(&self) -> Vec<Entry> {
        let record = self.standin.record(0);
        record
            .into_iter()
            .filter(|entry| entry.headers["user-agent"].as_str().is_some_and(|agent| agent.starts_with("net-agent/")))
            .collect()
    }

    /// What was done to an instance.
    pub fn did(&self, uuid: InstanceUuid) -> Vec<Did> {
        let mine = |did: &Did| matches!(did, Did::Update(of, _) | Did::Reboot(of) if *of == uuid);
        self.world.did.lock().unwrap().iter().map(|(_, did)| did.clone()).filter(mine).collect()
    }

    pub fn fault(&self, method: &str, path: &str, action: FaultAction, times: u32) {
        let rule = FaultRule { method: Some(format!("^{method}$")), ..FaultRule::on(path, action) };
        self.standin.add_fault(rule.times(times)).unwrap();
    }

    pub fn refuse(&self, method: &str, path: &str, status: u16, times: u32) {
        self.fault(method, path, FaultAction::Fail { status, body: Some(json!({"code": "Refused", "message": "told so"})) }, times);
    }

    /// Waits until nothing is under way.
    pub async fn settled(&self) {
        let mut last = (self.agents().len(), self.world.loads.lock().unwrap().len());
        let mut calm = Instant::now();
        let deadline = Instant::now() + Duration::from_secs(60);
        while calm.elapsed() < Duration::from_millis(150) {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let open = self.agents().iter().any(|entry| entry.status.is_none() && entry.fault.is_none());
            let now = (self.agents().len(), self.world.loads.lock().unwrap().len());
            if now != last || open {
                (last, calm) = (now, Instant::now());
            }
            assert!(Instant::now() < deadline, "it does not come to rest");
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits until `look` sees something.
pub async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
