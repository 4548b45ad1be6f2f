//! Instances and images that remember what was done to them and can be told to fail or to wait.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use cn_agent::{GuestPlace, ImageRequest, Images, MachineError, Machines, StopOptions};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use triton_types::{ImageUuid, InstanceUuid, JsonMap};

/// One instance.
#[derive(Clone, Debug, Default)]
pub struct Vm {
    pub running: bool,
    pub hidden: bool,
    pub snapshots: BTreeSet<String>,
    /// Further properties.
    pub more: JsonMap,
}

/// The node. Every call is recorded in words.
#[derive(Debug, Default)]
pub struct FakeNode {
    pub vms: Mutex<BTreeMap<InstanceUuid, Vm>>,
    pub images: Mutex<BTreeSet<ImageUuid>>,
    pub calls: Mutex<Vec<String>>,
    /// Text that the next creation, import or deletion fails with.
    pub failure: Mutex<Option<(&'static str, String)>>,
    /// Streams of ZFS can be sent and taken.
    pub zfs: AtomicBool,
    gate: Mutex<bool>,
    moved: Condvar,
}

impl Vm {
    fn object(&self, uuid: InstanceUuid) -> Value {
        let mut object = json!({"uuid": uuid, "state": if self.running { "running" } else { "stopped" }});
        object.as_object_mut().unwrap().extend(self.more.clone());
        object
    }
}

impl FakeNode {
    pub fn add(&self, running: bool, hidden: bool) -> InstanceUuid {
        let uuid = InstanceUuid::random();
        self.vms.lock().unwrap().insert(uuid, Vm { running, hidden, ..Vm::default() });
        uuid
    }

    pub fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    pub fn fail(&self, action: &'static str, message: &str) {
        *self.failure.lock().unwrap() = Some((action, message.to_owned()));
    }

    /// Makes slow calls (create, import, stop) wait until the gate is opened.
    pub fn close_gate(&self) {
        *self.gate.lock().unwrap() = true;
    }

    pub fn open_gate(&self) {
        *self.gate.lock().unwrap() = false;
        self.moved.notify_all();
    }

    fn record(&self, call: String) {
        self.calls.lock().unwrap().push(call);
    }

    fn slow(&self, action: &'static str) -> Result<(), MachineError> {
        let mut closed = self.gate.lock().unwrap();
        while *closed {
            closed = self.moved.wait(closed).unwrap();
        }
        drop(closed);
        let mut failure = self.failure.lock().unwrap();
        match failure.take_if(|(wanted, _)| *wanted == action) {
            Some((_, message)) => Err(MachineError::new(message, None)),
            None => Ok(()),
        }
    }

    fn with<T>(&self, uuid: InstanceUuid, act: impl FnOnce(&mut Vm) -> Result<T, MachineError>) -> Result<T, MachineError> {
        let mut vms = self.vms.lock().unwrap();
        let missing = || MachineError::new(format!("vmadm load {uuid} failed: No such zone"), Some("VmNotFound"));
        act(vms.get_mut(&uuid).ok_or_else(missing)?)
    }
}

impl Machines for FakeNode {
    fn exists(&self, uuid: InstanceUuid) -> Result<bool, MachineError> {
        Ok(self.vms.lock().unwrap().contains_key(&uuid))
    }

    fn load(&self, uuid: InstanceUuid, include_dni: bool) -> Result<Value, MachineError> {
        self.with(uuid, |vm| {
            if vm.hidden && !include_dni {
                return Err(MachineError::new(format!("vmadm load {uuid} failed: No such zone"), Some("VmNotFound")));
            }
            Ok(vm.object(uuid))
        })
    }

    fn list(&self) -> Result<Vec<Value>, MachineError> {
        Ok(self.vms.lock().unwrap().iter().filter(|(_, vm)| !vm.hidden).map(|(uuid, vm)| vm.object(*uuid)).collect())
    }

