//! Clients of the headnode's APIs over plain HTTP on the admin network: CNAPI, IMGAPI, VMAPI, NAPI with its changefeed, FWAPI with
//! its events over FAST.
//!
//! Called by agents and by `triton-image`. Every request has a deadline, every reply a size limit, every error the method
//! and the URL. Knows the wire, nothing of instances; the caller decides about retries ([`HttpError::is_transient`]).

mod changefeed;
mod client;
mod cnapi;
mod error;
mod fast;
mod fwapi;
mod imgapi;
mod names;
mod napi;
mod url;
mod vmapi;

pub use changefeed::{Feed, FeedChange, FeedError, FeedEvent};
pub use client::{Call, HttpClient, HttpOptions, Reply, Stream};
pub use cnapi::CnApi;
pub use error::{HttpError, HttpFailure};
pub use fast::{FastError, FastEvent, FastFeed, FastRetry};
pub use fwapi::{Answer, FwApi, Peers, Question};
pub use imgapi::{Download, ImgApi};
pub use names::Names;
pub use napi::{Napi, Tagged, mac_digits};
pub use url::{BaseUrl, UrlError};
pub use vmapi::VmApi;
