//! The section `otlp`: where spans go.

use super::bounds::MILLION;
use crate::config::parse;
use crate::config::reader::Reader;

#[derive(Clone, Debug)]
pub struct OtlpSettings {
    /// The whole URL to which the sidecar exports spans; `None` for no export.
    pub endpoint: Option<String>,
    /// Of the requests whose caller names no trace, one in this many begins a trace; at least 1.
    pub sample: u64,
}

pub(super) fn read(r: &mut Reader<'_>) -> Option<OtlpSettings> {
    let endpoint = r.optional("otlp.endpoint", parse::otlp_endpoint);
    // By default every request is traced.
    let sample = r.value("otlp.sample", "1", parse::count(1..=MILLION));

    if let Some(Some(_)) = endpoint
        && !cfg!(feature = "otlp")
    {
        r.refuse("otlp.endpoint", "this build cannot export spans; use a build with the feature otlp");
    }
    Some(OtlpSettings { endpoint: endpoint?, sample: sample? as u64 })
}