    fn create_snapshot(&self, uuid: InstanceUuid, name: &str) -> Result<(), MachineError> {
        self.record(format!("create_snapshot {uuid} {name}"));
        self.with(uuid, |vm| match vm.snapshots.insert(name.to_owned()) {
            true => Ok(()),
            false => Err(MachineError::new("Snapshot already exists.", None)),
        })
    }

    fn delete_snapshot(&self, uuid: InstanceUuid, name: &str) -> Result<(), MachineError> {
        self.record(format!("delete_snapshot {uuid} {name}"));
        self.with(uuid, |vm| match vm.snapshots.remove(name) {
            true => Ok(()),
            false => Err(MachineError::new(format!("No snapshot named '{name}' for {uuid}"), None)),
        })
    }

    fn rollback_snapshot(&self, uuid: InstanceUuid, name: &str) -> Result<(), MachineError> {
        self.record(format!("rollback_snapshot {uuid} {name}"));
        self.with(uuid, |vm| match vm.snapshots.contains(name) {
            true => {
                vm.running = true;
                Ok(())
            }
            false => Err(MachineError::new(format!("No snapshot named '{name}' for {uuid}"), None)),
        })
    }

    fn reprovision(&self, uuid: InstanceUuid, payload: &JsonMap) -> Result<(), MachineError> {
        self.record(format!("reprovision {uuid} {}", payload["image_uuid"]));
        self.slow("reprovision")?;
        self.with(uuid, |vm| {
            vm.running = true;
            Ok(())
        })
    }

    fn create(&self, payload: JsonMap) -> Result<(), MachineError> {
        let uuid = payload["uuid"].as_str().unwrap().parse().unwrap();
        self.record(format!("create {uuid}"));
        self.slow("create")?;
        self.vms.lock().unwrap().insert(uuid, Vm { running: true, ..Vm::default() });
        Ok(())
    }

    fn update(&self, uuid: InstanceUuid, update: JsonMap) -> Result<(), MachineError> {
        self.record(format!("update {} {}", uuid, Value::Object(update)));
        self.slow("update")
    }

    fn start(&self, uuid: InstanceUuid) -> Result<(), MachineError> {
        self.record(format!("start {uuid}"));
        self.slow("start")?;
        self.with(uuid, |vm| match std::mem::replace(&mut vm.running, true) {
            true => Err(MachineError::new(format!("VM {uuid} is already 'running'"), Some("EALREADYRUNNING"))),
            false => Ok(()),
        })
    }

    fn stop(&self, uuid: InstanceUuid, options: StopOptions) -> Result<(), MachineError> {
        self.record(format!("stop {uuid} force={} timeout={:?}", options.force, options.timeout_secs));
        self.slow("stop")?;
        self.with(uuid, |vm| match std::mem::replace(&mut vm.running, false) {
            true => Ok(()),
            false => Err(MachineError::new(format!("VM {uuid} is already not 'running'"), Some("ENOTRUNNING"))),
        })
    }

    fn reboot(&self, uuid: InstanceUuid, options: StopOptions) -> Result<(), MachineError> {
        self.record(format!("reboot {uuid} force={} timeout={:?}", options.force, options.timeout_secs));
        self.with(uuid, |vm| match vm.running {
            true => Ok(()),
            false => Err(MachineError::new("Cannot reboot vm from state \"stopped\", must be \"running\"", None)),
        })
    }

    fn kill(&self, uuid: InstanceUuid, signal: Option<&str>) -> Result<(), MachineError> {
        self.record(format!("kill {uuid} {signal:?}"));
        self.with(uuid, |vm| match std::mem::replace(&mut vm.running, false) {
            true => Ok(()),
            false => Err(MachineError::new(format!("Cannot find running init PID for VM {uuid}"), Some("ENOTRUNNING"))),
        })
    }

    fn delete(&self, uuid: InstanceUuid) -> Result<(), MachineError> {
        self.record(format!("delete {uuid}"));
        self.slow("delete")?;
        self.with(uuid, |_| Ok(()))?;
        self.vms.lock().unwrap().remove(&uuid);
        Ok(())
    }

