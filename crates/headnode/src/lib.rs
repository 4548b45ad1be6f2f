//! Clients of the headnode's APIs: CNAPI, IMGAPI, VMAPI and NAPI with its changefeed, over plain HTTP on the admin network.
//!
//! Called by agents and by `triton-image`. Every request has a deadline, every reply a size limit, every error the method
//! and the URL. Knows the wire, nothing of instances; the caller decides about retries ([`HttpError::is_transient`]).

mod changefeed;
mod client;
mod cnapi;
mod error;
mod imgapi;
mod napi;
mod url;
mod vmapi;

pub use changefeed::{Feed, FeedChange, FeedError, FeedEvent};
pub use client::{Call, HttpClient, HttpOptions, Reply, Stream};
pub use cnapi::CnApi;
pub use error::{HttpError, HttpFailure};
pub use imgapi::{Download, ImgApi};
pub use napi::{Napi, Tagged, mac_digits};
pub use url::{BaseUrl, UrlError};
pub use vmapi::VmApi;
