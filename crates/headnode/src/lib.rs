//! Clients of the headnode's APIs: CNAPI, IMGAPI and VMAPI over plain HTTP on the admin network.
//!
//! Called by agents and by `triton-image`. Every request has a deadline, every reply a size limit, every error the method
//! and the URL. Knows the wire, nothing of instances; the caller decides about retries ([`HttpError::is_transient`]).

mod client;
mod cnapi;
mod error;
mod imgapi;
mod url;
mod vmapi;

pub use client::{Call, HttpClient, HttpOptions, Reply, Stream};
pub use cnapi::CnApi;
pub use error::{HttpError, HttpFailure};
pub use imgapi::{Download, ImgApi};
pub use url::{BaseUrl, UrlError};
pub use vmapi::VmApi;