    fn used(&self, uuid: InstanceUuid) -> Result<u64, MachineError> {
        self.with(uuid, |_| Ok(1 << 20))
    }

    fn send(&self, uuid: InstanceUuid, out: &mut dyn std::io::Write) -> Result<(), MachineError> {
        self.record(format!("send {uuid}"));
        out.write_all(uuid.to_string().as_bytes()).map_err(|error| MachineError::new(error.to_string(), None))
    }

    fn receive(&self, uuid: InstanceUuid, from: &mut dyn std::io::Read) -> Result<(), MachineError> {
        let mut text = String::new();
        from.read_to_string(&mut text).map_err(|error| MachineError::new(error.to_string(), None))?;
        if text != uuid.to_string() {
            return Err(MachineError::new("the stream is damaged", None));
        }
        self.vms.lock().unwrap().insert(uuid, Vm { hidden: true, ..Vm::default() });
        Ok(())
    }

    fn offer(&self, uuid: InstanceUuid) -> Result<Option<Value>, MachineError> {
        Ok(self.zfs.load(Ordering::Relaxed).then(|| json!({"of": uuid})))
    }

    fn have(&self, uuid: InstanceUuid, offer: &Value) -> Result<Option<Value>, MachineError> {
        assert_eq!(offer, &json!({"of": uuid}));
        Ok(self.zfs.load(Ordering::Relaxed).then(|| json!({"copy": self.vms.lock().unwrap().contains_key(&uuid)})))
    }

    fn send_changes(&self, uuid: InstanceUuid, have: &Value, out: &mut dyn std::io::Write) -> Result<(), MachineError> {
        self.record(format!("send changes {uuid} {}", have["copy"]));
        out.write_all(format!("changes of {uuid}").as_bytes()).map_err(|error| MachineError::new(error.to_string(), None))
    }

    fn receive_changes(&self, uuid: InstanceUuid, from: &mut dyn std::io::Read) -> Result<(), MachineError> {
        let mut text = String::new();
        from.read_to_string(&mut text).map_err(|error| MachineError::new(error.to_string(), None))?;
        if text != format!("changes of {uuid}") {
            return Err(MachineError::new("the stream is damaged", None));
        }
        self.vms.lock().unwrap().insert(uuid, Vm { hidden: true, ..Vm::default() });
        Ok(())
    }

    fn forget_marks(&self, uuid: InstanceUuid, keep: usize) -> Result<(), MachineError> {
        self.record(format!("forget marks {uuid} {keep}"));
        Ok(())
    }

    fn place(&self, uuid: InstanceUuid) -> Result<GuestPlace, MachineError> {
        self.with(uuid, |_| Err(MachineError::new("a fake has no inside", None)))
    }

    fn info(&self, uuid: InstanceUuid, types: &[String]) -> Result<String, MachineError> {
        self.with(uuid, |_| Ok(format!("{}\n", json!({"uuid": uuid, "types": types}))))
    }
}

impl Images for FakeNode {
    fn get(&self, uuid: ImageUuid) -> Result<Option<Value>, MachineError> {
        Ok(self.images.lock().unwrap().contains(&uuid).then(|| json!({"v": 2, "uuid": uuid})))
    }

    fn import(&self, uuid: ImageUuid, pool: Option<&str>, _request_id: &str, _cancelled: &CancellationToken) -> Result<(), MachineError> {
        self.record(format!("import {uuid} {pool:?}"));
        self.slow("import")?;
        self.images.lock().unwrap().insert(uuid);
        Ok(())
    }

    fn create(&self, uuid: InstanceUuid, request: &ImageRequest, _cancelled: &CancellationToken) -> Result<(), MachineError> {
        let ImageRequest { compression, imgapi_url, manifest, incremental, max_origin_depth, prepare_script, .. } = request;
        self.record(format!(
            "create_image {uuid} {compression} {imgapi_url} {} {incremental} {max_origin_depth:?} {prepare_script:?}",
            Value::Object(manifest.clone())
        ));
        self.slow("create_image")
    }
}
