//! The URL of a service.

use std::{fmt, str::FromStr};

use http::{Uri, uri::PathAndQuery};

/// A text that is not the URL of a service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// TLS is not spoken on the admin network.
    #[error("{0:?} needs TLS, which is not supported: give an http:// URL, such as the data centre's IMGAPI")]
    Https(String),
    /// Anything else.
    #[error("{0:?} is not a URL of the form http://host[:port][/path][?query]")]
    Form(String),
}

/// `http://host[:port]`, perhaps with a path (a prefix of all paths) and a query (sent with every request, as in
/// `?channel=release`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    authority: http::uri::Authority,
    prefix: String,
    query: Option<String>,
}

impl FromStr for BaseUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        // Cut, since the text may be anybody's.
        let form = || UrlError::Form(text.chars().take(200).collect());
        let uri: Uri = text.trim().parse().map_err(|_| form())?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(UrlError::Https(text.chars().take(200).collect())),
            _ => return Err(form()),
        }
        let authority = uri.authority().filter(|a| !a.host().is_empty() && !a.as_str().contains('@')).ok_or_else(form)?.clone();
        let port = &authority.as_str()[authority.host().len()..];
        if !port.is_empty() && authority.port_u16().is_none() {
            return Err(form());
        }
        let prefix = uri.path().trim_end_matches('/').to_owned();
        let query = uri.query().filter(|query| !query.is_empty()).map(str::to_owned);
        Ok(Self { authority, prefix, query })
    }
}

impl BaseUrl {
    /// `host:port`, to connect to.
    pub(crate) fn address(&self) -> String {
        format!("{}:{}", self.authority.host(), self.authority.port_u16().unwrap_or(80))
    }

    /// The URL of `path` (which begins with `/` and is already encoded), with the query's pairs.
    pub(crate) fn join(&self, path: &str, query: &[(&str, &str)]) -> Uri {
        let mut target = format!("{}{path}", self.prefix);
        let own = serde_urlencoded::to_string(query).unwrap_or_default();
        let parts: Vec<&str> = [self.query.as_deref(), Some(own.as_str())].into_iter().flatten().filter(|q| !q.is_empty()).collect();
        if !parts.is_empty() {
            target.push('?');
            target.push_str(&parts.join("&"));
        }
        let target = target.parse::<PathAndQuery>().unwrap_or_else(|_| PathAndQuery::from_static("/"));
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(http::uri::Scheme::HTTP);
        uri.authority = Some(self.authority.clone());
        uri.path_and_query = Some(target);
        Uri::from_parts(uri).unwrap_or_default()
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.prefix)?;
        match &self.query {
            Some(query) => write!(f, "?{query}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_queries_are_joined_with_those_of_the_source() {
        for (base, joined) in [
            ("http://imgapi.dc.example.com", "http://imgapi.dc.example.com/images?limit=2"),
            ("http://10.0.0.2:8080/", "http://10.0.0.2:8080/images?limit=2"),
            ("http://updates/v2/?channel=release", "http://updates/v2/images?channel=release&limit=2"),
            ("http://[fd00::1]:80", "http://[fd00::1]:80/images?limit=2"),
        ] {
            assert_eq!(base.parse::<BaseUrl>().unwrap().join("/images", &[("limit", "2")]).to_string(), joined);
        }
    }

    #[test]
    fn tls_is_refused_by_name_and_other_texts_by_form() {
        let error = "https://images.smartos.org".parse::<BaseUrl>().unwrap_err();
        assert_eq!(error, UrlError::Https("https://images.smartos.org".into()));
        for bad in ["", "imgapi", "ftp://x", "http://", "/images", "http://user:secret@host", "http://host:99999", "http://a b"] {
            assert!(matches!(bad.parse::<BaseUrl>(), Err(UrlError::Form(_))), "{bad:?}");
        }
    }
}
