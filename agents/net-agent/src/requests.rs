//! Making requests of NAPI's, and what their failures say.

use std::time::Instant;

use http::StatusCode;
use triton_agent::{Outcome, chain};
use triton_headnode::{HttpError, HttpFailure, Napi, Tagged};
use triton_types::{JsonMap, Mac, ServerUuid};

use crate::{
    core::{Reply, Request},
    nic::{Answer, Call, Remote, Version},
    others::{AggregationAnswer, AggregationCall},
};

/// What came of a request: what the core is told, if anything, and whom a failure concerns.
#[derive(Debug)]
pub struct Outcoming {
    /// For the core.
    pub reply: Option<Reply>,
    /// For the line of work.
    pub outcome: Outcome,
}

/// Whom a failure concerns: NAPI as a whole when it cannot be reached or says that it is not ready, else the thing that was asked about.
pub fn outcome_of(error: &HttpError) -> Outcome {
    match &*error.source {
        HttpFailure::Connect(_) | HttpFailure::Timeout(_) | HttpFailure::Broken(_) => Outcome::Unavailable,
        HttpFailure::Status { status, .. } if *status == StatusCode::SERVICE_UNAVAILABLE => Outcome::Unavailable,
        _ => Outcome::Failed,
    }
}

/// NAPI itself says that there is no such thing. Any other 404 is that of something in between.
fn is_absent(error: &HttpError) -> bool {
    error.is_not_found() && error.rest_code() == Some("ResourceNotFound")
}

/// Makes a request.
pub async fn make(napi: &Napi, server: ServerUuid, request: Request) -> Outcoming {
    match request {
        Request::List => list(napi, server).await,
        Request::Nic(mac, call) => nic(napi, mac, call).await,
        Request::Network(uuid) => {
            let (reply, outcome) = match napi.network(uuid).await {
                Ok(object) => (Some(Reply::Network(uuid, Some(object))), Outcome::Done),
                Err(error) if is_absent(&error) => (Some(Reply::Network(uuid, None)), Outcome::Done),
                Err(error) => {
                    tracing::warn!(network_uuid = %uuid, error = %chain(&error), "a network cannot be looked at");
                    (None, outcome_of(&error))
                }
            };
            Outcoming { reply, outcome }
        }
        Request::Aggregation(name, call) => aggregation(napi, server, name, call).await,
    }
}

async fn list(napi: &Napi, server: ServerUuid) -> Outcoming {
    let asked = Instant::now();
    match napi.nics_of(server).await {
        Ok(list) => Outcoming { reply: Some(Reply::List(Some(list), asked)), outcome: Outcome::Done },
        // It does not know such lists: each NIC is asked for by itself.
        Err(error) if error.status().is_some_and(|status| status.is_client_error()) => {
            tracing::warn!(error = %chain(&error), "NAPI does not list the NICs of this node");
            Outcoming { reply: Some(Reply::List(None, asked)), outcome: Outcome::Done }
        }
        Err(error) => {
            tracing::warn!(error = %chain(&error), "NAPI cannot be asked for the NICs of this node");
            Outcoming { reply: None, outcome: outcome_of(&error) }
        }
    }
}

async fn nic(napi: &Napi, mac: Mac, call: Call) -> Outcoming {
    let (what, result) = match call {
        Call::Get => ("ask for", napi.nic(mac).await.map(Some)),
        Call::Create(body) => {
            tracing::info!(%mac, "NAPI is told of a NIC");
            ("create", napi.create_nic(&body).await.map(Some))
        }
        Call::Update(body) => {
            tracing::info!(%mac, fields = ?body, "NAPI is told of a change");
            ("change", napi.update_nic(mac, &body).await.map(Some))
        }
        Call::Delete { etag } => {
            tracing::info!(%mac, etag, "NAPI is told that a NIC is gone");
            ("delete", napi.delete_nic(mac, &etag).await.map(|()| None))
        }
    };
    let (answer, outcome) = match result {
        Ok(None) => (Answer::Deleted, Outcome::Done),
        Ok(Some(Tagged { object, etag })) => match Remote::of(Some(mac), &object, etag.map_or(Version::Unknown, Version::Tag)) {
            Ok(remote) => (Answer::Is(remote), Outcome::Done),
            Err(reason) => {
                tracing::warn!(%mac, reason, "what NAPI answered is no NIC");
                (Answer::Failed, Outcome::Failed)
            }
        },
        Err(error) if is_absent(&error) => (Answer::NotFound, Outcome::Done),
        Err(error) if error.status() == Some(StatusCode::PRECONDITION_FAILED) => (Answer::OtherVersion, Outcome::Failed),
        Err(error) => {
            tracing::warn!(%mac, error = %chain(&error), "could not {what} a NIC at NAPI");
            (Answer::Failed, outcome_of(&error))
        }
    };
    Outcoming { reply: Some(Reply::Nic(mac, answer)), outcome }
}

async fn aggregation(napi: &Napi, server: ServerUuid, name: String, call: AggregationCall) -> Outcoming {
    let is = |tagged: Tagged| -> (AggregationAnswer, Outcome) { (AggregationAnswer::Is(tagged.object, tagged.etag), Outcome::Done) };
    let create: Option<JsonMap> = match &call {
        AggregationCall::Create(body) => Some(body.clone()),
        _ => None,
    };
    let result = match (&call, create) {
        (AggregationCall::Delete { etag }, _) => {
            napi.delete_aggregation(server, &name, etag).await.map(|()| (AggregationAnswer::NotFound, Outcome::Done))
        }
        (_, Some(body)) => napi.create_aggregation(&body).await.map(is),
        (_, None) => napi.aggregation(server, &name).await.map(is),
    };
    let (answer, outcome) = result.unwrap_or_else(|error| {
        if call == AggregationCall::Get && is_absent(&error) {
            return (AggregationAnswer::NotFound, Outcome::Done);
        }
        tracing::warn!(aggregation = name, error = %chain(&error), "an aggregation could not be made known to NAPI");
        (AggregationAnswer::Failed, outcome_of(&error))
    });
    Outcoming { reply: Some(Reply::Aggregation(name, answer)), outcome }
}
