//! `POST /vms`: from a customer's request to the body of `machine_create` (instances.md section 2.10).

use std::{collections::BTreeSet, sync::Arc};

use axum::{extract::State, response::Response};
use serde_json::{Value, json};

use super::jobs::accepted;
use crate::{
    JsonMap,
    call::{Call, uuid},
    error::ApiError,
    imgapi,
    shared::Shared,
    store::Kind,
};

/// What goes through to the compute node as it was given.
const PASSED: [&str; 42] = [
    "alias",
    "autoboot",
    "billing_id",
    "cpu_cap",
    "cpu_shares",
    "customer_metadata",
    "delegate_dataset",
    "dns_domain",
    "docker",
    "do_not_inventory",
    "filesystems",
    "firewall_enabled",
    "firewall_rules",
    "fs_allowed",
    "hostname",
    "imgapiPeers",
    "indestructible_delegated",
    "indestructible_zoneroot",
    "init_name",
    "kernel_version",
    "limit_priv",
    "maintain_resolvers",
    "max_locked_memory",
    "max_lwps",
    "max_msg_ids",
    "max_physical_memory",
    "max_sem_ids",
    "max_shm_ids",
    "max_shm_memory",
    "max_swap",
    "mdata_exec_timeout",
    "owner_uuid",
    "quota",
    "ram",
    "routes",
    "tags",
    "tmpfs",
    "vcpus",
    "zfs_data_compression",
    "zfs_io_priority",
    "zfs_snapshot_limit",
    "zlog_max_size",
];

pub(super) async fn provision(State(shared): State<Arc<Shared>>, call: Call) -> Result<Response, ApiError> {
    let given = &call.params;
    let given_uuid = |key: &str| given.get(key).and_then(Value::as_str).filter(|text| uuid(text).is_some());
    let owner = given_uuid("owner_uuid").ok_or_else(|| ApiError::validation("owner_uuid", "is not a uuid"))?;
    let image_uuid = given_uuid("image_uuid").ok_or_else(|| ApiError::validation("image_uuid", "is not a uuid"))?;
    let vm = match given.get("uuid") {
        None => uuid::Uuid::new_v4().to_string(),
        Some(_) => given_uuid("uuid").ok_or_else(|| ApiError::validation("uuid", "is not a uuid"))?.to_owned(),
    };
    if shared.store.get(Kind::Vm, &vm)?.is_some_and(|vm| vm["state"] != "destroyed") {
        return Err(ApiError::validation("uuid", "already exists"));
    }
    let image = imgapi::manifest(&shared.images, image_uuid).map_err(|_| ApiError::validation("image_uuid", "image not found"))?;
    let payload = machine(given, &vm, &image)?;
    let server = given_uuid("server_uuid").map(str::to_owned);

    let job = shared.new_job("provision", &vm, server.as_deref().unwrap_or_default(), &payload)?;
    let mut record =
        json!({"uuid": vm, "owner_uuid": owner, "state": "provisioning", "zone_state": "configured", "image_uuid": image_uuid});
    for key in ["alias", "brand", "ram", "max_physical_memory", "quota", "cpu_cap", "nics", "tags", "billing_id"] {
        if let Some(value) = payload.get(key) {
            record[key] = value.clone();
        }
    }
    shared.store.put(Kind::Vm, &vm, record)?;
    let (here, id, vm_uuid) = (Arc::clone(&shared), job.clone(), vm.clone());
    shared.tracker.spawn(async move {
        let result = here.run_provision(&id, &vm_uuid, server, payload, &call.req_id).await;
        if result.is_err() {
            here.set_vm_state(&vm_uuid, "failed");
        }
        here.end_job(&id, &result);
    });
    Ok(accepted(&vm, &job))
}

impl Shared {
    async fn run_provision(
        self: &Arc<Self>,
        job: &str,
        vm: &str,
        server: Option<String>,
        mut payload: JsonMap,
        req_id: &str,
    ) -> Result<(), String> {
        let chosen = self.place(&payload, server.as_deref());
        self.job_step(job, "dapi.get_allocation", &chosen);
        let server = chosen?;
        payload.insert("server_uuid".to_owned(), json!(server));
        payload.insert("jobid".to_owned(), json!(job));
        self.take_vm(&json!({"uuid": vm}), &server);
        let payload = self.create_params(payload).map_err(|error| error.message().to_owned())?;
        let result = self.job_task(job, &server, "machine_create", payload, req_id).await?;
        if result["vm"]["state"] == "failed" {
            return Err("the instance's state is failed".to_owned());
        }
        Ok(())
    }

