//! The URL of a service, as given on the command line.

/// Reads the URL of a service: plain HTTP, without a trailing slash.
pub(crate) fn base_url(text: &str) -> Result<String, String> {
    let url: reqwest::Url = text.parse().map_err(|error| format!("must be http://host:port: {error}"))?;
    if url.scheme() != "http" || url.host().is_none() {
        return Err("must be http://host:port".to_owned());
    }
    Ok(text.trim_end_matches('/').to_owned())
}
