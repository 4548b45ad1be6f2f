//! What a request may be: to this address by its own name, without a way station, and of the client's own making (metadata.md
//! section 5.4, attack 30). Pure but for the tokens.

use hyper::{HeaderMap, Method, Request, header};
use serde_json::json;

use super::{
    page::Page,
    tokens::{LONGEST, Tokens},
};

/// The address that clouds have for it.
pub(crate) const ADDRESS: std::net::Ipv4Addr = std::net::Ipv4Addr::new(169, 254, 169, 254);

/// Headers that way stations add: what has one was sent by somebody for somebody else.
const FORWARDED: [&str; 5] = ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"];
/// A header of a client's own making that does for a token.
const OWN: &str = "x-triton-metadata";
const TOKEN: &str = "x-aws-ec2-metadata-token";
/// How long a token is to be good for; in the answer, how long it is.
pub(crate) const SECONDS: &str = "x-aws-ec2-metadata-token-ttl-seconds";

/// What a request is about.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// The parts of a path.
    Path(Vec<String>),
    /// It is answered already: a token, or a refusal.
    Answer(Page),
}

/// Judges a request; `strict` wants a token or a header that no browser and no fetched address adds.
pub(crate) fn judge<B>(request: &Request<B>, tokens: &mut Tokens, strict: bool) -> Asked {
    decide(request, tokens, strict).unwrap_or_else(Asked::Answer)
}

fn decide<B>(request: &Request<B>, tokens: &mut Tokens, strict: bool) -> Result<Asked, Page> {
    let headers = request.headers();
    let one = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if request.uri().authority().is_some() {
        return Err(Page::refused(400, "This is no proxy"));
    }
    if !is_meant(headers) {
        return Err(Page::refused(400, "The Host header must name this address"));
    }
    if FORWARDED.iter().any(|name| headers.contains_key(*name)) {
        return Err(Page::refused(403, "Requests that were passed on are not answered"));
    }
    let path: Vec<String> = request.uri().path().split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
    let is_token = path.iter().map(String::as_str).eq(["latest", "api", "token"]);
    match *request.method() {
        Method::PUT if is_token => {
            let seconds = one(SECONDS).and_then(|text| text.parse().ok()).filter(|seconds| (1..=LONGEST).contains(seconds));
            let seconds = seconds.ok_or_else(|| Page::refused(400, "The header with the token's seconds must be 1 to 21600"))?;
            Ok(Asked::Answer(Page { seconds: Some(seconds), ..Page::text(tokens.issue(seconds)) }))
        }
        Method::GET | Method::HEAD if is_token => Err(Page::refused(405, "A token is made by PUT")),
        Method::GET | Method::HEAD => {
            let allowed = match one(TOKEN) {
                Some(token) => tokens.knows(token),
                None => !strict || headers.contains_key(OWN) || one("user-agent").is_some_and(|agent| agent.starts_with("Cloud-Init/")),
            };
            if allowed { Ok(Asked::Path(path)) } else { Err(Page::refused(401, "A token is needed: PUT /latest/api/token")) }
        }
        _ => Err(Page::refused(405, "Metadata can only be read here")),
    }
}

/// Exactly one Host header, with this address in it: a name that leads here is somebody else's.
fn is_meant(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let address = ADDRESS.to_string();
    let meant = hosts.next().and_then(|host| host.to_str().ok()).is_some_and(|host| host.strip_suffix(":80").unwrap_or(host) == address);
    meant && hosts.next().is_none()
}

/// The answer to a path.
pub(crate) fn page(vm: &triton_types::JsonMap, path: &[String]) -> Page {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let vendor_data = triton_instance::vendor_data;
    let found = match path.as_slice() {
        [] => Some(Page::list(super::ec2::VERSIONS.into_iter().chain(["openstack"]))),
        ["openstack"] => Some(Page::list(super::openstack::VERSIONS)),
        ["openstack", version, rest @ ..] if super::openstack::VERSIONS.contains(version) => super::openstack::page(vm, rest, vendor_data),
        [version, rest @ ..] if super::ec2::VERSIONS.contains(version) => super::ec2::page(vm, rest),
        _ => None,
    };
    // A map that could not be read is told as that: what is not there is removed.
    if vm.get("customer_metadata").is_none_or(serde_json::Value::is_null) {
        return Page { status: 503, ..Page::json(&json!({"error": "the metadata of this instance is not available now"})) };
    }
    found.unwrap_or_else(|| Page::refused(404, "Not found"))
}