    /// The server that was asked for, else a placeable one with the most free memory. Linux instances are those of brand `lx` whose
    /// image is of type `lxd`; all others are for SmartOS (cn-agent.md section 7.4).
    fn place(&self, payload: &JsonMap, wanted: Option<&str>) -> Result<String, String> {
        if let Some(wanted) = wanted {
            return self.server(wanted).map(|_| wanted.to_owned()).map_err(|error| error.message().to_owned());
        }
        let image_type = &payload["image"]["type"];
        if image_type != "lxd" {
            return Err(format!("No compute resources available: an image of type {image_type} needs a SmartOS server"));
        }
        let mut reasons = Vec::new();
        let mut best: Option<(u64, String)> = None;
        for server in self.servers().map_err(|error| error.message().to_owned())? {
            let id = server["uuid"].as_str().unwrap_or_default().to_owned();
            if let Some(reason) = Self::not_placeable(&server) {
                reasons.push(format!("{id}: {reason}"));
                continue;
            }
            let free = server["memory_available_bytes"].as_u64().unwrap_or(0);
            if best.as_ref().is_none_or(|(most, _)| free > *most) {
                best = Some((free, id));
            }
        }
        best.map(|(_, id)| id).ok_or_else(|| format!("No compute resources available ({})", reasons.join("; ")))
    }
}

/// The body of `machine_create`.
fn machine(given: &JsonMap, vm: &str, image: &Value) -> Result<JsonMap, ApiError> {
    let brand = image["requirements"]["brand"].as_str().or((image["type"] == "lxd").then_some("lx")).unwrap_or("lx");
    if given.get("brand").is_some_and(|wanted| wanted != brand) {
        return Err(ApiError::validation("brand", format!("the image needs brand {brand}")));
    }
    let mut body = JsonMap::new();
    body.insert("uuid".to_owned(), json!(vm));
    body.insert("brand".to_owned(), json!(brand));
    body.insert("image".to_owned(), image.clone());
    body.insert("image_uuid".to_owned(), image["uuid"].clone());
    package(given, &mut body);
    for key in PASSED {
        if let Some(value) = given.get(key) {
            body.insert(key.to_owned(), value.clone());
        }
    }
    // A caller may say `ram` alone, and as a string.
    if let (Some(ram), None) = (body.get("ram"), body.get("max_physical_memory")) {
        let mib = ram.as_u64().or_else(|| ram.as_str()?.parse().ok()).ok_or_else(|| ApiError::validation("ram", "is not a number"))?;
        body.insert("max_physical_memory".to_owned(), json!(mib));
    }
    body.insert("archive_on_delete".to_owned(), json!(true));
    let mut internal = given.get("internal_metadata").and_then(Value::as_object).cloned().unwrap_or_default();
    let nics = nics(given)?;
    match given.get("resolvers") {
        Some(resolvers) => {
            internal.insert("no_nic_resolvers".to_owned(), json!(true));
            body.insert("resolvers".to_owned(), resolvers.clone());
        }
        None if internal.get("set_resolvers") == Some(&json!(false)) => {}
        None => {
            let mut seen = BTreeSet::new();
            let all = nics.iter().flat_map(|nic| nic["resolvers"].as_array().cloned().unwrap_or_default());
            let union: Vec<_> = all.filter(|address| seen.insert(address.to_string())).collect();
            body.insert("resolvers".to_owned(), json!(union));
        }
    }
    body.insert("nics".to_owned(), Value::Array(nics));
    if !internal.is_empty() {
        body.insert("internal_metadata".to_owned(), Value::Object(internal));
    }
    Ok(body)
}

/// Limits of the package, where the caller gives no own. Its quota is in MiB and becomes GiB, with a fraction if need be.
fn package(given: &JsonMap, body: &mut JsonMap) {
    let Some(package) = given.get("package").and_then(Value::as_object) else { return };
    for key in ["cpu_cap", "max_lwps", "max_physical_memory", "max_swap", "vcpus", "zfs_io_priority"] {
        if let Some(value) = package.get(key) {
            body.insert(key.to_owned(), value.clone());
        }
    }
    if let Some(memory) = package.get("max_physical_memory") {
        body.insert("ram".to_owned(), memory.clone());
    }
    if let Some(id) = package.get("uuid") {
        body.insert("billing_id".to_owned(), id.clone());
    }
    if let Some(mib) = package.get("quota").and_then(Value::as_u64) {
        let gib = if mib % 1024 == 0 { json!(mib / 1024) } else { json!(mib as f64 / 1024.0) };
        body.insert("quota".to_owned(), gib);
    }
}

/// NICs as NAPI would have provisioned them: with a MAC, and one of them primary.
fn nics(given: &JsonMap) -> Result<Vec<Value>, ApiError> {
    let nics = given.get("nics").cloned().unwrap_or_else(|| json!([]));
    let mut nics = nics.as_array().cloned().ok_or_else(|| ApiError::validation("nics", "is not an array"))?;
    for nic in &mut nics {
        let Some(nic) = nic.as_object_mut() else {
            return Err(ApiError::validation("nics", "has an element that is not an object"));
        };
        if !nic.contains_key("nic_tag") {
            return Err(ApiError::validation("nics", "has an element without nic_tag"));
        }
        let [a, b, c]: [u8; 3] = rand::random();
        nic.entry("mac").or_insert_with(|| json!(format!("90:b8:d0:{a:02x}:{b:02x}:{c:02x}")));
    }
    if nics.iter().all(|nic| nic["primary"] != true)
        && let Some(first) = nics.first_mut()
    {
        first["primary"] = json!(true);
    }
    let primaries = nics.iter().filter(|nic| nic["primary"] == true).count();
    if primaries > 1 {
        return Err(ApiError::validation("nics", format!("{primaries} of them are primary")));
    }
    Ok(nics)
}
