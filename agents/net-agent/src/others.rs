//! Networks and aggregations: each asks NAPI for one thing now and then (net-agent.md sections 5.4 and 5.5). Pure.

use std::time::Duration;

use serde_json::Value;
use triton_types::{JsonMap, ServerUuid};

use crate::compare::{NETWORK, changed};

/// Between two looks at a network that nothing was said about.
pub const NETWORK_EVERY: Duration = Duration::from_secs(300);
/// Between two looks at an aggregation.
pub const AGGREGATION_EVERY: Duration = Duration::from_secs(3600);

/// A network that a NIC is on.
#[derive(Debug, Default)]
pub struct Network {
    /// What NAPI said last.
    pub object: Option<JsonMap>,
}

impl Network {
    /// NAPI says this: the fields that concern NICs, if any changed or were never seen.
    pub fn seen(&mut self, object: JsonMap) -> Option<&JsonMap> {
        let changed = changed(self.object.as_ref(), &object, &NETWORK);
        let object = self.object.insert(object);
        changed.then_some(object)
    }
}

/// True if what NAPI says of a NIC is not what it says of the NIC's network.
pub fn nic_is_behind(nic: &JsonMap, network: &JsonMap) -> bool {
    let empty =
        |value: &Value| value.as_object().is_some_and(JsonMap::is_empty) || value.as_array().is_some_and(Vec::is_empty) || value.is_null();
    let of = |map: &JsonMap, field: &str| map.get(field).filter(|value| !empty(value)).cloned();
    NETWORK.iter().any(|field| of(nic, field) != of(network, field))
}

/// A request about an aggregation.
#[derive(Clone, Debug, PartialEq)]
pub enum AggregationCall {
    /// What is it?
    Get,
    /// Make it.
    Create(JsonMap),
    /// Delete exactly this version.
    Delete {
        /// The version.
        etag: String,
    },
}

/// What NAPI answered.
#[derive(Clone, Debug, PartialEq)]
pub enum AggregationAnswer {
    /// It is this, of this version.
    Is(JsonMap, Option<String>),
    /// There is none, or none any more.
    NotFound,
    /// It is another version, or there was no answer.
    Failed,
}

#[derive(Debug, PartialEq)]
enum There {
    Unasked,
    Absent,
    Has(JsonMap, Option<String>),
}

/// An aggregation of links.
#[derive(Debug)]
pub struct Aggregation {
    /// What it is here; none when it went.
    body: Option<JsonMap>,
    there: There,
    working: Option<AggregationCall>,
}

impl Aggregation {
    /// One that is here.
    pub fn new(body: JsonMap) -> Self {
        Self { body: Some(body), there: There::Unasked, working: None }
    }

    /// One that NAPI announced.
    pub fn awaited() -> Self {
        Self { body: None, there: There::Unasked, working: None }
    }

    /// It is here, and is this; or it went.
    pub fn local(&mut self, body: Option<JsonMap>) {
        self.body = body;
    }

    /// NAPI's may have changed.
    pub fn refresh(&mut self) {
        self.there = There::Unasked;
    }

    /// The request that is right now; none if nothing is to be asked.
    pub fn turn(&mut self, server: ServerUuid) -> Option<AggregationCall> {
        if self.working.is_some() {
            return None;
        }
        self.working = match (&self.there, &self.body) {
            (There::Unasked, _) => Some(AggregationCall::Get),
            (There::Absent, Some(body)) => Some(AggregationCall::Create(body.clone())),
            (There::Has(object, Some(etag)), None)
                if object.get("belongs_to_uuid").and_then(Value::as_str) == Some(&server.to_string()) =>
            {
                Some(AggregationCall::Delete { etag: etag.clone() })
            }
            _ => None,
        };
        self.working.clone()
    }

    /// The answer to the request.
    pub fn answer(&mut self, answer: AggregationAnswer) {
        let Some(call) = self.working.take() else { return };
        self.there = match (call, answer) {
            (_, AggregationAnswer::Is(object, etag)) => There::Has(object, etag),
            (AggregationCall::Get | AggregationCall::Delete { .. }, AggregationAnswer::NotFound) => There::Absent,
            _ => There::Unasked,
        };
    }

    /// It is neither here nor of interest to NAPI.
    pub fn is_over(&self) -> bool {
        self.body.is_none() && self.working.is_none() && self.there != There::Unasked
    }

    /// It is here.
    pub fn is_here(&self) -> bool {
        self.body.is_some()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: Value) -> JsonMap {
        let Value::Object(map) = value else { panic!("no object: {value}") };
        map
    }

    #[test]
    fn a_network_tells_of_what_concerns_its_nics_and_the_first_time() {
        let mut network = Network::default();
        let object = map(json!({"gateway": "10.0.0.1", "resolvers": [], "routes": {}, "name": "a", "vlan_id": 0}));
        assert!(network.seen(object.clone()).is_some());
        let mut renamed = object.clone();
        renamed.insert("name".to_owned(), json!("b"));
        assert!(network.seen(renamed).is_none());
        let mut moved = object.clone();
        moved.insert("gateway".to_owned(), json!("10.0.0.2"));
        let moved = network.seen(moved).unwrap();
        let mut nic = map(json!({"mac": "m", "ip": "10.0.0.5", "gateway": "10.0.0.1", "vlan_id": 0}));
        assert!(nic_is_behind(&nic, moved));
        nic.insert("gateway".to_owned(), json!("10.0.0.2"));
        assert!(!nic_is_behind(&nic, moved), "what is empty is not said of NICs");
    }

    /// net-agent case 38
    #[test]
    fn an_aggregation_is_made_if_missing_and_deleted_by_its_version_if_ours() {
        let server = ServerUuid::random();
        let body = map(json!({"name": "aggr0", "belongs_to_uuid": server}));
        let mut aggregation = Aggregation::new(body.clone());
        assert_eq!(aggregation.turn(server), Some(AggregationCall::Get));
        assert_eq!(aggregation.turn(server), None, "one at a time");
        aggregation.answer(AggregationAnswer::NotFound);
        assert_eq!(aggregation.turn(server), Some(AggregationCall::Create(body.clone())));
        aggregation.answer(AggregationAnswer::Failed);
        assert_eq!(aggregation.turn(server), Some(AggregationCall::Get));
        aggregation.answer(AggregationAnswer::Is(body.clone(), Some("v1".to_owned())));
        assert_eq!(aggregation.turn(server), None);
        aggregation.local(None);
        assert_eq!(aggregation.turn(server), Some(AggregationCall::Delete { etag: "v1".to_owned() }));
        aggregation.answer(AggregationAnswer::NotFound);
        assert!(aggregation.turn(server).is_none() && aggregation.is_over());
        for there in [json!({"belongs_to_uuid": "x"}), json!({"belongs_to_uuid": server})] {
            let mut aggregation = Aggregation::awaited();
            aggregation.turn(server);
            aggregation.answer(AggregationAnswer::Is(map(there), None));
            assert!(aggregation.turn(server).is_none() && aggregation.is_over());
        }
    }
}
